//! The log runway: how long the server can keep the log that the slot needs, at the present rate. No
//! I/O happens here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::lsn::Lsn;

/// The rate is that of this time.
const WINDOW: Duration = Duration::from_secs(300);
/// The least time that a rate is taken over: the slot lets log go in steps, at running-transaction
/// records some fifteen seconds apart.
const SPAN_MIN: Duration = Duration::from_secs(45);
/// Samples kept at most.
const SAMPLES_MAX: usize = 128;

/// Samples of the log's end and of what the server may still write before the slot is in danger.
#[derive(Debug, Default)]
pub(crate) struct Runway {
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    wal_end: Lsn,
    /// `safe_wal_size`: bytes that can be written before the slot is in danger of being lost. Absent
    /// where the server keeps log without limit.
    safe: Option<i64>,
}

/// What the samples say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Forecast {
    /// Bytes of log that the server writes per second.
    pub(crate) written_per_second: Option<f64>,
    /// Seconds until the slot is in danger, at the rate at which it has come nearer; absent where
    /// it does not come nearer or there is no limit.
    pub(crate) left: Option<f64>,
    /// The same if nothing more were confirmed from now on.
    pub(crate) left_if_stopped: Option<f64>,
}

impl Runway {
    /// Adds a sample.
    pub(crate) fn note(&mut self, at: Instant, wal_end: Lsn, safe: Option<i64>) {
        // Another server, or another limit: what was seen before says nothing about it.
        let is_other = self
            .samples
            .back()
            .is_some_and(|last| last.wal_end > wal_end || last.safe.is_some() != safe.is_some());
        if is_other {
            self.samples.clear();
        }
        self.samples.push_back(Sample { at, wal_end, safe });
        let is_old = |sample: &Sample| at.saturating_duration_since(sample.at) > WINDOW;
        while self.samples.len() > SAMPLES_MAX || self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
    }

    /// The forecast as of the newest sample; nothing before there are enough of them.
    pub(crate) fn forecast(&self) -> Forecast {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return Forecast::default();
        };
        let span = last.at.saturating_duration_since(first.at);
        if span < SPAN_MIN {
            return Forecast::default();
        }
        let per_second = |bytes: f64| bytes / span.as_secs_f64();
        let written = per_second(float(last.wal_end.0.saturating_sub(first.wal_end.0)));
        let nearer = match (first.safe, last.safe) {
            (Some(before), Some(now)) => {
                let lost = u64::try_from(before.saturating_sub(now)).unwrap_or_default();
                Some(per_second(float(lost)))
            }
            _ => None,
        };
        let safe = last.safe.map(|safe| float(u64::try_from(safe).unwrap_or_default()));
        let until = |rate: f64| safe.filter(|_| rate > 0.0).map(|safe| safe / rate);
        Forecast {
            written_per_second: Some(written),
            left: nearer.and_then(until),
            left_if_stopped: until(written),
        }
    }
}

/// As a figure: above 2^53 the last digits are lost, which no forecast needs.
pub(crate) fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runway(samples: &[(u64, u64, Option<i64>)]) -> Forecast {
        let start = Instant::now();
        let mut runway = Runway::default();
        for (second, wal_end, safe) in samples {
            runway.note(start + Duration::from_secs(*second), Lsn(*wal_end), *safe);
        }
        runway.forecast()
    }

    #[test]
    fn a_rate_needs_time() {
        assert_eq!(runway(&[]), Forecast::default());
        assert_eq!(runway(&[(0, 0, Some(1000)), (10, 500, Some(500))]), Forecast::default());
    }

    #[test]
    fn a_slot_that_falls_behind_runs_out() {
        let forecast =
            runway(&[(0, 0, Some(9000)), (50, 3000, Some(6000)), (100, 6000, Some(3000))]);
        assert_eq!(forecast.written_per_second, Some(60.0));
        assert_eq!(forecast.left, Some(50.0));
        assert_eq!(forecast.left_if_stopped, Some(50.0));
    }

    #[test]
    fn a_slot_that_keeps_up_does_not() {
        let forecast = runway(&[(0, 0, Some(9000)), (100, 6000, Some(9000))]);
        assert_eq!((forecast.left, forecast.left_if_stopped), (None, Some(150.0)));
        let unlimited = runway(&[(0, 0, None), (100, 6000, None)]);
        assert_eq!((unlimited.left, unlimited.left_if_stopped), (None, None));
        assert_eq!(runway(&[(0, 7, Some(5)), (100, 7, Some(5))]).left_if_stopped, None);
    }

    #[test]
    fn another_log_starts_anew_and_old_samples_go() {
        assert_eq!(runway(&[(0, 900, None), (100, 10, None)]), Forecast::default());
        let forecast = runway(&[(0, 0, None), (400, 4000, None), (450, 5000, None)]);
        assert_eq!(forecast.written_per_second, Some(20.0));
    }
}
