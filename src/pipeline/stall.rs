//! Says when a sink answers nothing any more.

use std::time::Duration;

use rowtide_sdk::Code;
use tokio::time::Instant;

/// RT4011: the sink has answered nothing for a while.
const STALLED: Code = Code("RT4011");

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// Silence that is worth a warning.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two warnings of one silence.
const REPEAT: Duration = Duration::from_secs(60);

/// Watches how long batches wait while no answer comes.
pub(crate) struct Stall {
    next_look: Instant,
    /// Since when batches wait and none of the oldest was confirmed.
    silent_since: Option<Instant>,
    warned: Option<Instant>,
}

impl Stall {
    pub(crate) fn new() -> Self {
        Self { next_look: Instant::now() + LOOK, silent_since: None, warned: None }
    }

    /// When [`Stall::look`] wants to be called.
    pub(crate) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// The oldest batch was confirmed.
    pub(crate) fn answered(&mut self) {
        let Some(since) = self.silent_since.take() else { return };
        if self.warned.take().is_some() {
            let silent_s = since.elapsed().as_secs();
            tracing::info!(silent_s, "the sink answers again");
        }
    }

    /// Looks whether batches wait, and for how long; true where that was worth a warning.
    pub(crate) fn look(&mut self, waiting: usize) -> bool {
        let now = Instant::now();
        self.next_look = now + LOOK;
        if waiting == 0 {
            self.silent_since = None;
            return false;
        }
        let silent = now.duration_since(*self.silent_since.get_or_insert(now));
        let is_due = self.warned.is_none_or(|warned| now.duration_since(warned) >= REPEAT);
        if silent < SILENCE || !is_due {
            return false;
        }
        self.warned = Some(now);
        tracing::warn!(
            code = %STALLED, silent_s = silent.as_secs(), batches = waiting,
            "the sink has not confirmed anything for a while; what was sent waits, and nothing is \
             confirmed to the source"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every five seconds for `seconds`, and counts the warnings.
    async fn watch(stall: &mut Stall, waiting: usize, seconds: u64) -> usize {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut warnings = 0;
        while stall.next_look() <= end {
            tokio::time::sleep_until(stall.next_look()).await;
            warnings += usize::from(stall.look(waiting));
        }
        tokio::time::sleep_until(end).await;
        warnings
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_sink_is_named_once_a_minute() {
        let mut stall = Stall::new();
        assert_eq!(watch(&mut stall, 3, 14).await, 0);
        assert_eq!(watch(&mut stall, 3, 10).await, 1);
        assert_eq!(watch(&mut stall, 3, 50).await, 0);
        assert_eq!(watch(&mut stall, 3, 60).await, 1);
        stall.answered();
        assert_eq!(watch(&mut stall, 3, 10).await, 0);
        assert_eq!(watch(&mut stall, 3, 10).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_or_answering_sink_is_not() {
        let mut stall = Stall::new();
        assert_eq!(watch(&mut stall, 0, 300).await, 0);
        for _ in 0..40 {
            assert_eq!(watch(&mut stall, 9, 8).await, 0);
            stall.answered();
        }
    }
}
