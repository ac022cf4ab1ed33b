//! Settings of the jsonl sink.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::units::{Age, ByteSize};

/// Below this, folders fill up with tiny files and commits with syncing them.
const ROTATE_BYTES_MIN: u64 = 64 * 1024;
const ROTATE_AGE_MIN: Duration = Duration::from_secs(1);

/// Writes every event as one line of JSON into files, one folder per topic. Exactly-once: the
/// position is committed together with the lines, and a restart removes what was not committed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// The folder to write to; created if missing. It belongs to this connector alone.
    pub dir: PathBuf,
    /// When a file is closed and the next one begun.
    #[serde(default)]
    pub rotate: Rotate,
    /// Whether a commit waits for the disk. Without, the files survive a killed process but not a
    /// power failure.
    #[serde(default = "yes")]
    pub fsync: bool,
}

/// When a file is closed and the next one begun: at whichever limit comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rotate {
    /// The size of a file, such as `128MiB`; at least 64 KiB. A line is never split, and lines that
    /// arrive together stay together, so that one large batch may pass the limit.
    #[serde(deserialize_with = "rotate_bytes")]
    pub bytes: ByteSize,
    /// The time since the first line of a file, such as `1h`; at least `1s`.
    #[serde(deserialize_with = "rotate_age")]
    pub age: Age,
}

impl Default for Rotate {
    fn default() -> Self {
        Self { bytes: ByteSize(128 << 20), age: Age(Duration::from_secs(3600)) }
    }
}

impl JsonlConfig {
    /// The defaults for a folder.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), rotate: Rotate::default(), fsync: yes() }
    }
}

fn yes() -> bool {
    true
}

fn rotate_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    let bytes = ByteSize::deserialize(deserializer)?;
    if bytes.0 < ROTATE_BYTES_MIN {
        return Err(de::Error::custom("rotate.bytes must be at least 64KiB"));
    }
    Ok(bytes)
}

fn rotate_age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Age, D::Error> {
    let age = Age::deserialize(deserializer)?;
    if age.0 < ROTATE_AGE_MIN {
        return Err(de::Error::custom("rotate.age must be at least 1s"));
    }
    Ok(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_limits() {
        let config: JsonlConfig = serde_json::from_str(r#"{"dir":"/data"}"#).unwrap();
        assert_eq!(config, JsonlConfig::new("/data"));
        let config: JsonlConfig = serde_json::from_str(
            r#"{"dir":"d","rotate":{"bytes":"1MiB","age":"10m"},"fsync":false}"#,
        )
        .unwrap();
        assert_eq!(config.rotate.bytes, ByteSize(1 << 20));
        assert_eq!(config.rotate.age, Age(Duration::from_secs(600)));
        assert!(!config.fsync);
        for refused in [
            "{}",
            r#"{"dir":"d","folder":"e"}"#,
            r#"{"dir":"d","rotate":{"bytes":"1KiB"}}"#,
            r#"{"dir":"d","rotate":{"age":"10ms"}}"#,
            r#"{"dir":"d","rotate":{"lines":5}}"#,
        ] {
            assert!(serde_json::from_str::<JsonlConfig>(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_schema_describes_every_setting() {
        let schema = serde_json::to_value(schemars::schema_for!(JsonlConfig)).unwrap();
        assert_eq!(schema["required"], serde_json::json!(["dir"]));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["rotate"]["default"]["bytes"], "128MiB");
        assert_eq!(schema["properties"]["fsync"]["default"], true);
        for field in ["dir", "rotate", "fsync"] {
            assert!(schema["properties"][field]["description"].is_string(), "{field}");
        }
    }
}
