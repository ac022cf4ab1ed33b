//! The idempotent producer, its polling thread and what it says about the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use rowtide_sdk::Class;
use tokio::sync::oneshot;

use crate::config::{KafkaConfig, KafkaLimits};
use crate::delivery::{Batch, Deliveries};
use crate::error::{self, Failure, codes};
use crate::health::Health;
use crate::log::LogGate;

/// How long one poll lasts while reports are expected: bounds how late a failure is answered.
const POLL_BUSY: Duration = Duration::from_micros(200_000 + POLL_SLACK_US);
/// The same while nothing is in flight: bounds the wake-ups of an idle process and how long closing
/// takes.
const POLL_IDLE: Duration = Duration::from_micros(250_000 + POLL_SLACK_US);
/// rdkafka waits for whole milliseconds and spins through the rest of a poll; with this little more
/// than a whole number of them, an uneventful poll ends without.
const POLL_SLACK_US: u64 = 30;
/// One attempt to learn the cluster's identity.
const CONNECT_STEP: Duration = Duration::from_millis(250);
/// How long after the first "all brokers are down" other addresses of the same names are tried.
const DOWN_GRACE: Duration = Duration::from_secs(2);
/// How long librdkafka gets to end its threads.
const DESTROY_TIMEOUT: Duration = Duration::from_secs(3);

/// Above twice of it, freed memory goes back to the system.
const KEPT_BYTES: usize = 8 * 1024 * 1024;

/// rdkafka's producer with our callbacks.
pub(crate) type RawProducer = BaseProducer<Context>;
/// A record as it is handed to librdkafka, which copies it once.
pub(crate) type RawRecord<'a> = BaseRecord<'a, [u8], [u8], Arc<Batch>>;

/// What the callbacks know and change.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Reports, completions, and why the producer ended.
    pub(crate) deliveries: Deliveries,
    /// What is known about the connection.
    pub(crate) health: Health,
    /// A broker answered once: from now on only what cannot mend itself ends the producer.
    connected: AtomicBool,
}

/// The callbacks. All of them run on the polling thread.
pub(crate) struct Context {
    shared: Arc<Shared>,
    log: LogGate,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        if fac == "FAIL" {
            self.shared.health.note(message);
        }
        self.log.pass(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error::code_of(&error) else { return };
        let shared = &self.shared;
        match code {
            RDKafkaErrorCode::Fatal => shared.deliveries.raise_fatal(),
            RDKafkaErrorCode::AllBrokersDown => shared.health.suspect(),
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => {
                // A handshake that breaks off on a running cluster is retried; a certificate or
                // a password that is refused stays refused.
                let connected = shared.connected.load(Ordering::Acquire);
                if code == RDKafkaErrorCode::SSL && connected && !is_certificate(reason) {
                    shared.health.note(reason);
                } else {
                    shared.deliveries.end(refusal(code, reason));
                }
            }
            _ => shared.health.note(reason),
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        let deliveries = &self.shared.deliveries;
        let (Ok(message) | Err((_, message))) = result;
        if let Err((error, _)) = result {
            deliveries.report_failure(error, message);
            deliveries.fail(&batch);
        }
        deliveries.count_report(message.key_len().saturating_add(message.payload_len()));
        deliveries.release(&batch, 1);
    }
}

/// Whether a TLS error is about a certificate.
fn is_certificate(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("certificate") || reason.contains("verif")
}

/// Who refused us, in librdkafka's words.
fn refusal(code: RDKafkaErrorCode, reason: &str) -> Failure {
    let mut failure = Failure::of(code, "connecting to Kafka");
    failure.message = format!("connecting to Kafka: {}", plain_reason(reason));
    failure
}

/// librdkafka's reason without the leading name of our own client, and without its advice about settings
/// that are none of ours.
pub(crate) fn plain_reason(reason: &str) -> String {
    let reason = reason
        .strip_prefix("[thrd:")
        .and_then(|rest| rest.split_once("]: "))
        .map_or(reason, |r| r.1);
    if let Some((size, _)) = reason.split_once(": increase receive.message.max.bytes") {
        return format!("{size}: what answers there is no Kafka listener, or one for TLS");
    }
    match reason.split_once(": probably due to broker version") {
        Some((what, rest)) => {
            format!("{what}{}", rest.split_once("configuration)").map_or("", |rest| rest.1))
        }
        None => reason.to_owned(),
    }
}

/// A running producer. Dropping it gives up what is not delivered; [`Producer::settle`] waits for it.
pub(crate) struct Producer {
    raw: Arc<RawProducer>,
    pub(crate) shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

impl Producer {
    /// Creates the producer and its polling thread. Connects in the background.
    pub(crate) fn start(config: &KafkaConfig, limits: KafkaLimits) -> Result<Self, Failure> {
        keep_freed_memory();
        let deliveries = Deliveries::needing(config.needed_bytes(limits.max_record_bytes));
        let shared = Arc::new(Shared { deliveries, ..Shared::default() });
        let other = config.client();
        let raw = with_callbacks(&config.producer(limits), &shared)
            .map_err(|error| error::failure(&error, "starting the Kafka producer"))?;
        let raw = Arc::new(raw);
        let (ending, ended) = oneshot::channel();
        let thread = {
            let (raw, shared) = (Arc::clone(&raw), Arc::clone(&shared));
            // What callbacks log names the connector.
            let span = tracing::Span::current();
            std::thread::Builder::new().name("kafka-poll".to_owned()).spawn(move || {
                span.in_scope(|| poll_until_alone(raw, &shared, &other));
                drop(ending);
            })
        };
        match thread {
            Ok(_detached) => Ok(Self { raw, shared, ended }),
            Err(error) => Err(Failure::new(
                Class::Transient,
                codes::NOT_DELIVERED,
                format!("starting the Kafka polling thread: {error}"),
            )),
        }
    }

    /// Waits until a broker answers, for at most `timeout`.
    pub(crate) async fn connect(&self, brokers: &str, timeout: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        let mut down_since = None;
        loop {
            let raw = Arc::clone(&self.raw);
            let attempt = blocking(move || {
                let started = Instant::now();
                let client = raw.client();
                let mut known = client.fetch_cluster_id(CONNECT_STEP).is_some();
                // No identity and no wait for one: this cluster has none.
                if !known && started.elapsed() < CONNECT_STEP / 4 {
                    known = client.fetch_metadata(None, CONNECT_STEP).is_ok();
                }
                (known, started.elapsed())
            });
            let (known, took) = attempt.await?;
            if let Some(cause) = self.shared.deliveries.cause() {
                return Err(cause.clone());
            }
            if known {
                self.shared.connected.store(true, Ordering::Release);
                self.shared.health.clear();
                return Ok(());
            }
            let now = Instant::now();
            if self.shared.health.is_suspect() {
                down_since.get_or_insert(now);
            }
            let given_up = down_since.is_some_and(|since| now - since >= DOWN_GRACE);
            if given_up || now >= deadline {
                return Err(self.unreachable(brokers));
            }
            if took < CONNECT_STEP / 4 {
                tokio::time::sleep(CONNECT_STEP / 4).await;
            }
        }
    }

    fn unreachable(&self, brokers: &str) -> Failure {
        let why = self.shared.health.reason();
        let why = if why.is_empty() { "no answer".to_owned() } else { why };
        let mut failure = Failure::of(RDKafkaErrorCode::AllBrokersDown, "");
        failure.message = format!("no Kafka broker of {brokers} can be reached: {why}");
        if why.contains("Disconnected") {
            return failure.with_remedy(
                "the broker closes the connection at once: its listener may want TLS or SASL \
                 (set tls or sasl), or none of them",
            );
        }
        failure
    }

    /// A part of it that hands over records. The producer ends only once this is dropped.
    pub(crate) fn handle(&self) -> Handle {
        Handle { raw: Arc::clone(&self.raw), shared: Arc::clone(&self.shared) }
    }

    /// The number of partitions of a topic as the cluster has it now.
    pub(crate) async fn partitions(
        &self,
        topic: &Arc<str>,
        timeout: Duration,
    ) -> Result<Partitions, Failure> {
        let raw = Arc::clone(&self.raw);
        let name = Arc::clone(topic);
        blocking(move || partitions(&raw, &name, timeout))
            .await?
            .map_err(|error| error::failure(&error, format_args!("topic {topic}: its partitions")))
    }

    /// Waits for all reports until `deadline`; then gives up the rest.
    pub(crate) async fn settle(&self, deadline: Instant) -> Result<(), Failure> {
        let deliveries = &self.shared.deliveries;
        while deliveries.batches() > 0 && deliveries.cause().is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            deliveries.progress(left.min(POLL_BUSY)).await;
        }
        let undelivered = deliveries.batches();
        if undelivered == 0 {
            return Ok(());
        }
        let was_alive = deliveries.cause().is_none();
        let failure = Failure::new(
            Class::Transient,
            codes::CLOSED_BEFORE_DELIVERY,
            format!("{undelivered} batches were not acknowledged before the deadline"),
        );
        // The polling thread purges the queue once there is a cause.
        deliveries.end(failure.clone());
        if was_alive { Err(failure) } else { Ok(()) }
    }

    /// Ends librdkafka's threads, so that nothing of this producer can reach a broker after a next
    /// one started. Every [`Handle`] must be gone.
    pub(crate) async fn end(self) {
        let Self { raw, ended, .. } = self;
        drop(raw);
        let _ended_or_late = tokio::time::timeout(DESTROY_TIMEOUT, ended).await;
    }
}

/// What hands records to a running producer.
pub(crate) struct Handle {
    raw: Arc<RawProducer>,
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Hands a record to librdkafka's queue.
    ///
    /// # Errors
    /// librdkafka's code; the record was not taken then, and its batch not released.
    pub(crate) fn send(&self, record: RawRecord<'_>) -> Result<(), KafkaError> {
        self.raw.send(record).map_err(|(error, _record)| error)
    }
}

fn with_callbacks(config: &ClientConfig, shared: &Arc<Shared>) -> KafkaResult<RawProducer> {
    let context = Context { shared: Arc::clone(shared), log: LogGate::default() };
    RawProducer::from_config_and_context(config, context)
}

/// A connection for questions alone. Nobody hears what its callbacks say.
pub(crate) fn connection(config: &ClientConfig) -> KafkaResult<RawProducer> {
    with_callbacks(config, &Arc::default())
}

/// Makes the allocator keep what is freed for the next request. glibc gives memory back above twice the
/// largest block that was mapped alone and freed, 256 KiB at first (`M_MMAP_THRESHOLD` in `mallopt(3)`); the
/// buffers of a request would be returned to the system and faulted in again for each one.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}

/// Runs a blocking call of librdkafka off the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(call).await.map_err(|_| {
        Failure::new(Class::Transient, codes::NOT_DELIVERED, "the runtime is shutting down")
    })
}

/// Serves callbacks until the sink let go of the producer, then destroys it here: never on a thread
/// of the runtime, because that waits for librdkafka's threads.
fn poll_until_alone(raw: Arc<RawProducer>, shared: &Shared, other: &ClientConfig) {
    let deliveries = &shared.deliveries;
    let mut purged = false;
    let mut seen_without_cause = false;
    while Arc::strong_count(&raw) > 1 {
        raw.poll(if deliveries.batches() == 0 { POLL_IDLE } else { POLL_BUSY });
        // A fatal error and purged records come a moment before or after the report that says why.
        let unexplained =
            deliveries.cause().is_none() && (deliveries.is_fatal() || deliveries.has_failed());
        if unexplained && seen_without_cause && deliveries.is_fatal() {
            deliveries.end(fatal_failure(&raw));
        }
        if deliveries.cause().is_some() && !purged {
            purged = true;
            raw.purge(PurgeConfig::default().queue().inflight());
        }
        deliveries.answer_failed(!seen_without_cause);
        seen_without_cause = unexplained;
        if let Err(lost) = shared.health.check(&raw, other, deliveries.begun()) {
            deliveries.end(lost);
        }
    }
    drop(raw);
    deliveries.answer_failed(false);
}

/// Why librdkafka gave up this producer.
fn fatal_failure(raw: &RawProducer) -> Failure {
    match raw.client().fatal_error() {
        Some((code, reason)) => {
            let mut failure = Failure::of(code, "the Kafka producer ended");
            let reason = reason.trim_end_matches('\0');
            if !reason.is_empty() {
                failure.message = format!("the Kafka producer ended: {reason}");
            }
            failure
        }
        None => Failure::of(RDKafkaErrorCode::Fatal, "the Kafka producer ended"),
    }
}

/// What the cluster says about a topic's partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partitions {
    /// The topic does not exist.
    Missing,
    /// It exists, but not every partition has a leader yet.
    Electing(i32),
    /// It has so many partitions.
    Ready(i32),
}

/// Asks the cluster for a topic's partitions. Does not create it.
pub(crate) fn partitions(
    raw: &RawProducer,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<Partitions> {
    let metadata = raw.client().fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Partitions::Missing);
    };
    if let Some(code) = found.error().map(RDKafkaErrorCode::from) {
        return match code {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                Ok(Partitions::Missing)
            }
            RDKafkaErrorCode::LeaderNotAvailable => Ok(Partitions::Electing(0)),
            code => Err(KafkaError::MetadataFetch(code)),
        };
    }
    let count = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
    let led = found.partitions().iter().all(|partition| partition.leader() >= 0);
    Ok(if led && count > 0 { Partitions::Ready(count) } else { Partitions::Electing(count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_without_the_librarys_own_advice() {
        for (told, plain) in [
            (
                "[thrd:127.0.0.1:9092/bootstrap]: 127.0.0.1:9092/bootstrap: ApiVersionRequest failed: Local: \
                 Timed out: probably due to broker version < 0.10 (see api.version.request configuration) (after \
                 9ms in state APIVERSION_QUERY)",
                "127.0.0.1:9092/bootstrap: ApiVersionRequest failed: Local: Timed out (after 9ms in state \
                 APIVERSION_QUERY)",
            ),
            (
                "b:3306/bootstrap: Receive failed: Invalid response size 1258291200 (0..100000512): increase \
                 receive.message.max.bytes",
                "b:3306/bootstrap: Receive failed: Invalid response size 1258291200 (0..100000512): what answers \
                 there is no Kafka listener, or one for TLS",
            ),
            ("b:1/1: Connect failed: refused", "b:1/1: Connect failed: refused"),
        ] {
            assert_eq!(plain_reason(told), plain);
        }
    }
}
