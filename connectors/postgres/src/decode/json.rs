//! `json` and `jsonb`: the server's tokens without the whitespace between them.
//!
//! One pass checks the grammar (RFC 8259) and copies runs of tokens. Text that strict parsers refuse
//! is left alone and becomes a JSON string: a repeated key, half a surrogate pair, nesting too deep.

use std::cell::RefCell;
use std::cmp::Ordering;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written, unescaped_run};

/// Levels of arrays and objects in one value at most, where it stands in a column of its own.
///
/// Common parsers stop at 128 levels of a whole document; the envelope, the row in it and what may
/// be wrapped around an event take the other four.
pub(crate) const MAX_DEPTH: u32 = 124;

/// `json` or `jsonb`.
#[derive(Debug)]
pub(super) struct Json {
    /// Levels at most: fewer than [`MAX_DEPTH`] inside arrays and composites.
    pub(super) max_depth: u32,
    /// Whether the server never repeats a key in one object (`jsonb`).
    pub(super) unique_keys: bool,
}

impl Decode for Json {
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError> {
        let text = std::str::from_utf8(raw).map_err(|_| ValueError::Utf8)?;
        let start = out.len();
        let strict = if self.unique_keys {
            Compactor::new(raw, self.max_depth, out).run(&mut NoKeys)
        } else {
            with_keys(|keys| Compactor::new(raw, self.max_depth, out).run(keys))
        };
        if strict.is_some() {
            return Ok(Written::Form);
        }
        out.truncate(start);
        out.string(text);
        Ok(Written::RawJson)
    }
}

/// What is told about keys while a value is read. `None` refuses the value.
trait Keys {
    fn open(&mut self);
    fn key(&mut self, raw: &[u8], start: usize, escaped: bool);
    fn close(&mut self, json: &[u8]) -> Option<()>;
}

/// For values whose keys are known to be unique.
struct NoKeys;

impl Keys for NoKeys {
    fn open(&mut self) {}
    fn key(&mut self, _raw: &[u8], _start: usize, _escaped: bool) {}
    fn close(&mut self, _json: &[u8]) -> Option<()> {
        Some(())
    }
}

/// The keys of the objects that are open, innermost last.
#[derive(Debug, Default)]
struct SeenKeys {
    keys: Vec<Key>,
    /// Where the keys of each open object start in `keys`.
    objects: Vec<usize>,
    /// Text of keys that held escapes, unescaped.
    unescaped: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Key {
    hash: u64,
    start: usize,
    len: usize,
    /// Whether the text is in [`SeenKeys::unescaped`], else in the value itself.
    unescaped: bool,
}

impl SeenKeys {
    fn clear(&mut self) {
        self.keys.clear();
        self.objects.clear();
        self.unescaped.clear();
    }

    fn text<'a>(unescaped: &'a [u8], json: &'a [u8], key: &Key) -> &'a [u8] {
        let bytes = if key.unescaped { unescaped } else { json };
        bytes.get(key.start..key.start.saturating_add(key.len)).unwrap_or_default()
    }
}

impl Keys for SeenKeys {
    fn open(&mut self) {
        self.objects.push(self.keys.len());
    }

    fn key(&mut self, raw: &[u8], start: usize, escaped: bool) {
        if !escaped {
            self.keys.push(Key { hash: hash(raw), start, len: raw.len(), unescaped: false });
            return;
        }
        let start = self.unescaped.len();
        unescape(raw, &mut self.unescaped);
        let text = self.unescaped.get(start..).unwrap_or_default();
        self.keys.push(Key { hash: hash(text), start, len: text.len(), unescaped: true });
    }

    fn close(&mut self, json: &[u8]) -> Option<()> {
        let first = self.objects.pop()?;
        let unescaped = &self.unescaped;
        let keys = self.keys.get_mut(first..)?;
        let order = |a: &Key, b: &Key| -> Ordering {
            a.hash
                .cmp(&b.hash)
                .then_with(|| Self::text(unescaped, json, a).cmp(Self::text(unescaped, json, b)))
        };
        keys.sort_unstable_by(order);
        let repeated = keys.array_windows().any(|[a, b]| order(a, b).is_eq());
        self.keys.truncate(first);
        (!repeated).then_some(())
    }
}

/// A quick hash; equal hashes are compared in full.
fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut tail = [0u8; 8];
    tail.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words.iter().chain(std::iter::once(&tail)).fold(0, |hash: u64, word| {
        (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// Appends the text of a JSON string whose escapes were checked.
fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let Some((&escape, tail)) = tail.split_first() else { return };
        rest = tail;
        match escape {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let (code, after) = match escaped_code_point(tail) {
                    Some(found) => found,
                    None => return,
                };
                rest = after;
                out.extend_from_slice(code.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => out.push(other),
        }
    }
}

/// The character of one `\u` escape, or of two that are a surrogate pair, whose first `\u` was read.
/// `None` where digits are missing or a surrogate stands alone.
fn escaped_code_point(text: &[u8]) -> Option<(char, &[u8])> {
    let (unit, rest) = hex4(text)?;
    if !(0xd800..0xe000).contains(&unit) {
        return Some((char::from_u32(unit)?, rest));
    }
    let (low, rest) = hex4(rest.strip_prefix(b"\\u")?)?;
    if unit >= 0xdc00 || !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    Some((char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00))?, rest))
}

fn hex4(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let mut value = 0u32;
    for &digit in digits {
        value = value << 4 | char::from(digit).to_digit(16)?;
    }
    Some((value, rest))
}

thread_local! {
    static KEYS: RefCell<SeenKeys> = RefCell::default();
}

/// Key lists that grew larger than this are not kept.
const KEEP: usize = 4096;

/// Runs `work` with this thread's list of keys, empty.
fn with_keys<T>(work: impl FnOnce(&mut SeenKeys) -> T) -> T {
    KEYS.with(|keys| {
        let Ok(mut keys) = keys.try_borrow_mut() else {
            return work(&mut SeenKeys::default());
        };
        keys.clear();
        let result = work(&mut keys);
        if keys.keys.capacity() > KEEP || keys.unescaped.capacity() > KEEP {
            *keys = SeenKeys::default();
        }
        result
    })
}

/// Copies a JSON text without whitespace while checking it. Every step answers `None` where the text
/// is not strict JSON.
struct Compactor<'a> {
    json: &'a [u8],
    /// The next byte to look at.
    at: usize,
    /// The first byte not yet copied.
    copied: usize,
    out: &'a mut JsonWriter,
    depth: u32,
    max_depth: u32,
    /// One bit per open level, innermost lowest: 1 for an object.
    objects: u128,
}

/// What must come next.
enum Next {
    Value,
    /// A value, or the end of the array just opened.
    FirstElement,
    Key,
    /// A key, or the end of the object just opened.
    FirstKey,
    /// A comma or the end of the innermost level.
    AfterValue,
}

impl<'a> Compactor<'a> {
    fn new(json: &'a [u8], max_depth: u32, out: &'a mut JsonWriter) -> Self {
        out.reserve(json.len());
        // Each level has a bit.
        let max_depth = max_depth.min(u128::BITS);
        Self { json, at: 0, copied: 0, out, depth: 0, max_depth, objects: 0 }
    }

    fn run(mut self, keys: &mut impl Keys) -> Option<()> {
        let mut next = Next::Value;
        loop {
            self.skip_whitespace();
            next = match next {
                Next::Value => self.value(keys)?,
                Next::FirstElement if self.peek() == Some(b']') => self.close(keys)?,
                Next::FirstElement => self.value(keys)?,
                Next::FirstKey if self.peek() == Some(b'}') => self.close(keys)?,
                Next::FirstKey | Next::Key => self.key(keys)?,
                Next::AfterValue if self.depth == 0 => break,
                Next::AfterValue => self.after_value(keys)?,
            };
        }
        if self.at != self.json.len() {
            return None;
        }
        self.flush();
        Some(())
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    /// The bytes not yet looked at.
    #[inline]
    fn rest(&self) -> &'a [u8] {
        self.json.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    /// Copies everything up to here.
    #[inline]
    fn flush(&mut self) {
        self.out.raw(self.json.get(self.copied..self.at).unwrap_or_default());
        self.copied = self.at;
    }

    #[inline]
    fn skip_whitespace(&mut self) {
        if matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.flush();
            while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
                self.advance(1);
            }
            self.copied = self.at;
        }
    }

    fn value(&mut self, keys: &mut impl Keys) -> Option<Next> {
        match self.peek()? {
            b'"' => {
                self.string()?;
            }
            b'{' => {
                self.open(true)?;
                keys.open();
                return Some(Next::FirstKey);
            }
            b'[' => {
                self.open(false)?;
                return Some(Next::FirstElement);
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            _ => return None,
        }
        Some(Next::AfterValue)
    }

    fn open(&mut self, object: bool) -> Option<()> {
        if self.depth >= self.max_depth {
            return None;
        }
        self.depth = self.depth.saturating_add(1);
        self.objects = self.objects << 1 | u128::from(object);
        self.advance(1);
        Some(())
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// Closes the innermost level, whose end was seen.
    fn close(&mut self, keys: &mut impl Keys) -> Option<Next> {
        if self.in_object() {
            keys.close(self.json)?;
        }
        self.depth = self.depth.saturating_sub(1);
        self.objects >>= 1;
        self.advance(1);
        Some(Next::AfterValue)
    }

    fn after_value(&mut self, keys: &mut impl Keys) -> Option<Next> {
        match (self.peek()?, self.in_object()) {
            (b',', true) => {
                self.advance(1);
                Some(Next::Key)
            }
            (b',', false) => {
                self.advance(1);
                Some(Next::Value)
            }
            (b'}', true) | (b']', false) => self.close(keys),
            _ => None,
        }
    }

    fn key(&mut self, keys: &mut impl Keys) -> Option<Next> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let start = self.at.saturating_add(1);
        let escaped = self.string()?;
        let text = self.json.get(start..self.at.saturating_sub(1))?;
        keys.key(text, start, escaped);
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return None;
        }
        self.advance(1);
        Some(Next::Value)
    }

    /// Reads a string whose opening quote was seen; answers whether it holds escapes.
    fn string(&mut self) -> Option<bool> {
        self.advance(1);
        let mut escaped = false;
        loop {
            self.advance(unescaped_run(self.rest()));
            match self.peek()? {
                b'"' => {
                    self.advance(1);
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                // A control character.
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.rest() {
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.advance(2),
            [b'\\', b'u', rest @ ..] => {
                let (_, after) = escaped_code_point(rest)?;
                self.at = self.json.len().saturating_sub(after.len());
            }
            _ => return None,
        }
        Some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        if !self.rest().starts_with(word) {
            return None;
        }
        self.advance(word.len());
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek() == Some(b'-') {
            self.advance(1);
        }
        match self.peek()? {
            b'0' => self.advance(1),
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.advance(1);
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.advance(1);
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.advance(1);
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let count = super::number::digits(self.rest());
        self.advance(count);
        (count > 0).then_some(())
    }
}
