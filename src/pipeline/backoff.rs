//! Delays between restarts: exponential with full jitter.

use std::time::Duration;

/// The first restart waits up to this.
const BASE: Duration = Duration::from_millis(500);
/// No restart waits longer than this.
const CAP: Duration = Duration::from_secs(30);

/// The delay ceiling doubles from restart to restart; the delay is drawn evenly from zero to it, so
/// that connectors which failed together do not come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    restarts: u32,
}

impl Backoff {
    /// The next delay.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let ceiling =
            BASE.saturating_mul(1_u32.checked_shl(self.restarts).unwrap_or(u32::MAX)).min(CAP);
        self.restarts = self.restarts.saturating_add(1).min(16);
        ceiling.mul_f64(fastrand::f64())
    }

    /// Starts over, after progress was made.
    pub(crate) fn reset(&mut self) {
        self.restarts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_below_a_doubling_ceiling() {
        let mut backoff = Backoff::default();
        for restart in 0..64 {
            let ceiling = BASE.saturating_mul(1 << restart.min(10)).min(CAP);
            assert!(backoff.next_delay() <= ceiling);
        }
        backoff.reset();
        assert!(backoff.next_delay() <= BASE);
    }
}
