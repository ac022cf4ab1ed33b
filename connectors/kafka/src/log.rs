//! librdkafka's own log lines, through `tracing`.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;

use crate::delivery::lock;

/// How often one kind of line is shown as a warning.
const PERIOD: Duration = Duration::from_secs(30);

/// Kinds of lines that say what errors, findings or [`crate::health`] say better.
const QUIET: [&str; 8] =
    ["FAIL", "ERROR", "CONFWARN", "FATAL", "SSL", "PURGE", "TERMINATE", "LIBSASL"];

/// Passes librdkafka's lines on: one warning of a kind in thirty seconds, the others at debug level.
/// The lines name brokers, topics and requests and never hold record data.
#[derive(Debug, Default)]
pub(crate) struct LogGate {
    shown: Mutex<HashMap<String, Instant>>,
}

impl LogGate {
    pub(crate) fn pass(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        let loud = matches!(
            level,
            RDKafkaLogLevel::Emerg
                | RDKafkaLogLevel::Alert
                | RDKafkaLogLevel::Critical
                | RDKafkaLogLevel::Error
                | RDKafkaLogLevel::Warning
        );
        if loud && !QUIET.contains(&fac) && self.due(fac, Instant::now()) {
            tracing::warn!(target: "librdkafka", fac, "{message}");
        } else {
            tracing::debug!(target: "librdkafka", fac, "{message}");
        }
    }

    /// Whether a kind was not shown for a while.
    fn due(&self, fac: &str, now: Instant) -> bool {
        let mut shown = lock(&self.shown);
        match shown.get_mut(fac) {
            Some(last) if now.duration_since(*last) < PERIOD => false,
            Some(last) => {
                *last = now;
                true
            }
            None => {
                shown.insert(fac.to_owned(), now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_shown_once_in_a_period() {
        let gate = LogGate::default();
        let now = Instant::now();
        assert!(gate.due("GETPID", now));
        assert!(!gate.due("GETPID", now + Duration::from_secs(1)));
        assert!(gate.due("REQTMOUT", now + Duration::from_secs(1)));
        assert!(gate.due("GETPID", now + PERIOD));
    }
}
