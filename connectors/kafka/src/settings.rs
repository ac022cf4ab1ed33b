//! The configuration as librdkafka takes it.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rowtide_sdk::{Class, Secret};

use crate::config::{KafkaConfig, KafkaLimits, TlsVerify};
use crate::error::{Failure, codes};

/// Room for a record's framing, its headers and the batch header beside key and value.
pub(crate) const RECORD_FRAMING_BYTES: usize = 1024;
/// The linger time by default, in milliseconds: as long as handing over a request takes. A shorter one
/// sends a part of it alone.
const LINGER_MS: f64 = 2.0;
/// How librdkafka calls the most records of a request.
const BATCH_RECORDS_KEY: &str = "batch.num.messages";
/// It is by default as if a record had so many bytes: those of most events have fewer, so that their count
/// makes a request full, and it takes all that is there. Where its bytes do, the last few records stay.
const RECORD_BYTES: usize = 1_100;
/// The most that librdkafka takes.
const BATCH_RECORDS_MAX: usize = 1_000_000;
/// The smallest and largest `message.max.bytes` that librdkafka takes.
const MESSAGE_MAX_BYTES: std::ops::RangeInclusive<usize> = 1_000..=1_000_000_000;

impl KafkaLimits {
    /// librdkafka's `message.max.bytes`.
    pub(crate) fn message_max_bytes(self) -> usize {
        let wanted = self.max_record_bytes.saturating_add(RECORD_FRAMING_BYTES);
        wanted.clamp(*MESSAGE_MAX_BYTES.start(), *MESSAGE_MAX_BYTES.end())
    }

    /// librdkafka's `queue.buffering.max.kbytes`. Never so small that the largest record does not
    /// fit beside another one.
    pub(crate) fn queue_kbytes(self) -> usize {
        let bytes = self.memory_bytes.max(self.message_max_bytes().saturating_mul(2));
        bytes.div_ceil(1024).clamp(1, 2_147_483_647)
    }
}

impl KafkaConfig {
    /// The settings that producer and admin client share.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = quiet_config();
        for (key, value) in &self.properties {
            client.set(key.as_str(), value.as_str());
        }
        client.set("bootstrap.servers", self.brokers.as_str());
        client.set("client.id", self.client_id.as_str());
        // A metadata request must not create a topic with the broker's defaults.
        client.set("allow.auto.create.topics", "false");
        self.set_default(&mut client, "socket.keepalive.enable", "true");
        // A lone record must not wait for the acknowledgement of the one before it.
        self.set_default(&mut client, "socket.nagle.disable", "true");
        self.set_default(&mut client, "socket.connection.setup.timeout.ms", "10000");
        // Half of it also passes between the first broker and the one that it names.
        self.set_default(&mut client, "reconnect.backoff.ms", "20");
        self.set_default(&mut client, "reconnect.backoff.max.ms", "2000");
        self.set_security(&mut client);
        client
    }

    /// The producer's settings: those that hold order and durability, and those of the section.
    pub(crate) fn producer(&self, limits: KafkaLimits) -> ClientConfig {
        let mut client = self.client();
        client.set("enable.idempotence", "true");
        client.set("acks", "all");
        // Records are retried for ever: the source's log is where they wait.
        client.set("message.timeout.ms", "0");
        client.set("max.in.flight.requests.per.connection", "5");
        // A failed batch stops the producer instead of leaving a hole before the next one.
        client.set("enable.gapless.guarantee", "true");
        client.set("partitioner", "murmur2_random");
        client.set("compression.codec", self.compression.codec());
        client.set("linger.ms", self.linger_ms.unwrap_or(LINGER_MS).to_string());
        client.set("batch.size", self.batch_bytes.to_string());
        self.set_default(&mut client, BATCH_RECORDS_KEY, &self.batch_records().to_string());
        client.set("message.max.bytes", limits.message_max_bytes().to_string());
        client.set("queue.buffering.max.kbytes", limits.queue_kbytes().to_string());
        // Bytes bound the queue; the count must not bite before them.
        client.set("queue.buffering.max.messages", "10000000");
        client
    }

    /// The records that make a request full, however small they are.
    pub(crate) fn batch_records(&self) -> usize {
        let given = self.properties.get(BATCH_RECORDS_KEY);
        given.and_then(|given| given.as_str().parse().ok()).unwrap_or_else(|| {
            (self.batch_bytes as usize / RECORD_BYTES).clamp(1, BATCH_RECORDS_MAX)
        })
    }

    /// What a topic's `max.message.bytes` must allow: a record of so many bytes, and a full batch.
    pub(crate) fn needed_bytes(&self, max_record_bytes: usize) -> usize {
        max_record_bytes.saturating_add(RECORD_FRAMING_BYTES).max(self.batch_bytes as usize)
    }

    /// Reads the files that `tls` names: librdkafka does not say which one it cannot use.
    pub(crate) fn check_files(&self) -> Result<(), Failure> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let files = [
            ("tls.ca", tls.ca.as_deref()),
            ("tls.certificate", tls.certificate.as_deref()),
            ("tls.key", tls.key.as_ref().map(Secret::expose)),
        ];
        for (field, pem) in files {
            let Some(path) = pem.filter(|pem| !is_pem_text(pem)) else { continue };
            if let Err(error) = std::fs::read(path) {
                let message = format!("{field}: {path} cannot be read: {error}");
                return Err(Failure::new(Class::Fatal, codes::SETTING, message));
            }
        }
        Ok(())
    }

    fn set_default(&self, client: &mut ClientConfig, key: &str, value: &str) {
        if !self.properties.contains_key(key) {
            client.set(key, value);
        }
    }

    fn set_security(&self, client: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        };
        client.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            match &tls.ca {
                Some(ca) => set_pem(client, "ssl.ca", ca),
                // The vendored OpenSSL does not know where the system keeps its authorities.
                None => {
                    client.set("ssl.ca.location", "probe");
                }
            }
            if let Some(certificate) = &tls.certificate {
                set_pem(client, "ssl.certificate", certificate);
            }
            if let Some(key) = &tls.key {
                set_pem(client, "ssl.key", key.expose());
            }
            if let Some(password) = &tls.key_password {
                client.set("ssl.key.password", password.expose());
            }
            let (verify, host) = match tls.verify {
                TlsVerify::Full => ("true", "https"),
                TlsVerify::Ca => ("true", "none"),
                TlsVerify::None => ("false", "none"),
            };
            client.set("enable.ssl.certificate.verification", verify);
            client.set("ssl.endpoint.identification.algorithm", host);
        }
        if let Some(sasl) = &self.sasl {
            client.set("sasl.mechanism", sasl.mechanism.name());
            client.set("sasl.username", sasl.username.as_str());
            client.set("sasl.password", sasl.password.expose());
        }
    }
}

/// A client configuration whose log level does not depend on the `log` crate's.
pub(crate) fn quiet_config() -> ClientConfig {
    let mut client = ClientConfig::new();
    // Connections that a broker closes, and librdkafka's guess why, are told at this level.
    client.set_log_level(RDKafkaLogLevel::Info);
    client
}

/// Whether a setting holds the PEM itself and not its path.
fn is_pem_text(pem: &str) -> bool {
    pem.trim_start().starts_with("-----BEGIN")
}

/// Sets a PEM by text or by path.
fn set_pem(client: &mut ClientConfig, prefix: &str, pem: &str) {
    let by = if is_pem_text(pem) { "pem" } else { "location" };
    client.set(format!("{prefix}.{by}"), pem);
}

/// What librdkafka says about a property, without the value.
pub(crate) fn property_error(error: &KafkaError) -> String {
    match error {
        // librdkafka quotes a bad value between double quotes.
        KafkaError::ClientConfig(_, description, key, value) => {
            let shown = description.replace('\0', "");
            let masked = if value.is_empty() { shown } else { shown.replace(value, "***") };
            format!("librdkafka refuses {key}: {masked}")
        }
        _ => "not a valid librdkafka property".to_owned(),
    }
}
