//! Topics: read, create, verify.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rowtide_sdk::{Class, TopicSpec};

use crate::config::KafkaConfig;
use crate::error::{self, Failure, codes};
use crate::producer::{Partitions, Producer, blocking};

/// One request about topics.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new topic may take until every partition has a leader.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the settings of a new topic may take to be told.
const NEW_TOPIC_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at a topic that is being created.
const ELECTION_STEP: Duration = Duration::from_millis(20);

/// The setting of the largest batch that a topic takes, in bytes.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// The setting that tells what becomes of old records.
pub(crate) const POLICY: &str = "cleanup.policy";
/// Its value for keeping the newest record of each key.
pub(crate) const COMPACT: &str = "compact";

/// The settings of a topic that matter to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TopicSettings {
    /// `max.message.bytes`.
    pub(crate) max_message_bytes: Option<usize>,
    /// `cleanup.policy` names `compact`.
    pub(crate) compacts: bool,
    /// `cleanup.policy` names `delete`, and there is a limit of time or size.
    pub(crate) deletes: bool,
    /// `min.insync.replicas`.
    pub(crate) min_insync_replicas: Option<u32>,
    /// `unclean.leader.election.enable`.
    pub(crate) unclean_election: bool,
}

/// What the cluster says about the settings of a topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its settings.
    Settings(TopicSettings),
    /// The broker does not tell us, for this reason.
    Untold(String),
}

/// The connection for requests about topics. It has threads of its own and lives only while topics
/// are prepared.
pub(crate) struct Admin(AdminClient<DefaultClientContext>);

impl Admin {
    /// Creates the connection.
    pub(crate) async fn start(config: &KafkaConfig) -> Result<Self, Failure> {
        let client = config.client();
        // Reading the certificate authorities takes a while.
        blocking(move || client.create::<AdminClient<DefaultClientContext>>())
            .await?
            .map(Self)
            .map_err(|error| error::failure(&error, "starting the Kafka admin client"))
    }

    /// Closes the connection without waiting for it.
    pub(crate) fn stop(self) {
        // Dropping joins its threads. Outside a runtime (the last moment of a process) it may.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(self)));
        }
    }

    /// Reads the settings of a topic that exists.
    pub(crate) async fn find(&self, topic: &str) -> Result<Found, Failure> {
        let resource = ResourceSpecifier::Topic(topic);
        let code = match self.0.describe_configs([&resource], &options()).await {
            Ok(answers) => {
                let found = answers.into_iter().next().and_then(Result::ok);
                // rdkafka shows a refusal (a missing right) as a topic without settings.
                return Ok(match found.filter(|found| !found.entries.is_empty()) {
                    Some(found) => Found::Settings(settings(&found)),
                    None => Found::Untold("the broker shows none of them".to_owned()),
                });
            }
            Err(KafkaError::AdminOp(code)) => code,
            Err(other) => return Err(error::failure(&other, about(topic))),
        };
        match code {
            // A right that only reading needs is not worth stopping for.
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion => Ok(Found::Untold(error::kafka_text(code))),
            code => Err(Failure::of(code, about(topic))),
        }
    }

    /// Creates a topic with the stated partitions, copies and settings.
    pub(crate) async fn create(
        &self,
        config: &KafkaConfig,
        spec: &TopicSpec,
    ) -> Result<(), Failure> {
        let stated = &config.topics;
        let partitions = match stated.partitions {
            _ if spec.keeps_newest => 1,
            Some(count) => i32::try_from(count).unwrap_or(i32::MAX),
            None => -1,
        };
        let copies = stated.replication_factor.map_or(-1, i32::from);
        let replication = TopicReplication::Fixed(copies);
        let mut topic = NewTopic::new(&spec.name, partitions, replication);
        let max_message_bytes = config.needed_bytes(spec.max_record_bytes).to_string();
        verify_stated_size(config, spec)?;
        if !stated.config.contains_key(MAX_MESSAGE_BYTES) {
            topic = topic.set(MAX_MESSAGE_BYTES, &max_message_bytes);
        }
        for (key, value) in &stated.config {
            if !(spec.keeps_newest && key == POLICY) {
                topic = topic.set(key, value.as_str());
            }
        }
        if spec.keeps_newest {
            topic = topic.set(POLICY, COMPACT);
        }
        let what = format!("creating topic {}", spec.name);
        let answers = self.0.create_topics([&topic], &options()).await;
        let code = match answers.map(|answers| answers.into_iter().next()) {
            Ok(Some(Ok(_name))) => return Ok(()),
            Ok(Some(Err((_, code)))) | Err(KafkaError::AdminOp(code)) => code,
            Ok(None) => RDKafkaErrorCode::Unknown,
            Err(other) => return Err(error::failure(&other, what)),
        };
        let remedy = match code {
            RDKafkaErrorCode::TopicAlreadyExists => return Ok(()),
            RDKafkaErrorCode::InvalidReplicationFactor => {
                "topics.replication_factor must not exceed the number of brokers"
            }
            RDKafkaErrorCode::InvalidPartitions => "topics.partitions must be at least 1",
            RDKafkaErrorCode::InvalidConfig => {
                "check topics.config against Kafka's topic settings; the broker's log names the one"
            }
            RDKafkaErrorCode::PolicyViolation => {
                "the cluster's create.topic.policy refuses these settings; change topics, or create \
                 the topic yourself and set topics.create: false"
            }
            code => return Err(Failure::of(code, what)),
        };
        let message = format!("{what}: {}", error::kafka_text(code));
        Err(Failure::new(Class::Fatal, codes::TOPIC_CREATION, message).with_remedy(remedy))
    }
}

fn settings(found: &ConfigResource) -> TopicSettings {
    let text = |name| found.get(name).and_then(|entry| entry.value.as_deref());
    TopicSettings {
        max_message_bytes: text(MAX_MESSAGE_BYTES).and_then(|n| n.parse().ok()),
        compacts: text(POLICY).is_some_and(|policy| policy.contains(COMPACT)),
        deletes: text(POLICY).is_some_and(|policy| policy.contains("delete"))
            && !["retention.ms", "retention.bytes"].iter().all(|limit| text(limit) == Some("-1")),
        min_insync_replicas: text("min.insync.replicas").and_then(|n| n.parse().ok()),
        unclean_election: text("unclean.leader.election.enable") == Some("true"),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(REQUEST_TIMEOUT))
        .operation_timeout(Some(REQUEST_TIMEOUT))
}

fn about(topic: &str) -> String {
    format!("reading the settings of topic {topic}")
}

/// The refusal of a topic that takes smaller records than will be written.
pub(crate) fn verify_size(
    config: &KafkaConfig,
    spec: &TopicSpec,
    settings: &TopicSettings,
) -> Result<(), Failure> {
    let needed = config.needed_bytes(spec.max_record_bytes);
    match settings.max_message_bytes {
        Some(allowed) if allowed < needed => Err(Failure::new(
            Class::Fatal,
            codes::TOPIC_TOO_SMALL,
            format!(
                "topic {} takes at most {allowed} bytes (max.message.bytes), {needed} are needed",
                spec.name
            ),
        )
        .with_remedy(format!(
            "run `{}`, or lower max_event (and batch_bytes); `rowtide check` lists all topics that need it",
            error::raise_max_message_bytes(&spec.name, needed)
        ))),
        _ => Ok(()),
    }
}

/// The refusal of a topic that would be created with a smaller limit than what will be written.
pub(crate) fn verify_stated_size(config: &KafkaConfig, spec: &TopicSpec) -> Result<(), Failure> {
    let stated = config.topics.config.get(MAX_MESSAGE_BYTES);
    let max_message_bytes = stated.and_then(|bytes| bytes.as_str().parse().ok());
    let stated = TopicSettings { max_message_bytes, ..TopicSettings::default() };
    verify_size(config, spec, &stated).map_err(|failure| {
        failure.with_remedy(format!(
            "set {MAX_MESSAGE_BYTES} in topics.config to {} or more, or lower max_event (and batch_bytes)",
            config.needed_bytes(spec.max_record_bytes)
        ))
    })
}

/// The refusal of a missing topic that may not be created.
pub(crate) fn missing(config: &KafkaConfig, spec: &TopicSpec) -> Failure {
    let topic = &spec.name;
    let with = if spec.keeps_newest {
        format!("1 --config {POLICY}={COMPACT}")
    } else {
        config.topics.partitions.unwrap_or(1).to_string()
    };
    Failure::new(
        Class::Fatal,
        codes::TOPIC_MISSING,
        format!("topic {topic} does not exist and topics.create is false"),
    )
    .with_remedy(format!(
        "run `kafka-topics.sh --bootstrap-server … --create --topic {topic} --partitions {with}`, \
         or set topics.create: true; `rowtide check` lists all topics that are missing"
    ))
}

/// Makes a topic ready: creates it where it is missing, else verifies it. Returns its settings,
/// where they are told, and its partitions.
pub(crate) async fn prepare(
    admin: &Admin,
    producer: &Producer,
    config: &KafkaConfig,
    spec: &TopicSpec,
) -> Result<(Option<TopicSettings>, i32), Failure> {
    let seen = producer.partitions(&spec.name, REQUEST_TIMEOUT).await?;
    let created = seen == Partitions::Missing;
    if created {
        if !config.topics.create {
            return Err(missing(config, spec));
        }
        admin.create(config, spec).await?;
    }
    let partitions = match seen {
        Partitions::Ready(count) => count,
        _ => elected(producer, &spec.name).await?,
    };
    if created {
        tracing::info!(topic = &*spec.name, partitions, "topic created");
    }
    let mut found = admin.find(&spec.name).await?;
    // The broker that is asked may hear of a new topic later than the one that leads it.
    let patience = Instant::now() + NEW_TOPIC_TIMEOUT;
    while created && matches!(found, Found::Untold(_)) && Instant::now() < patience {
        tokio::time::sleep(ELECTION_STEP).await;
        found = admin.find(&spec.name).await?;
    }
    let settings = match found {
        Found::Settings(settings) => {
            verify_size(config, spec, &settings)?;
            Some(settings)
        }
        Found::Untold(why) => {
            tracing::warn!(
                code = %codes::TOPIC_WEAK,
                topic = &*spec.name,
                why,
                "the topic's settings cannot be read: neither max.message.bytes nor cleanup.policy \
                 is verified; grant DescribeConfigs on the topic"
            );
            None
        }
    };
    Ok((settings, partitions))
}

/// Waits until every partition has a leader, and counts them.
pub(crate) async fn elected(producer: &Producer, topic: &Arc<str>) -> Result<i32, Failure> {
    let deadline = Instant::now() + ELECTION_TIMEOUT;
    loop {
        let seen = producer.partitions(topic, REQUEST_TIMEOUT).await?;
        if let Partitions::Ready(count) = seen {
            return Ok(count);
        }
        if let Some(cause) = producer.shared.deliveries.cause() {
            return Err(cause.clone());
        }
        if Instant::now() >= deadline {
            return match seen {
                // An outage of some brokers: sending may go on where leaders are.
                Partitions::Electing(count) if count > 0 => Ok(count),
                _ => Err(Failure::of(
                    RDKafkaErrorCode::LeaderNotAvailable,
                    format_args!("topic {topic} has no leader"),
                )),
            };
        }
        tokio::time::sleep(ELECTION_STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(max_record_bytes: usize) -> TopicSpec {
        TopicSpec {
            name: Arc::from("shop.orders"),
            max_record_bytes,
            keyless: None,
            keeps_newest: false,
        }
    }

    #[test]
    fn a_topic_must_take_the_largest_record_and_a_full_batch() {
        let config: KafkaConfig = serde_json::from_str(r#"{"brokers":"a:1"}"#).unwrap();
        assert_eq!(config.needed_bytes(100), 1_000_000);
        assert_eq!(config.needed_bytes(2_000_000), 2_001_024);
        let allows = |max_message_bytes| TopicSettings { max_message_bytes, ..Default::default() };
        assert!(verify_size(&config, &spec(2_000_000), &allows(Some(2_001_024))).is_ok());
        assert!(verify_size(&config, &spec(2_000_000), &allows(None)).is_ok());
        let refused = verify_size(&config, &spec(2_000_000), &allows(Some(1_048_588))).unwrap_err();
        assert_eq!(refused.code, codes::TOPIC_TOO_SMALL);
        assert!(refused.remedy.unwrap().contains("--add-config max.message.bytes=2001024"));
    }
}
