//! The pump: takes batches, encodes them and submits them in order.

use std::sync::Arc;
use std::time::Duration;

use rowtide_sdk::{
    Batch, BufferPool, Checkpoint, Completion, Error, Limits, Origin, Outcome, RecordBatch, Sink,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::claims::ConnectorClaims;
use super::commit::{SharedTracker, TASK_GONE, lock};
use super::plans::Planner;
use super::progress::Progress;
use crate::envelope::Encoder;
use crate::ops::board::ConnectorBoard;

/// What a record costs in flight beyond its bytes: the producer's bookkeeping and allocator rounding.
const RECORD_COST: usize = 256;

/// Everything between the batch channel and the sink.
pub(crate) struct Pump {
    pub(crate) received: mpsc::Receiver<Batch>,
    pub(crate) spent: mpsc::Sender<Batch>,
    pub(crate) sink: Box<dyn Sink>,
    pub(crate) encoder: Encoder,
    pub(crate) planner: Planner,
    pub(crate) claims: Arc<ConnectorClaims>,
    pub(crate) tracker: SharedTracker,
    /// Gone once the pump stops, so that the commit task can see the end.
    pub(crate) outcomes: Option<mpsc::UnboundedSender<Outcome>>,
    /// Bytes in flight at most.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) memory_max: usize,
    /// Whether the sink keeps the position and so must see batches without records too.
    pub(crate) sink_holds_position: bool,
    pub(crate) flush_interval: Duration,
    pub(crate) limits: Limits,
    pub(crate) pool: BufferPool,
    pub(crate) progress: Progress,
    pub(crate) board: Arc<ConnectorBoard>,
    /// False while the position cannot be saved.
    pub(crate) saves: watch::Receiver<bool>,
}

/// Why the pump stopped without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Shutdown was asked for.
    Shutdown,
    /// The source has ended; its own result says why.
    SourceEnded,
}

impl Pump {
    /// Runs until shutdown, the source's end or an error. What was submitted stays in flight.
    pub(crate) async fn run(
        &mut self,
        shutdown: &CancellationToken,
        mut failed: oneshot::Receiver<Error>,
    ) -> Result<Stopped, Error> {
        let mut next_flush = Instant::now();
        let mut is_dirty = false;
        loop {
            let batch = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Stopped::Shutdown),
                error = &mut failed => return Err(error.unwrap_or_else(|_| commit_gone())),
                () = sleep_until(next_flush), if is_dirty => None,
                batch = self.received.recv() => Some(batch),
            };
            match batch {
                None => {
                    self.sink.flush().await?;
                    next_flush = Instant::now() + self.flush_interval;
                    is_dirty = false;
                }
                Some(None) => return Ok(Stopped::SourceEnded),
                Some(Some(batch)) => {
                    // A sink that cannot take a batch may wait for ever; stopping must not.
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return Ok(Stopped::Shutdown),
                        error = &mut failed => return Err(error.unwrap_or_else(|_| commit_gone())),
                        done = Box::pin(self.batch(batch)) => done?,
                    }
                    is_dirty = true;
                }
            }
        }
    }

    /// Plans, encodes and submits one batch.
    async fn batch(&mut self, batch: Batch) -> Result<(), Error> {
        self.planner.prepare(&mut *self.sink).await?;
        for table in &batch.tables {
            if !self.encoder.knows(table) {
                let plan = self.planner.plan(table, &mut *self.sink).await?;
                self.encoder.learn(plan);
            }
        }
        let Some(position) = batch.resume.clone() else {
            return Err(Error::fatal(Origin::Source, TASK_GONE, "a batch came without a position"));
        };
        self.planner.versions.set_claims(&self.claims.held())?;
        self.planner.versions.keep_notes()?;
        let checkpoint = Checkpoint { position, host: self.planner.versions.rendered() };
        let encoded = self.encoder.encode(&batch, &self.pool)?;
        let behind_us =
            batch.txs.last().map_or(0, |tx| batch.received_ts_us.saturating_sub(tx.commit_ts_us));
        let (events, letters, bytes) = (encoded.events, encoded.dead_letters, encoded.data.len());
        self.progress.batch(events, letters, bytes, behind_us);
        self.board.batch(events, letters, bytes, behind_us);
        self.board.schema_changes_told(encoded.schema_changes);
        self.give_back(batch);
        let records = RecordBatch {
            data: encoded.data,
            topics: encoded.topics,
            records: encoded.records,
            checkpoint,
            pool: self.pool.clone(),
        };
        self.submit(records).await
    }

    /// Returns the batch's allocations to the source.
    fn give_back(&self, mut batch: Batch) {
        batch.clear(self.limits.batch_bytes.saturating_mul(2));
        // A source that has enough of them lets this one go.
        let _full = self.spent.try_send(batch);
    }

    async fn submit(&mut self, records: RecordBatch) -> Result<(), Error> {
        let Some(outcomes) = self.outcomes.clone() else { return Err(commit_gone()) };
        let bytes = records
            .data
            .len()
            .saturating_add(records.records.len().saturating_mul(RECORD_COST))
            // An event larger than the whole share goes alone.
            .min(self.memory_max);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.memory)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| commit_gone())?;
        // What it gives is a lock on the value: it must not live on.
        if self.saves.wait_for(|saves| *saves).await.is_err() {
            return Err(commit_gone());
        }
        let sequence = lock(&self.tracker).submitted(records.checkpoint.clone());
        let done = Completion::new(sequence, outcomes, Some(permit));
        if records.records.is_empty() && !self.sink_holds_position {
            done.durable();
            return Ok(());
        }
        let mut pending = Pending { tracker: Arc::clone(&self.tracker), sequence: Some(sequence) };
        let done = self.sink.submit(records, done).await;
        pending.sequence = None;
        done
    }
}

/// A batch that the sink has not accepted yet. Dropped, it is forgotten: nothing of it will be repeated.
struct Pending {
    tracker: SharedTracker,
    sequence: Option<u64>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(sequence) = self.sequence {
            lock(&self.tracker).withdrawn(sequence);
        }
    }
}

fn commit_gone() -> Error {
    Error::fatal(Origin::Host, TASK_GONE, "the commit task ended before the pipeline")
}
