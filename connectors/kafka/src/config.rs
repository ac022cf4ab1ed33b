//! The Kafka part of a connector's `sink` section.
//!
//! The host reads `type`, `topic`, `headers` and `tombstones` itself and takes them out before the
//! rest is read into [`KafkaConfig`].

use std::collections::BTreeMap;
use std::fmt;

use rowtide_sdk::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::{property_error, quiet_config};

/// A stop waits for the linger time, at the least.
const LINGER_MS_MAX: f64 = 1_000.0;
/// Largest record batch by default, in bytes: below the broker's default `max.message.bytes`.
const DEFAULT_BATCH_BYTES: u32 = 1_000_000;
/// Where and how records are published to Kafka.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers as `host:port`, separated by commas. The others are learned from them.
    pub brokers: String,
    /// How missing topics are created.
    #[serde(default)]
    pub topics: TopicsConfig,
    /// Compression of record batches.
    #[serde(default)]
    pub compression: Compression,
    /// How long a record may wait for others to share its request, in milliseconds; 2 by default.
    /// Under load requests fill by themselves while the ones before them are under way.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1_000.0))]
    pub linger_ms: Option<f64>,
    /// Largest record batch, in bytes before compression. A single larger record still goes out.
    #[serde(default = "default_batch_bytes")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_bytes: u32,
    /// Encrypts the connection. An empty section (`tls: {}`) trusts the system's authorities.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Authenticates with user name and password.
    #[serde(default)]
    pub sasl: Option<SaslConfig>,
    /// The name by which the broker's logs, quotas and metrics know this client.
    #[serde(default = "default_client_id")]
    pub client_id: String,
    /// Further librdkafka properties, by librdkafka's own names. Properties that would break
    /// order, durability or the memory limit, and those with a field of their own, are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

/// How missing topics are created.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Create missing topics. When false a missing topic stops the connector.
    pub create: bool,
    /// Partitions of a new topic; the broker's `num.partitions` where not given. Adding partitions
    /// to a topic later moves keys, and order across that change is not kept.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub partitions: Option<u32>,
    /// Copies of each partition of a new topic; the broker's default where not given.
    #[schemars(range(min = 1))]
    pub replication_factor: Option<u16>,
    /// Settings of a new topic, by Kafka's own names: `retention.ms`, `cleanup.policy` and so on.
    pub config: BTreeMap<String, Property>,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self { create: true, partitions: None, replication_factor: None, config: BTreeMap::new() }
    }
}

/// Compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Least CPU for a good ratio.
    #[default]
    Lz4,
    /// Best ratio.
    Zstd,
    /// For consumers that know nothing newer.
    Gzip,
    /// For consumers that know nothing newer.
    Snappy,
    /// Not compressed.
    None,
}

impl Compression {
    pub(crate) fn codec(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::None => "none",
        }
    }
}

/// Transport encryption.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificate authorities to trust: a PEM file's path, or the PEM text itself. The system's
    /// where not given.
    pub ca: Option<String>,
    /// Our own certificate and its chain: a PEM file's path, or the PEM text itself.
    pub certificate: Option<String>,
    /// The private key of `certificate`: a PEM file's path, or the PEM text itself.
    #[schemars(with = "Option<String>")]
    pub key: Option<Secret>,
    /// The password of `key`, where it has one.
    #[schemars(with = "Option<String>")]
    pub key_password: Option<Secret>,
    /// What is checked about the broker's certificate.
    pub verify: TlsVerify,
}

/// What is checked about the broker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsVerify {
    /// The chain of trust and the host name.
    #[default]
    Full,
    /// The chain of trust alone.
    Ca,
    /// Nothing: anybody in between can read and change everything.
    None,
}

/// User name and password.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// How the password is proven.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// The password.
    #[schemars(with = "String")]
    pub password: Secret,
}

/// How the password is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// Sent as it is: only over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response, SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response, SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// The value of a librdkafka or topic property: text, a number or a boolean in the file. It may be a
/// secret, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "Scalar")]
#[schemars(with = "Scalar")]
pub struct Property(String);

impl Property {
    /// Wraps a property's text.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The text as librdkafka and Kafka take it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl From<Scalar> for Property {
    fn from(scalar: Scalar) -> Self {
        Self(match scalar {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Integer(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(value) => value,
        })
    }
}

fn default_batch_bytes() -> u32 {
    DEFAULT_BATCH_BYTES
}

fn default_client_id() -> String {
    "rowtide".to_owned()
}

/// Bounds that the host sets on the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaLimits {
    /// Bytes that all records in flight may hold, as the host's memory permits bound them.
    pub memory_bytes: usize,
    /// The largest record (key and value), in bytes.
    pub max_record_bytes: usize,
}

impl Default for KafkaLimits {
    fn default() -> Self {
        Self { memory_bytes: 32 * 1024 * 1024, max_record_bytes: 16 * 1024 * 1024 }
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, below the sink's section: `sasl.password`, `properties.acks`.
    pub path: String,
    /// What is wrong, and what to write instead. Never holds a value.
    pub message: String,
}

impl Problem {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

const BY_FIELD: &str = "it has a field of its own";
const ORDER: &str = "it would let records be lost, repeated or reordered";
const ROUTE: &str =
    "the partition of a key must never change, and must be the one Java clients use";
const MEMORY: &str = "`memory` and `max_event` bound what is in flight";
const REPORTS: &str = "delivery reports are how the position advances";
const CODE: &str = "it runs code from outside";
const CREATE: &str = "topics are created by `topics`, never by the broker on its own";

/// Properties that are refused: the name (or a prefix ending in a dot), why, and what to use.
const REFUSED: &[(&str, &str, Option<&str>)] = &[
    ("bootstrap.servers", BY_FIELD, Some("brokers")),
    ("metadata.broker.list", BY_FIELD, Some("brokers")),
    ("client.id", BY_FIELD, Some("client_id")),
    ("compression.codec", BY_FIELD, Some("compression")),
    ("compression.type", BY_FIELD, Some("compression")),
    ("linger.ms", BY_FIELD, Some("linger_ms")),
    ("queue.buffering.max.ms", BY_FIELD, Some("linger_ms")),
    ("batch.size", BY_FIELD, Some("batch_bytes")),
    ("security.protocol", "it follows from `tls` and `sasl`", Some("tls")),
    ("ssl.ca.", BY_FIELD, Some("tls.ca")),
    ("ssl.certificate.", BY_FIELD, Some("tls.certificate")),
    ("ssl.key.", BY_FIELD, Some("tls.key")),
    ("ssl.endpoint.identification.algorithm", BY_FIELD, Some("tls.verify")),
    ("enable.ssl.certificate.verification", BY_FIELD, Some("tls.verify")),
    ("sasl.mechanism", BY_FIELD, Some("sasl.mechanism")),
    ("sasl.mechanisms", BY_FIELD, Some("sasl.mechanism")),
    ("sasl.username", BY_FIELD, Some("sasl.username")),
    ("sasl.password", BY_FIELD, Some("sasl.password")),
    ("sasl.kerberos.", "this build has no Kerberos", None),
    ("enable.idempotence", ORDER, None),
    ("enable.gapless.guarantee", ORDER, None),
    ("acks", ORDER, None),
    ("request.required.acks", ORDER, None),
    ("max.in.flight", ORDER, None),
    ("max.in.flight.requests.per.connection", ORDER, None),
    ("retries", ORDER, None),
    ("message.send.max.retries", ORDER, None),
    ("message.timeout.ms", ORDER, None),
    ("delivery.timeout.ms", ORDER, None),
    ("queuing.strategy", ORDER, None),
    ("transactional.id", ORDER, None),
    ("transaction.timeout.ms", ORDER, None),
    ("partitioner", ROUTE, None),
    ("message.max.bytes", MEMORY, None),
    ("queue.buffering.max.kbytes", MEMORY, None),
    ("queue.buffering.max.messages", MEMORY, None),
    ("queue.buffering.backpressure.threshold", ORDER, None),
    ("delivery.report.only.error", REPORTS, None),
    ("statistics.interval.ms", "nothing reads the statistics", None),
    ("log.queue", "logging is set up by the host", None),
    ("log_level", "logging is set up by the host", None),
    ("plugin.library.paths", CODE, None),
    ("ssl.engine.", CODE, None),
    ("ssl.providers", CODE, None),
    ("allow.auto.create.topics", CREATE, None),
    ("test.mock.", "it replaces the brokers", None),
];

impl KafkaConfig {
    /// Everything wrong with this section, without touching the network or the disk. Paths are
    /// relative to the sink's section.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.check_brokers(&mut problems);
        if self.linger_ms.is_some_and(|linger| !(0.0..=LINGER_MS_MAX).contains(&linger)) {
            problems.push(Problem::new("linger_ms", "must lie between 0 and 1000"));
        }
        if self.batch_bytes == 0 || self.batch_bytes > 1_000_000_000 {
            problems.push(Problem::new("batch_bytes", "must lie between 1 and 1000000000"));
        }
        if self.topics.partitions == Some(0) || self.topics.partitions > Some(i32::MAX as u32) {
            problems.push(Problem::new("topics.partitions", "must be at least 1"));
        }
        if self.topics.replication_factor == Some(0) {
            problems.push(Problem::new("topics.replication_factor", "must be at least 1"));
        }
        self.check_security(&mut problems);
        self.check_properties(&mut problems);
        problems
    }

    fn check_brokers(&self, problems: &mut Vec<Problem>) {
        let mut any = false;
        for broker in self.brokers.split(',').map(str::trim).filter(|broker| !broker.is_empty()) {
            any = true;
            if broker.contains("://") {
                problems.push(Problem::new(
                    "brokers",
                    "write host:port without a scheme; encryption is chosen by `tls`",
                ));
            }
        }
        if !any {
            problems.push(Problem::new("brokers", "name at least one broker as host:port"));
        }
    }

    fn check_security(&self, problems: &mut Vec<Problem>) {
        if let Some(tls) = &self.tls
            && tls.certificate.is_some() != tls.key.is_some()
        {
            problems.push(Problem::new(
                "tls",
                "a client certificate needs both `certificate` and `key`",
            ));
        }
        if let Some(sasl) = &self.sasl {
            if sasl.username.is_empty() {
                problems.push(Problem::new("sasl.username", "must not be empty"));
            }
            if sasl.password.expose().is_empty() {
                problems.push(Problem::new("sasl.password", "must not be empty"));
            }
        }
    }

    fn check_properties(&self, problems: &mut Vec<Problem>) {
        for (key, value) in &self.properties {
            let path = format!("properties.{key}");
            if let Some((why, instead)) = refused(key) {
                let instead = instead.map(|field| format!(": use `{field}`")).unwrap_or_default();
                problems.push(Problem::new(path, format!("cannot be set: {why}{instead}")));
                continue;
            }
            let mut probe = quiet_config();
            probe.set(key.as_str(), value.as_str());
            if let Err(error) = probe.create_native_config() {
                problems.push(Problem::new(path, property_error(&error)));
            }
        }
    }
}

/// Why a property is refused and which field replaces it, where it is.
fn refused(key: &str) -> Option<(&'static str, Option<&'static str>)> {
    REFUSED
        .iter()
        .find(|(name, ..)| key == *name || (name.ends_with('.') && key.starts_with(name)))
        .map(|(_, why, instead)| (*why, *instead))
}

#[cfg(test)]
mod tests {

    use super::*;

    fn parse(json: &str) -> Result<KafkaConfig, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn config(json: &str) -> KafkaConfig {
        parse(json).unwrap()
    }

    #[test]
    fn brokers_alone_are_enough() {
        let config = config(r#"{"brokers":"a:9092,b:9092"}"#);
        assert_eq!(config.problems(), []);
        let client = config.producer(KafkaLimits::default());
        for (key, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("max.in.flight.requests.per.connection", "5"),
            ("enable.gapless.guarantee", "true"),
            ("partitioner", "murmur2_random"),
            ("compression.codec", "lz4"),
            ("security.protocol", "PLAINTEXT"),
            ("message.max.bytes", "16778240"),
            ("queue.buffering.max.kbytes", "32770"),
            ("allow.auto.create.topics", "false"),
            ("linger.ms", "2"),
        ] {
            assert_eq!(client.get(key), Some(value), "{key}");
        }
        client.create_native_config().unwrap();
    }

    #[test]
    fn unknown_fields_are_refused() {
        assert!(parse(r#"{"brokers":"a:9092","lingerms":1}"#).is_err());
        assert!(parse(r#"{"brokers":"a:9092","tls":{"cafile":"x"}}"#).is_err());
        assert!(parse(r#"{"linger_ms":1}"#).is_err());
    }

    #[test]
    fn every_compression_is_built_in() {
        for codec in ["lz4", "zstd", "gzip", "snappy", "none"] {
            let config = config(&format!(r#"{{"brokers":"a:1","compression":"{codec}"}}"#));
            config.producer(KafkaLimits::default()).create_native_config().unwrap();
        }
    }

    #[test]
    fn properties_that_break_guarantees_are_refused_with_the_reason() {
        let config = config(
            r#"{"brokers":"a:9092","properties":{"acks":1,"enable.idempotence":false,
                "partitioner":"random","ssl.ca.location":"/x","socket.timeout.ms":30000,
                "linger.ms":"5","no.such.thing":1,"retry.backoff.ms":"soon"}}"#,
        );
        let problems = config.problems();
        let message = |path: &str| {
            let path = format!("properties.{path}");
            problems.iter().find(|problem| problem.path == path).map(|p| p.message.as_str())
        };
        assert!(message("acks").unwrap().contains("lost, repeated or reordered"));
        assert!(message("enable.idempotence").is_some());
        assert!(message("partitioner").unwrap().contains("partition of a key"));
        assert!(message("ssl.ca.location").unwrap().contains("use `tls.ca`"));
        assert!(message("linger.ms").unwrap().contains("use `linger_ms`"));
        assert!(message("no.such.thing").unwrap().contains("No such configuration property"));
        assert!(message("retry.backoff.ms").is_some_and(|text| !text.contains("soon")));
        assert!(message("socket.timeout.ms").is_none());
        assert_eq!(problems.len(), 7);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = config(
            r#"{"brokers":" ,","linger_ms":-1,"batch_bytes":0,
                "topics":{"partitions":0,"replication_factor":0},
                "tls":{"certificate":"c.pem"},
                "sasl":{"mechanism":"PLAIN","username":"","password":""}}"#,
        );
        let paths: Vec<_> = config.problems().into_iter().map(|problem| problem.path).collect();
        assert_eq!(
            paths,
            [
                "brokers",
                "linger_ms",
                "batch_bytes",
                "topics.partitions",
                "topics.replication_factor",
                "tls",
                "sasl.username",
                "sasl.password"
            ]
        );
        let scheme = self::config(r#"{"brokers":"kafka://a:9092"}"#);
        assert!(scheme.problems()[0].message.contains("without a scheme"));
    }

    #[test]
    fn security_follows_from_tls_and_sasl() {
        let client = config(
            r#"{"brokers":"a:9092","tls":{"verify":"ca"},
                "sasl":{"mechanism":"SCRAM-SHA-512","username":"u","password":"p"}}"#,
        )
        .client();
        assert_eq!(client.get("security.protocol"), Some("SASL_SSL"));
        assert_eq!(client.get("ssl.ca.location"), Some("probe"));
        assert_eq!(client.get("ssl.endpoint.identification.algorithm"), Some("none"));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        client.create_native_config().unwrap();

        let pem = config(r#"{"brokers":"a:9092","tls":{"ca":"-----BEGIN CERTIFICATE-----\n"}}"#);
        assert!(pem.client().get("ssl.ca.pem").is_some());
        let path = config(r#"{"brokers":"a:9092","tls":{"ca":"/etc/ca.pem"}}"#);
        assert_eq!(path.client().get("ssl.ca.location"), Some("/etc/ca.pem"));
    }

    #[test]
    fn secrets_do_not_print() {
        let config = config(
            r#"{"brokers":"a:9092","properties":{"https.ca.pem":"hunter2"},
                "tls":{"certificate":"c","key":"hunter2","key_password":"hunter2"},
                "sasl":{"mechanism":"PLAIN","username":"u","password":"hunter2"}}"#,
        );
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:?}", config.problems()).contains("hunter2"));
    }

    #[test]
    fn the_schema_describes_the_section() {
        let schema = schemars::schema_for!(KafkaConfig);
        let text = serde_json::to_string(&schema).unwrap();
        assert!(text.contains("Bootstrap brokers"));
        assert!(text.contains("SCRAM-SHA-256"));
        assert_eq!(schema.get("required"), Some(&serde_json::json!(["brokers"])));
        assert_eq!(schema.get("additionalProperties"), Some(&serde_json::json!(false)));
    }

    #[test]
    fn the_queue_always_has_room_for_the_largest_record() {
        let limits = KafkaLimits { memory_bytes: 1024, max_record_bytes: 1 << 20 };
        assert!(limits.queue_kbytes() * 1024 >= 2 << 20);
    }
}
