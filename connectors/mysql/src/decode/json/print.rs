//! Printing values as the server does, without white space between tokens.

use rowtide_sdk::JsonWriter;

use super::MAX_LEVELS;
use super::binary::{Container, Value, key_order};
use super::opaque;

/// What may still be read.
///
/// Every value of a document that a server wrote has bytes of its own, so all of them together have
/// no more than the document. Crafted offsets that share bytes run out of this instead of making
/// text that grows without bound.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes }
    }

    pub(super) fn spend(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }
}

/// Appends values to a writer. Every step answers `None` where the bytes are not of the form.
#[derive(Debug)]
pub(super) struct Printer<'w> {
    out: &'w mut JsonWriter,
    budget: Budget,
    deepest: u32,
}

impl<'w> Printer<'w> {
    pub(super) fn new(out: &'w mut JsonWriter, budget: Budget) -> Self {
        Self { out, budget, deepest: 0 }
    }

    /// The levels of arrays and objects that were written.
    pub(super) fn deepest(&self) -> u32 {
        self.deepest
    }

    /// Appends a value that is in `depth` arrays and objects.
    pub(super) fn value(&mut self, value: Value<'_>, depth: u32) -> Option<()> {
        self.budget.spend(value.own_bytes())?;
        match value {
            Value::Null => self.out.null(),
            Value::Bool(value) => self.out.bool(value),
            Value::Int(value) => self.out.i64(value),
            Value::Uint(value) => self.out.u64(value),
            Value::Double(value) => double(value, self.out),
            Value::String(text) => self.out.string(text),
            Value::Opaque { field_type, data } => opaque::write(field_type, data, self.out)?,
            Value::Container(container) => {
                let depth = self.open(container.is_object(), depth)?;
                self.elements(container, depth)?;
                self.close(container.is_object());
            }
        }
        Some(())
    }

    /// Opens an array or object that is in `depth` others; answers the depth of its elements.
    pub(super) fn open(&mut self, is_object: bool, depth: u32) -> Option<u32> {
        let depth = depth.checked_add(1).filter(|&depth| depth <= MAX_LEVELS)?;
        self.deepest = self.deepest.max(depth);
        self.out.byte(if is_object { b'{' } else { b'[' });
        Some(depth)
    }

    pub(super) fn close(&mut self, is_object: bool) {
        self.out.byte(if is_object { b'}' } else { b']' });
    }

    pub(super) fn comma(&mut self) {
        self.out.byte(b',');
    }

    /// Appends a key and its colon.
    pub(super) fn key(&mut self, key: &str) {
        self.out.string(key);
        self.out.byte(b':');
    }

    fn elements(&mut self, container: Container<'_>, depth: u32) -> Option<()> {
        let mut previous = None;
        for index in 0..container.len() {
            if index > 0 {
                self.comma();
            }
            if container.is_object() {
                let key = container.key(index)?;
                if previous.is_some_and(|previous| key_order(previous, key).is_ge()) {
                    return None;
                }
                previous = Some(key);
                self.budget.spend(key.len())?;
                self.key(key);
            }
            self.value(container.value(index)?, depth)?;
        }
        Some(())
    }
}

/// Digits before the point, and zeros after it, up to which the server does without an exponent
/// (`MAX_DECPT_FOR_F_FORMAT` in MySQL's `include/m_string.h`). Before a fraction it takes more.
const MAX_POINT: i32 = 15;

/// Appends a finite double as `my_gcvt` in MySQL's `strings/dtoa.cc` does: the fewest digits that
/// read back as the same double; and `.0` where it would look like an integer.
fn double(value: f64, out: &mut JsonWriter) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if unsigned.len() < text.len() {
        out.byte(b'-');
    }
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [integer, fraction].concat();
    let leading_zeros = digits.bytes().take_while(|&byte| byte == b'0').count();
    let digits = digits.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        out.raw(b"0.0");
        return;
    }
    // The value is 0.DIGITS times ten to the power of `point`. No double has so long a text that
    // any of this leaves its range.
    let signed = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let point = exponent
        .parse::<i32>()
        .unwrap_or_default()
        .saturating_add(signed(integer.len()))
        .saturating_sub(signed(leading_zeros));
    let has_fraction = signed(digits.len()) > point;
    let digits = digits.as_bytes();
    match usize::try_from(point) {
        _ if point <= -MAX_POINT => scientific(digits, point, out),
        _ if point > MAX_POINT && !has_fraction => scientific(digits, point, out),
        Ok(before @ 1..) => {
            let (integer, fraction) = digits.split_at(before.min(digits.len()));
            out.raw(integer);
            zeros(before.saturating_sub(integer.len()), out);
            out.byte(b'.');
            out.raw(if fraction.is_empty() { b"0" } else { fraction });
        }
        _ => {
            out.raw(b"0.");
            zeros(usize::try_from(point.unsigned_abs()).unwrap_or_default(), out);
            out.raw(digits);
        }
    }
}

fn zeros(count: usize, out: &mut JsonWriter) {
    for _ in 0..count {
        out.byte(b'0');
    }
}

/// Appends 0.DIGITS times ten to the power of `point` with one digit before the point.
fn scientific(digits: &[u8], point: i32, out: &mut JsonWriter) {
    let (first, rest) = digits.split_at(1.min(digits.len()));
    out.raw(first);
    if !rest.is_empty() {
        out.byte(b'.');
        out.raw(rest);
    }
    out.byte(b'e');
    out.i64(i64::from(point).saturating_sub(1));
}
