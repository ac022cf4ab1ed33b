//! The feeder: hands records to librdkafka, one round at a time.
//!
//! librdkafka keeps one request of a partition in flight (its limit of five counts records), and its
//! broker thread spins while records behind that request are older than the linger time. So little
//! waits there, and not for long: a round is what fits into one request for each partition, and is
//! handed over once every record is acknowledged but those of the round before it, which is under way
//! meanwhile. Where answers take so long that it would wait, it is held back until that one is
//! acknowledged too. The host encodes the next one. A round also ends before librdkafka sends what there is of
//! it because the linger time is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
/// What librdkafka adds for a record, at the most, where it counts what a request holds.
const RECORD_WIRE: usize = 36;
/// The same for the id header beside its value, and for the others beside theirs.
const ID_HEADER_WIRE: usize = 16;
const ALL_HEADERS_WIRE: usize = 128;
/// An answer is slow that takes longer than so many rounds may take to be handed over: librdkafka would
/// spin for as long as it is working.
const SLOW_HAND_OVERS: u32 = 2;
/// Records sent between two looks at the clock.
const RECORDS_PER_LOOK: usize = 8;
/// The share of the linger time that a round may take to be handed over, and the shortest time that
/// the share is of: with less a round would hold next to nothing.
const HAND_OVER_SHARE: f64 = 0.9;
const HAND_OVER_MIN: Duration = Duration::from_millis(2);
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
    ///
    /// `linger` is how long librdkafka waits before it sends what is not a full request.
    pub(crate) fn start(producer: &Producer, linger: Duration) -> Self {
        let (queue, submitted) = mpsc::unbounded_channel();
        let hand_over = linger.max(HAND_OVER_MIN).mul_f64(HAND_OVER_SHARE);
        let rounds = Rounds {
            producer: producer.handle(),
            submitted,
            hand_over,
            round: Round::default(),
            is_slow: false,
        };
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

struct Rounds {
    producer: Handle,
    submitted: mpsc::UnboundedReceiver<Submission>,
    /// How long a round may be handed over.
    hand_over: Duration,
    round: Round,
    /// The last answer took so long that a round behind it would have waited.
    is_slow: bool,
}

/// What is handed over together.
#[derive(Default)]
struct Round {
    /// What it has room for.
    room: Room,
    /// What it has already.
    bytes: usize,
    records: usize,
    /// When it ends; none before the first.
    until: Option<Instant>,
}

impl Round {
    /// Takes a record of `bytes` in, which `copies` records are made of; false where the round is over.
    fn take(&mut self, bytes: usize, copies: usize) -> bool {
        let (bytes, records) =
            (self.bytes.saturating_add(bytes), self.records.saturating_add(copies));
        let has_room = bytes <= self.room.bytes && records <= self.room.records;
        // The clock is not looked at for each record.
        let is_looked_at = self.records / RECORDS_PER_LOOK != records / RECORDS_PER_LOOK;
        let is_in_time = |until| !is_looked_at || Instant::now() < until;
        let goes_on = has_room && self.until.is_some_and(is_in_time);
        if goes_on {
            (self.bytes, self.records) = (bytes, records);
        }
        goes_on
    }
}

impl Rounds {
    async fn run(mut self) {
        while let Some(mut submission) = self.submitted.recv().await {
            if let Err(failure) = submission.send_all(&mut self).await {
                // What is already in librdkafka's queue must not outlive the failure; the answers of
                // the batches, given as they are dropped, name it.
                self.producer.shared.deliveries.end(failure);
                return;
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
    /// What a round that begins with it has room for.
    room: Room,
    /// Records not handed over yet.
    unsent: usize,
}

impl Submission {
    /// Counts a batch in, once there is room for it beside a round under way and
    /// one that fills.
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
        while !deliveries.has_room(bytes, room.held.saturating_mul(2))
            && deliveries.cause().is_none()
        {
            deliveries.progress(WAIT_MAX).await;
        }
        // One part more than records: ours, so that a batch without records is answered too and
        // none is answered before all of it is sent.
        let batch = Arc::new(Batch::new(parts.saturating_add(1), bytes, done));
        deliveries.begin(&batch);
        Self { producer: shared, records, spread, batch, room, unsent: parts }
    }

    /// Hands over every record, in order, round by round.
    async fn send_all(&mut self, rounds: &mut Rounds) -> Result<(), Failure> {
        for (sent, record) in self.records.records.iter().enumerate() {
            if sent % RECORDS_PER_TURN == RECORDS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let reach = reach_of(record, &self.spread);
            let copies = copies_of(record, reach);
            let bytes = wire_bytes(&self.records, record, reach).saturating_mul(copies);
            if !rounds.round.take(bytes, copies) {
                let most = if rounds.is_slow { 0 } else { rounds.round.records };
                let began = Instant::now();
                self.producer.deliveries.arrived(most).await;
                let now = Instant::now();
                rounds.is_slow = now.duration_since(began) > rounds.hand_over * SLOW_HAND_OVERS;
                let until = Some(now + rounds.hand_over);
                rounds.round = Round { room: self.room, bytes, records: copies, until };
            }
            let outgoing = Outgoing {
                records: &self.records,
                record,
                key: key_of(&self.records, record, reach),
                topic: topic_of(&self.records, record)?,
                batch: &self.batch,
            };
            if record.to_all_partitions {
                for partition in 0..reach.map_or(0, |reach| reach.partitions) {
                    outgoing.send(&rounds.producer, Some(partition)).await?;
                    self.unsent = self.unsent.saturating_sub(1);
                }
            } else {
                outgoing.send(&rounds.producer, None).await?;
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

/// What a round has room for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Room {
    /// Bytes in requests.
    pub(crate) bytes: usize,
    /// Records in requests.
    pub(crate) records: usize,
    /// Bytes in memory until they are acknowledged.
    pub(crate) held: usize,
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

/// How often a record is sent.
fn copies_of(record: &Record, reach: Option<Reach>) -> usize {
    match record.to_all_partitions {
        true => reach.map_or(0, |reach| reach.partitions.unsigned_abs() as usize),
        false => 1,
    }
}

/// Key and value of a record, in bytes.
fn content_of(batch: &RecordBatch, record: &Record, reach: Option<Reach>) -> usize {
    let key = key_of(batch, record, reach).map_or(0, <[u8]>::len);
    key + record.value.as_ref().map_or(0, ExactSizeIterator::len)
}

/// How many records of Kafka a batch becomes, and what they hold in librdkafka.
fn weigh(batch: &RecordBatch, spread: &Spread) -> (usize, usize) {
    let mut parts = 0_usize;
    let mut bytes = 0_usize;
    for record in &batch.records {
        let reach = reach_of(record, spread);
        let copies = copies_of(record, reach);
        let headers = match record.headers.as_deref() {
            None => 0,
            Some(RecordHeaders { all: None, .. }) => ID_HEADER_OVERHEAD,
            Some(RecordHeaders { all: Some(_), .. }) => ALL_HEADERS_OVERHEAD,
        };
        let held = content_of(batch, record, reach) + RECORD_OVERHEAD + headers;
        parts = parts.saturating_add(copies);
        bytes = bytes.saturating_add(held.saturating_mul(copies));
    }
    (parts, bytes)
}

/// What a record takes in requests, as librdkafka counts it where it fills one, or a little more.
fn wire_bytes(batch: &RecordBatch, record: &Record, reach: Option<Reach>) -> usize {
    let headers = record.headers.as_deref().map_or(0, |headers| {
        let all = headers.all.as_ref().map_or(0, |all| {
            ALL_HEADERS_WIRE + all.op.len() + all.subject.len() + all.version.len()
        });
        ID_HEADER_WIRE + headers.id.len() + all
    });
    content_of(batch, record, reach) + RECORD_WIRE + headers
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
        deliveries.depart();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn round(until: Option<Instant>) -> Round {
        let room = Room { bytes: 1_000, records: 20, held: 0 };
        Round { room, bytes: 100, records: 1, until }
    }

    #[test]
    fn a_round_takes_what_there_is_room_for() {
        let far = Instant::now() + Duration::from_secs(600);
        let mut by_bytes = round(Some(far));
        assert!(by_bytes.take(900, 1));
        assert!(!by_bytes.take(1, 1));
        let mut by_records = round(Some(far));
        assert!(by_records.take(1, 19));
        assert!(!by_records.take(1, 1));
    }

    #[test]
    fn a_round_ends_with_its_time() {
        let mut over = round(Some(Instant::now()));
        let taken = (0..20).take_while(|_| over.take(1, 1)).count();
        assert!(taken < RECORDS_PER_LOOK, "{taken}");
        assert!(!round(None).take(1, 1), "the first begins one");
    }
}
