//! The commit task: from outcomes to a saved position to the source.
//!
//! The only place that saves positions where the sink does not, and the only one that tells the
//! source (A3). The order is fixed: durable in the sink, saved, told (A5).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rowtide_sdk::{Checkpoint, Class, Code, Error, Origin, Outcome, Position};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::acks::AckTracker;
use crate::offsets::FileStore;
use crate::ops::board::ConnectorBoard;

/// RT4009: a task of the host ended when it must not.
pub(crate) const TASK_GONE: Code = Code("RT4009");

/// The tracker, shared by the pump (submitted) and the commit task (answered).
pub(crate) type SharedTracker = Arc<Mutex<AckTracker>>;

/// Runs until every outcome has come, that is until all completions and the pump's sender are gone.
pub(crate) struct CommitTask {
    pub(crate) tracker: SharedTracker,
    pub(crate) outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// `None` where the sink keeps the position: what it reports durable is saved already.
    pub(crate) store: Option<FileStore>,
    pub(crate) committed: watch::Sender<Option<Position>>,
    pub(crate) interval: Duration,
    /// Shows what is committed.
    pub(crate) board: Arc<ConnectorBoard>,
    /// Set with the first position that is committed.
    pub(crate) has_progressed: Arc<AtomicBool>,
    /// Told once about the first failure; the pump then ends.
    pub(crate) failed: Option<oneshot::Sender<Error>>,
}

/// How the commit task ended.
pub(crate) struct CommitEnd {
    /// Whether every submitted batch is committed.
    pub(crate) is_drained: bool,
}

impl CommitTask {
    /// Consumes outcomes until the channel closes.
    pub(crate) async fn run(mut self) -> CommitEnd {
        let mut pending: Option<Checkpoint> = None;
        let mut next_save = Instant::now();
        loop {
            tokio::select! {
                outcome = self.outcomes.recv() => {
                    let Some(outcome) = outcome else { break };
                    self.note(outcome);
                    while let Ok(outcome) = self.outcomes.try_recv() {
                        self.note(outcome);
                    }
                    let mut tracker = lock(&self.tracker);
                    if let Some(checkpoint) = tracker.take_watermark() {
                        pending = Some(checkpoint);
                    }
                    if pending.is_none() || (Instant::now() < next_save && self.store.is_some()) {
                        continue;
                    }
                }
                () = sleep_until(next_save), if pending.is_some() => {}
            }
            if let Some(checkpoint) = pending.take() {
                self.commit(checkpoint).await;
                next_save = Instant::now() + self.interval;
            }
        }
        if let Some(checkpoint) = pending.take() {
            self.commit(checkpoint).await;
        }
        CommitEnd { is_drained: lock(&self.tracker).is_idle() }
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome.result {
            Ok(()) => lock(&self.tracker).durable(outcome.sequence),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) {
        if let Some(failed) = self.failed.take() {
            let _gone = failed.send(error);
        }
    }

    /// Saves where it is ours to save, then tells the source.
    async fn commit(&mut self, checkpoint: Checkpoint) {
        let position = checkpoint.position.clone();
        if let Some(mut store) = self.store.take() {
            // The sync of a disk may take long; the source's feedback runs on this thread.
            let saved = tokio::task::spawn_blocking(move || {
                let result = store.save(&checkpoint);
                (store, result)
            })
            .await;
            match saved {
                Ok((store, Ok(()))) => self.store = Some(store),
                Ok((store, Err(error))) => {
                    self.store = Some(store);
                    self.fail(error);
                    return;
                }
                Err(error) => {
                    let gone = "the task that saves the position ended";
                    self.fail(
                        Error::new(Class::Fatal, Origin::Host, TASK_GONE, gone).with_source(error),
                    );
                    return;
                }
            }
        }
        self.has_progressed.store(true, Ordering::Relaxed);
        self.board.saved(position.clone());
        self.committed.send_replace(Some(position));
    }
}

/// Locks the tracker; its methods do not panic, so a poisoned lock holds a whole tracker.
pub(crate) fn lock(tracker: &SharedTracker) -> std::sync::MutexGuard<'_, AckTracker> {
    tracker.lock().unwrap_or_else(PoisonError::into_inner)
}
