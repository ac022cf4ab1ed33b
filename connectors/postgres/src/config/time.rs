//! Times in settings: `10s`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// A time as written, with its unit: `250ms`, `10s`, `5m`, `1h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// The units in milliseconds, longest name first.
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Time {
    fn parse(text: &str) -> Option<Self> {
        UNITS.iter().find_map(|(unit, factor)| {
            let digits = text.strip_suffix(unit)?;
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let number: u64 = is_number.then(|| digits.parse().ok())??;
            Some(Self(Duration::from_millis(number.checked_mul(*factor)?)))
        })
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(text.trim()).ok_or_else(|| D::Error::custom("is not a time such as 10s"))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^ *[0-9]+(ms|s|m|h|d) *$",
            "patternErrorMessage": "must be a whole number and a unit of ms, s, m, h or d, such as 10s"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let time = |text| Time::parse(text).map(|time| time.0);
        assert_eq!(time("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(time("10s"), Some(Duration::from_secs(10)));
        assert_eq!(time("5m"), Some(Duration::from_secs(300)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "1w", "99999999999999999999s"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }
}
