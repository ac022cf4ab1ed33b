//! The sink against librdkafka's in-process broker, which fails on demand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Harness, assert_numbered, batch, config, one, read_back};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr::{self, *};
use rowtide_kafka::{KafkaConfig, codes};
use rowtide_sdk::{Class, Sink};

type Mock = MockCluster<'static, DefaultProducerContext>;

const TOPIC: &str = "shop.orders";
/// The mock broker knows neither DescribeConfigs nor CreateTopics: its topics are made here, and are
/// not prepared by the sink.
const PARTITIONS: i32 = 4;

fn mock() -> (Mock, KafkaConfig) {
    let mock = MockCluster::new(3).unwrap();
    mock.create_topic(TOPIC, PARTITIONS, 3).unwrap();
    let brokers = mock.bootstrap_servers();
    (mock, config(&brokers, ""))
}

/// The next produce requests fail so.
fn fail_next(mock: &Mock, errors: &[RDKafkaRespErr]) {
    mock.request_errors(RDKafkaApiKey::Produce, errors);
}

#[tokio::test]
async fn every_batch_is_durable_and_in_order() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    harness.submit_numbered(TOPIC, 40, 250).await;
    harness.all_durable().await;
    harness.close().await.unwrap();
    assert_numbered(&read_back(&mock.bootstrap_servers(), TOPIC, &[]), 10_000);
}

#[tokio::test]
async fn a_batch_without_records_is_durable_at_once() {
    let (_mock, config) = mock();
    let mut harness = Harness::open(config).await;
    harness.submit(batch(TOPIC, &[])).await.unwrap();
    assert!(harness.outcome().await.result.is_ok());
}

#[tokio::test]
async fn brokers_that_go_and_come_back_lose_and_reorder_nothing() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    harness.submit_numbered(TOPIC, 5, 200).await;
    mock.broker_down(-1).unwrap();
    // They are held back at some time.
    tokio::join!(harness.submit_numbered(TOPIC, 20, 200), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        mock.broker_up(-1).unwrap();
    });
    harness.all_durable().await;
    harness.close().await.unwrap();
    assert_numbered(&read_back(&mock.bootstrap_servers(), TOPIC, &[]), 5_000);
}

#[tokio::test]
async fn errors_that_pass_are_retried_in_order() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    for error in [
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        // A cut connection.
        RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        fail_next(&mock, &[error, error]);
        harness.submit_numbered(TOPIC, 5, 100).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    harness.all_durable().await;
    harness.close().await.unwrap();
    let seen = read_back(&mock.bootstrap_servers(), TOPIC, &[]);
    assert_numbered(&seen, 3_000);
}

#[tokio::test]
async fn h64_a_record_refused_for_its_size_stops_everything_after_it() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    fail_next(&mock, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    harness.submit(one(TOPIC, "k0", "too large")).await.unwrap();
    let error = harness.first_failure().await;
    assert_eq!((error.code(), error.class()), (codes::RECORD_TOO_LARGE, Class::Fatal));
    assert!(error.message().contains("topic shop.orders"), "{error}");
    assert!(error.message().contains("11 bytes (key 2, value 9)"), "{error}");
    assert!(error.remedy().unwrap().contains("max.message.bytes"), "{error}");
    let after = harness.submit(one(TOPIC, "k0", "next")).await.unwrap_err();
    assert_eq!(after.code(), codes::RECORD_TOO_LARGE);
    assert_eq!(harness.first_failure().await.code(), codes::RECORD_TOO_LARGE);
    harness.close().await.unwrap();
    assert_eq!(read_back(&mock.bootstrap_servers(), TOPIC, &[]), []);
}

#[tokio::test]
async fn no_batch_after_a_failed_one_is_durable_in_its_partition() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    mock.broker_round_trip_time(-1, Duration::from_millis(20)).unwrap();
    // One key, and so one partition: in others what was sent before the failure was known may arrive.
    for n in 0..60 {
        if n == 10 {
            fail_next(&mock, &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
        }
        if harness.submit(one(TOPIC, "k0", &format!("{n:09}"))).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut outcomes = Vec::new();
    for _ in 0..harness.submitted {
        outcomes.push(harness.outcome().await);
    }
    outcomes.sort_by_key(|outcome| outcome.sequence);
    let failed = outcomes.iter().position(|outcome| outcome.result.is_err()).unwrap();
    for outcome in &outcomes[failed..] {
        assert!(outcome.result.is_err(), "batch {} after {failed}", outcome.sequence);
    }
}

#[tokio::test]
async fn a_producer_that_lost_its_sequence_is_reopened() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config.clone()).await;
    harness.submit(one(TOPIC, "k0", "000000000")).await.unwrap();
    assert!(harness.outcome().await.result.is_ok());
    // OUT_OF_ORDER_SEQUENCE_NUMBER on a batch that was never retried is fatal for librdkafka.
    fail_next(&mock, &[RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    harness.submit(one(TOPIC, "k0", "lost")).await.unwrap();
    let error = harness.first_failure().await;
    assert_eq!((error.code(), error.class()), (codes::PRODUCER_LOST, Class::Transient), "{error}");
    harness.close().await.unwrap();

    let mut again = Harness::open(config).await;
    again.submit(one(TOPIC, "k1", "000000001")).await.unwrap();
    again.all_durable().await;
    assert_numbered(&read_back(&mock.bootstrap_servers(), TOPIC, &[]), 2);
}

#[tokio::test]
async fn a_missing_right_is_fatal() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    fail_next(&mock, &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    harness.submit(one(TOPIC, "k0", "secret value")).await.unwrap();
    let error = harness.first_failure().await;
    assert_eq!((error.code(), error.class()), (codes::NOT_AUTHORIZED, Class::Fatal));
    assert!(!error.to_string().contains("secret value"), "{error}");
}

#[tokio::test]
async fn an_unreachable_broker_is_transient_and_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let brokers = taken.local_addr().unwrap().to_string();
    drop(taken);
    let mut harness = Harness::new(config(&brokers, ""));
    let started = Instant::now();
    let error = harness.sink.open().await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(8));
    assert_eq!((error.code(), error.class()), (codes::UNREACHABLE, Class::Transient));
    assert!(error.message().contains(&brokers), "{error}");
    assert!(error.message().contains("Connection refused"), "{error}");
    harness.close().await.unwrap();
}

#[tokio::test]
async fn close_waits_for_every_report() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    mock.broker_round_trip_time(-1, Duration::from_millis(300)).unwrap();
    harness.submit_numbered(TOPIC, 3, 100).await;
    harness.sink.close(Instant::now() + Duration::from_secs(20)).await.unwrap();
    for _ in 0..3 {
        assert!(harness.try_outcome().unwrap().result.is_ok());
    }
}

#[tokio::test]
async fn close_answers_what_is_not_delivered_by_the_deadline() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    mock.broker_down(-1).unwrap();
    harness.submit_numbered(TOPIC, 3, 10).await;
    let started = Instant::now();
    let error = harness.sink.close(started + Duration::from_millis(300)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(error.code(), codes::CLOSED_BEFORE_DELIVERY);
    for _ in 0..3 {
        let error = harness.try_outcome().unwrap().result.unwrap_err();
        assert_eq!(error.code(), codes::CLOSED_BEFORE_DELIVERY);
        assert_eq!(error.class(), Class::Transient);
    }
}

#[tokio::test]
async fn a_dropped_sink_fails_what_it_had() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    mock.broker_down(-1).unwrap();
    harness.submit_numbered(TOPIC, 2, 10).await;
    harness.sink = Harness::new(common::config("unused:1", "")).sink;
    for _ in 0..2 {
        assert!(harness.outcome().await.result.is_err());
    }
}

/// A sink that takes one batch at a time, and a queue for two of the largest records.
fn small_queue(config: KafkaConfig) -> Harness {
    Harness::with_memory(config, 1)
}

#[tokio::test]
async fn a_full_queue_holds_submit_back_without_loss() {
    let (mock, config) = mock();
    let mut harness = small_queue(config);
    harness.sink.open().await.unwrap();
    mock.broker_round_trip_time(-1, Duration::from_millis(30)).unwrap();
    let large = "x".repeat(200_000);
    for n in 0..20 {
        harness.submit(one(TOPIC, &format!("k{n}"), &large)).await.unwrap();
    }
    let more: Vec<_> = (20..60).map(|n| (Some(format!("k{n}")), Some(large.clone()))).collect();
    harness.submit(batch(TOPIC, &more)).await.unwrap();
    harness.all_durable().await;
    harness.close().await.unwrap();
    let settings = [("fetch.message.max.bytes", "4000000")];
    let mut keys: Vec<_> = read_back(&mock.bootstrap_servers(), TOPIC, &settings)
        .into_iter()
        .filter_map(|seen| seen.key)
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 60);
}

#[tokio::test]
async fn an_abandoned_submit_fails_its_batch() {
    let (mock, config) = mock();
    let mut harness = small_queue(config);
    harness.sink.open().await.unwrap();
    mock.broker_down(-1).unwrap();
    let large = Some("x".repeat(800_000));
    let records: Vec<_> = (0..5).map(|n| (Some(format!("k{n}")), large.clone())).collect();
    // The first is handed over; the second has no room beside it.
    harness.submit(batch(TOPIC, &records)).await.unwrap();
    let submitting = harness.submit(batch(TOPIC, &records));
    assert!(tokio::time::timeout(Duration::from_millis(300), submitting).await.is_err());
    let error = harness.first_failure().await;
    assert_eq!(error.class(), Class::Transient);
    let started = Instant::now();
    let _failed = harness.sink.close(started + Duration::from_millis(100)).await;
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_record_beyond_the_limit_is_refused_before_it_is_sent() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    let huge = "x".repeat(common::MAX_RECORD + 2_000);
    harness.submit(one(TOPIC, "k", &huge)).await.unwrap();
    assert_eq!(harness.first_failure().await.code(), codes::RECORD_TOO_LARGE);
    let error = harness.submit(one(TOPIC, "k", "next")).await.unwrap_err();
    assert_eq!(error.code(), codes::RECORD_TOO_LARGE);
    harness.close().await.unwrap();
    assert_eq!(read_back(&mock.bootstrap_servers(), TOPIC, &[]), []);
}

#[tokio::test]
async fn a_truncate_reaches_every_partition() {
    let (mock, config) = mock();
    let mut harness = Harness::open(config).await;
    let mut truncate = batch(TOPIC, &[(None, Some("truncate".to_owned()))]);
    truncate.records[0].to_all_partitions = true;
    harness.submit(one(TOPIC, "k", "before")).await.unwrap();
    harness.submit(truncate).await.unwrap();
    harness.submit(one(TOPIC, "k", "after")).await.unwrap();
    harness.all_durable().await;
    let seen = read_back(&mock.bootstrap_servers(), TOPIC, &[]);
    // Nothing tells here whether the topic compacts.
    let mut truncated: Vec<_> = seen
        .iter()
        .filter(|seen| seen.value.as_deref() == Some("truncate"))
        .map(|seen| (seen.partition, seen.key.as_deref()))
        .collect();
    truncated.sort_unstable();
    assert_eq!(truncated, [0, 1, 2, 3].map(|partition| (partition, Some("{}"))));
    let home = seen.iter().find(|seen| seen.value.as_deref() == Some("before")).unwrap().partition;
    let order: Vec<_> = seen
        .iter()
        .filter(|seen| seen.partition == home)
        .filter_map(|seen| seen.value.as_deref())
        .collect();
    assert_eq!(order, ["before", "truncate", "after"]);
}

#[tokio::test]
async fn a_batch_that_names_a_missing_topic_entry_fails() {
    let (_mock, config) = mock();
    let mut harness = Harness::open(config).await;
    let mut broken = one(TOPIC, "k", "v");
    broken.topics.clear();
    harness.submit(broken).await.unwrap();
    let error = harness.first_failure().await;
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.message().contains("its batch lacks"));
    assert_eq!(harness.submit(one(TOPIC, "k", "v")).await.unwrap_err().class(), Class::Fatal);
}

#[tokio::test]
async fn topics_may_be_named_by_any_number_of_batches() {
    let (mock, config) = mock();
    mock.create_topic("shop.items", 2, 1).unwrap();
    let mut harness = Harness::open(config).await;
    for n in 0..20 {
        let mut mixed = one(TOPIC, "k", &n.to_string());
        mixed.topics.push(Arc::from("shop.items"));
        let mut second = mixed.records[0].clone();
        second.topic = 1;
        mixed.records.push(second);
        harness.submit(mixed).await.unwrap();
    }
    harness.all_durable().await;
    let brokers = mock.bootstrap_servers();
    for topic in [TOPIC, "shop.items"] {
        let values: Vec<_> =
            read_back(&brokers, topic, &[]).into_iter().filter_map(|seen| seen.value).collect();
        let expected: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        assert_eq!(values, expected, "{topic}");
    }
}
