//! What a source says of itself while it runs: for readiness, `rowtide status` and metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One figure or state of a source. Never a row value and never a secret (invariant A6).
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// Its name, unique within the source, with the unit at its end: `slot_retained_bytes`. Lower-case
    /// letters, digits and underscores; a counter ends in `_total`.
    pub name: &'static str,
    /// What it means, in one sentence without a full stop.
    pub help: &'static str,
    /// How it stands. What is not known is left out of the report.
    pub value: FactValue,
}

/// How a fact stands.
#[derive(Debug, Clone, PartialEq)]
pub enum FactValue {
    /// A figure that goes up and down.
    Gauge(f64),
    /// A figure that only grows while the process lives.
    Counter(u64),
    /// One of a few words: `reserved`.
    State(String),
}

/// Where a source reports to. One connector has one for the whole life of the process; every run of
/// its source gets a clone.
#[derive(Debug, Clone, Default)]
pub struct Reporter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_streaming: AtomicBool,
    has_streamed: AtomicBool,
    facts: Mutex<Option<(Instant, Vec<Fact>)>>,
}

impl Reporter {
    /// The source has verified everything and reads the log.
    pub fn streaming(&self) {
        self.0.is_streaming.store(true, Ordering::Relaxed);
        self.0.has_streamed.store(true, Ordering::Relaxed);
    }

    /// The run has ended; said by the host.
    pub fn ended(&self) {
        self.0.is_streaming.store(false, Ordering::Relaxed);
    }

    /// Whether the source reads the log now.
    pub fn is_streaming(&self) -> bool {
        self.0.is_streaming.load(Ordering::Relaxed)
    }

    /// Whether any run of this connector's source in this process has: what was good once and is
    /// refused now may become good again.
    pub fn has_streamed(&self) -> bool {
        self.0.has_streamed.load(Ordering::Relaxed)
    }

    /// Replaces what is known of the source.
    pub fn facts(&self, facts: Vec<Fact>) {
        *self.lock() = Some((Instant::now(), facts));
    }

    /// What was reported last, and how long ago.
    pub fn known(&self) -> Option<(Duration, Vec<Fact>)> {
        self.lock().as_ref().map(|(at, facts)| (at.elapsed(), facts.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Vec<Fact>)>> {
        self.0.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_outlives_the_run_that_made_it() {
        let reporter = Reporter::default();
        assert!(!reporter.is_streaming() && reporter.known().is_none());
        let run = reporter.clone();
        run.streaming();
        let fact = Fact { name: "slot_active", help: "x", value: FactValue::Gauge(1.0) };
        run.facts(vec![fact.clone()]);
        reporter.ended();
        assert!(!reporter.is_streaming() && reporter.has_streamed());
        assert_eq!(reporter.known().map(|(_, facts)| facts), Some(vec![fact]));
    }
}
