//! The sink against a real Kafka: topics, partitions, security, outages.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Harness, MAX_RECORD, assert_numbered, batch, config, one, read_back, spec};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rowtide_kafka::{KafkaLimits, codes};
use rowtide_sdk::{AllHeaders, Class, Finding, Severity, Sink, TopicSpec};
use rowtide_testkit::Kafka;

/// Everything that was logged, at debug level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Collects the logs of this process.
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn lines(&self, needle: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(needle)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap()
}

fn limits() -> KafkaLimits {
    KafkaLimits { memory_bytes: 32 << 20, max_record_bytes: MAX_RECORD }
}

async fn create(kafka: &Kafka, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    new.config.extend_from_slice(settings);
    let made = admin(kafka).create_topics([&new], &AdminOptions::new()).await.unwrap();
    made[0].as_ref().unwrap();
}

#[tokio::test]
async fn against_a_real_broker() {
    let Some(mut kafka) = Kafka::start(&["--secure"]) else { return };
    let log = Log::start();
    created_topics_have_what_is_stated(&kafka).await;
    unfit_topics_are_refused(&kafka).await;
    keys_land_where_java_puts_them(&kafka).await;
    records_arrive_whole(&kafka).await;
    every_compression_is_read_back(&kafka).await;
    passwords_are_proven_or_refused(&kafka).await;
    certificates_are_verified(&kafka).await;
    preflight_reports_everything(&kafka).await;
    a_lowered_limit_stops_the_sink(&kafka).await;
    added_partitions_are_noticed(&kafka, &log).await;
    a_first_record_is_fast(&kafka).await;
    an_outage_is_told_once_and_loses_nothing(&mut kafka, &log).await;
    let password = kafka.get("PASSWORD");
    assert_eq!(password, "rowtide", "the word is everywhere: look for it as a password only");
    assert_eq!(log.lines("hunter2"), Vec::<String>::new());
    assert_eq!(log.lines("a row's value"), Vec::<String>::new());
}

async fn created_topics_have_what_is_stated(kafka: &Kafka) {
    let stated = config(
        kafka.brokers(),
        r#""topics":{"partitions":3,"replication_factor":1,
            "config":{"cleanup.policy":"compact","retention.ms":86400000}}"#,
    );
    let mut harness = Harness::open(stated).await;
    assert!(harness.prepare("made.compact").await.unwrap().compacts);
    assert!(harness.prepare("made.compact").await.unwrap().compacts);
    harness.close().await.unwrap();
    topics_that_are_read_from_their_start(kafka).await;

    let mut harness = Harness::open(config(kafka.brokers(), "")).await;
    assert!(!harness.prepare("made.plain").await.unwrap().compacts);
    // Another sink finds them as they are.
    assert!(harness.prepare("made.compact").await.unwrap().compacts);
    harness.close().await.unwrap();

    let resource = ResourceSpecifier::Topic("made.compact");
    let found = admin(kafka).describe_configs([&resource], &AdminOptions::new()).await.unwrap();
    let found = found[0].as_ref().unwrap();
    let value = |name| found.get(name).unwrap().value.clone().unwrap();
    assert_eq!(value("retention.ms"), "86400000");
    assert_eq!(value("max.message.bytes"), "1000000");
    let metadata =
        admin(kafka).inner().fetch_metadata(Some("made.compact"), Duration::from_secs(10)).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
}

/// They compact and have one partition, whatever is stated for the others.
async fn topics_that_are_read_from_their_start(kafka: &Kafka) {
    let spec = |topic| TopicSpec { keeps_newest: true, ..spec(topic) };
    let stated = r#""topics":{"partitions":3,"config":{"cleanup.policy":"delete"}}"#;
    let stated = config(kafka.brokers(), stated);
    let mut harness = Harness::open(stated.clone()).await;
    assert!(harness.sink.prepare(&spec("made.history")).await.unwrap().compacts);
    harness.close().await.unwrap();
    let metadata =
        admin(kafka).inner().fetch_metadata(Some("made.history"), Duration::from_secs(10)).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 1);
    create(kafka, "made.forgetful", 1, &[("cleanup.policy", "delete")]).await;
    let specs = ["made.history", "made.forgetful"].map(spec);
    let findings = rowtide_kafka::check(&stated, limits(), &specs).await;
    let deletes = |finding: &&Finding| finding.message.contains("deletes old records");
    let deletes: Vec<&Finding> = findings.iter().filter(deletes).collect();
    assert_eq!(deletes.len(), 1, "{findings:?}");
    assert!(deletes[0].message.contains("made.forgetful"), "{findings:?}");
    let changed = |finding: &Finding| finding.code == codes::PARTITIONS_CHANGED;
    assert!(!findings.iter().any(changed), "{findings:?}");
}

/// A topic that would be created too small.
const SMALL: &str = r#""topics":{"config":{"max.message.bytes":"20000"}}"#;

async fn unfit_topics_are_refused(kafka: &Kafka) {
    let mut harness = Harness::open(config(kafka.brokers(), r#""topics":{"create":false}"#)).await;
    let error = harness.prepare("refused.missing").await.unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::TOPIC_MISSING, Class::Fatal));
    assert!(error.remedy().unwrap().contains("--topic refused.missing"), "{error}");

    create(kafka, "refused.small", 1, &[("max.message.bytes", "100000")]).await;
    let error = harness.prepare("refused.small").await.unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::TOPIC_TOO_SMALL, Class::Fatal));
    assert!(error.message().contains("100000 bytes"), "{error}");
    assert!(error.remedy().unwrap().contains("--add-config max.message.bytes=1000000"), "{error}");
    harness.close().await.unwrap();

    let stated = config(kafka.brokers(), SMALL);
    let mut harness = Harness::open(stated).await;
    let error = harness.prepare("refused.stated").await.unwrap_err();
    assert_eq!((error.code(), error.class()), (codes::TOPIC_TOO_SMALL, Class::Fatal));
    assert!(error.remedy().unwrap().contains("topics.config"), "{error}");
    harness.close().await.unwrap();

    for (topics, word) in [
        (r#"{"replication_factor":3}"#, "InvalidReplicationFactor"),
        (r#"{"config":{"no.such.setting":"1"}}"#, "InvalidConfig"),
    ] {
        let stated = config(kafka.brokers(), &format!("\"topics\":{topics}"));
        let mut harness = Harness::open(stated).await;
        let error = harness.prepare("refused.settings").await.unwrap_err();
        assert_eq!((error.code(), error.class()), (codes::TOPIC_CREATION, Class::Fatal), "{error}");
        assert!(error.message().contains(word), "{error}");
        harness.close().await.unwrap();
    }
}

/// Keys and their hashes from the tests of Kafka's own Java client.
const MURMUR2: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

async fn keys_land_where_java_puts_them(kafka: &Kafka) {
    let mut harness = Harness::open(config(kafka.brokers(), r#""topics":{"partitions":7}"#)).await;
    harness.prepare("java").await.unwrap();
    for (key, _) in MURMUR2 {
        harness.submit(one("java", key, "v")).await.unwrap();
    }
    harness.all_durable().await;
    harness.close().await.unwrap();
    let seen: BTreeMap<_, _> = read_back(kafka.brokers(), "java", &[])
        .into_iter()
        .map(|seen| (seen.key.unwrap(), seen.partition))
        .collect();
    for (key, hash) in MURMUR2 {
        assert_eq!(seen[key], (hash & 0x7fff_ffff) % 7, "{key}");
    }
}

async fn records_arrive_whole(kafka: &Kafka) {
    let topic = "whole";
    let mut harness = Harness::open(config(kafka.brokers(), "")).await;
    harness.prepare(topic).await.unwrap();
    let headers =
        AllHeaders { op: "u", subject: Arc::from("shop.public.orders"), version: Arc::from("1.2") };
    let tombstone = || batch(topic, &[(Some("k".to_owned()), None)]);
    harness.submit(one(topic, "k", "a row's value")).await.unwrap();
    harness.submit(tombstone()).await.unwrap();
    harness.submit(batch(topic, &[(None, Some("no key".to_owned()))])).await.unwrap();
    harness.submit(common::with_headers(one(topic, "e1", "v"), None)).await.unwrap();
    harness.submit(common::with_headers(one(topic, "e2", "v"), Some(&headers))).await.unwrap();
    harness.submit(common::with_headers(tombstone(), Some(&headers))).await.unwrap();
    let large = "x".repeat(MAX_RECORD - 10);
    harness.submit(one(topic, "large", &large)).await.unwrap();
    harness.all_durable().await;
    harness.close().await.unwrap();
    let seen = read_back(kafka.brokers(), topic, &[]);
    let pairs: Vec<_> = seen.iter().map(|s| (s.key.as_deref(), s.value.as_deref())).collect();
    assert_eq!(
        pairs,
        [
            (Some("k"), Some("a row's value")),
            (Some("k"), None),
            (None, Some("no key")),
            (Some("e1"), Some("v")),
            (Some("e2"), Some("v")),
            (Some("k"), None),
            (Some("large"), Some(large.as_str())),
        ]
    );
    let headers = |n: usize| -> Vec<_> {
        seen[n].headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    };
    assert_eq!(headers(0), []);
    assert_eq!(headers(3), [("id", "e1")]);
    let common = [
        ("id", "e2"),
        ("op", "u"),
        ("schema-subject", "shop.public.orders"),
        ("schema-version", "1.2"),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers(4), common);
    assert_eq!(headers(5)[1..], common[1..4]);
}

async fn every_compression_is_read_back(kafka: &Kafka) {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("compressed.{codec}");
        let stated = config(kafka.brokers(), &format!("\"compression\":\"{codec}\""));
        let mut harness = Harness::open(stated).await;
        harness.prepare(&topic).await.unwrap();
        harness.submit_numbered(&topic, 3, 500).await;
        harness.all_durable().await;
        harness.close().await.unwrap();
        assert_numbered(&read_back(kafka.brokers(), &topic, &[]), 1_500);
    }
}

/// Opens a sink on another listener and sends one record through it.
async fn sends(brokers: &str, more: &str) {
    let mut harness = Harness::open(config(brokers, more)).await;
    harness.prepare("secured").await.unwrap();
    harness.submit(one("secured", "k", "v")).await.unwrap();
    harness.all_durable().await;
    harness.close().await.unwrap();
}

/// How opening a sink fails.
async fn refusal(brokers: &str, more: &str) -> rowtide_sdk::Error {
    let mut harness = Harness::new(config(brokers, more));
    let started = Instant::now();
    let error = harness.sink.open().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}: {error}", started.elapsed());
    harness.close().await.unwrap();
    error
}

async fn passwords_are_proven_or_refused(kafka: &Kafka) {
    let plain = format!("127.0.0.1:{}", kafka.get("SASL_PORT"));
    let tls = format!("localhost:{}", kafka.get("SASL_SSL_PORT"));
    let (user, password) = (kafka.get("USERNAME"), kafka.get("PASSWORD"));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let sasl = |password: &str| {
            format!(
                r#""sasl":{{"mechanism":"{mechanism}","username":"{user}","password":"{password}"}}"#
            )
        };
        sends(&plain, &sasl(password)).await;
        let over_tls = format!("{},\"tls\":{{\"ca\":\"{}\"}}", sasl(password), kafka.get("CA"));
        sends(&tls, &over_tls).await;
        let error = refusal(&plain, &sasl("hunter2")).await;
        assert_eq!((error.code(), error.class()), (codes::AUTHENTICATION, Class::Fatal), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = refusal(&plain, "").await;
    assert_eq!((error.code(), error.class()), (codes::UNREACHABLE, Class::Transient), "{error}");
    assert!(error.remedy().unwrap().contains("may want TLS or SASL"), "{error}");
}

async fn certificates_are_verified(kafka: &Kafka) {
    let brokers = format!("localhost:{}", kafka.get("SSL_PORT"));
    let ca = |path: &str| format!(r#""tls":{{"ca":"{path}"}}"#);
    sends(&brokers, &ca(kafka.get("CA"))).await;
    let pem = std::fs::read_to_string(kafka.get("CA")).unwrap().replace('\n', "\\n");
    sends(&brokers, &ca(&pem)).await;
    let unverified = format!(r#""tls":{{"ca":"{}","verify":"none"}}"#, kafka.get("OTHER_CA"));
    sends(&brokers, &unverified).await;

    for (tls, word) in
        [(ca(kafka.get("OTHER_CA")), "certificate"), (r#""tls":{}"#.to_owned(), "certificate")]
    {
        let error = refusal(&brokers, &tls).await;
        assert_eq!((error.code(), error.class()), (codes::TLS, Class::Fatal), "{error}");
        assert!(error.message().contains(word), "{error}");
    }
    let error = refusal(&brokers, &ca("/no/such/ca.pem")).await;
    assert_eq!((error.code(), error.class()), (codes::SETTING, Class::Fatal), "{error}");
    assert!(error.message().contains("/no/such/ca.pem"), "{error}");
    let error = refusal(kafka.brokers(), &ca(kafka.get("CA"))).await;
    assert!(matches!(error.code(), codes::TLS | codes::UNREACHABLE), "{error}");
}

async fn preflight_reports_everything(kafka: &Kafka) {
    create(kafka, "check.small", 1, &[("max.message.bytes", "2000")]).await;
    create(kafka, "check.unclean", 2, &[("unclean.leader.election.enable", "true")]).await;
    let specs = ["check.absent", "check.small", "check.unclean", "whole"].map(spec);
    let stated = config(kafka.brokers(), r#""topics":{"partitions":1}"#);
    let findings = rowtide_kafka::check(&stated, limits(), &specs).await;
    let has = |severity, code, topic: &str| {
        findings
            .iter()
            .any(|f| f.severity == severity && f.code == code && f.message.contains(topic))
    };
    assert!(has(Severity::Info, codes::TOPIC_MISSING, "check.absent"), "{findings:?}");
    assert!(has(Severity::Error, codes::TOPIC_TOO_SMALL, "check.small"), "{findings:?}");
    assert!(has(Severity::Warning, codes::TOPIC_WEAK, "check.unclean"), "{findings:?}");
    assert!(has(Severity::Info, codes::PARTITIONS_CHANGED, "check.unclean"), "{findings:?}");
    assert!(!has(Severity::Error, codes::TOPIC_MISSING, ""), "{findings:?}");
    let small = config(kafka.brokers(), SMALL);
    let findings = rowtide_kafka::check(&small, limits(), &[spec("check.absent")]).await;
    let refused = findings.iter().find(|f| f.severity == Severity::Error).unwrap();
    assert_eq!(refused.code, codes::TOPIC_TOO_SMALL, "{findings:?}");
    let stated = config(kafka.brokers(), r#""topics":{"create":false}"#);
    let findings = rowtide_kafka::check(&stated, limits(), &[spec("check.absent")]).await;
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(findings[0].code, codes::TOPIC_MISSING);
    let findings = rowtide_kafka::check(&config("127.0.0.1:1", ""), limits(), &[]).await;
    assert_eq!(findings[0].code, codes::UNREACHABLE);
    let wrong = config("a:1", r#""properties":{"acks":"1"}"#);
    assert_eq!(rowtide_kafka::check(&wrong, limits(), &[]).await[0].code, codes::SETTING);
}

async fn a_lowered_limit_stops_the_sink(kafka: &Kafka) {
    let topic = "lowered";
    let mut harness = Harness::open(config(kafka.brokers(), r#""compression":"none""#)).await;
    harness.prepare(topic).await.unwrap();
    let alter = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", "5000");
    let altered = admin(kafka).alter_configs([&alter], &AdminOptions::new()).await.unwrap();
    altered[0].as_ref().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let error = loop {
        harness.submit(one(topic, "k", &"x".repeat(20_000))).await.unwrap();
        if let Err(error) = harness.outcome().await.result {
            break error;
        }
        assert!(Instant::now() < deadline, "the broker still takes large records");
    };
    assert_eq!((error.code(), error.class()), (codes::RECORD_TOO_LARGE, Class::Fatal), "{error}");
    assert!(error.message().contains("topic lowered"), "{error}");
    assert!(error.message().contains("20001 bytes"), "{error}");
    // What the next start asks for, however large this record is.
    assert!(error.remedy().unwrap().ends_with("max.message.bytes=1000000"), "{error}");
    harness.close().await.unwrap();
}

async fn added_partitions_are_noticed(kafka: &Kafka, log: &Log) {
    let topic = "growing";
    let mut harness = Harness::open(config(kafka.brokers(), "")).await;
    harness.prepare(topic).await.unwrap();
    let more = NewPartitions::new(topic, 4);
    let grown = admin(kafka).create_partitions([&more], &AdminOptions::new()).await.unwrap();
    grown[0].as_ref().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while log.lines("partitions changed").is_empty() {
        assert!(Instant::now() < deadline, "the change is not noticed");
        harness.submit(one(topic, "k", "v")).await.unwrap();
        // So seldom that nothing is in flight when the polling thread comes round.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
    }
    let line = log.lines("partitions changed").remove(0);
    assert!(line.contains("WARN") && line.contains("RT3013"), "{line}");
    assert!(line.contains("before=1") && line.contains("now=4"), "{line}");
    let mut truncate = batch(topic, &[(None, Some("truncate".to_owned()))]);
    truncate.records[0].to_all_partitions = true;
    harness.submit(truncate).await.unwrap();
    harness.all_durable().await;
    harness.close().await.unwrap();
    let partitions: Vec<_> = read_back(kafka.brokers(), topic, &[])
        .into_iter()
        .filter(|seen| seen.value.as_deref() == Some("truncate"))
        .map(|seen| seen.partition)
        .collect();
    assert_eq!(partitions.len(), 4);
}

async fn a_first_record_is_fast(kafka: &Kafka) {
    let mut took = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        let mut harness = Harness::open(config(kafka.brokers(), "")).await;
        harness.prepare("fast").await.unwrap();
        harness.submit(one("fast", "k", "v")).await.unwrap();
        harness.all_durable().await;
        took.push(started.elapsed());
        harness.close().await.unwrap();
    }
    took.sort();
    // Well below librdkafka's 500 ms timer for a producer id, whatever else runs here.
    assert!(took[0] < Duration::from_millis(300), "{took:?}");
}

async fn an_outage_is_told_once_and_loses_nothing(kafka: &mut Kafka, log: &Log) {
    let topic = "outage";
    let brokers = kafka.brokers().to_owned();
    let mut harness = Harness::open(config(&brokers, r#""topics":{"partitions":3}"#)).await;
    harness.prepare(topic).await.unwrap();
    harness.submit_numbered(topic, 10, 100).await;
    let (down, back) = ("no Kafka broker can be reached;", "can be reached again");
    let told = |needle: &str| log.lines(needle).len();
    let before = (told(down), told(back));
    kafka.halt(true);
    harness.submit_numbered(topic, 20, 100).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while told(down) == before.0 {
        assert!(Instant::now() < deadline, "the outage is not told");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(harness.submitted > 10);
    // A table whose first row comes meanwhile waits, as the rows of others do.
    let resuming = async {
        while told("a question about a topic is not answered") == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        kafka.resume();
    };
    let (prepared, ()) = tokio::join!(harness.prepare("outage_of_a_new_table"), resuming);
    prepared.unwrap();
    harness.all_durable().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while told(back) == before.1 {
        assert!(Instant::now() < deadline, "the end of the outage is not told");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    harness.close().await.unwrap();
    assert_eq!((told(down), told(back)), (before.0 + 1, before.1 + 1), "once each");
    let warnings: Vec<_> = log.lines("WARN").into_iter().filter(|l| l.contains("FAIL")).collect();
    assert_eq!(warnings, Vec::<String>::new(), "no line per attempt");
    assert_numbered(&read_back(&brokers, topic, &[]), 3_000);
}
