//! What a sink is, and how it reports durability.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::BoxFuture;
use crate::error::{Class, Code, Error, Origin, Result};
use crate::position::Checkpoint;

/// RT5013: records without a key of their own would go to a compacted topic.
pub const KEYLESS_COMPACTED: Code = Code("RT5013");

/// A topic (or folder) the host is about to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name, already made of legal characters.
    pub name: Arc<str>,
    /// The largest record that will be written, in bytes.
    pub max_record_bytes: usize,
    /// Whose records have no key of their own (a table's name, or what else it is), where that is
    /// known; none may go to a topic that compacts.
    pub keyless: Option<Arc<str>>,
    /// Whether the newest record of every key is to be kept for ever, in the order of all records:
    /// a topic that is read from its start.
    pub keeps_newest: bool,
}

impl TopicSpec {
    /// Whether the records may go to the topic as it is, or would be.
    ///
    /// # Errors
    /// `RT5013`, fatal, where they have no key and the topic keeps only the newest record of a key.
    pub fn check(&self, info: TopicInfo) -> Result<()> {
        let Some(whose) = self.keyless.as_ref().filter(|_| info.compacts) else { return Ok(()) };
        let topic = &self.name;
        let message = format!(
            "{whose} has no key of its own, but its topic {topic} keeps only the newest record of each \
             key (cleanup.policy=compact)"
        );
        Err(Error::fatal(Origin::Config, KEYLESS_COMPACTED, message).with_remedy(format!(
            "set cleanup.policy=delete on topic {topic}, or create it so before the start; a table can \
             be given a `key` in its settings instead"
        )))
    }
}

/// What the sink knows of a topic once it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicInfo {
    /// Whether the topic keeps only the newest record of a key, so that deletes need tombstones.
    pub compacts: bool,
}

/// The optional headers of a record. Ranges are into [`RecordBatch::data`].
#[derive(Debug, Clone)]
pub struct RecordHeaders {
    /// The event id, without quotes.
    pub id: Range<u32>,
    /// The op letter, subject, version and content type; only where all headers are asked for.
    pub all: Option<AllHeaders>,
}

/// The headers beside the id.
#[derive(Debug, Clone)]
pub struct AllHeaders {
    /// The op's letter.
    pub op: &'static str,
    /// The row schema's subject.
    pub subject: Arc<str>,
    /// The row schema's version.
    pub version: Arc<str>,
}

/// One record to publish.
#[derive(Debug, Clone)]
pub struct Record {
    /// Index into [`RecordBatch::topics`].
    pub topic: u32,
    /// The key's JSON; `None` for a table without a key, a truncate and a dead letter.
    pub key: Option<Range<u32>>,
    /// The envelope's JSON, followed in `data` by a line feed that is not part of it; `None` is a
    /// tombstone.
    pub value: Option<Range<u32>>,
    /// Publish to every partition of the topic (a truncate). Where the topic takes no record without
    /// a key, the sink gives it one that no row has.
    pub to_all_partitions: bool,
    /// Headers, where asked for.
    pub headers: Option<Box<RecordHeaders>>,
}

/// Encoded records with the checkpoint that holds once all of them are durable.
#[derive(Debug)]
pub struct RecordBatch {
    /// The JSON of all records.
    pub data: Vec<u8>,
    /// The topics that records name.
    pub topics: Vec<Arc<str>>,
    /// The records, in order.
    pub records: Vec<Record>,
    /// What to save when this batch and all before it are durable. A batch without records is
    /// progress alone.
    pub checkpoint: Checkpoint,
    /// Where `data` goes back to.
    pub pool: BufferPool,
}

impl RecordBatch {
    /// The bytes of a range, or an empty slice where it lies outside.
    pub fn slice(&self, range: &Range<u32>) -> &[u8] {
        self.data.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

impl Drop for RecordBatch {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.data));
    }
}

/// Keeps a few output buffers for reuse, and lets large ones go.
#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

/// Buffers kept at most; two batches are in flight between encoder and sink.
const POOLED_BUFFERS: usize = 4;
/// A buffer that one large event blew up is freed rather than kept.
const POOLED_BYTES: usize = 4 * 1024 * 1024;

impl BufferPool {
    /// An empty buffer, reused where possible.
    pub fn take(&self) -> Vec<u8> {
        match self.0.lock() {
            Ok(mut buffers) => buffers.pop().unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > POOLED_BYTES {
            return;
        }
        buffer.clear();
        if let Ok(mut buffers) = self.0.lock()
            && buffers.len() < POOLED_BUFFERS
        {
            buffers.push(buffer);
        }
    }
}

/// How a submitted batch ended.
#[derive(Debug)]
pub struct Outcome {
    /// The batch's number, dense from 0.
    pub sequence: u64,
    /// `Ok` where it is durable.
    pub result: Result<()>,
}

/// The handle by which a sink reports one batch's end, from any thread. Dropped without an answer it
/// reports a failure: durability is never assumed.
#[derive(Debug)]
pub struct Completion {
    sequence: u64,
    // At most one message per batch in flight, and those are bounded by the memory permits.
    reply: Option<mpsc::UnboundedSender<Outcome>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Completion {
    /// A completion for batch `sequence`, holding its memory permit until it is answered.
    pub fn new(
        sequence: u64,
        reply: mpsc::UnboundedSender<Outcome>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self { sequence, reply: Some(reply), permit }
    }

    /// Gives the batch's memory permit back before the batch is durable. For a sink that holds no
    /// copy of the records any more but has to wait for durability (bytes handed to the kernel and
    /// not yet synced); such a sink bounds what it leaves uncommitted by itself.
    pub fn release_memory(&mut self) {
        drop(self.permit.take());
    }

    /// The batch is durable in the sink.
    pub fn durable(mut self) {
        self.answer(Ok(()));
    }

    /// The batch (or a part of it) failed; nothing after it may be committed.
    pub fn failed(mut self, error: Error) {
        self.answer(Err(error));
    }

    fn answer(&mut self, result: Result<()>) {
        // The permit goes back before the reply, so that a waiter on memory sees it.
        drop(self.permit.take());
        if let Some(reply) = self.reply.take() {
            // A closed channel means that the pipeline is gone; then nobody commits anything.
            let _gone = reply.send(Outcome { sequence: self.sequence, result });
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.reply.is_some() {
            self.answer(Err(Error::new(
                Class::Transient,
                Origin::Sink,
                Code("RT4003"),
                "a batch was dropped by the sink without an answer",
            )));
        }
    }
}

/// Whether a sink keeps the pipeline's position with its data.
#[derive(Debug)]
pub enum Held {
    /// No: the host uses its own offset store.
    Elsewhere,
    /// Yes: this is the checkpoint that its durable data ends at, if there is any.
    Here(Option<Checkpoint>),
}

/// A sink. Calls come one at a time, in order.
///
/// After any method returned an error the host calls nothing but [`Sink::close`] and opens a new
/// sink from the saved position. Every future may be dropped at any await.
pub trait Sink: Send {
    /// Connects, recovers (truncates what was not committed) and tells who keeps the position.
    fn open(&mut self) -> BoxFuture<'_, Result<Held>>;

    /// Makes a topic ready before its first record: creates or verifies it.
    fn prepare<'a>(&'a mut self, topic: &'a TopicSpec) -> BoxFuture<'a, Result<TopicInfo>>;

    /// Accepts a batch, waiting while the sink's own queue is full. Durability is reported later
    /// through `done`, in any order, from any thread. Where the future is dropped before its end the sink
    /// took nothing of the batch.
    fn submit(&mut self, batch: RecordBatch, done: Completion) -> BoxFuture<'_, Result<()>>;

    /// Makes everything submitted durable as soon as possible. Called when the source is idle and on
    /// the commit interval. A sink that publishes continuously does nothing.
    fn flush(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Flushes, waits for every completion until `deadline`, and closes. What is not durable by then
    /// is answered as failed.
    fn close(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>>;

    /// For a sink that keeps the position: replaces the stored checkpoint outside a run
    /// (`rowtide position set`).
    ///
    /// # Errors
    /// Fatal where this sink keeps no positions.
    fn store_position<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> BoxFuture<'a, Result<()>> {
        let _unused = checkpoint;
        Box::pin(async {
            Err(Error::fatal(Origin::Sink, Code("RT4004"), "this sink keeps no positions"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_without_keys_are_refused_where_the_topic_compacts() {
        let spec = |keyless: Option<&str>| TopicSpec {
            name: "t".into(),
            max_record_bytes: 1,
            keyless: keyless.map(Arc::from),
            keeps_newest: false,
        };
        let error = spec(Some("public.t")).check(TopicInfo { compacts: true }).unwrap_err();
        assert_eq!(error.code(), KEYLESS_COMPACTED);
        assert!(spec(Some("public.t")).check(TopicInfo { compacts: false }).is_ok());
        assert!(spec(None).check(TopicInfo { compacts: true }).is_ok());
    }

    #[test]
    fn a_dropped_completion_is_a_failure() {
        let (reply, mut outcomes) = mpsc::unbounded_channel();
        drop(Completion::new(7, reply.clone(), None));
        let outcome = outcomes.try_recv().unwrap();
        assert_eq!(outcome.sequence, 7);
        assert!(outcome.result.is_err());
        Completion::new(8, reply, None).durable();
        assert!(outcomes.try_recv().unwrap().result.is_ok());
    }
}
