//! Values: the forms a column can take in JSON, and the decoders that write them.

use std::borrow::Cow;

use crate::json::{JsonWriter, Written};

/// What is wrong with a value. Never holds the value itself (invariant A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Text that is not UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// Text that is not of the column's type; names what was expected.
    #[error("not a valid {0}")]
    Malformed(&'static str),
}

/// Writes one column's raw bytes as JSON. Chosen once per column when the table is learned.
///
/// Contract: on `Ok` exactly one JSON value was appended, and it matches the column's [`Form`]; that
/// is what lets the host elide the check of the form per row. On `Err` the writer may hold a torn
/// value; the caller truncates it. Decoders do no I/O and never panic on any bytes (A1).
pub trait Decode: Send + Sync + std::fmt::Debug {
    /// Appends the JSON of `raw`, which is never SQL NULL.
    ///
    /// # Errors
    /// [`ValueError`] where the bytes are not of the type.
    fn write(&self, raw: &[u8], out: &mut JsonWriter) -> Result<Written, ValueError>;

    /// The server's own text of `raw`, where a batch keeps the value in another form.
    fn text<'r>(&self, raw: &'r [u8]) -> Cow<'r, [u8]> {
        Cow::Borrowed(raw)
    }

    /// Appends `raw` as a JSON string of the server's own text, for a JSON column which must stand
    /// as text in one image because it does in the other.
    ///
    /// # Errors
    /// [`ValueError::Utf8`] where the bytes are not UTF-8.
    fn write_text(&self, raw: &[u8], out: &mut JsonWriter) -> Result<(), ValueError> {
        out.utf8_string(raw)
    }
}

/// The JSON form of a column, from which the row schema is derived. SQL NULL is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`.
    Boolean,
    /// A JSON number without fraction or exponent, within the bounds (inclusive).
    Integer {
        /// Smallest value.
        min: i128,
        /// Largest value.
        max: i128,
    },
    /// A JSON number, or one of the strings `NaN`, `Infinity`, `-Infinity`.
    Float,
    /// A JSON string of the given kind.
    String(StringKind),
    /// Any JSON value, passed through; a string of the text where the column is in `raw_json`.
    Json,
    /// An array, nested to any depth, of the element's form or null; the server's text as a string
    /// where the bounds are not the default.
    Array(Box<Form>),
    /// An object with these fields in this order (each may be null); the server's text as a string
    /// where the number of fields differs.
    Object(Vec<(String, Form)>),
    /// An object from names to strings or null (hstore).
    Map,
}

/// The kinds of string a column's value may be. Each states its shape as a JSON Schema pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StringKind {
    /// Any text; at most so many characters where the type says so.
    Text {
        /// The declared length in characters, `varchar(n)`.
        max_chars: Option<u32>,
    },
    /// Standard base64 with padding.
    Bytes,
    /// Digits with an optional sign and fraction, scale kept; or `NaN`, `Infinity`, `-Infinity`.
    Decimal,
    /// `YYYY-MM-DD`; four or more year digits; ` BC` appended for years before 1; or `infinity`,
    /// `-infinity`.
    Date,
    /// `HH:MM:SS.ffffff`, up to `24:00:00.000000`.
    Time,
    /// A length of time that may be negative and longer than a day: `-838:59:59.000000`.
    SignedTime,
    /// As [`StringKind::Time`] with the offset as the server prints it: `+HH`, `+HH:MM` or
    /// `+HH:MM:SS`, either sign.
    TimeTz,
    /// `YYYY-MM-DDTHH:MM:SS.ffffff`, without a zone; years and infinities as for dates.
    Timestamp,
    /// As [`StringKind::Timestamp`] in UTC, ending in `Z`; ` BC` follows the `Z`.
    TimestampTz,
    /// The server's own interval text (`IntervalStyle` postgres): months, days and time apart.
    Interval,
    /// A lower-case hyphenated UUID.
    Uuid,
    /// Binary digits.
    Bits,
    /// The server's own text of a type that has no JSON counterpart.
    Opaque,
}

impl StringKind {
    /// The JSON Schema `pattern` that every value of this kind matches, where there is one.
    ///
    /// ECMA 262 dialect without look-around, so that any validator accepts it.
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Text { .. } | Self::Opaque | Self::Interval => None,
            Self::Bytes => Some("^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"),
            Self::Decimal => Some("^(-?[0-9]+(\\.[0-9]+)?|NaN|-?Infinity)$"),
            Self::Date => Some("^([0-9]{4,}-[0-9]{2}-[0-9]{2}( BC)?|-?infinity)$"),
            Self::Time => Some("^[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}$"),
            Self::SignedTime => Some("^-?[0-9]{2,3}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}$"),
            Self::TimeTz => {
                Some("^[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}[+-][0-9]{2}(:[0-9]{2}(:[0-9]{2})?)?$")
            }
            Self::Timestamp => Some(
                "^([0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}( BC)?|-?infinity)$",
            ),
            Self::TimestampTz => Some(
                "^([0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z( BC)?|-?infinity)$",
            ),
            Self::Uuid => Some("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
            Self::Bits => Some("^[01]*$"),
        }
    }

    /// A stable name for the kind, printed in the row schema as `x-rowtide-kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Bytes => "bytes",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::Time => "time",
            Self::SignedTime => "signed_time",
            Self::TimeTz => "timetz",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Interval => "interval",
            Self::Uuid => "uuid",
            Self::Bits => "bits",
            Self::Opaque => "opaque",
        }
    }
}
