//! Sizes such as `32MiB` and durations such as `500ms`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// A number of bytes as written: `32MiB`, `64kB`, or a plain number.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Bytes(u64),
    Text(String),
}

/// The units of sizes, longest first, so that a shorter one is not taken for it.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// The units of durations, longest first.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Digits followed by one of `units`, multiplied.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?.trim_end();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()?.checked_mul(*factor)).flatten()
    })
}

impl Size {
    /// The number of bytes, or `None` where the text is not a size.
    pub(super) fn bytes(&self) -> Option<usize> {
        let bytes = match self {
            Self::Bytes(bytes) => Some(*bytes),
            Self::Text(text) => {
                let text = text.trim();
                with_unit(text, &SIZE_UNITS).or_else(|| text.parse().ok())
            }
        };
        bytes.and_then(|bytes| usize::try_from(bytes).ok())
    }
}

/// Reads `250ms`, `30s`, `5m`, `1h`, `1d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    with_unit(text.trim(), &DURATION_UNITS).map(Duration::from_millis)
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, plain or with a unit: B, kB, MB, GB, KiB, MiB, GiB.",
            "type": ["string", "integer"],
            "pattern": "^ *[0-9]+ *([kKMG]?B|[KMG]iB)? *$",
            "patternErrorMessage": "must be a whole number of bytes, or one with a unit of B, kB, MB, GB, KiB, MiB or GiB, such as 32MiB",
            "minimum": 0,
        })
    }
}

/// A duration as written; the schema alone, the text is read by [`duration`].
#[derive(Debug)]
pub(super) struct DurationText;

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with a unit: ms, s, m, h, d.",
            "type": "string",
            "pattern": "^ *[0-9]+ *(ms|s|m|h|d) *$",
            "patternErrorMessage": "must be a whole number and a unit of ms, s, m, h or d, such as 10s",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |text: &str| Size::Text(text.to_owned()).bytes();
        assert_eq!(size("32MiB"), Some(32 << 20));
        assert_eq!(size("64 kB"), Some(64_000));
        assert_eq!(size("7B"), Some(7));
        assert_eq!(size("123"), Some(123));
        assert_eq!(Size::Bytes(5).bytes(), Some(5));
        for wrong in ["", "MiB", "1.5MiB", "-1B", "1 TiB", "1MiBB", "99999999999999999999GiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("30 s"), Some(Duration::from_secs(30)));
        assert_eq!(duration("1h"), Some(Duration::from_secs(3600)));
        for wrong in ["", "30", "s", "-1s", "1.5s", "1w"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
