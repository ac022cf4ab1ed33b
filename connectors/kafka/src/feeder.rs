//! The feeder: hands records to librdkafka, one round at a time.
//!
//! librdkafka keeps one request of a partition in flight (its limit of five counts records), and its
//! broker thread spins while records behind that request are older than the linger time. So nothing
//! waits there: a round is handed over once every record of the round before it is acknowledged, and
//! the host encodes the next one meanwhile.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rowtide_sdk::{Class, Completion, Record, RecordBatch, RecordHeaders};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::delivery::Batch;
use crate::error::{self, Failure, codes};
use crate::producer::{Handle, Partitions, Producer, RawRecord, Shared};

/// What librdkafka holds per queued record beside key and value, measured: its message structure and
/// the allocator's share.
const RECORD_OVERHEAD: usize = 192;
/// The same for the id header.
const ID_HEADER_OVERHEAD: usize = 176;
/// The same for all headers.
const ALL_HEADERS_OVERHEAD: usize = 512;

/// The key of a truncate in a topic that compacts, which takes no record without one: a row's key with
/// no columns. It equals no row's, which has at least one, and is one key, so that what stays of the
/// truncates of a partition is the newest, behind every row that it removed.
const TRUNCATE_KEY: &[u8] = b"{}";

/// How long the partitions of a topic may take to be read before a truncate.
const PARTITIONS_TIMEOUT: Duration = Duration::from_secs(10);
/// Records sent between two chances for other tasks on this thread.
const RECORDS_PER_TURN: usize = 2048;
/// The first wait for room in librdkafka's queue.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// The longest wait before a cause is looked for again.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(100);

/// The running feeder. Dropped, it gives up what it has not handed over.
pub(crate) struct Feeder {
    queue: mpsc::UnboundedSender<Submission>,
    task: JoinHandle<()>,
}

impl Feeder {
    /// Starts it.
    pub(crate) fn start(producer: &Producer) -> Self {
        let (queue, submitted) = mpsc::unbounded_channel();
        let rounds = Rounds { producer: producer.handle(), submitted };
        Self { queue, task: tokio::spawn(rounds.run()) }
    }

    /// Queues a batch. The feeder ends only with the producer; then the batch fails with its cause.
    pub(crate) fn queue(&self, submission: Submission) {
        let _failed_by_its_drop = self.queue.send(submission);
    }

    /// Ends the task and lets go of the producer.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _cancelled = (&mut self.task).await;
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The producer has ended with a cause.
struct Ended;

struct Rounds {
    producer: Handle,
    submitted: mpsc::UnboundedReceiver<Submission>,
}

impl Rounds {
    async fn run(mut self) {
        let mut carried = None;
        loop {
            let first = match carried.take() {
                Some(carried) => carried,
                None => match self.submitted.recv().await {
                    Some(submission) => submission,
                    None => return,
                },
            };
            let deliveries = &self.producer.shared.deliveries;
            while deliveries.handed_over() > 0 && deliveries.cause().is_none() {
                deliveries.settled(WAIT_MAX).await;
            }
            match self.send_round(first).await {
                Ok(over) => carried = over,
                // The producer has ended; the batches still queued fail as they are dropped.
                Err(Ended) => return,
            }
        }
    }

    /// Hands over `first` and what else is there and fits into its round, and gives back the batch
    /// that does not.
    async fn send_round(&mut self, first: Submission) -> Result<Option<Submission>, Ended> {
        let round = first.round;
        let mut bytes = first.batch.bytes();
        let mut next = first;
        loop {
            if let Err(failure) = next.send_all(&self.producer).await {
                // What is already in librdkafka's queue must not outlive the failure; the batch's
                // answer, given as it is dropped, names it.
                self.producer.shared.deliveries.end(failure);
                return Err(Ended);
            }
            next = match self.submitted.try_recv() {
                Ok(submission) => submission,
                Err(_) => return Ok(None),
            };
            bytes = bytes.saturating_add(next.batch.bytes());
            if bytes > round {
                return Ok(Some(next));
            }
        }
    }
}

/// A batch on its way into librdkafka's queue. Dropped before its end it fails the batch.
pub(crate) struct Submission {
    producer: Arc<Shared>,
    records: RecordBatch,
    spread: Spread,
    batch: Arc<Batch>,
    /// How many bytes may be handed over together with it.
    round: usize,
    /// Records not handed over yet.
    unsent: usize,
}

impl Submission {
    /// Counts a batch in, once there is room for it beside a round of `round` bytes under way and
    /// one that fills.
    pub(crate) async fn begin(
        producer: &Producer,
        records: RecordBatch,
        spread: Spread,
        round: usize,
        done: Completion,
    ) -> Self {
        let shared = Arc::clone(&producer.shared);
        let deliveries = &shared.deliveries;
        let (parts, bytes) = weigh(&records, &spread);
        while !deliveries.has_room(bytes, round.saturating_mul(2)) && deliveries.cause().is_none() {
            deliveries.progress(WAIT_MAX).await;
        }
        // One part more than records: ours, so that a batch without records is answered too and
        // none is answered before all of it is sent.
        let batch = Arc::new(Batch::new(parts.saturating_add(1), bytes, done));
        deliveries.begin(&batch);
        Self { producer: shared, records, spread, batch, round, unsent: parts }
    }

    /// Hands over every record, in order.
    async fn send_all(&mut self, producer: &Handle) -> Result<(), Failure> {
        self.producer.deliveries.hand_over(&self.batch);
        for (sent, record) in self.records.records.iter().enumerate() {
            if sent % RECORDS_PER_TURN == RECORDS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let reach = reach_of(record, &self.spread);
            let outgoing = Outgoing {
                records: &self.records,
                record,
                key: key_of(&self.records, record, reach),
                topic: topic_of(&self.records, record)?,
                batch: &self.batch,
            };
            if record.to_all_partitions {
                for partition in 0..reach.map_or(0, |reach| reach.partitions) {
                    outgoing.send(producer, Some(partition)).await?;
                    self.unsent = self.unsent.saturating_sub(1);
                }
            } else {
                outgoing.send(producer, None).await?;
                self.unsent = self.unsent.saturating_sub(1);
            }
        }
        Ok(())
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        let deliveries = &self.producer.deliveries;
        if self.unsent > 0 {
            deliveries.fail(&self.batch);
        }
        deliveries.release(&self.batch, self.unsent.saturating_add(1));
    }
}

/// How a topic takes a truncate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// The topic's index in the batch.
    topic: u32,
    partitions: i32,
    /// Whether the record needs a key, as the topic compacts or may do so.
    needs_key: bool,
}

/// The topics that a batch truncates.
pub(crate) type Spread = Vec<Reach>;

/// How a truncate is taken; none for any other record.
fn reach_of(record: &Record, spread: &Spread) -> Option<Reach> {
    let mut of_topic = spread.iter().filter(|reach| reach.topic == record.topic);
    of_topic.next().copied().filter(|_| record.to_all_partitions)
}

/// The key that a record has in Kafka.
fn key_of<'a>(batch: &'a RecordBatch, record: &Record, reach: Option<Reach>) -> Option<&'a [u8]> {
    match &record.key {
        Some(key) => Some(batch.slice(key)),
        None => reach.filter(|reach| reach.needs_key).map(|_| TRUNCATE_KEY),
    }
}

/// How many records of Kafka a batch becomes, and what they hold in librdkafka.
fn weigh(batch: &RecordBatch, spread: &Spread) -> (usize, usize) {
    let mut parts = 0_usize;
    let mut bytes = 0_usize;
    for record in &batch.records {
        let reach = reach_of(record, spread);
        let copies = if record.to_all_partitions {
            reach.map_or(0, |reach| reach.partitions.unsigned_abs() as usize)
        } else {
            1
        };
        let key = key_of(batch, record, reach).map_or(0, <[u8]>::len);
        let value = record.value.as_ref().map_or(0, ExactSizeIterator::len);
        let headers = match record.headers.as_deref() {
            None => 0,
            Some(RecordHeaders { all: None, .. }) => ID_HEADER_OVERHEAD,
            Some(RecordHeaders { all: Some(_), .. }) => ALL_HEADERS_OVERHEAD,
        };
        let held = key + value + RECORD_OVERHEAD + headers;
        parts = parts.saturating_add(copies);
        bytes = bytes.saturating_add(held.saturating_mul(copies));
    }
    (parts, bytes)
}

/// Reads the partitions of every topic that the batch truncates. Read anew each time: a truncate
/// that misses a partition would leave rows behind in a consumer's copy. `may_compact` tells of a topic
/// whether it does, or whether that is not known.
pub(crate) async fn partitions_of_truncates(
    producer: &Producer,
    batch: &RecordBatch,
    may_compact: impl Fn(&str) -> bool,
) -> Result<Spread, Failure> {
    let mut spread = Spread::new();
    for record in batch.records.iter().filter(|record| record.to_all_partitions) {
        if spread.iter().any(|reach| reach.topic == record.topic) {
            continue;
        }
        let topic = topic_of(batch, record)?;
        match producer.partitions(topic, PARTITIONS_TIMEOUT).await? {
            Partitions::Ready(count) | Partitions::Electing(count) if count > 0 => {
                let (topic, needs_key) = (record.topic, may_compact(topic));
                spread.push(Reach { topic, partitions: count, needs_key });
            }
            _ => {
                let what = format!("topic {topic}: its partitions are not known");
                return Err(Failure::new(Class::Transient, codes::NOT_DELIVERED, what));
            }
        }
    }
    Ok(spread)
}

fn topic_of<'a>(batch: &'a RecordBatch, record: &Record) -> Result<&'a Arc<str>, Failure> {
    batch.topics.get(record.topic as usize).ok_or_else(|| {
        Failure::new(Class::Fatal, codes::NOT_DELIVERED, "a record names a topic its batch lacks")
    })
}

/// One record on its way.
struct Outgoing<'a> {
    records: &'a RecordBatch,
    record: &'a Record,
    key: Option<&'a [u8]>,
    topic: &'a Arc<str>,
    batch: &'a Arc<Batch>,
}

impl Outgoing<'_> {
    /// Hands the record over, waiting while librdkafka's queue is full.
    async fn send(&self, producer: &Handle, partition: Option<i32>) -> Result<(), Failure> {
        let deliveries = &producer.shared.deliveries;
        let mut wait = FULL_WAIT;
        loop {
            let Err(error) = producer.send(self.raw(partition)) else { return Ok(()) };
            if let Some(cause) = deliveries.cause() {
                return Err(cause.clone());
            }
            match error::code_of(&error) {
                Some(RDKafkaErrorCode::QueueFull) => {
                    deliveries.reported(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
                // The polling thread is about to learn why.
                Some(RDKafkaErrorCode::Fatal) => {
                    deliveries.raise_fatal();
                    deliveries.reported(WAIT_MAX).await;
                }
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    let key = self.key.map_or(0, <[u8]>::len);
                    let value = self.record.value.as_ref().map_or(0, ExactSizeIterator::len);
                    return Err(error::too_large(self.topic, key, value, "the producer"));
                }
                _ => {
                    return Err(error::failure(
                        &error,
                        format_args!("topic {}: sending", self.topic),
                    ));
                }
            }
        }
    }

    fn raw(&self, partition: Option<i32>) -> RawRecord<'_> {
        BaseRecord {
            topic: self.topic,
            partition,
            payload: self.record.value.as_ref().map(|value| self.records.slice(value)),
            key: self.key,
            timestamp: None,
            headers: self.record.headers.as_deref().map(|headers| self.headers(headers)),
            delivery_opaque: Arc::clone(self.batch),
        }
    }

    fn headers(&self, headers: &RecordHeaders) -> OwnedHeaders {
        let id = Header { key: "id", value: Some(self.records.slice(&headers.id)) };
        let Some(all) = &headers.all else {
            return OwnedHeaders::new_with_capacity(1).insert(id);
        };
        let encoded = OwnedHeaders::new_with_capacity(5)
            .insert(id)
            .insert(Header { key: "op", value: Some(all.op) })
            .insert(Header { key: "schema-subject", value: Some(&*all.subject) })
            .insert(Header { key: "schema-version", value: Some(&*all.version) });
        match self.record.value {
            Some(_) => {
                encoded.insert(Header { key: "content-type", value: Some("application/json") })
            }
            None => encoded,
        }
    }
}
