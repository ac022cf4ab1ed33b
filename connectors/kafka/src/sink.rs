//! The sink: batches of encoded records to delivered records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_sdk::{
    BoxFuture, Class, Completion, Held, RecordBatch, Result, Sink, TopicInfo, TopicSpec,
};
use tokio::time::sleep;

use crate::config::{KafkaConfig, KafkaLimits};
use crate::error::{Failure, codes};
use crate::feeder::{Feeder, Room, Submission, partitions_of_truncates};
use crate::producer::Producer;
use crate::topics::{self, Admin};

/// How long a broker may take to answer when the sink opens.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The admin connection is closed when no topic was prepared for so long.
const ADMIN_IDLE: Duration = Duration::from_secs(5);
/// More under way brings no throughput and takes memory.
const UNDER_WAY_MAX: usize = 8 * 1024 * 1024;
/// What librdkafka holds per record beside key and value, at most: its message structure, the headers and
/// the allocator's share.
const RECORD_OVERHEAD: usize = 704;

/// How long until a question is asked again that was not answered.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Brokers that do not answer about a topic are waited for, as they are where they do not take records: a
/// sink that was opened anew would publish again what is under way.
#[derive(Default)]
struct Patience {
    began: Option<Instant>,
    told: Option<Instant>,
}

/// Between two words about one silence.
const TELL_AGAIN: Duration = Duration::from_secs(60);

impl Patience {
    fn is_left(&mut self, producer: &Producer, failure: &Failure) -> bool {
        let is_left = failure.code == codes::UNREACHABLE
            && failure.class == Class::Transient
            && producer.shared.deliveries.cause().is_none();
        if is_left && self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            let silent_s = self.began.get_or_insert_with(Instant::now).elapsed().as_secs();
            tracing::warn!(
                code = %failure.code, silent_s, error = failure.message,
                "a question about a topic is not answered; nothing more is sent until it is"
            );
        }
        is_left
    }
}

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
    /// Started with the first batch.
    feeder: Option<Feeder>,
    admin: Option<(Admin, Instant)>,
    topics: HashMap<Arc<str>, Topic>,
}

#[derive(Debug, Clone, Copy)]
struct Topic {
    info: TopicInfo,
    /// It compacts, or the broker does not tell.
    may_compact: bool,
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
        let topics = HashMap::new();
        Ok(Self { config, limits, producer: None, feeder: None, admin: None, topics })
    }

    async fn open_now(&mut self) -> Result<(), Failure> {
        self.config.check_files()?;
        let producer = Producer::start(&self.config, self.limits)?;
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
        let mut patience = Patience::default();
        let prepared = loop {
            let prepared = topics::prepare(&admin, producer, &self.config, spec).await;
            match prepared {
                Err(failure) if patience.is_left(producer, &failure) => sleep(ASK_AGAIN).await,
                prepared => break prepared,
            }
        };
        self.admin = Some((admin, Instant::now()));
        let (settings, partitions) = prepared?;
        producer.shared.health.learn(&spec.name, partitions);
        let info = TopicInfo { compacts: settings.is_some_and(|settings| settings.compacts) };
        let may_compact = settings.is_none_or(|settings| settings.compacts);
        let topic = Topic { info, may_compact, max_record_bytes: spec.max_record_bytes };
        self.topics.insert(Arc::clone(&spec.name), topic);
        Ok(info)
    }

    async fn submit_now(&mut self, batch: RecordBatch, done: Completion) -> Result<(), Failure> {
        self.stop_idle_admin();
        let producer = self.producer.as_ref().ok_or_else(not_open)?;
        let deliveries = &producer.shared.deliveries;
        if let Some(cause) = deliveries.cause() {
            done.failed(cause.to_error());
            return Err(cause.clone());
        }
        let may_compact =
            |topic: &str| self.topics.get(topic).is_none_or(|topic| topic.may_compact);
        let mut patience = Patience::default();
        let spread = loop {
            match partitions_of_truncates(producer, &batch, may_compact).await {
                Ok(spread) => break spread,
                Err(failure) if patience.is_left(producer, &failure) => sleep(ASK_AGAIN).await,
                Err(failure) => {
                    done.failed(failure.to_error());
                    return Err(failure);
                }
            }
        };
        let room = self.room(producer, &batch);
        let submission = Submission::begin(producer, batch, spread, room, done).await;
        self.feeder.get_or_insert_with(|| Feeder::start(producer)).queue(submission);
        Ok(())
    }

    /// What may be under way: one full request for each partition of the batch's topics. Keys and values
    /// get half of our memory at most, and what librdkafka holds beside them the other half.
    fn room(&self, producer: &Producer, batch: &RecordBatch) -> Room {
        let partitions = producer.shared.health.partitions(&batch.topics);
        // Keys do not spread evenly, and no partition is to get more than one request.
        let of_all = |one: usize| match partitions {
            1 => one,
            many => (one.saturating_mul(many) / 8).saturating_mul(7),
        };
        let most = UNDER_WAY_MAX.min(self.limits.memory_bytes / 2);
        Room {
            records: of_all(self.config.batch_records()).min(most / RECORD_OVERHEAD).max(1),
            bytes: of_all(self.config.batch_bytes as usize).min(most),
        }
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
        let Some(producer) = self.producer.take() else { return Ok(()) };
        let settled = producer.settle(deadline).await;
        if let Some(feeder) = self.feeder.take() {
            feeder.stop().await;
        }
        producer.end().await;
        settled
    }
}

/// The answer to a call before `open` or after `close`.
fn not_open() -> Failure {
    Failure::new(Class::Transient, codes::NOT_DELIVERED, "the Kafka sink is not open")
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
