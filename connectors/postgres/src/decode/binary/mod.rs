//! Values in the server's binary form, turned into the text that it would have sent.
//!
//! With `binary 'true'` pgoutput sends what a type's send function gives (`pg_type.typsend`; their C
//! sources are the only description of the formats). There is one decoder per type, that of the text:
//! what comes in binary is put into text first, so that the JSON of a value cannot depend on how it
//! came. Only `bytea` is kept as it came, as its text is twice as long. Nothing here does I/O or panics
//! on any bytes.

mod float;
mod geometry;
mod nested;
mod network;
pub(super) mod number;
mod time;
mod words;

/// Writes a value's text behind `out`; `None` where the bytes are not of the type, and `out` may then
/// hold a part of it.
type Convert = fn(&[u8], &mut Vec<u8>) -> Option<()>;

/// How the binary form of a type becomes its text.
#[derive(Debug, Clone)]
pub(crate) enum Binary {
    /// It is the text.
    Text,
    /// The text follows a byte for the format's version, which must be 1.
    Versioned,
    /// `bytea`: as text it would be twice as long, and its decoder takes both.
    Bytes,
    /// Anything of one piece.
    Scalar(Convert),
    /// An array.
    Array {
        /// Its elements.
        element: Box<Binary>,
        /// What stands between them in text.
        delimiter: u8,
    },
    /// `int2vector` and `oidvector`: arrays printed with spaces.
    Vector(Convert),
    /// A composite.
    Composite(Vec<(u32, Binary)>),
    /// A range of such bounds.
    Range(Box<Binary>),
    /// Several of them.
    Multirange(Box<Binary>),
}

/// What a binary value is in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Converted {
    /// The value itself from this byte on.
    Same(usize),
    /// It was written.
    Written,
    /// The value as the tuple holds it, with its kind `b` and its length before it, which tell it from
    /// text.
    Kept,
}

impl Binary {
    /// The binary form of a built-in scalar; `None` where it cannot be put into text here: names of
    /// objects, which are oids in binary, and types of the server's own.
    pub(super) fn of(oid: u32) -> Option<Self> {
        let convert: Convert = match oid {
            19 | 25 | 114 | 142 | 1042 | 1043 | 1790 => return Some(Self::Text),
            3802 | 4072 => return Some(Self::Versioned),
            17 => return Some(Self::Bytes),
            3904 => return Self::range_of(23),
            3906 => return Self::range_of(1700),
            3908 => return Self::range_of(1114),
            3910 => return Self::range_of(1184),
            3912 => return Self::range_of(1082),
            3926 => return Self::range_of(20),
            4451 => return Self::multirange_of(23),
            4532 => return Self::multirange_of(1700),
            4533 => return Self::multirange_of(1114),
            4534 => return Self::multirange_of(1184),
            4535 => return Self::multirange_of(1082),
            4536 => return Self::multirange_of(20),
            22 => return Some(Self::Vector(number::int2)),
            30 => return Some(Self::Vector(number::oid)),
            16 => number::bool,
            18 => words::char,
            20 => number::int8,
            21 => number::int2,
            23 => number::int4,
            26 | 28 | 29 => number::oid,
            27 => words::tid,
            600 => geometry::point,
            601 => geometry::lseg,
            602 => geometry::path,
            603 => geometry::rectangle,
            604 => geometry::polygon,
            628 => geometry::line,
            650 | 869 => network::inet,
            700 => float::real,
            701 => float::double,
            718 => geometry::circle,
            774 | 829 => network::mac,
            790 => number::money,
            1082 => time::date,
            1083 => time::time,
            1114 => time::timestamp,
            1184 => time::timestamptz,
            1186 => time::interval,
            1266 => time::timetz,
            1560 | 1562 => number::bits,
            1700 => number::numeric,
            2950 => words::uuid,
            2970 | 5038 => words::snapshot,
            3220 => words::lsn,
            3614 => words::tsvector,
            5069 => number::xid8,
            _ => return None,
        };
        Some(Self::Scalar(convert))
    }

    fn range_of(subtype: u32) -> Option<Self> {
        Self::of(subtype).map(|bound| Self::Range(Box::new(bound)))
    }

    fn multirange_of(subtype: u32) -> Option<Self> {
        Self::of(subtype).map(|bound| Self::Multirange(Box::new(bound)))
    }

    /// The extension hstore's.
    pub(super) fn hstore() -> Self {
        Self::Scalar(words::hstore)
    }

    /// Puts a value into text, behind what `out` holds where it is not text already.
    ///
    /// `None` where the bytes are not of the type; `out` may then hold a part of it.
    #[inline]
    pub(crate) fn convert(&self, raw: &[u8], out: &mut Vec<u8>) -> Option<Converted> {
        match self {
            Self::Text => Some(Converted::Same(0)),
            Self::Versioned => (raw.first() == Some(&1)).then_some(Converted::Same(1)),
            Self::Bytes => Some(Converted::Kept),
            Self::Scalar(convert) => convert(raw, out).map(|()| Converted::Written),
            nested => nested.write(raw, out).map(|()| Converted::Written),
        }
    }

    /// Writes a value's text behind `out`, whatever a batch would keep it as.
    pub(super) fn write(&self, raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Text => out.extend_from_slice(raw),
            Self::Bytes => number::bytea(raw, out)?,
            Self::Versioned => out.extend_from_slice(raw.strip_prefix(&[1])?),
            Self::Scalar(convert) => convert(raw, out)?,
            Self::Array { element, delimiter } => nested::array(element, *delimiter, raw, out)?,
            Self::Vector(element) => nested::vector(*element, raw, out)?,
            Self::Composite(fields) => nested::composite(fields, raw, out)?,
            Self::Range(bound) => nested::range(bound, raw, out)?,
            Self::Multirange(bound) => nested::multirange(bound, raw, out)?,
        }
        Some(())
    }
}

/// Takes numbers, all in network order, and bytes off the front of a value.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    /// A value after its length; `Some(None)` is NULL, whose length is -1.
    fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Some(None),
            len => self.bytes(usize::try_from(len).ok()?).map(Some),
        }
    }

    /// Bytes up to a zero, which is taken too.
    fn text(&mut self) -> Option<&'a [u8]> {
        let text = self.bytes(memchr::memchr(0, self.0)?)?;
        self.u8()?;
        Some(text)
    }

    /// Nothing may follow.
    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Appends a whole number.
fn push_number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a whole number, filled up with zeros to `width` digits.
fn push_padded(number: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits);
}

/// Appends a byte as two hexadecimal digits.
fn push_hex(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[hex_digit(byte >> 4), hex_digit(byte & 15)]);
}

/// The digit of a value below 16, without a branch.
fn hex_digit(value: u8) -> u8 {
    b'0' + value + u8::from(value > 9) * (b'a' - 10 - b'0')
}
