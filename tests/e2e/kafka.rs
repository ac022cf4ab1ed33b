//! PostgreSQL to a real Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rowtide_testkit::{Kafka, Postgres};
use serde_json::Value;

use crate::host::{Options, Setup, sql};

/// One record as a consumer sees it.
struct Seen {
    partition: i32,
    key: Option<String>,
    value: Option<Value>,
    headers: BTreeMap<String, String>,
}

fn consume(brokers: &str, topic: &str, count: usize) -> Vec<Seen> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "e2e")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let mut seen = Vec::new();
    let since = Instant::now();
    while seen.len() < count && since.elapsed() < Duration::from_secs(60) {
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let Ok(message) = message else { continue };
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
        let headers = message.headers().map(|headers| {
            headers.iter().map(|h| (h.key.to_owned(), text(h.value).unwrap_or_default())).collect()
        });
        seen.push(Seen {
            partition: message.partition(),
            key: text(message.key()),
            value: text(message.payload()).map(|value| serde_json::from_str(&value).unwrap()),
            headers: headers.unwrap_or_default(),
        });
    }
    assert_eq!(seen.len(), count);
    seen
}

fn sink(brokers: &str, more: &str) -> String {
    format!("{{ type: kafka, brokers: \"{brokers}\"{more} }}")
}

#[test]
fn changes_arrive_keyed_in_order_with_tombstones_and_headers() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let setup = Setup::new();
    let sink = sink(kafka.brokers(), ", headers: all, tombstones: always");
    setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
    let mut host = setup.first_start();
    sql(
        &server,
        "INSERT INTO t SELECT n, 'v' FROM generate_series(1, 50) n;
         UPDATE t SET v = 'w';
         DELETE FROM t WHERE id = 7;
         UPDATE t SET id = 1000 WHERE id = 8;",
    );
    // 50 creates, 50 updates, delete + tombstone, delete + tombstone + create.
    let seen = consume(kafka.brokers(), "shop.public.t", 105);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let of_key = |key: &str| -> Vec<&Seen> {
        seen.iter().filter(|record| record.key.as_deref() == Some(key)).collect()
    };
    let ops = |key: &str| -> Vec<&str> {
        of_key(key)
            .iter()
            .map(|r| r.value.as_ref().map_or("tombstone", |v| v["op"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(ops("{\"id\":1}"), ["c", "u"]);
    assert_eq!(ops("{\"id\":7}"), ["c", "u", "d", "tombstone"]);
    assert_eq!(ops("{\"id\":8}"), ["c", "u", "d", "tombstone"]);
    assert_eq!(ops("{\"id\":1000}"), ["c"]);
    let first = of_key("{\"id\":1}")[0];
    let event = first.value.as_ref().unwrap();
    assert_eq!(first.headers["id"], event["id"].as_str().unwrap());
    assert_eq!(first.headers["op"], "c");
    assert!(first.headers.values().any(|value| value == "application/json"));
    for key in ["{\"id\":1}", "{\"id\":7}"] {
        let partitions: Vec<i32> = of_key(key).iter().map(|record| record.partition).collect();
        assert!(partitions.windows(2).all(|pair| pair[0] == pair[1]), "one key, one partition");
    }
}

/// Told in order in one partition that compacts, keyed so that every version stays.
#[test]
fn schema_changes_have_a_topic_of_their_own() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
    let setup = Setup::new();
    let sink = sink(kafka.brokers(), ", headers: all, topics: { partitions: 3 }");
    setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
    let mut host = setup.first_start();
    crate::host::sql_each(
        &server,
        "INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); ALTER TABLE t ADD a int;
         INSERT INTO t VALUES (2, 2); ALTER TABLE u DROP id; TRUNCATE u",
    );
    let seen = consume(kafka.brokers(), "shop.schema_changes", 4);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let keys: Vec<&str> = seen.iter().map(|record| record.key.as_deref().unwrap()).collect();
    let key = |table, version| {
        format!("{{\"subject\":\"shop.public.{table}\",\"version\":\"{version}\"}}")
    };
    assert_eq!(keys, [key("t", "1.0"), key("u", "1.0"), key("t", "1.1"), key("u", "2.0")]);
    assert!(seen.iter().all(|record| record.partition == 0));
    for record in &seen {
        let change = record.value.as_ref().unwrap();
        let key: Value = serde_json::from_str(record.key.as_ref().unwrap()).unwrap();
        assert_eq!(change["schema"], key);
        assert_eq!(record.headers["id"], change["id"].as_str().unwrap());
        assert_eq!(record.headers["op"], "schema");
    }
    let (status, text) = {
        let output = setup.output(&["check"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(status, Some(0), "{text}");
    assert!(!text.contains("deletes old records"), "{text}");
}

/// A topic that compacts takes no record without a key: there a truncate has the key of no row.
#[test]
fn a_truncate_reaches_every_partition_of_a_topic_that_compacts() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let setup = Setup::new();
    let write = |policy: &str| {
        let topics =
            format!(", topics: {{ partitions: 3, config: {{ cleanup.policy: {policy} }} }}");
        let sink = sink(kafka.brokers(), &topics);
        setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
    };
    write("compact");
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1), (2)");
    sql(&server, "TRUNCATE t");
    sql(&server, "INSERT INTO t VALUES (1)");
    let is_truncate = |seen: &&Seen| seen.value.as_ref().is_some_and(|value| value["op"] == "t");
    let seen = consume(kafka.brokers(), "shop.public.t", 6);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let truncates: Vec<&Seen> = seen.iter().filter(is_truncate).collect();
    let partitions: BTreeSet<i32> = truncates.iter().map(|seen| seen.partition).collect();
    assert_eq!((truncates.len(), partitions.len()), (3, 3));
    for truncate in &truncates {
        assert_eq!(truncate.key.as_deref(), Some("{}"));
        let event = truncate.value.as_ref().unwrap();
        assert!(event["key"].is_null(), "{event}");
        assert_eq!(event["id"], truncates[0].value.as_ref().unwrap()["id"]);
    }
    let row: Vec<&Seen> =
        seen.iter().filter(|seen| seen.key.as_deref() == Some("{\"id\":1}")).collect();
    assert_eq!(row.len(), 2);
    let home: Vec<bool> = seen
        .iter()
        .filter(|seen| seen.partition == row[0].partition && seen.key != Some("{\"id\":2}".into()))
        .map(|seen| is_truncate(&seen))
        .collect();
    assert_eq!(home, [false, true, false], "between the rows before it and those after");

    // The topics that are there stay as they are; the new one deletes, and its truncates have no key.
    sql(&server, "CREATE TABLE u (id int PRIMARY KEY)");
    write("delete");
    let mut host = setup.start();
    host.until("the new table is captured", || {
        crate::host::value(&server, "SELECT count(*) FROM pg_publication_tables") == "2"
    });
    sql(&server, "INSERT INTO u VALUES (1); TRUNCATE t, u");
    let plain = consume(kafka.brokers(), "shop.public.u", 4);
    let keyed = consume(kafka.brokers(), "shop.public.t", 9);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let keys = |seen: &[Seen]| -> BTreeSet<Option<String>> {
        seen.iter().filter(is_truncate).map(|seen| seen.key.clone()).collect()
    };
    assert_eq!(keys(&plain), BTreeSet::from([None]));
    assert_eq!(keys(&keyed), BTreeSet::from([Some("{}".to_owned())]));
}

#[test]
fn a_broker_outage_loses_and_reorders_nothing() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let Some(mut kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY, v int)");
    let setup = Setup::new();
    let brokers = kafka.brokers().to_owned();
    setup.write(&Options {
        url: server.url(),
        source: "",
        sink: sink(&brokers, ""),
        connector: "",
    });
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1, 0)");
    assert_eq!(consume(&brokers, "shop.public.t", 1).len(), 1);
    kafka.halt(false);
    for v in 1..=20 {
        sql(&server, &format!("UPDATE t SET v = {v}"));
    }
    std::thread::sleep(Duration::from_secs(3));
    kafka.resume();
    let seen = consume(&brokers, "shop.public.t", 21);
    let versions: Vec<i64> = seen
        .iter()
        .map(|record| record.value.as_ref().unwrap()["after"]["v"].as_i64().unwrap())
        .collect();
    assert!(versions.iter().copied().eq(0..=20), "{versions:?}");
    assert_eq!(host.stop(), Some(0), "{}", host.log());
}

/// A batch that is given up at the end of the run is no answer of the sink.
#[test]
fn a_stop_during_an_outage_tells_of_no_answer() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(mut kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let setup = Setup::new();
    let source = "      heartbeat: { interval: 1s }\n";
    let sink = sink(kafka.brokers(), "");
    setup.write(&Options { url: server.url(), source, sink, connector: "" });
    let config = setup.path("rowtide.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}shutdown_timeout: 2s\n")).unwrap();
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1)");
    assert_eq!(consume(kafka.brokers(), "shop.public.t", 1).len(), 1);
    kafka.halt(false);
    // More than may be in flight, so that a batch waits for room when the stop comes.
    sql(&server, "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(2, 8000) n");
    host.until_logged("RT4011");
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    assert!(host.log().contains("stopping before everything"), "{}", host.log());
    assert!(!host.log().contains("answers again"), "{}", host.log());
}

/// What is in flight is delivered, and a batch that the sink has no room for yet is none of it.
#[test]
fn a_stop_in_a_large_transaction_repeats_nothing() {
    const ROWS: usize = 200_000;
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let setup = Setup::new();
    let sink = sink(kafka.brokers(), "");
    setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
    let mut host = setup.first_start();
    let arrived = || end_of(kafka.brokers(), "shop.public.t");
    sql(&server, "INSERT INTO t VALUES (0)");
    assert_eq!(consume(kafka.brokers(), "shop.public.t", 1).len(), 1);
    sql(&server, &format!("INSERT INTO t SELECT n, 'x' FROM generate_series(1, {ROWS}) n"));
    let mut stops = 0;
    loop {
        let before = arrived();
        host.until("more is there", || arrived() > before || before > ROWS as i64);
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        assert!(!host.log().contains("stopping before everything"), "{}", host.log());
        if arrived() > ROWS as i64 {
            break;
        }
        stops += 1;
        host = setup.start();
    }
    assert_eq!(arrived(), 1 + ROWS as i64, "after {stops} stops in the transaction");
    assert!(stops > 0, "the transaction was too small");
}

/// Neither the position nor the schema of a new version can be written: both are waited for in place,
/// and a run that begins meanwhile sends nothing.
#[test]
fn a_full_disk_below_position_and_schemas_repeats_nothing() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
    let setup = Setup::new();
    let schemas = setup.path("schemas");
    let connector = format!("    schema_changes: {{ dir: {} }}\n", schemas.display());
    let sink = sink(kafka.brokers(), "");
    setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO t VALUES (1)");
    assert_eq!(consume(kafka.brokers(), "shop.public.t", 1).len(), 1);
    std::fs::create_dir_all(schemas.join("shop.public.u")).unwrap();
    let full =
        [setup.path("state/shop.json.tmp"), schemas.join("shop.public.u/1.0.schema.json.tmp")];
    let fill = |path| std::os::unix::fs::symlink("/dev/full", path).unwrap();
    full.iter().for_each(fill);
    sql(&server, "INSERT INTO t SELECT generate_series(2, 6)");
    host.until_logged("RT4001");
    sql(&server, "INSERT INTO u VALUES (1)");
    host.until_logged("RT5031");
    std::thread::sleep(Duration::from_secs(4));
    full.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    assert_eq!(consume(kafka.brokers(), "shop.public.u", 1).len(), 1);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    assert!(!host.log().contains("restarts from"), "{}", host.log());
    assert_eq!(end_of(kafka.brokers(), "shop.public.t"), 6);

    fill(&full[0]);
    sql(&server, "INSERT INTO t VALUES (7)");
    let mut host = setup.start();
    host.until("several runs began", || host_restarts(&setup) >= 3);
    assert_eq!(end_of(kafka.brokers(), "shop.public.t"), 6, "nothing is sent");
    std::fs::remove_file(&full[0]).unwrap();
    assert_eq!(consume(kafka.brokers(), "shop.public.t", 7).len(), 7);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    assert_eq!(end_of(kafka.brokers(), "shop.public.t"), 7);
}

/// How often the host has begun anew.
fn host_restarts(setup: &Setup) -> usize {
    std::fs::read_to_string(setup.path("log")).unwrap().matches("restarts from").count()
}

/// The place behind the last record of a topic with one partition.
fn end_of(brokers: &str, topic: &str) -> i64 {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    consumer.fetch_watermarks(topic, 0, Duration::from_secs(10)).unwrap().1
}

#[test]
fn an_unreachable_broker_is_named_and_retried() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let setup = Setup::new();
    let sink = sink("127.0.0.1:1", "");
    setup.write(&Options { url: server.url(), source: "", sink, connector: "" });
    let mut host = setup.start();
    host.until_logged("127.0.0.1:1");
    host.until_logged("no position is saved yet");
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let slots = crate::host::value(&server, "SELECT count(*) FROM pg_replication_slots");
    assert_eq!(slots, "0", "nothing is made on the server before the sink is open");
}
