//! What the guard sees of the slot, as facts for monitoring and as warnings for the log. No I/O
//! happens here.

use std::time::Duration;

use rowtide_sdk::{Fact, FactValue, Finding, Severity};
use serde::Deserialize;

use super::runway::{Forecast, float};
use crate::lsn::Lsn;
use crate::slot::Slot;
use crate::stream::codes;

/// The slot and the end of the log at one moment.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct View {
    #[serde(flatten)]
    pub(crate) slot: Slot,
    /// The end of the log: on a standby, of what it has replayed.
    pub(crate) wal_end: Lsn,
    pub(crate) in_recovery: bool,
}

/// The columns of [`View`] beside the slot's own.
pub(crate) const VIEW: &str = "to_jsonb(s) || jsonb_build_object('in_recovery', pg_is_in_recovery(), \
    'wal_end', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
    ELSE pg_current_wal_lsn() END)";

impl View {
    /// Bytes of log that the server keeps for the slot.
    pub(crate) fn retained(&self) -> Option<u64> {
        self.slot.restart_lsn.map(|restart| self.wal_end.0.saturating_sub(restart.0))
    }

    /// Bytes of log that are not confirmed.
    pub(crate) fn behind(&self) -> Option<u64> {
        self.slot.confirmed_flush_lsn.map(|confirmed| self.wal_end.0.saturating_sub(confirmed.0))
    }

    /// What is dangerous about the slot, the worst first. `threshold` is the shortest runway that is
    /// fine.
    pub(crate) fn risk(&self, forecast: Forecast, threshold: Duration) -> Option<Finding> {
        let name = &self.slot.slot_name;
        let kept = self.retained().map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
        let status = self.slot.wal_status.as_deref();
        let safe = self.slot.safe_wal_size.and_then(|bytes| u64::try_from(bytes).ok());
        let is_nearly_used = safe.zip(self.retained()).is_some_and(|(safe, retained)| {
            // Retained and safe together are the limit.
            safe < safe.saturating_add(retained) / 8
        });
        let left = forecast.left.filter(|left| *left < threshold.as_secs_f64());
        let (code, message) = if status == Some("unreserved") {
            let message = format!(
                "the server keeps more log for the slot \"{name}\" than max_slot_wal_keep_size \
                 allows{kept}, and may throw it away at any checkpoint"
            );
            (codes::LOG_RUNS_OUT, message)
        } else if let Some(left) = left {
            let message = format!(
                "at the present rate the server throws away log that the slot \"{name}\" needs in \
                 {left:.0} s"
            );
            (codes::LOG_RUNS_OUT, message)
        } else if is_nearly_used {
            let message = format!(
                "the slot \"{name}\" has nearly used up max_slot_wal_keep_size{kept}; past it the \
                 server throws away what the slot needs"
            );
            (codes::LOG_RUNS_OUT, message)
        } else if status == Some("extended") {
            let message = format!(
                "the server keeps more log for the slot \"{name}\" than max_wal_size{kept}: its \
                 disk fills while this connector is behind"
            );
            (codes::LOG_EXTENDED, message)
        } else {
            return None;
        };
        let remedy = "let the connector catch up (see why its sink or server is slow), or raise \
                      max_slot_wal_keep_size while the disk has room";
        let finding = Finding::new(Severity::Warning, code, message);
        Some(finding.at(format!("slot {name}")).with_remedy(remedy))
    }

    /// The facts for monitoring.
    pub(crate) fn facts(&self, forecast: Forecast, heartbeats: u64) -> Vec<Fact> {
        let gauges = self.gauges(forecast).into_iter().filter_map(|(name, help, figure)| {
            Some(Fact { name, help, value: FactValue::Gauge(figure?) })
        });
        let states = [
            (
                "slot_wal_status",
                "Whether the log that the slot needs is safe",
                &self.slot.wal_status,
            ),
            (
                "slot_invalidation_reason",
                "Why the server has invalidated the slot",
                &self.slot.invalidation_reason,
            ),
        ];
        let states = states.into_iter().filter_map(|(name, help, word)| {
            Some(Fact { name, help, value: FactValue::State(word.clone()?) })
        });
        let heartbeats = Fact {
            name: "heartbeats_total",
            help: "Heartbeats written",
            value: FactValue::Counter(heartbeats),
        };
        gauges.chain(states).chain([heartbeats]).collect()
    }

    fn gauges(&self, forecast: Forecast) -> [(&'static str, &'static str, Option<f64>); 11] {
        let flag = |is_so: bool| if is_so { 1.0 } else { 0.0 };
        let slot = &self.slot;
        let safe = slot.safe_wal_size.map(|bytes| u64::try_from(bytes).unwrap_or_default());
        [
            (
                "log_behind_bytes",
                "Bytes of log that are written and not confirmed to the server",
                self.behind().map(float),
            ),
            (
                "log_written_bytes_per_second",
                "Bytes of log that the server writes per second, over the last minutes",
                forecast.written_per_second,
            ),
            (
                "slot_retained_bytes",
                "Bytes of log that the server keeps for the slot",
                self.retained().map(float),
            ),
            (
                "slot_safe_bytes",
                "Bytes that can be written before the slot is in danger of being lost",
                safe.map(float),
            ),
            (
                "slot_runway_seconds",
                "Seconds until the slot is lost at the rate at which it falls behind",
                forecast.left,
            ),
            (
                "slot_runway_if_stopped_seconds",
                "Seconds until the slot is lost if nothing is confirmed from now on",
                forecast.left_if_stopped,
            ),
            (
                "slot_active",
                "1 while somebody reads the slot",
                Some(flag(slot.active_pid.is_some())),
            ),
            (
                "slot_conflicting",
                "1 where the slot conflicts with recovery",
                slot.conflicting.map(flag),
            ),
            ("slot_failover", "1 where standbys synchronize the slot", slot.failover.map(flag)),
            (
                "slot_synced",
                "1 where the slot was synchronized from a primary",
                slot.synced.map(flag),
            ),
            ("server_in_recovery", "1 where the server is a standby", Some(flag(self.in_recovery))),
        ]
    }
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} kB", bytes >> 10),
        mib @ 1..10_240 => format!("{mib} MB"),
        mib => format!("{} GB", mib >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn view(status: &str, safe: Option<i64>) -> View {
        let slot = Slot {
            slot_name: "s".to_owned(),
            restart_lsn: Some(Lsn(100 << 20)),
            confirmed_flush_lsn: Some(Lsn(180 << 20)),
            wal_status: Some(status.to_owned()),
            safe_wal_size: safe,
            ..Slot::default()
        };
        View { slot, wal_end: Lsn(200 << 20), in_recovery: false }
    }

    #[test]
    fn the_worst_danger_is_named() {
        let risk = |view: &View, left: Option<f64>| {
            let forecast = Forecast { left, ..Forecast::default() };
            view.risk(forecast, HOUR).map(|finding| (finding.code, finding.message))
        };
        assert_eq!(risk(&view("reserved", Some(900 << 20)), Some(3601.0)), None);
        let (code, message) = risk(&view("reserved", Some(900 << 20)), Some(120.0)).unwrap();
        assert!(code == codes::LOG_RUNS_OUT && message.contains("in 120 s"), "{message}");
        let (code, message) = risk(&view("unreserved", Some(-1)), None).unwrap();
        assert!(code == codes::LOG_RUNS_OUT && message.contains("(100 MB)"), "{message}");
        let (code, _) = risk(&view("extended", Some(5 << 20)), None).unwrap();
        assert_eq!(code, codes::LOG_RUNS_OUT);
        let (code, _) = risk(&view("extended", None), None).unwrap();
        assert_eq!(code, codes::LOG_EXTENDED);
    }

    #[test]
    fn what_is_not_known_is_not_reported() {
        let facts = view("reserved", None).facts(Forecast::default(), 2);
        let find = |name| facts.iter().find(|fact| fact.name == name).map(|fact| &fact.value);
        assert_eq!(find("log_behind_bytes"), Some(&FactValue::Gauge(float(20 << 20))));
        assert_eq!(find("slot_retained_bytes"), Some(&FactValue::Gauge(float(100 << 20))));
        assert_eq!(find("heartbeats_total"), Some(&FactValue::Counter(2)));
        assert_eq!(find("slot_safe_bytes"), None);
        assert_eq!(find("slot_runway_seconds"), None);
        assert_eq!(find("slot_synced"), None);
    }
}
