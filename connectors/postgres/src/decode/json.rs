//! `json` and `jsonb`: the server's tokens without the whitespace between them.
//!
//! One pass checks the grammar (RFC 8259) and copies runs of tokens. Text that strict parsers refuse
//! is left alone and becomes a JSON string: a repeated key, half a surrogate pair, nesting too deep.

use std::cell::RefCell;
use std::cmp::Ordering;

use rowtide_sdk::{Decode, JsonWriter, ValueError, Written, unescaped_run};

use super::number::digits;

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
                let Some((code, after)) = escaped_code_point(tail) else { return };
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
struct Compactor<'a, 'w> {
    json: &'a [u8],
    /// From the first byte not yet copied.
    uncopied: &'a [u8],
    /// From the next byte to look at.
    rest: &'a [u8],
    out: &'w mut JsonWriter,
    depth: u32,
    max_depth: u32,
    /// One bit per open level, innermost lowest: 1 for an object.
    objects: u128,
}

impl<'a, 'w> Compactor<'a, 'w> {
    fn new(json: &'a [u8], max_depth: u32, out: &'w mut JsonWriter) -> Self {
        out.reserve(json.len());
        // Each level has a bit.
        let max_depth = max_depth.min(u128::BITS);
        Self { json, uncopied: json, rest: json, out, depth: 0, max_depth, objects: 0 }
    }

    fn run(mut self, keys: &mut impl Keys) -> Option<()> {
        self.skip_whitespace();
        loop {
            // A value starts here.
            match *self.rest.first()? {
                b'"' => {
                    self.string()?;
                }
                b'{' => {
                    self.open(true)?;
                    keys.open();
                    if self.rest.first() != Some(&b'}') {
                        self.key(keys)?;
                        continue;
                    }
                }
                b'[' => {
                    self.open(false)?;
                    if self.rest.first() != Some(&b']') {
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => self.number()?,
            }
            if !self.after_value(keys)? {
                break;
            }
        }
        if !self.rest.is_empty() {
            return None;
        }
        self.flush();
        Some(())
    }

    /// Reads on from the end of a value to the start of the next; false at the end of the text.
    #[inline]
    fn after_value(&mut self, keys: &mut impl Keys) -> Option<bool> {
        loop {
            self.skip_whitespace();
            if self.depth == 0 {
                return Some(false);
            }
            let object = self.objects & 1 == 1;
            match (self.rest, object) {
                ([b',', rest @ ..], _) => {
                    self.rest = rest;
                    self.skip_whitespace();
                    if object {
                        self.key(keys)?;
                    }
                    return Some(true);
                }
                ([b'}', rest @ ..], true) => {
                    self.rest = rest;
                    keys.close(self.json)?;
                }
                ([b']', rest @ ..], false) => self.rest = rest,
                _ => return None,
            }
            self.depth = self.depth.saturating_sub(1);
            self.objects >>= 1;
        }
    }

    /// Copies everything up to here.
    #[inline]
    fn flush(&mut self) {
        let count = self.uncopied.len().saturating_sub(self.rest.len());
        self.out.raw(self.uncopied.get(..count).unwrap_or_default());
        self.uncopied = self.rest;
    }

    #[inline]
    fn skip_whitespace(&mut self) {
        if let [b' ' | b'\n' | b'\t' | b'\r', after @ ..] = self.rest {
            self.flush();
            self.rest = after;
            while let [b' ' | b'\n' | b'\t' | b'\r', after @ ..] = self.rest {
                self.rest = after;
            }
            self.uncopied = self.rest;
        }
    }

    /// Steps into an array or object whose first byte was seen.
    #[inline]
    fn open(&mut self, object: bool) -> Option<()> {
        if self.depth >= self.max_depth {
            return None;
        }
        self.depth = self.depth.saturating_add(1);
        self.objects = self.objects << 1 | u128::from(object);
        self.rest = self.rest.get(1..)?;
        self.skip_whitespace();
        Some(())
    }

    /// Reads a key and its colon.
    #[inline]
    fn key(&mut self, keys: &mut impl Keys) -> Option<()> {
        let [b'"', text @ ..] = self.rest else { return None };
        let escaped = self.string()?;
        let len = text.len().checked_sub(self.rest.len())?.checked_sub(1)?;
        let start = self.json.len().saturating_sub(text.len());
        keys.key(text.get(..len)?, start, escaped);
        self.skip_whitespace();
        self.rest = self.rest.strip_prefix(b":")?;
        self.skip_whitespace();
        Some(())
    }

    /// Reads a string whose opening quote was seen; answers whether it holds escapes.
    #[inline]
    fn string(&mut self) -> Option<bool> {
        let mut rest = self.rest.get(1..)?;
        let mut escaped = false;
        loop {
            match rest.split_at(unescaped_run(rest)).1 {
                [b'"', after @ ..] => {
                    self.rest = after;
                    return Some(escaped);
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', after @ ..] => {
                    rest = after;
                }
                [b'\\', b'u', after @ ..] => rest = escaped_code_point(after)?.1,
                // A control character, an unknown escape, or the end.
                _ => return None,
            }
            escaped = true;
        }
    }

    #[inline]
    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        let unsigned = self.rest.strip_prefix(b"-").unwrap_or(self.rest);
        let mut rest = match unsigned {
            [b'0', rest @ ..] => rest,
            [b'1'..=b'9', rest @ ..] => rest.split_at(digits(rest)).1,
            _ => return None,
        };
        if let [b'.', fraction @ ..] = rest {
            rest = some_digits(fraction)?;
        }
        if let [b'e' | b'E', exponent @ ..] = rest {
            rest = match exponent {
                [b'+' | b'-', unsigned @ ..] => some_digits(unsigned)?,
                unsigned => some_digits(unsigned)?,
            };
        }
        self.rest = rest;
        Some(())
    }
}

/// What follows one digit or more.
#[inline]
fn some_digits(text: &[u8]) -> Option<&[u8]> {
    match digits(text) {
        0 => None,
        count => Some(text.split_at(count).1),
    }
}
