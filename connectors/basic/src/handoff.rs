//! The way from an async sink to the threads that write: a short queue of batches, and the
//! completions of everything that is not durable yet.
//!
//! Disks and pipes block; the runtime's threads must not. So batches are handed to a thread of the
//! sink's own, and completions stay here, where they can be answered at any time, even while that
//! thread hangs in the kernel.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rowtide_sdk::{Completion, Error, Origin, RecordBatch, Result};
use tokio::sync::Notify;

use crate::error::{CLOSED_EARLY, Failure, IO};

/// Batches waiting for the writing thread at most; what it works on comes on top.
const QUEUED_BATCHES: usize = 2;

#[derive(Debug)]
pub(crate) struct Handoff {
    state: Mutex<State>,
    /// Work for the writing thread.
    work: Condvar,
    /// Room in the queue, for `submit`.
    room: Notify,
    /// The last thread ended, for `close`.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<RecordBatch>,
    /// The completions of batches `durable..submitted`, in order.
    waiting: VecDeque<Completion>,
    submitted: u64,
    written: u64,
    durable: u64,
    closing: bool,
    failure: Option<Failure>,
    threads: usize,
}

/// What the writing thread does next.
pub(crate) enum Work {
    /// Write this batch.
    Batch(RecordBatch),
    /// Nothing came until the given time.
    Idle,
    /// No batch will follow.
    Closed,
}

impl Handoff {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Notify::new(),
            ended: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete in itself, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` on a thread. A thread that ends before the queue is closed is a failure.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        self.lock().threads += 1;
        let alive = Alive(Arc::clone(self));
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _alive = alive;
            body();
        });
        spawned.map(drop).map_err(|error| {
            Error::transient(Origin::Sink, IO, "cannot start a thread").with_source(error)
        })
    }

    /// Queues a batch, waiting for room. Cancel-safe: a batch is queued or dropped, never both.
    pub(crate) async fn submit(&self, batch: RecordBatch, done: Completion) -> Result<()> {
        loop {
            {
                let mut state = self.lock();
                if let Some(failure) = &state.failure {
                    let error = failure.error();
                    done.failed(failure.error());
                    return Err(error);
                }
                if state.queue.len() < QUEUED_BATCHES {
                    state.queue.push_back(batch);
                    state.waiting.push_back(done);
                    state.submitted += 1;
                    self.work.notify_one();
                    return Ok(());
                }
            }
            self.room.notified().await;
        }
    }

    /// The number of batches submitted so far.
    ///
    /// # Errors
    /// What made the sink fail, where it did.
    pub(crate) fn submitted(&self) -> Result<u64> {
        let state = self.lock();
        match &state.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(state.submitted),
        }
    }

    /// The next batch, for the writing thread: waits for one until `until`.
    pub(crate) fn next(&self, until: Option<Instant>) -> Work {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() {
                return Work::Closed;
            }
            if let Some(batch) = state.queue.pop_front() {
                self.room.notify_one();
                return Work::Batch(batch);
            }
            if state.closing {
                return Work::Closed;
            }
            state = match until {
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Work::Idle;
                    }
                    self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The oldest unwritten batch is with the kernel: its memory is free. Returns how many batches
    /// are written now.
    pub(crate) fn written(&self) -> u64 {
        let mut state = self.lock();
        let index = usize::try_from(state.written.saturating_sub(state.durable));
        if let Some(completion) = index.ok().and_then(|index| state.waiting.get_mut(index)) {
            completion.release_memory();
        }
        state.written += 1;
        state.written
    }

    /// The first `count` batches are durable.
    pub(crate) fn durable(&self, count: u64) {
        let mut state = self.lock();
        if state.failure.is_some() {
            return;
        }
        while state.durable < count
            && let Some(completion) = state.waiting.pop_front()
        {
            state.durable += 1;
            completion.durable();
        }
    }

    /// Fails everything that is not durable, and everything that will be submitted.
    pub(crate) fn fail(&self, error: &Error) {
        let failure = Failure::from(error);
        let mut state = self.lock();
        if state.failure.is_some() {
            return;
        }
        for completion in state.waiting.drain(..) {
            completion.failed(failure.error());
        }
        state.queue.clear();
        state.failure = Some(failure);
        self.work.notify_all();
        self.room.notify_one();
    }

    /// Whether the sink failed or was given up.
    pub(crate) fn failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Lets the threads finish what was submitted and end, until `deadline`.
    ///
    /// # Errors
    /// What made the sink fail, or RT3515 where it did not finish in time; every unanswered batch
    /// was failed with it.
    pub(crate) async fn close(&self, deadline: Instant) -> Result<()> {
        {
            self.lock().closing = true;
            self.work.notify_all();
        }
        let all_ended = async {
            while self.lock().threads > 0 {
                self.ended.notified().await;
            }
        };
        if tokio::time::timeout_at(deadline.into(), all_ended).await.is_err() {
            self.fail(&closed_early("the time to stop was over before everything was written"));
        }
        let state = self.lock();
        state.failure.as_ref().map_or(Ok(()), |failure| Err(failure.error()))
    }

    /// Gives up: a sink that is dropped must leave its folder to the next one soon.
    pub(crate) fn abandon(&self) {
        if self.lock().threads > 0 {
            self.fail(&closed_early("the sink was closed without waiting"));
        }
    }
}

fn closed_early(what: &'static str) -> Error {
    Error::transient(Origin::Sink, CLOSED_EARLY, what)
        .with_remedy("nothing is lost: what was not committed is repeated at the next start")
}

/// Held by a thread as long as it lives.
struct Alive(Arc<Handoff>);

impl Drop for Alive {
    fn drop(&mut self) {
        let (is_early, is_last) = {
            let mut state = self.0.lock();
            state.threads = state.threads.saturating_sub(1);
            (!state.closing && state.failure.is_none(), state.threads == 0)
        };
        if is_early {
            let error = io::Error::other("a writing thread ended early");
            self.0.fail(
                &Error::transient(Origin::Sink, IO, "the sink stopped writing").with_source(error),
            );
        }
        if is_last {
            self.0.ended.notify_one();
        }
    }
}
