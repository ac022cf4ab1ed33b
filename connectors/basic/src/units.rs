//! Sizes and durations as people write them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The units of sizes, as the host's own settings take them; the first that divides is printed.
const SIZES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// The units of periods, likewise.
const PERIODS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A number of bytes: `128MiB`, `500 MB`, or a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A period: `1h`, `30m`, `90s`, `500ms`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(pub Duration);

/// Reads `<whole number> <unit>`.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes the largest unit that divides the value.
fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let unit = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match unit.or_else(|| units.last()) {
        Some((name, factor)) => write!(f, "{}{name}", value / factor),
        None => Ok(()),
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, &SIZES, f)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &PERIODS, f)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct SizeVisitor;

impl de::Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as 128MiB")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).map(ByteSize).map_err(|_| E::custom("a size is not negative"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        let bare = text.trim().parse().ok();
        bare.or_else(|| parse(text, &SIZES))
            .map(ByteSize)
            .ok_or_else(|| E::custom("expected a size such as 128MiB"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse(&text, &PERIODS)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| de::Error::custom("expected a period such as 1h, 30m, 90s or 500ms"))
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": "^ *[0-9]+ *([kKMG]?B|[KMG]iB)? *$",
            "patternErrorMessage": "must be a whole number of bytes, or one with a unit of B, kB, MB, GB, KiB, MiB or GiB, such as 32MiB"
        })
    }
}

impl JsonSchema for Age {
    fn schema_name() -> Cow<'static, str> {
        "Age".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^ *[0-9]+ *(d|h|m|s|ms) *$",
            "patternErrorMessage": "must be a whole number and a unit of ms, s, m, h or d, such as 10s"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(json: &str) -> Option<u64> {
        serde_json::from_str::<ByteSize>(json).ok().map(|size| size.0)
    }

    fn age(json: &str) -> Option<u128> {
        serde_json::from_str::<Age>(json).ok().map(|age| age.0.as_millis())
    }

    #[test]
    fn sizes() {
        for (json, bytes) in [
            ("4096", Some(4096)),
            ("\"4096\"", Some(4096)),
            ("\"128MiB\"", Some(128 << 20)),
            ("\"128 MiB\"", Some(128 << 20)),
            ("\"128mib\"", None),
            ("\"1GB\"", Some(1_000_000_000)),
            ("\"7B\"", Some(7)),
            ("\"2KB\"", Some(2000)),
            ("-1", None),
            ("\"\"", None),
            ("\"MiB\"", None),
            ("\"1.5MiB\"", None),
            ("\"1 parsec\"", None),
            ("\"18446744073709551615GiB\"", None),
        ] {
            assert_eq!(size(json), bytes, "{json}");
        }
    }

    #[test]
    fn ages() {
        for (json, millis) in [
            ("\"1h\"", Some(3_600_000)),
            ("\"90 s\"", Some(90_000)),
            ("\"500ms\"", Some(500)),
            ("\"7d\"", Some(604_800_000)),
            ("3600", None),
            ("\"3600\"", None),
            ("\"h\"", None),
        ] {
            assert_eq!(age(json), millis, "{json}");
        }
    }

    #[test]
    fn printed_as_written() {
        for text in ["128MiB", "1GiB", "1kB", "17B", "0B"] {
            assert_eq!(
                size(&format!("\"{text}\"")).map(|n| ByteSize(n).to_string()).unwrap(),
                text
            );
        }
        for (text, printed) in [("1h", "1h"), ("90s", "90s"), ("120m", "2h"), ("0s", "0ms")] {
            let age: Age = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(age.to_string(), printed);
        }
    }
}
