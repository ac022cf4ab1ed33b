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

/// What a source said of itself last.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What it said.
    pub facts: Vec<Fact>,
    /// How long ago.
    pub age: Duration,
    /// Whether the run that said it goes on. What an earlier run said may have changed since, and
    /// nobody looks.
    pub is_of_this_run: bool,
}

/// Where a source reports to. One connector has one for the whole life of the process; every run of
/// its source gets a clone.
#[derive(Debug, Clone, Default)]
pub struct Reporter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_streaming: AtomicBool,
    has_streamed: AtomicBool,
    told: Mutex<Option<Told>>,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    facts: Vec<Fact>,
    is_of_this_run: bool,
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
        if let Some(told) = self.lock().as_mut() {
            told.is_of_this_run = false;
        }
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
        *self.lock() = Some(Told { at: Instant::now(), facts, is_of_this_run: true });
    }

    /// What was reported last.
    pub fn known(&self) -> Option<Known> {
        self.lock().as_ref().map(|told| Known {
            facts: told.facts.clone(),
            age: told.at.elapsed(),
            is_of_this_run: told.is_of_this_run,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Told>> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_outlives_the_run_that_made_it_and_is_told_from_one_of_this_run() {
        let reporter = Reporter::default();
        assert!(!reporter.is_streaming() && reporter.known().is_none());
        let run = reporter.clone();
        run.streaming();
        let fact = Fact { name: "slot_active", help: "x", value: FactValue::Gauge(1.0) };
        run.facts(vec![fact.clone()]);
        reporter.ended();
        assert!(!reporter.is_streaming() && reporter.has_streamed());
        let of_before = reporter.known().unwrap();
        assert_eq!((of_before.facts, of_before.is_of_this_run), (vec![fact.clone()], false));
        run.facts(vec![fact]);
        assert!(reporter.known().unwrap().is_of_this_run);
    }
}
