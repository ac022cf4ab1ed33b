//! The settings of the slot's guard.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::time::Time;

/// A small logical message in the log, written when other traffic lets the log grow and nothing of
/// the captured tables confirms it. It holds nothing and is never an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Heartbeat {
    /// None is written.
    Off(Off),
    /// At most one in an interval.
    Every(HeartbeatInterval),
}

/// The word `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Off {
    /// Not done.
    #[serde(rename = "off")]
    Off,
}

/// How often a heartbeat may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatInterval {
    /// How often it is looked whether one is needed, from 100ms to 1h. Default 10s.
    #[serde(default = "default_interval")]
    pub interval: Time,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::Every(HeartbeatInterval { interval: default_interval() })
    }
}

impl Heartbeat {
    /// Whether the interval is one that can be kept.
    pub(super) fn is_sound(self) -> bool {
        let range = Duration::from_millis(100)..=Duration::from_secs(3600);
        match self {
            Self::Off(_) => true,
            Self::Every(HeartbeatInterval { interval }) => range.contains(&interval.0),
        }
    }
}

fn default_interval() -> Time {
    Time(Duration::from_secs(10))
}

pub(super) fn default_runway_warning() -> Time {
    Time(Duration::from_secs(3600))
}
