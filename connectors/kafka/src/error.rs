//! What can go wrong with Kafka: every librdkafka code is classified here, once.

use std::borrow::Cow;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rowtide_sdk::{Class, Code, Error, Origin};

/// The stable codes of this crate. Each has a page that `rowtide explain` prints.
pub mod codes {
    use rowtide_sdk::Code;

    /// No broker can be reached.
    pub const UNREACHABLE: Code = Code("RT3001");
    /// The broker refuses user or password.
    pub const AUTHENTICATION: Code = Code("RT3002");
    /// The TLS handshake fails.
    pub const TLS: Code = Code("RT3003");
    /// A setting that librdkafka or the connector refuses.
    pub const SETTING: Code = Code("RT3004");
    /// A topic is missing and may not be created.
    pub const TOPIC_MISSING: Code = Code("RT3005");
    /// A topic cannot be created.
    pub const TOPIC_CREATION: Code = Code("RT3006");
    /// A topic takes smaller records than will be written.
    pub const TOPIC_TOO_SMALL: Code = Code("RT3007");
    /// A record is larger than broker or topic take.
    pub const RECORD_TOO_LARGE: Code = Code("RT3008");
    /// The user lacks a right.
    pub const NOT_AUTHORIZED: Code = Code("RT3009");
    /// The idempotent producer lost its sequence.
    pub const PRODUCER_LOST: Code = Code("RT3010");
    /// Records were not delivered.
    pub const NOT_DELIVERED: Code = Code("RT3011");
    /// Records were still unacknowledged when the sink closed.
    pub const CLOSED_BEFORE_DELIVERY: Code = Code("RT3012");
    /// A topic got more partitions while the connector runs.
    pub const PARTITIONS_CHANGED: Code = Code("RT3013");
    /// The broker refuses a record for what it is.
    pub const RECORD_REFUSED: Code = Code("RT3014");
    /// Another producer took over.
    pub const FENCED: Code = Code("RT3015");
    /// The broker is too old or lacks a feature.
    pub const UNSUPPORTED: Code = Code("RT3016");
    /// A topic's settings weaken durability, or cannot be read.
    pub const TOPIC_WEAK: Code = Code("RT3017");
}

/// An error that can be reported more than once: to every batch in flight and to the next caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) remedy: Option<Cow<'static, str>>,
}

impl Failure {
    pub(crate) fn new(class: Class, code: Code, message: impl Into<String>) -> Self {
        Self { class, code, message: message.into(), remedy: None }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// A failure with the class, code and remedy of a librdkafka code. `what` says what was being
    /// done, without any row value.
    pub(crate) fn of(kafka: RDKafkaErrorCode, what: impl std::fmt::Display) -> Self {
        let code = classify(kafka);
        let message = format!("{what}: {}", kafka_text(kafka));
        Self { class: class_of(code), code, message, remedy: remedy_of(code) }
    }

    pub(crate) fn to_error(&self) -> Error {
        let error = Error::new(self.class, Origin::Sink, self.code, self.message.clone());
        match &self.remedy {
            Some(remedy) => error.with_remedy(remedy.clone()),
            None => error,
        }
    }
}

impl From<&Failure> for Error {
    fn from(failure: &Failure) -> Self {
        failure.to_error()
    }
}

/// librdkafka's own words for a code, with its name.
pub(crate) fn kafka_text(kafka: RDKafkaErrorCode) -> String {
    // Displays as "Name (Source: text)"; the name is kept because people search for it.
    kafka.to_string()
}

/// The one table from librdkafka's codes to ours.
fn classify(kafka: RDKafkaErrorCode) -> Code {
    use RDKafkaErrorCode as K;
    match kafka {
        K::Authentication
        | K::SaslAuthenticationFailed
        | K::UnsupportedSASLMechanism
        | K::IllegalSASLState
        | K::SecurityDisabled => codes::AUTHENTICATION,
        K::SSL => codes::TLS,
        K::TopicAuthorizationFailed
        | K::ClusterAuthorizationFailed
        | K::TransactionalIdAuthorizationFailed => codes::NOT_AUTHORIZED,
        K::MessageSizeTooLarge | K::InvalidMessageSize | K::MessageBatchTooLarge => {
            codes::RECORD_TOO_LARGE
        }
        K::InvalidRecord | K::InvalidTimestamp | K::UnsupportedForMessageFormat => {
            codes::RECORD_REFUSED
        }
        K::OutOfOrderSequenceNumber
        | K::DuplicateSequenceNumber
        | K::UnknownProducerId
        | K::InvalidProducerIdMapping
        | K::InvalidProducerEpoch
        | K::GaplessGuarantee
        | K::Inconsistent
        | K::Fatal => codes::PRODUCER_LOST,
        K::ProducerFenced | K::Fenced | K::TransactionCoordinatorFenced => codes::FENCED,
        K::UnsupportedFeature
        | K::UnsupportedVersion
        | K::UnsupportedCompressionType
        | K::NotImplemented => codes::UNSUPPORTED,
        K::InvalidTopic => codes::TOPIC_CREATION,
        K::BrokerTransportFailure
        | K::AllBrokersDown
        | K::Resolve
        | K::OperationTimedOut
        | K::RequestTimedOut
        | K::NetworkException
        | K::BrokerNotAvailable
        | K::LeaderNotAvailable
        | K::NotController
        | K::UnknownBroker => codes::UNREACHABLE,
        _ => codes::NOT_DELIVERED,
    }
}

/// How the host must react to one of our codes.
fn class_of(code: Code) -> Class {
    match code {
        codes::UNREACHABLE | codes::PRODUCER_LOST | codes::NOT_DELIVERED => Class::Transient,
        codes::FENCED => Class::Fenced,
        _ => Class::Fatal,
    }
}

/// What mends it, where no caller knows better.
fn remedy_of(code: Code) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match code {
        codes::AUTHENTICATION => {
            "check sasl.mechanism, sasl.username and sasl.password against the broker's users"
        }
        codes::TLS => "check tls.ca, tls.certificate and the host name in brokers",
        codes::NOT_AUTHORIZED => {
            "grant the user Write, Describe, DescribeConfigs and Create on its topics \
             (kafka-acls.sh --add --allow-principal …); brokers before 2.8 also need \
             IdempotentWrite on the cluster"
        }
        codes::RECORD_TOO_LARGE => "raise max.message.bytes of the topic, or lower max_event",
        codes::RECORD_REFUSED => {
            "the broker's log says what is wrong with the record; its time must be within the \
             topic's message.timestamp limits"
        }
        codes::UNSUPPORTED => "use Apache Kafka 2.1 or newer, or another compression",
        codes::TOPIC_CREATION => "topic names are at most 249 characters of A-Z a-z 0-9 . _ -",
        codes::UNREACHABLE => "check that the brokers run and that brokers names them",
        _ => return None,
    }))
}

/// The code inside any of rdkafka's errors, admin operations included.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// A failure from any of rdkafka's errors.
pub(crate) fn failure(error: &KafkaError, what: impl std::fmt::Display) -> Failure {
    match (code_of(error), error) {
        (Some(code), _) => Failure::of(code, what),
        (None, KafkaError::ClientConfig(..)) => Failure::new(
            Class::Fatal,
            codes::SETTING,
            format!("{what}: {}", crate::settings::property_error(error)),
        ),
        // librdkafka's reason: a file that cannot be read, settings that exclude each other.
        (None, KafkaError::ClientCreation(reason)) => {
            Failure::new(Class::Fatal, codes::SETTING, format!("{what}: {}", clean(reason)))
        }
        (None, KafkaError::AdminOpCreation(reason)) => {
            Failure::new(Class::Fatal, codes::TOPIC_CREATION, format!("{what}: {}", clean(reason)))
        }
        (None, _) => Failure::new(Class::Transient, codes::NOT_DELIVERED, format!("{what} failed")),
    }
}

/// librdkafka's text without its terminating NUL.
fn clean(reason: &str) -> &str {
    reason.trim_end_matches('\0')
}

/// Whether a code only says that a record was given up after something else went wrong.
pub(crate) fn is_consequence(kafka: RDKafkaErrorCode) -> bool {
    matches!(
        kafka,
        RDKafkaErrorCode::PurgeQueue
            | RDKafkaErrorCode::PurgeInflight
            | RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::GaplessGuarantee
    )
}

/// The failure of a record that is larger than the broker or our own producer take. `what` says whose and of
/// what, and the topic is to take `needed` bytes at least.
pub(crate) fn too_large(
    topic: &str,
    (key, value): (usize, usize),
    needed: usize,
    what: &str,
) -> Failure {
    let bytes = key.saturating_add(value);
    let wanted = bytes.saturating_add(crate::settings::RECORD_FRAMING_BYTES);
    Failure::new(
        Class::Fatal,
        codes::RECORD_TOO_LARGE,
        format!("{what} a record of {bytes} bytes (key {key}, value {value}) for topic {topic}"),
    )
    .with_remedy(raise_max_message_bytes(topic, wanted.max(needed)))
}

/// The failure of a record without a key that was not delivered to `place`.
pub(crate) fn keyless(kafka: RDKafkaErrorCode, place: impl std::fmt::Display) -> Failure {
    let failure =
        Failure::of(kafka, format_args!("{place}: a record without a key was not delivered"));
    if failure.code != codes::RECORD_REFUSED {
        return failure;
    }
    failure.with_remedy(
        "a topic that compacts takes no record without a key: set cleanup.policy=delete on it, or give \
         the table a `key` in its settings; then restart the connector",
    )
}

/// The command that lets a topic take larger records.
pub(crate) fn raise_max_message_bytes(topic: &str, bytes: usize) -> String {
    format!(
        "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {topic} \
         --add-config max.message.bytes={bytes}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_classified_by_what_the_host_must_do() {
        use RDKafkaErrorCode as K;
        for (kafka, class, code) in [
            (K::Authentication, Class::Fatal, "RT3002"),
            (K::SSL, Class::Fatal, "RT3003"),
            (K::TopicAuthorizationFailed, Class::Fatal, "RT3009"),
            (K::MessageSizeTooLarge, Class::Fatal, "RT3008"),
            (K::OutOfOrderSequenceNumber, Class::Transient, "RT3010"),
            (K::InvalidRecord, Class::Fatal, "RT3014"),
            (K::ProducerFenced, Class::Fenced, "RT3015"),
            (K::AllBrokersDown, Class::Transient, "RT3001"),
            (K::UnknownTopicOrPartition, Class::Transient, "RT3011"),
            (K::Unknown, Class::Transient, "RT3011"),
        ] {
            let failure = Failure::of(kafka, "sending");
            assert_eq!((failure.class, failure.code), (class, Code(code)), "{kafka:?}");
        }
    }

    #[test]
    fn messages_say_what_failed_and_why() {
        let error = Failure::of(RDKafkaErrorCode::OutOfOrderSequenceNumber, "topic a").to_error();
        assert!(error.message().starts_with("topic a: OutOfOrderSequenceNumber"), "{error}");
        let large = too_large("shop.orders", (10, 2_000_000), 0, "the broker refuses").to_error();
        assert!(large.message().contains("2000010 bytes (key 10, value 2000000)"));
        assert!(large.remedy().is_some_and(|text| text.contains("max.message.bytes=2001034")));
    }

    #[test]
    fn a_refused_record_is_told_with_what_mends_it() {
        use RDKafkaErrorCode as K;
        let remedy = |failure: Failure| failure.remedy.unwrap_or_default().into_owned();
        let without_key = |kafka| keyless(kafka, "topic t [0]");
        assert!(remedy(without_key(K::InvalidRecord)).contains("cleanup.policy=delete"));
        assert!(
            without_key(K::InvalidRecord)
                .message
                .starts_with("topic t [0]: a record without a key")
        );
        assert!(!remedy(Failure::of(K::InvalidTimestamp, "t")).contains("cleanup.policy"));
        assert_eq!(without_key(K::AllBrokersDown), {
            Failure::of(K::AllBrokersDown, "topic t [0]: a record without a key was not delivered")
        });
    }

    #[test]
    fn every_code_has_a_page() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/explain");
        for number in 3001..=3017 {
            let page = std::fs::read_to_string(pages.join(format!("RT{number}.md"))).unwrap();
            assert!(page.starts_with(&format!("# RT{number}: ")), "RT{number}");
            for heading in ["## What it means", "## How to see it", "## What to do"] {
                assert!(page.contains(heading), "RT{number} lacks {heading}");
            }
        }
    }
}
