//! Reading the binary form: values, and the entries of arrays and objects.
//!
//! An array or object holds its number of elements, its size in bytes, for an object one key entry
//! per element (offset, length), one value entry per element (type, and an offset or the value
//! itself), the keys, and the values. Numbers are little-endian; counts, sizes and offsets have two
//! bytes in the small form and four in the large one; offsets start at the number of elements.

use std::cmp::Ordering;

/// The types of values, from `sql-common/json_binary.h`.
mod kind {
    pub(super) const SMALL_OBJECT: u8 = 0x00;
    pub(super) const LARGE_OBJECT: u8 = 0x01;
    pub(super) const SMALL_ARRAY: u8 = 0x02;
    pub(super) const LARGE_ARRAY: u8 = 0x03;
    pub(super) const LITERAL: u8 = 0x04;
    pub(super) const INT16: u8 = 0x05;
    pub(super) const UINT16: u8 = 0x06;
    pub(super) const INT32: u8 = 0x07;
    pub(super) const UINT32: u8 = 0x08;
    pub(super) const INT64: u8 = 0x09;
    pub(super) const UINT64: u8 = 0x0a;
    pub(super) const DOUBLE: u8 = 0x0b;
    pub(super) const STRING: u8 = 0x0c;
    pub(super) const OPAQUE: u8 = 0x0f;
}

/// One value; arrays and objects are read as far as their header.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(&'a str),
    /// A value of an SQL type that JSON does not have.
    Opaque {
        /// `enum_field_types` of the SQL type.
        field_type: u8,
        data: &'a [u8],
    },
    Container(Container<'a>),
}

impl<'a> Value<'a> {
    /// A whole document: its type, then its value.
    pub(super) fn document(bytes: &'a [u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&kind, value)) => Self::read(kind, value),
            None => Some(Self::Null),
        }
    }

    /// The value of the type `kind` that starts where `bytes` does; more may follow it.
    fn read(kind: u8, bytes: &'a [u8]) -> Option<Self> {
        Some(match kind {
            kind::SMALL_OBJECT => Self::Container(Container::read(bytes, true, false)?),
            kind::LARGE_OBJECT => Self::Container(Container::read(bytes, true, true)?),
            kind::SMALL_ARRAY => Self::Container(Container::read(bytes, false, false)?),
            kind::LARGE_ARRAY => Self::Container(Container::read(bytes, false, true)?),
            kind::LITERAL => match bytes.first()? {
                0 => Self::Null,
                1 => Self::Bool(true),
                2 => Self::Bool(false),
                _ => return None,
            },
            kind::INT16 => Self::Int(i16::from_le_bytes(*bytes.first_chunk()?).into()),
            kind::UINT16 => Self::Uint(u16::from_le_bytes(*bytes.first_chunk()?).into()),
            kind::INT32 => Self::Int(i32::from_le_bytes(*bytes.first_chunk()?).into()),
            kind::UINT32 => Self::Uint(u32::from_le_bytes(*bytes.first_chunk()?).into()),
            kind::INT64 => Self::Int(i64::from_le_bytes(*bytes.first_chunk()?)),
            kind::UINT64 => Self::Uint(u64::from_le_bytes(*bytes.first_chunk()?)),
            kind::DOUBLE => {
                let double = f64::from_le_bytes(*bytes.first_chunk()?);
                double.is_finite().then_some(Self::Double(double))?
            }
            kind::STRING => Self::String(std::str::from_utf8(counted(bytes)?).ok()?),
            kind::OPAQUE => {
                let (&field_type, rest) = bytes.split_first()?;
                Self::Opaque { field_type, data: counted(rest)? }
            }
            _ => return None,
        })
    }

    /// The bytes that this value, without what it contains, has for itself at least.
    pub(super) fn own_bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Opaque { data, .. } => data.len(),
            Self::Container(container) => container.header_len(),
            // Their entry may hold them.
            _ => 0,
        }
    }
}

/// The bytes after a length of one to five bytes, seven bits each, lowest first.
fn counted(bytes: &[u8]) -> Option<&[u8]> {
    let mut len = 0u64;
    let mut rest = bytes;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        len |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.get(..usize::try_from(len).ok()?);
        }
    }
    None
}

/// An array or object whose header lies within its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Container<'a> {
    /// From the number of elements to the end, as its size says.
    bytes: &'a [u8],
    count: usize,
    is_object: bool,
    is_large: bool,
}

impl<'a> Container<'a> {
    fn read(bytes: &'a [u8], is_object: bool, is_large: bool) -> Option<Self> {
        let count = number(bytes, 0, is_large)?;
        let size = number(bytes, if is_large { 4 } else { 2 }, is_large)?;
        let container = Self { bytes: bytes.get(..size)?, count, is_object, is_large };
        (container.header_len() <= size).then_some(container)
    }

    pub(super) fn is_object(&self) -> bool {
        self.is_object
    }

    /// The number of elements.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The bytes of a count, size or offset.
    fn width(&self) -> usize {
        if self.is_large { 4 } else { 2 }
    }

    /// Where the value entries start.
    fn value_entries(&self) -> usize {
        let keys = if self.is_object { self.count.saturating_mul(self.width() + 2) } else { 0 };
        keys.saturating_add(self.width() * 2)
    }

    /// The bytes up to the end of the value entries.
    fn header_len(&self) -> usize {
        self.count.saturating_mul(self.width() + 1).saturating_add(self.value_entries())
    }

    /// What an entry's offset points at: always behind the header, so that no value contains
    /// itself.
    fn at(&self, offset: usize) -> Option<&'a [u8]> {
        if offset < self.header_len() {
            return None;
        }
        self.bytes.get(offset..)
    }

    /// The key of an object's element.
    pub(super) fn key(&self, index: usize) -> Option<&'a str> {
        let entry = index.checked_mul(self.width() + 2)?.checked_add(self.width() * 2)?;
        let offset = number(self.bytes, entry, self.is_large)?;
        let len = number(self.bytes, entry.checked_add(self.width())?, false)?;
        std::str::from_utf8(self.at(offset)?.get(..len)?).ok()
    }

    /// The value of an element.
    pub(super) fn value(&self, index: usize) -> Option<Value<'a>> {
        let entry = index.checked_mul(self.width() + 1)?.checked_add(self.value_entries())?;
        let (&kind, inlined) = self.bytes.get(entry..)?.split_first()?;
        match kind {
            kind::LITERAL | kind::INT16 | kind::UINT16 => Value::read(kind, inlined),
            kind::INT32 | kind::UINT32 if self.is_large => Value::read(kind, inlined),
            _ => Value::read(kind, self.at(number(inlined, 0, self.is_large)?)?),
        }
    }
}

/// The number of two or four bytes at `at`.
fn number(bytes: &[u8], at: usize, is_large: bool) -> Option<usize> {
    let bytes = bytes.get(at..)?;
    if is_large {
        usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()
    } else {
        Some(u16::from_le_bytes(*bytes.first_chunk()?).into())
    }
}

/// The order of an object's keys: by length, then by bytes. No two are equal.
pub(super) fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.as_bytes().cmp(b.as_bytes()))
}
