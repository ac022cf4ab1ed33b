//! The feeder: hands records to librdkafka, a request for each partition at a time.
//!
//! librdkafka keeps one request of a partition in flight (its limit of five counts records), and its
//! broker thread spins while records behind that request are older than the linger time. So next to
//! nothing waits there: what is under way is at most what librdkafka sends at once, without lingering,
//! and more is handed over when nearly all of it is acknowledged. It runs on the encoder's thread, whose
//! caches hold what it copies.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rowtide_sdk::{Class, Completion, Record, RecordBatch, RecordHeaders};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::delivery::{Batch, Deliveries, WAIT_MAX};
use crate::error::{self, Failure, codes};
use crate::producer::{Handle, Partitions, Producer, RawRecord, Shared};

/// The key of a truncate in a topic that compacts, which takes no record without one: a row's key with
/// no columns. It equals no row's, which has at least one, and is one key, so that what stays of the
/// truncates of a partition is the newest, behind every row that it removed.
const TRUNCATE_KEY: &[u8] = b"{}";

/// How long the partitions of a topic may take to be read before a truncate.
const PARTITIONS_TIMEOUT: Duration = Duration::from_secs(10);
/// More is handed over once all but one of so many records under way are acknowledged.
const REST: usize = 8;
/// The first wait for room in librdkafka's queue.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// The running feeder. Dropped, it gives up what it has not handed over.
pub(crate) struct Feeder {
    queue: mpsc::UnboundedSender<Submission>,
    task: JoinHandle<()>,
}

impl Feeder {
    /// Starts it.
    pub(crate) fn start(producer: &Producer) -> Self {
        let (queue, submitted) = mpsc::unbounded_channel();
        Self { queue, task: tokio::spawn(feed(producer.handle(), submitted)) }
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

/// Hands over batch after batch. Ends with the queue, or with the producer; the batches still queued
/// fail as they are dropped.
async fn feed(producer: Handle, mut submitted: mpsc::UnboundedReceiver<Submission>) {
    let mut under_way = UnderWay::default();
    while let Some(mut submission) = submitted.recv().await {
        if let Err(failure) = submission.send_all(&producer, &mut under_way).await {
            // What is already in librdkafka's queue must not outlive the failure; the batch's
            // answer, given as it is dropped, names it.
            producer.shared.deliveries.end(failure);
            return;
        }
        under_way.tell(&producer.shared.deliveries);
    }
}

/// How much may be under way, and how much may be submitted behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Records: so many are a full request for each partition.
    pub(crate) records: usize,
    /// Bytes of keys and values: with more, a request for each partition is full.
    pub(crate) bytes: usize,
}

impl Room {
    fn is_full(self, (records, bytes): (usize, usize)) -> bool {
        records >= self.records || bytes > self.bytes
    }
}

/// What is handed over without a report.
#[derive(Debug, Default)]
struct UnderWay {
    sent_records: usize,
    sent_bytes: usize,
    /// Those of them that had no report when they were last counted.
    records: usize,
    bytes: usize,
}

impl UnderWay {
    fn add(&mut self, bytes: usize) {
        self.sent_records = self.sent_records.saturating_add(1);
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        self.records = self.records.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn count(&mut self, deliveries: &Deliveries) {
        let (records, bytes) = deliveries.reported();
        self.records = self.sent_records.saturating_sub(records);
        self.bytes = self.sent_bytes.saturating_sub(bytes);
    }

    fn fills(&self, room: Room) -> bool {
        room.is_full((self.records, self.bytes))
    }

    /// Tells the sink what was handed over so far.
    fn tell(&self, deliveries: &Deliveries) {
        deliveries.sent(self.sent_records, self.sent_bytes);
    }

    /// Waits, where `room` is full, until there is nearly all of it again.
    async fn wait_for(&mut self, room: Room, deliveries: &Deliveries) {
        if self.fills(room) {
            self.count(deliveries);
        }
        if self.fills(room) {
            self.tell(deliveries);
            let rest = self.records / REST;
            deliveries.await_reports(self.sent_records.saturating_sub(rest)).await;
            self.count(deliveries);
        }
    }
}

/// A batch on its way into librdkafka's queue. Dropped before its end it fails the batch.
pub(crate) struct Submission {
    producer: Arc<Shared>,
    records: RecordBatch,
    spread: Spread,
    batch: Arc<Batch>,
    room: Room,
    /// Records not handed over yet.
    unsent: usize,
}

impl Submission {
    /// Counts a batch in, once less waits before it than what may be under way. Thus the next request is
    /// encoded while one is under way, and not when it is answered, at which time it is to be handed over.
    pub(crate) async fn begin(
        producer: &Producer,
        records: RecordBatch,
        spread: Spread,
        room: Room,
        done: Completion,
    ) -> Self {
        let shared = Arc::clone(&producer.shared);
        let deliveries = &shared.deliveries;
        let (parts, bytes) = weigh(&records, &spread);
        while room.is_full(deliveries.unsent()) && deliveries.cause().is_none() {
            deliveries.hand_over(WAIT_MAX).await;
        }
        // One part more than records: ours, so that a batch without records is answered too and
        // none is answered before all of it is sent.
        let batch = Arc::new(Batch::new(parts.saturating_add(1), done));
        deliveries.begin(parts, bytes);
        Self { producer: shared, records, spread, batch, room, unsent: parts }
    }

    /// Hands over every record, in order.
    async fn send_all(
        &mut self,
        producer: &Handle,
        under_way: &mut UnderWay,
    ) -> Result<(), Failure> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map(|now| now.as_millis()).ok();
        let timestamp = now_ms.and_then(|now| i64::try_from(now).ok());
        for record in &self.records.records {
            let reach = reach_of(record, &self.spread);
            let outgoing = Outgoing {
                records: &self.records,
                record,
                key: key_of(&self.records, record, reach),
                topic: topic_of(&self.records, record)?,
                timestamp,
                batch: &self.batch,
            };
            for partition in 0..copies_of(record, reach) {
                under_way.wait_for(self.room, &producer.shared.deliveries).await;
                outgoing.send(producer, record.to_all_partitions.then_some(partition)).await?;
                under_way.add(outgoing.bytes());
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

/// How many records of Kafka a record becomes.
fn copies_of(record: &Record, reach: Option<Reach>) -> i32 {
    match record.to_all_partitions {
        true => reach.map_or(0, |reach| reach.partitions),
        false => 1,
    }
}

/// The key that a record has in Kafka.
fn key_of<'a>(batch: &'a RecordBatch, record: &Record, reach: Option<Reach>) -> Option<&'a [u8]> {
    match &record.key {
        Some(key) => Some(batch.slice(key)),
        None => reach.filter(|reach| reach.needs_key).map(|_| TRUNCATE_KEY),
    }
}

/// How many records of Kafka a batch becomes, and the bytes of their keys and values.
fn weigh(batch: &RecordBatch, spread: &Spread) -> (usize, usize) {
    let mut parts = 0_usize;
    let mut bytes = 0_usize;
    for record in &batch.records {
        let reach = reach_of(record, spread);
        let copies = copies_of(record, reach).unsigned_abs() as usize;
        let key = key_of(batch, record, reach).map_or(0, <[u8]>::len);
        let value = record.value.as_ref().map_or(0, ExactSizeIterator::len);
        parts = parts.saturating_add(copies);
        bytes = bytes.saturating_add(key.saturating_add(value).saturating_mul(copies));
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
    /// Milliseconds since 1970; now by librdkafka's clock where there is none.
    timestamp: Option<i64>,
    batch: &'a Arc<Batch>,
}

impl Outgoing<'_> {
    /// Key and value, as librdkafka counts them.
    fn bytes(&self) -> usize {
        let value = self.record.value.as_ref().map_or(0, ExactSizeIterator::len);
        self.key.map_or(0, <[u8]>::len).saturating_add(value)
    }

    /// Hands the record over, waiting while librdkafka's queue is full.
    async fn send(&self, producer: &Handle, partition: Option<i32>) -> Result<(), Failure> {
        let deliveries = &producer.shared.deliveries;
        let mut wait = FULL_WAIT;
        loop {
            if let Some(cause) = deliveries.cause() {
                return Err(cause.clone());
            }
            let Err(error) = producer.send(self.raw(partition)) else { return Ok(()) };
            match error::code_of(&error) {
                Some(RDKafkaErrorCode::QueueFull) => {
                    deliveries.pause(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
                // The polling thread is about to learn why.
                Some(RDKafkaErrorCode::Fatal) => {
                    deliveries.raise_fatal();
                    deliveries.pause(WAIT_MAX).await;
                }
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                    let key = self.key.map_or(0, <[u8]>::len);
                    let value = self.record.value.as_ref().map_or(0, ExactSizeIterator::len);
                    return Err(error::too_large(
                        self.topic,
                        (key, value),
                        0,
                        "the producer refuses",
                    ));
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
            timestamp: self.timestamp,
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

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    const ROOM: Room = Room { records: 16, bytes: 1_000 };

    fn poll(waiting: Pin<&mut impl Future<Output = ()>>) -> bool {
        waiting.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn more_is_handed_over_when_nearly_all_records_are_acknowledged() {
        let deliveries = Deliveries::default();
        let mut under_way = UnderWay::default();
        for _ in 0..16 {
            assert!(poll(pin!(under_way.wait_for(ROOM, &deliveries))));
            under_way.add(10);
        }
        {
            let mut waiting = pin!(under_way.wait_for(ROOM, &deliveries));
            assert!(!poll(waiting.as_mut()));
            for _ in 0..13 {
                deliveries.count_report(10);
                assert!(!poll(waiting.as_mut()));
            }
            deliveries.count_report(10);
            assert!(poll(waiting));
        }
        assert_eq!((under_way.records, under_way.bytes), (2, 20));
    }

    #[test]
    fn what_is_acknowledged_meanwhile_is_no_longer_under_way() {
        let deliveries = Deliveries::default();
        let mut under_way = UnderWay::default();
        for _ in 0..16 {
            under_way.add(10);
            deliveries.count_report(10);
        }
        assert!(poll(pin!(under_way.wait_for(ROOM, &deliveries))));
        assert_eq!((under_way.records, under_way.bytes), (0, 0));
    }

    #[test]
    fn bytes_fill_a_request_too_and_the_end_of_the_producer_ends_the_wait() {
        let deliveries = Deliveries::default();
        let mut under_way = UnderWay::default();
        under_way.add(1_000);
        assert!(poll(pin!(under_way.wait_for(ROOM, &deliveries))));
        under_way.add(1);
        let mut waiting = pin!(under_way.wait_for(ROOM, &deliveries));
        assert!(!poll(waiting.as_mut()));
        deliveries.end(Failure::new(Class::Transient, codes::NOT_DELIVERED, "ended"));
        assert!(poll(waiting));
    }
}
