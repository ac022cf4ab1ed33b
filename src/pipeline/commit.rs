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
use super::backoff::Backoff;
use super::stall::Stall;
use crate::offsets::{FileStore, KeptNote};
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
    /// Where the sink keeps it, to be noted with the first position.
    pub(crate) note: Option<KeptNote>,
    pub(crate) committed: watch::Sender<Option<Position>>,
    pub(crate) interval: Duration,
    /// Shows what is committed.
    pub(crate) board: Arc<ConnectorBoard>,
    /// Set with the first position that is committed.
    pub(crate) has_progressed: Arc<AtomicBool>,
    /// Told once about the first failure; the pump then ends.
    pub(crate) failed: Option<oneshot::Sender<Error>>,
    /// False while the position cannot be saved; the pump submits nothing meanwhile, so that what a
    /// crash would repeat does not grow.
    pub(crate) saves: watch::Sender<bool>,
}

/// How the commit task ended.
pub(crate) struct CommitEnd {
    /// Whether every submitted batch is committed.
    pub(crate) is_drained: bool,
}

/// What became of a checkpoint.
enum Saved {
    Done,
    /// The disk may take it later.
    NotYet(Checkpoint),
    /// The run ends with it.
    Failed,
}

impl CommitTask {
    /// Consumes outcomes until the channel closes.
    pub(crate) async fn run(mut self) -> CommitEnd {
        let mut pending: Option<Checkpoint> = None;
        let mut is_saved = true;
        let mut next_save = Instant::now();
        let mut backoff = Backoff::default();
        let mut stall = Stall::new();
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
                        // A batch that failed, and progress without records behind one that waits, are
                        // no answers.
                        stall.answered();
                        pending = Some(checkpoint);
                    }
                    let is_ours_to_save = self.store.is_some();
                    if pending.is_none() || (Instant::now() < next_save && is_ours_to_save) {
                        continue;
                    }
                }
                () = sleep_until(next_save), if pending.is_some() => {}
                () = sleep_until(stall.next_look()) => {
                    let waiting = lock(&self.tracker).waiting();
                    stall.look(waiting);
                    continue;
                }
            }
            let Some(checkpoint) = pending.take() else { continue };
            match self.commit(checkpoint).await {
                Saved::Done => {
                    next_save = Instant::now() + self.interval;
                    backoff.reset();
                }
                Saved::NotYet(checkpoint) => {
                    next_save = Instant::now() + backoff.next_delay().max(self.interval);
                    pending = Some(checkpoint);
                }
                Saved::Failed => is_saved = false,
            }
        }
        if let Some(checkpoint) = pending.take() {
            is_saved = matches!(self.commit(checkpoint).await, Saved::Done);
        }
        CommitEnd { is_drained: is_saved && lock(&self.tracker).is_idle() }
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
    async fn commit(&mut self, checkpoint: Checkpoint) -> Saved {
        let position = checkpoint.position.clone();
        if let Some(mut store) = self.store.take() {
            // The sync of a disk may take long; the source's feedback runs on this thread.
            let saved = tokio::task::spawn_blocking(move || {
                let result = store.save(&checkpoint);
                (store, checkpoint, result)
            })
            .await;
            match saved {
                Ok((store, _, Ok(()))) => self.store = Some(store),
                Ok((store, checkpoint, Err(error))) => {
                    self.store = Some(store);
                    return self.not_saved(checkpoint, error);
                }
                Err(error) => {
                    let gone = "the task that saves the position ended";
                    self.fail(
                        Error::new(Class::Fatal, Origin::Host, TASK_GONE, gone).with_source(error),
                    );
                    return Saved::Failed;
                }
            }
        }
        if let Some(note) = self.note.take() {
            write_note(note).await;
        }
        if !self.saves.send_replace(true) {
            tracing::info!("the position is saved again; going on");
        }
        self.has_progressed.store(true, Ordering::Relaxed);
        self.board.saved(position.clone());
        self.committed.send_replace(Some(position));
        Saved::Done
    }

    /// A full disk is waited for here: a run that began anew would publish everything since the
    /// saved position once more.
    fn not_saved(&mut self, checkpoint: Checkpoint, error: Error) -> Saved {
        if error.class() != Class::Transient {
            self.fail(error);
            return Saved::Failed;
        }
        if self.saves.send_replace(false) {
            tracing::warn!(
                code = %error.code(), error = %error,
                "the position cannot be saved; nothing more is sent until it can"
            );
        }
        Saved::NotYet(checkpoint)
    }
}

/// The position is safe without it.
async fn write_note(note: KeptNote) {
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || note.write()).await {
        tracing::warn!(
            code = %error.code(), error = %error,
            "that the sink keeps the position cannot be noted in the state folder; with another sink the \
             connector would begin anew without a word"
        );
    }
}

/// Locks the tracker; its methods do not panic, so a poisoned lock holds a whole tracker.
pub(crate) fn lock(tracker: &SharedTracker) -> std::sync::MutexGuard<'_, AckTracker> {
    tracker.lock().unwrap_or_else(PoisonError::into_inner)
}
