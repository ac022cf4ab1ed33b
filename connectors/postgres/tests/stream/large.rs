//! Transactions far larger than what a source may hold, and very many of them at once: what is held
//! stays within its limits.

use std::time::Duration;

use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Host, Setup};
use crate::streamed::{
    SMALL, run, spooled, streaming, streaming_versions, until_streamed, wait_for,
};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const ROWS: i32 = 300_000;
/// Characters of a row's text.
const WIDTH: i32 = 100;
/// What a channel of the host holds.
const CHANNEL: usize = 2;

/// Bytes that rows take where a source sets them aside: head, message with two columns, their texts.
fn set_aside(ids: impl Iterator<Item = i32>, width: i32) -> u64 {
    let row = |id: i32| 17 + 8 + 5 + id.to_string().len() + 5 + usize::try_from(width).unwrap();
    ids.map(|id| row(id) as u64).sum()
}

/// What the server may keep of the transactions that it streams: its `logical_decoding_work_mem`.
const AT_THE_SERVER: u64 = 64 << 10;

/// The ids of the next rows, of which only these are kept.
async fn next_ids(host: &mut Host) -> Vec<i32> {
    host.batch().await;
    let events = std::mem::take(&mut host.events);
    let id = |text: &str| text.strip_prefix("id=")?.split(',').next()?.parse().ok();
    events.iter().map(|event| id(event.after.as_deref().unwrap()).unwrap()).collect()
}

/// Waits so long that a source would take in more than it may, and sees that it does not.
async fn hold_back(host: &mut Host) {
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(host.received.len() <= CHANNEL);
    }
    assert_eq!(host.received.len(), CHANNEL, "the source has not come to its limit");
}

/// Takes the whole transaction, and holds back again and again meanwhile.
async fn take_slowly(host: &mut Host, version: &str) {
    let limits = rowtide_sdk::Limits::default();
    let mut next = 1;
    let mut batches = 0;
    while next <= ROWS {
        let ids = next_ids(host).await;
        let after = next + i32::try_from(ids.len()).unwrap();
        assert!(ids.into_iter().eq(next..after), "{version}: other rows than from {next} on");
        next = after;
        batches += 1;
        if batches % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (entries, bytes) = host.largest;
    assert!(entries <= limits.batch_rows, "{version}: {entries} entries in a batch");
    assert!(bytes <= limits.batch_bytes, "{version}: {bytes} bytes in a batch");
    host.during(Duration::from_millis(100)).await;
    assert!(host.events.is_empty(), "{version}: {:?}", host.events);
}

async fn insert(sql: &Client, from: i32, to: i32) {
    let rows = format!("SELECT g, repeat('x', {WIDTH}) FROM generate_series({from}, {to}) g");
    run(sql, &format!("INSERT INTO t {rows}")).await;
}

/// Sent after its commit: while the host holds back, what waits is a channel of batches of a limited
/// size, and the server keeps the rest.
#[tokio::test]
async fn h12_a_transaction_larger_than_memory_waits_at_the_server() {
    for version in postgres_versions() {
        let settings = ["max_wal_size=2GB"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        if !["14", "15", "16"].contains(&version.as_str()) {
            // It is for the application's sessions.
            run(&sql, "ALTER DATABASE shop SET transaction_timeout = '500ms'").await;
        }
        let setup = Setup::new(&server, "shop").set("streaming", json!("off"));
        let mut host = setup.run();
        host.ready().await;
        insert(&sql, 1, ROWS).await;
        hold_back(&mut host).await;
        take_slowly(&mut host, &version).await;
        assert_eq!(spooled(&setup.scratch), (0, 0), "{version}");
        host.stop().await;
    }
}

/// Sent while it runs: what memory has no room for is on disk, and after the commit it comes from there
/// as slowly as it is taken.
#[tokio::test]
async fn h12_a_transaction_larger_than_memory_is_set_aside() {
    for version in streaming_versions() {
        let settings = [SMALL, "max_wal_size=2GB"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let mut setup = streaming(&server);
        setup.limits.spool_memory = 1 << 20;
        let mut host = setup.run();
        host.ready().await;
        run(&sql, "BEGIN").await;
        let in_memory = setup.limits.spool_memory as u64 + AT_THE_SERVER;
        // At every moment, however much came before.
        for last in (ROWS / 6..=ROWS).step_by(usize::try_from(ROWS / 6).unwrap()) {
            insert(&sql, last - ROWS / 6 + 1, last).await;
            let all = set_aside(1..=last, WIDTH);
            let on_disk = || spooled(&setup.scratch).1;
            wait_for(&mut host, "what is above the limit", || on_disk() + in_memory > all).await;
            assert!(on_disk() <= all, "{version}: more than there was");
        }
        assert_eq!(spooled(&setup.scratch).0, 1);
        host.during(Duration::from_millis(50)).await;
        assert!(host.events.is_empty(), "{version}: {:?}", host.events.first());
        run(&sql, "COMMIT").await;
        hold_back(&mut host).await;
        take_slowly(&mut host, &version).await;
        until_streamed(&sql, 1).await;
        assert_eq!(spooled(&setup.scratch), (0, 0), "{version}");
        host.stop().await;
    }
}

const SESSIONS: i32 = 200;
const ROUNDS: i32 = 3;
/// Rows of a session in a round; those of all rounds are more than the server keeps.
const ROUND: i32 = 50;
const ROUND_WIDTH: i32 = 500;

/// The ids of a session's rows of a round.
fn of_round(session: i32, round: i32) -> std::ops::Range<i32> {
    let first = session * 1000 + round * ROUND;
    first..first + ROUND
}

fn rows(ids: std::ops::Range<i32>) -> String {
    let (first, last) = (ids.start, ids.end - 1);
    let rows =
        format!("SELECT g, repeat('x', {ROUND_WIDTH}) FROM generate_series({first}, {last}) g");
    format!("INSERT INTO t {rows};")
}

/// Very many transactions, all streamed and all open at once, ended in another order than they began,
/// every third rolled back: what is set aside stays within its memory, what was committed comes once
/// and in the order of the commits, and nothing is left.
#[tokio::test]
async fn h12_h39_two_hundred_transactions_at_once() {
    for version in streaming_versions() {
        let settings = [SMALL, "max_connections=230", "max_wal_size=2GB"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let plain = database(&server, "shop", TABLE).await;
        let mut setup = streaming(&server);
        setup.limits.spool_memory = 1 << 20;
        let mut host = setup.run();
        host.ready().await;
        let mut sessions = Vec::new();
        for _ in 0..SESSIONS {
            let sql = server.client("shop").await;
            run(&sql, "BEGIN").await;
            sessions.push(sql);
        }
        for round in 0..ROUNDS {
            for (session, sql) in (0..).zip(&sessions) {
                run(sql, &rows(of_round(session, round))).await;
            }
        }
        let all_rows = |session: i32| (0..ROUNDS).flat_map(move |round| of_round(session, round));
        let all: u64 = (0..SESSIONS).map(|session| set_aside(all_rows(session), ROUND_WIDTH)).sum();
        let in_memory = setup.limits.spool_memory as u64 + AT_THE_SERVER;
        assert!(all > 10 * in_memory);
        wait_for(&mut host, "what is above the limit", || {
            spooled(&setup.scratch).1 + in_memory > all
        })
        .await;
        wait_for(&mut host, "a file of each", || spooled(&setup.scratch).0 == sessions.len()).await;
        host.during(Duration::from_millis(50)).await;
        assert!(host.events.is_empty(), "{version}: {:?}", host.events.first());

        // A savepoint of each takes rows back, and others come after it.
        for (session, sql) in (0..).zip(&sessions) {
            let (lost, last) = (of_round(session, 10), of_round(session, ROUNDS));
            run(sql, &format!("SAVEPOINT s; {} ROLLBACK TO s; {}", rows(lost), rows(last))).await;
        }
        let mut expected = Vec::new();
        for number in 0..SESSIONS {
            let session = number * 77 % SESSIONS;
            let is_kept = session % 3 != 0;
            let end = if is_kept { "COMMIT" } else { "ROLLBACK" };
            run(&sessions[usize::try_from(session).unwrap()], end).await;
            if is_kept {
                expected.extend(all_rows(session).chain(of_round(session, ROUNDS)));
            }
        }
        run(&plain, "INSERT INTO t VALUES (-1)").await;
        expected.push(-1);
        let (mut seen, mut indexes) = (Vec::new(), Vec::new());
        while seen.len() < expected.len() {
            host.batch().await;
            indexes.extend(host.events.iter().map(|event| event.id.clone()));
            seen.extend(crate::streamed::ids(&host.events));
            host.events.clear();
        }
        assert!(seen == expected, "{version}: not once each, in the order of the commits");
        let of_one = usize::try_from((ROUNDS + 1) * ROUND).unwrap();
        for (at, id) in indexes.iter().enumerate() {
            assert!(id.ends_with(&format!(":{}", at % of_one)), "{version}: {id} at {at}");
        }
        let (entries, bytes) = host.largest;
        let limits = &setup.limits;
        assert!(entries <= limits.batch_rows && bytes <= limits.batch_bytes, "{entries} {bytes}");
        until_streamed(&plain, i64::from(SESSIONS)).await;
        assert_eq!(spooled(&setup.scratch), (0, 0), "{version}");
        host.during(Duration::from_millis(200)).await;
        assert!(host.events.is_empty(), "{version}: {:?}", host.events);
        host.stop().await;
    }
}
