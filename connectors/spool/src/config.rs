//! The settings of transactions that are set aside.

use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Where transactions are set aside until they are complete.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// The folder; below it each connector has one of its own. `spool` in the state folder where it is
    /// not given. What is in it is worth nothing after a restart.
    pub dir: Option<PathBuf>,
    /// The bytes on disk that all these transactions may take together, such as `50GiB`; above them
    /// the connector stops (RT2300). Without a limit the disk's is the limit.
    pub max: Option<ByteSize>,
}

/// A number of bytes: `50GiB`, `500 MB`, or a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

/// The units, longest first, so that a shorter one is not taken for it.
const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("KB", 1000),
    ("B", 1),
];

impl ByteSize {
    fn parse(text: &str) -> Option<u64> {
        let text = text.trim();
        let unit = UNITS.iter().find_map(|(unit, factor)| {
            text.strip_suffix(unit).map(|digits| (digits.trim_end(), *factor))
        });
        let (digits, factor) = unit.unwrap_or((text, 1));
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(factor)).flatten()
    }
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 50GiB")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        let size = ByteSize::parse(text).map(ByteSize);
        size.ok_or_else(|| E::custom("expected a size such as 50GiB"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "minimum": 0,
            "pattern": "^\\s*[0-9]+\\s*([KMGT]iB|[kKMGT]B|B)?\\s*$",
            "patternErrorMessage": "must be a whole number of bytes, or one with a unit of B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 50GiB",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("\"50GiB\"", 50 << 30),
            ("\"500 MB\"", 500_000_000),
            ("\"64kB\"", 64_000),
            ("\"7\"", 7),
            ("7", 7),
        ] {
            assert_eq!(serde_json::from_str::<ByteSize>(text).unwrap(), ByteSize(bytes), "{text}");
        }
        for text in ["\"\"", "\"GiB\"", "\"1.5GiB\"", "-1", "\"1 XB\"", "\"99999999999TiB\""] {
            assert!(serde_json::from_str::<ByteSize>(text).is_err(), "{text}");
        }
    }
}
