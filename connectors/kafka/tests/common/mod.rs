//! A sink under test, its outcomes, and what a consumer reads back.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use rowtide_kafka::{KafkaConfig, KafkaLimits, KafkaSink};
use rowtide_sdk::{
    BufferPool, Checkpoint, Completion, Error, Outcome, Position, Record, RecordBatch,
    RecordHeaders, Result, Sink, TopicInfo, TopicSpec,
};
use tokio::sync::mpsc;

/// The largest record in these tests.
pub(crate) const MAX_RECORD: usize = 900_000;

/// A section of the configuration with these brokers; `more` are further fields as JSON.
pub(crate) fn config(brokers: &str, more: &str) -> KafkaConfig {
    let comma = if more.is_empty() { "" } else { "," };
    serde_json::from_str(&format!("{{\"brokers\":\"{brokers}\"{comma}{more}}}")).unwrap()
}

/// A sink with the replies of its batches.
pub(crate) struct Harness {
    pub sink: KafkaSink,
    reply: mpsc::UnboundedSender<Outcome>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    pub submitted: u64,
}

impl Harness {
    pub(crate) fn new(config: KafkaConfig) -> Self {
        Self::with_memory(config, 32 << 20)
    }

    pub(crate) fn with_memory(config: KafkaConfig, memory_bytes: usize) -> Self {
        let limits = KafkaLimits { memory_bytes, max_record_bytes: MAX_RECORD };
        let (reply, outcomes) = mpsc::unbounded_channel();
        let sink = KafkaSink::new(config, limits).unwrap();
        Self { sink, reply, outcomes, submitted: 0 }
    }

    /// Opens the sink.
    pub(crate) async fn open(config: KafkaConfig) -> Self {
        let mut harness = Self::new(config);
        harness.sink.open().await.unwrap();
        harness
    }

    pub(crate) async fn prepare(&mut self, topic: &str) -> Result<TopicInfo> {
        self.sink.prepare(&spec(topic)).await
    }

    pub(crate) async fn submit(&mut self, batch: RecordBatch) -> Result<()> {
        let done = Completion::new(self.submitted, self.reply.clone(), None);
        self.submitted += 1;
        self.sink.submit(batch, done).await
    }

    /// Submits `count` batches of `each` numbered records over 17 keys; the value is
    /// `batch:record` in JSON with the key's own counter.
    pub(crate) async fn submit_numbered(&mut self, topic: &str, count: usize, each: usize) {
        for _ in 0..count {
            let first = usize::try_from(self.submitted).unwrap() * each;
            let records = (first..first + each).map(|n| (Some(format!("k{}", n % 17)), n));
            let records: Vec<_> = records.map(|(key, n)| (key, Some(format!("{n:09}")))).collect();
            self.submit(batch(topic, &records)).await.unwrap();
        }
    }

    /// The next outcome, in arrival order.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let next = tokio::time::timeout(Duration::from_secs(60), self.outcomes.recv());
        next.await.expect("an outcome in time").expect("an open channel")
    }

    /// Whether an outcome is there already.
    pub(crate) fn try_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.try_recv().ok()
    }

    /// Waits until every submitted batch is durable.
    pub(crate) async fn all_durable(&mut self) {
        for _ in 0..self.submitted {
            let outcome = self.outcome().await;
            if let Err(error) = outcome.result {
                panic!("batch {} failed: {error}", outcome.sequence);
            }
        }
    }

    /// Waits for the first failed batch; those before it must be durable.
    pub(crate) async fn first_failure(&mut self) -> Error {
        loop {
            if let Err(error) = self.outcome().await.result {
                return error;
            }
        }
    }

    pub(crate) async fn close(mut self) -> Result<()> {
        self.sink.close(Instant::now() + Duration::from_secs(20)).await
    }
}

pub(crate) fn spec(topic: &str) -> TopicSpec {
    TopicSpec {
        name: Arc::from(topic),
        max_record_bytes: MAX_RECORD,
        keyless: None,
        keeps_newest: false,
    }
}

/// A batch of records with keys and values.
pub(crate) fn batch(topic: &str, records: &[(Option<String>, Option<String>)]) -> RecordBatch {
    let mut data = Vec::new();
    let mut put = |text: &Option<String>| {
        let text = text.as_ref()?;
        let start = u32::try_from(data.len()).unwrap();
        data.extend_from_slice(text.as_bytes());
        let range = start..u32::try_from(data.len()).unwrap();
        data.push(b'\n');
        Some(range)
    };
    let records = records
        .iter()
        .map(|(key, value)| Record {
            topic: 0,
            key: put(key),
            value: put(value),
            to_all_partitions: false,
            headers: None,
        })
        .collect();
    RecordBatch {
        data,
        topics: vec![Arc::from(topic)],
        records,
        checkpoint: Checkpoint { position: Position::new("{}"), host: Arc::from("{}") },
        pool: BufferPool::default(),
    }
}

/// A batch of one record.
pub(crate) fn one(topic: &str, key: &str, value: &str) -> RecordBatch {
    batch(topic, &[(Some(key.to_owned()), Some(value.to_owned()))])
}

/// Gives every record of a batch headers whose id is the record's key.
pub(crate) fn with_headers(
    mut batch: RecordBatch,
    all: Option<&rowtide_sdk::AllHeaders>,
) -> RecordBatch {
    for record in &mut batch.records {
        let id = record.key.clone().unwrap();
        record.headers = Some(Box::new(RecordHeaders { id, all: all.cloned() }));
    }
    batch
}

/// What a consumer saw of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, String)>,
}

/// Reads everything that is in a topic, in offset order per partition.
pub(crate) fn read_back(brokers: &str, topic: &str, settings: &[(&str, &str)]) -> Vec<Seen> {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", brokers)
        .set("group.id", "read-back")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    for (key, value) in settings {
        client.set(*key, *value);
    }
    let consumer: BaseConsumer = client.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20)).unwrap();
    let count = metadata.topics()[0].partitions().len();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..i32::try_from(count).unwrap() {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut ended = BTreeMap::new();
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ended.len() < count {
        assert!(Instant::now() < deadline, "reading back takes too long");
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => seen.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(text),
                value: message.payload().map(text),
                headers: message.headers().map_or_else(Vec::new, |headers| {
                    let pair = |h: rdkafka::message::Header<'_, &[u8]>| {
                        (h.key.to_owned(), h.value.map(text).unwrap_or_default())
                    };
                    headers.iter().map(pair).collect()
                }),
            }),
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition, ());
            }
            Some(Err(error)) => panic!("reading back: {error}"),
            None => {}
        }
    }
    seen
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks that the topic holds the numbers 0..count exactly once, in order per key.
pub(crate) fn assert_numbered(seen: &[Seen], count: usize) {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    let mut numbers = Vec::new();
    for record in seen {
        let number: usize = record.value.as_deref().unwrap().parse().unwrap();
        let key = record.key.as_deref().unwrap();
        assert_eq!(key, format!("k{}", number % 17));
        if let Some(before) = last.insert(key, number) {
            assert!(before < number, "{key}: {number} after {before}");
        }
        numbers.push(number);
    }
    numbers.sort_unstable();
    assert_eq!(numbers.len(), count, "records");
    assert!(numbers.iter().copied().eq(0..count), "every number once");
}
