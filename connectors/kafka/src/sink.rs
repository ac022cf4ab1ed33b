//! The sink: batches of encoded records to delivered records.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rowtide_sdk::{
    BoxFuture, Class, Completion, Held, Record, RecordBatch, RecordHeaders, Result, Sink,
    TopicInfo, TopicSpec,
};

use crate::config::{KafkaConfig, KafkaLimits};
use crate::delivery::{Batch, Deliveries};
use crate::error::{self, Failure, codes};
use crate::producer::{Partitions, Producer};
use crate::topics::{self, Admin};

/// What librdkafka holds per queued record beside key and value, measured: its message structure and
/// the allocator's share.
const RECORD_OVERHEAD: usize = 192;
/// The same for the id header.
const ID_HEADER_OVERHEAD: usize = 176;
/// The same for all headers.
const ALL_HEADERS_OVERHEAD: usize = 512;
/// Bytes handed to librdkafka at most; the host holds the rest back. More in its queue brings no
/// throughput and costs CPU: its broker thread spins while the oldest queued record is older than
/// the linger time and a request of the same partition is in flight.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// How long a broker may take to answer when the sink opens.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the partitions of a topic may take to be read before a truncate.
const PARTITIONS_TIMEOUT: Duration = Duration::from_secs(10);
/// The admin connection is closed when no topic was prepared for so long.
const ADMIN_IDLE: Duration = Duration::from_secs(5);
/// Records sent between two chances for other tasks on this thread.
const RECORDS_PER_TURN: usize = 2048;
/// The first wait for room in librdkafka's queue.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// The longest.
const FULL_WAIT_MAX: Duration = Duration::from_millis(100);

/// The Kafka sink.
///
/// Records are sent by an idempotent producer with `acks=all`; a batch is durable when every one of
/// its records is acknowledged. Any record that cannot be delivered ends the producer: all later
/// calls fail with the same cause, nothing is skipped, and the host opens a new sink from the saved
/// position.
pub struct KafkaSink {
    config: KafkaConfig,
    limits: KafkaLimits,
    producer: Option<Producer>,
    admin: Option<(Admin, Instant)>,
    /// The producer's linger time fits the round trip to the brokers.
    paced: bool,
    topics: HashMap<Arc<str>, Topic>,
}

#[derive(Debug, Clone, Copy)]
struct Topic {
    info: TopicInfo,
    max_record_bytes: usize,
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink").field("config", &self.config).finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// A sink that has not connected yet.
    ///
    /// # Errors
    /// Fatal (RT3004) where the configuration cannot work; see [`KafkaConfig::problems`].
    pub fn new(config: KafkaConfig, limits: KafkaLimits) -> Result<Self> {
        if let Some(problem) = config.problems().first() {
            let message = format!("{}: {}", problem.path, problem.message);
            return Err(Failure::new(Class::Fatal, codes::SETTING, message).to_error());
        }
        let paced = config.linger_ms.is_some();
        let topics = HashMap::new();
        Ok(Self { config, limits, producer: None, admin: None, paced, topics })
    }

    async fn open_now(&mut self) -> Result<(), Failure> {
        self.config.check_files()?;
        let producer = Producer::start(&self.config.producer(self.limits, None))?;
        let connecting = producer.connect(&self.config.brokers, OPEN_TIMEOUT);
        // Both connect at the same time: the first record waits for both.
        let (connected, admin) = tokio::join!(connecting, Admin::start(&self.config));
        // Kept even where connecting failed, so that `close` ends its threads in order.
        self.producer = Some(producer);
        self.admin = Some((admin?, Instant::now()));
        connected
    }

    async fn prepare_now(&mut self, spec: &TopicSpec) -> Result<TopicInfo, Failure> {
        if let Some(topic) = self.topics.get(&spec.name)
            && topic.max_record_bytes >= spec.max_record_bytes
        {
            return Ok(topic.info);
        }
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        let admin = match self.admin.take() {
            Some((admin, _)) => admin,
            None => Admin::start(&self.config).await?,
        };
        let prepared = topics::prepare(&admin, producer, &self.config, spec).await;
        self.admin = Some((admin, Instant::now()));
        let (settings, partitions) = prepared?;
        self.pace(&spec.name).await?;
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        producer.shared.health.learn(&spec.name, partitions);
        let info = TopicInfo { compacts: settings.is_some_and(|settings| settings.compacts) };
        let topic = Topic { info, max_record_bytes: spec.max_record_bytes };
        self.topics.insert(Arc::clone(&spec.name), topic);
        Ok(info)
    }

    /// Starts the producer again with a longer linger time where the brokers are far. Only before
    /// anything was sent.
    async fn pace(&mut self, topic: &Arc<str>) -> Result<(), Failure> {
        if std::mem::replace(&mut self.paced, true) {
            return Ok(());
        }
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        let trip = producer.round_trip(topic).await;
        let linger_ms = self.config.linger(trip);
        if linger_ms > self.config.linger(None) {
            tracing::debug!(linger_ms, "the brokers are far: records wait longer for each other");
            let farther = Producer::start(&self.config.producer(self.limits, trip))?;
            let connected = farther.connect(&self.config.brokers, OPEN_TIMEOUT).await;
            // The one before it sent nothing: nobody waits for its end.
            self.producer = Some(farther);
            connected?;
        }
        Ok(())
    }

    async fn submit_now(&mut self, batch: RecordBatch, done: Completion) -> Result<(), Failure> {
        self.stop_idle_admin();
        self.paced = true;
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        let deliveries = &producer.shared.deliveries;
        if let Some(cause) = deliveries.cause() {
            done.failed(cause.to_error());
            return Err(cause.clone());
        }
        let spread = match partitions_of_truncates(producer, &batch).await {
            Ok(spread) => spread,
            Err(failure) => {
                done.failed(failure.to_error());
                return Err(failure);
            }
        };
        let window = self.limits.memory_bytes.min(WINDOW_BYTES);
        let (parts, bytes) = weigh(&batch, &spread);
        while !deliveries.has_room(bytes, window) && deliveries.cause().is_none() {
            deliveries.progress(FULL_WAIT_MAX).await;
        }
        let mut submission = Submission::begin(deliveries, parts, bytes, done);
        let sent = send_all(producer, &batch, &spread, &mut submission).await;
        if let Err(failure) = &sent {
            // What is already queued must not outlive the failure.
            deliveries.end(failure.clone());
        }
        sent
    }

    /// Closes the admin connection once no topics are being prepared any more.
    fn stop_idle_admin(&mut self) {
        if let Some((admin, _)) = self.admin.take_if(|(_, used)| used.elapsed() >= ADMIN_IDLE) {
            admin.stop();
        }
    }

    async fn close_now(&mut self, deadline: Instant) -> Result<(), Failure> {
        if let Some((admin, _)) = self.admin.take() {
            admin.stop();
        }
        match self.producer.take() {
            Some(producer) => producer.close(deadline).await,
            None => Ok(()),
        }
    }
}

/// The answer to a call before `open` or after `close`.
fn not_open() -> Failure {
    Failure::new(Class::Transient, codes::NOT_DELIVERED, "the Kafka sink is not open")
}

/// A batch on its way into librdkafka's queue. Dropped before its end it fails the batch.
struct Submission<'a> {
    deliveries: &'a Deliveries,
    batch: Arc<Batch>,
    /// Records not handed over yet.
    unsent: usize,
}

impl<'a> Submission<'a> {
    fn begin(deliveries: &'a Deliveries, parts: usize, bytes: usize, done: Completion) -> Self {
        // One part more than records: ours, so that a batch without records is answered too and
        // none is answered before all of it is sent.
        let batch = Arc::new(Batch::new(parts.saturating_add(1), bytes, done));
        deliveries.begin(&batch);
        Self { deliveries, batch, unsent: parts }
    }
}

impl Drop for Submission<'_> {
    fn drop(&mut self) {
        if self.unsent > 0 {
            self.deliveries.fail(&self.batch);
        }
        self.deliveries.release(&self.batch, self.unsent.saturating_add(1));
    }
}

/// The partitions of the topics that a batch truncates, by index of the topic in the batch.
type Spread = Vec<(u32, i32)>;

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
async fn partitions_of_truncates(
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

async fn send_all(
    producer: &Producer,
    batch: &RecordBatch,
    spread: &Spread,
    submission: &mut Submission<'_>,
) -> Result<(), Failure> {
    for (sent, record) in batch.records.iter().enumerate() {
        if sent % RECORDS_PER_TURN == RECORDS_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        let topic = topic_of(batch, record)?;
        if record.to_all_partitions {
            let count = i32::try_from(spread_over(record.topic, spread)).unwrap_or(i32::MAX);
            for partition in 0..count {
                send(producer, batch, record, topic, Some(partition), submission).await?;
            }
        } else {
            send(producer, batch, record, topic, None, submission).await?;
        }
    }
    Ok(())
}

/// Hands one record over, waiting while librdkafka's queue is full.
async fn send(
    producer: &Producer,
    batch: &RecordBatch,
    record: &Record,
    topic: &Arc<str>,
    partition: Option<i32>,
    submission: &mut Submission<'_>,
) -> Result<(), Failure> {
    let mut wait = FULL_WAIT;
    loop {
        let raw = BaseRecord {
            topic,
            partition,
            payload: record.value.as_ref().map(|value| batch.slice(value)),
            key: record.key.as_ref().map(|key| batch.slice(key)),
            timestamp: None,
            headers: record
                .headers
                .as_deref()
                .map(|headers| encode_headers(batch, record, headers)),
            delivery_opaque: Arc::clone(&submission.batch),
        };
        let Err(error) = producer.send(raw) else {
            submission.unsent = submission.unsent.saturating_sub(1);
            return Ok(());
        };
        let deliveries = submission.deliveries;
        if let Some(cause) = deliveries.cause() {
            return Err(cause.clone());
        }
        match error::code_of(&error) {
            Some(RDKafkaErrorCode::QueueFull) => {
                deliveries.progress(wait).await;
                wait = (wait * 2).min(FULL_WAIT_MAX);
            }
            // The polling thread is about to learn why.
            Some(RDKafkaErrorCode::Fatal) => {
                deliveries.raise_fatal();
                deliveries.progress(FULL_WAIT_MAX).await;
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                let bytes = |range: &Option<Range<u32>>| {
                    range.as_ref().map_or(0, |range| batch.slice(range).len())
                };
                let (key, value) = (bytes(&record.key), bytes(&record.value));
                return Err(error::too_large(topic, key, value, "the producer"));
            }
            _ => return Err(error::failure(&error, format_args!("topic {topic}: sending"))),
        }
    }
}

fn encode_headers(batch: &RecordBatch, record: &Record, headers: &RecordHeaders) -> OwnedHeaders {
    let id = Header { key: "id", value: Some(batch.slice(&headers.id)) };
    let Some(all) = &headers.all else {
        return OwnedHeaders::new_with_capacity(1).insert(id);
    };
    let encoded = OwnedHeaders::new_with_capacity(5)
        .insert(id)
        .insert(Header { key: "op", value: Some(all.op) })
        .insert(Header { key: "schema-subject", value: Some(&*all.subject) })
        .insert(Header { key: "schema-version", value: Some(&*all.version) });
    match record.value {
        Some(_) => encoded.insert(Header { key: "content-type", value: Some("application/json") }),
        None => encoded,
    }
}

impl Sink for KafkaSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async {
            self.open_now().await.map_err(|failure| failure.to_error())?;
            Ok(Held::Elsewhere)
        })
    }

    fn prepare<'a>(&'a mut self, topic: &'a TopicSpec) -> BoxFuture<'a, Result<TopicInfo>> {
        Box::pin(async { self.prepare_now(topic).await.map_err(|failure| failure.to_error()) })
    }

    fn submit(&mut self, batch: RecordBatch, done: Completion) -> BoxFuture<'_, Result<()>> {
        Box::pin(
            async move { self.submit_now(batch, done).await.map_err(|failure| failure.to_error()) },
        )
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.stop_idle_admin();
            Ok(())
        })
    }

    fn close(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(
            async move { self.close_now(deadline).await.map_err(|failure| failure.to_error()) },
        )
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;

    use super::*;

    /// Opens a sink on an in-process broker that answers after `trip`, and paces it. True where the
    /// producer was started again.
    async fn paced_again(trip: Duration, more: &str) -> bool {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic("t", 1, 1).unwrap();
        mock.broker_round_trip_time(-1, trip).unwrap();
        let brokers = mock.bootstrap_servers();
        let config = serde_json::from_str(&format!("{{\"brokers\":\"{brokers}\"{more}}}")).unwrap();
        let mut sink = KafkaSink::new(config, KafkaLimits::default()).unwrap();
        sink.open().await.unwrap();
        let shared = |sink: &KafkaSink| Arc::as_ptr(&sink.producer.as_ref().unwrap().shared);
        let first = shared(&sink);
        sink.pace(&Arc::from("t")).await.unwrap();
        let again = first != shared(&sink);
        sink.pace(&Arc::from("t")).await.unwrap();
        sink.close(Instant::now()).await.unwrap();
        again
    }

    #[tokio::test]
    async fn far_brokers_get_a_longer_linger_time_once() {
        assert!(paced_again(Duration::from_millis(20), "").await);
        assert!(!paced_again(Duration::from_millis(20), ",\"linger_ms\":2").await);
    }
}
