//! What an operator sees of a running pipeline.

use std::time::{Duration, Instant};

/// How often a line is logged while events flow.
const EVERY: Duration = Duration::from_secs(10);

/// Counts events and logs a summary while there are any.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Instant,
    events: u64,
    total: u64,
    dead_letters: u64,
    bytes: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), events: 0, total: 0, dead_letters: 0, bytes: 0 }
    }

    /// Notes an encoded batch. `behind_us` is capture time less commit time of its newest event.
    pub(crate) fn batch(&mut self, events: u64, dead_letters: u64, bytes: usize, behind_us: i64) {
        self.events = self.events.saturating_add(events);
        self.total = self.total.saturating_add(events);
        self.dead_letters = self.dead_letters.saturating_add(dead_letters);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let elapsed = self.since.elapsed();
        if elapsed < EVERY {
            return;
        }
        // A quiet log brings batches of progress alone.
        if self.events > 0 {
            let per_second = self.events.saturating_mul(1000)
                / u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            tracing::info!(
                events = self.total,
                events_per_s = per_second,
                bytes = self.bytes,
                dead_letters = self.dead_letters,
                lag_ms = behind_us.max(0) / 1000,
                "progress"
            );
        }
        self.since = Instant::now();
        self.events = 0;
    }

    /// Events so far.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_covers_the_events_since_the_last_one() {
        let mut progress = Progress::new();
        progress.batch(3, 0, 10, 0);
        assert_eq!((progress.events, progress.total()), (3, 3));
        progress.since = Instant::now().checked_sub(2 * EVERY).unwrap();
        progress.batch(4, 0, 10, 0);
        assert_eq!((progress.events, progress.total()), (0, 7));
        assert!(progress.since.elapsed() < EVERY);
        progress.batch(5, 0, 10, 0);
        assert_eq!((progress.events, progress.total()), (5, 12));
    }
}
