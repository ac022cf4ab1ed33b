//! The feeder: hands records to librdkafka, one round at a time.
//!
//! librdkafka keeps one request of a partition in flight (its limit of five counts records), and its
//! broker thread spins while records behind that request are older than the linger time. So nothing
//! waits there: a round is handed over once every record of the round before it is acknowledged, and
//! the host encodes the next one meanwhile.

use std::ops::Range;
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
            let outgoing = Outgoing {
                records: &self.records,
                record,
                topic: topic_of(&self.records, record)?,
                batch: &self.batch,
            };
            if record.to_all_partitions {
                let count = spread_over(record.topic, &self.spread);
                for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
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

/// The partitions of the topics that a batch truncates, by index of the topic in the batch.
pub(crate) type Spread = Vec<(u32, i32)>;

/// How many records of Kafka one record becomes.
fn copies(record: &Record, spread: &Spread) -> usize {
    if record.to_all_partitions { spread_over(record.topic, spread) as usize } else { 1 }
}

fn spread_over(topic: u32, spread: &Spread) -> u32 {
    let found = spread.iter().find(|(index, _)| *index == topic);
    found.map_or(0, |(_, count)| count.unsigned_abs())
}

/// How many records of Kafka a batch becomes, and what they hold in librdkafka.
fn weigh(batch: &RecordBatch, spread: &Spread) -> (usize, usize) {
    let mut parts = 0_usize;
    let mut bytes = 0_usize;
    for record in &batch.records {
        let copies = copies(record, spread);
        let len = |range: &Option<Range<u32>>| range.as_ref().map_or(0, ExactSizeIterator::len);
        let headers = match record.headers.as_deref() {
            None => 0,
            Some(RecordHeaders { all: None, .. }) => ID_HEADER_OVERHEAD,
            Some(RecordHeaders { all: Some(_), .. }) => ALL_HEADERS_OVERHEAD,
        };
        let held = len(&record.key) + len(&record.value) + RECORD_OVERHEAD + headers;
        parts = parts.saturating_add(copies);
        bytes = bytes.saturating_add(held.saturating_mul(copies));
    }
    (parts, bytes)
}

/// Reads the partitions of every topic that the batch truncates. Read anew each time: a truncate
/// that misses a partition would leave rows behind in a consumer's copy.
pub(crate) async fn partitions_of_truncates(
    producer: &Producer,
    batch: &RecordBatch,
) -> Result<Spread, Failure> {
    let mut spread = Spread::new();
    for record in batch.records.iter().filter(|record| record.to_all_partitions) {
        if spread.iter().any(|(index, _)| *index == record.topic) {
            continue;
        }
        let topic = topic_of(batch, record)?;
        match producer.partitions(topic, PARTITIONS_TIMEOUT).await? {
            Partitions::Ready(count) | Partitions::Electing(count) if count > 0 => {
                spread.push((record.topic, count));
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
                    let bytes = |range: &Option<Range<u32>>| {
                        range.as_ref().map_or(0, |range| self.records.slice(range).len())
                    };
                    let (key, value) = (bytes(&self.record.key), bytes(&self.record.value));
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
            key: self.record.key.as_ref().map(|key| self.records.slice(key)),
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
