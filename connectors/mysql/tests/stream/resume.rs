//! Where a source goes on after a stop, a kill, a crash.

use std::collections::BTreeMap;
use std::time::Duration;

use rowtide_mysql::{MyPosition, position_at, position_at_end};
use rowtide_sdk::Class;
use rowtide_testkit::{Flavor, Mysql};
use serde_json::json;

use rowtide_testkit::host::Event;

use crate::host::{Host, Place as _, Setup, server, server_without_gtids, spooled};

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id varchar(12) PRIMARY KEY, v varchar(40)); CREATE TABLE o (id varchar(12) PRIMARY KEY);";

fn id(event: &Event) -> u64 {
    let image = event.after.as_ref().unwrap();
    let rest = image.split_once("id=").unwrap().1;
    rest.split(',').next().unwrap().parse().unwrap()
}

/// With and without GTIDs.
fn servers(flavor: Flavor) -> Vec<Mysql> {
    let mut all: Vec<Mysql> = server(flavor, &[]).into_iter().collect();
    if flavor == Flavor::Mysql {
        all.extend(server_without_gtids(flavor));
    }
    all
}

/// One INSERT of the ids.
fn insert(table: &str, ids: std::ops::RangeInclusive<u64>) -> String {
    let values: Vec<String> = ids
        .map(|id| if table == "t" { format!("({id}, 'v{id}')") } else { format!("({id})") })
        .collect();
    format!("INSERT INTO shop.{table} VALUES {};", values.join(","))
}

#[tokio::test]
async fn m13_a_transaction_goes_on_where_it_was_cut() {
    for flavor in Flavor::ALL {
        for server in servers(flavor) {
            server.sql(TABLES);
            let setup = Setup::new(&server).rows(70);
            let mut host = setup.ready().await;
            let mut sql = "BEGIN;".to_owned();
            for part in 0..10 {
                sql.push_str(&insert("t", part * 100 + 1..=part * 100 + 100));
                sql.push_str(&insert("o", part * 50 + 1..=part * 50 + 50));
            }
            sql.push_str("COMMIT;");
            sql.push_str(&insert("t", 1001..=1010));
            server.sql(&sql);
            let mut seen = Vec::new();
            while seen.len() < 1510 {
                host.batch().await;
                seen.append(&mut host.events);
                let position = host.kill().await;
                host = setup.clone().from(position).run();
            }
            host.during(Duration::from_millis(500)).await;
            assert_eq!(host.events, []);
            let of = |name: &str| -> Vec<u64> {
                seen.iter().filter(|event| event.table == name).map(id).collect()
            };
            assert_eq!(of("shop.t"), Vec::from_iter(1..=1010), "{flavor:?}");
            assert_eq!(of("shop.o"), Vec::from_iter(1..=500), "{flavor:?}");
            for (at, event) in seen[..1500].iter().enumerate() {
                assert!(event.id.ends_with(&format!(":{at}")), "{} at {at}", event.id);
            }
            assert!(host.place().in_tx.is_none());
            host.stop().await;
        }
    }
}

/// Its changes are behind the position, and its end is not: both are read again.
#[tokio::test]
async fn m31_an_xa_transaction_goes_on_where_it_was_cut() {
    for flavor in Flavor::ALL {
        for server in servers(flavor) {
            server.sql(TABLES);
            let setup = Setup::new(&server).rows(70);
            let mut host = setup.ready().await;
            let mut sql = "XA START 'a';".to_owned();
            for part in 0..5 {
                sql.push_str(&insert("t", part * 100 + 1..=part * 100 + 100));
            }
            sql.push_str("XA END 'a'; XA PREPARE 'a';");
            server.sql(&sql);
            server.sql(&insert("t", 501..=510));
            server.sql("XA COMMIT 'a'");
            server.sql(&insert("t", 511..=520));
            let mut seen = Vec::new();
            while seen.len() < 520 {
                host.batch().await;
                seen.append(&mut host.events);
                let position = host.kill().await;
                host = setup.clone().from(position).run();
            }
            host.during(Duration::from_millis(500)).await;
            assert_eq!(host.events, []);
            let expected: Vec<u64> = (501..=510).chain(1..=500).chain(511..=520).collect();
            assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), expected, "{flavor:?}");
            assert!(host.place().in_tx.is_none() && host.place().pending.is_empty());
            host.stop().await;
        }
    }
}

/// With other tables the count inside a transaction means something else: it is repeated whole.
#[tokio::test]
async fn m13_a_transaction_is_repeated_where_the_tables_changed_meanwhile() {
    for flavor in Flavor::ALL {
        for server in servers(flavor) {
            server.sql(TABLES);
            let both = Setup::new(&server).rows(70);
            let only_t = both.clone().set("tables", json!({ "include": ["shop.t"] }));
            let mut host = both.ready().await;
            let sql = format!(
                "BEGIN; {} {} {} COMMIT",
                insert("o", 1..=200),
                insert("t", 1..=300),
                insert("o", 201..=300)
            );
            server.sql(&sql);
            host.batch().await;
            host.batch().await;
            let position = host.kill().await;
            assert!(MyPosition::parse(position.as_ref().unwrap()).unwrap().in_tx.is_some());
            let mut host = only_t.from(position).run();
            host.until(300).await;
            assert_eq!(host.events.iter().map(id).collect::<Vec<_>>(), Vec::from_iter(1..=300));
            let kept = &host.events[0].id;
            assert!(kept.ends_with(":0"), "{kept}");
            host.stop().await;
        }
    }
}

#[tokio::test]
async fn m17_sets_of_gtids_with_gaps_and_tags() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server).rows(1);
    let mut host = setup.ready().await;
    let other = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let one = |gtid: &str, id: u64| {
        format!("SET gtid_next='{gtid}'; INSERT INTO shop.t VALUES ({id}, '');")
    };
    server.sql(
        &[
            one(&format!("{other}:5"), 1),
            one(&format!("{other}:9"), 2),
            one("AUTOMATIC:blue", 3),
            one(&format!("{other}:green:7"), 4),
            one("AUTOMATIC", 5),
            one(&format!("{other}:1"), 6),
            one("AUTOMATIC:blue", 7),
        ]
        .concat(),
    );
    let mut seen = Vec::new();
    while seen.len() < 7 {
        host.batch().await;
        seen.append(&mut host.events);
        let position = host.kill().await;
        host = setup.clone().from(position).run();
    }
    assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), Vec::from_iter(1..=7));
    server.sql("INSERT INTO shop.t VALUES (8, '')");
    host.until(1).await;
    while host.place().in_tx.is_some() {
        host.batch().await;
    }
    let executed = server.sql("SELECT @@gtid_executed").replace(['\n', ' '], "");
    assert_eq!(host.place().gtids.unwrap().replace(' ', ""), executed);
    assert_eq!(seen[0].id, format!("{other}:5:0"));
    assert_eq!(seen[3].id, format!("{other}:green:7:0"));
    host.stop().await;
}

#[tokio::test]
async fn m16_m18_domains_go_on_each_by_itself() {
    let Some(server) = server(Flavor::Mariadb, &[]) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server).rows(1);
    let mut host = setup.ready().await;
    let mut sql = String::new();
    for id in 1..=12 {
        let (domain, writer) = (id % 3, id % 2 + 7);
        sql.push_str(&format!(
            "SET gtid_domain_id={domain}, server_id={writer}; INSERT INTO shop.t VALUES ({id}, '');"
        ));
        if id == 6 {
            sql.push_str("FLUSH BINARY LOGS;");
        }
    }
    server.sql(&sql);
    let mut seen = Vec::new();
    while seen.len() < 12 {
        host.batch().await;
        seen.append(&mut host.events);
        let position = host.kill().await;
        host = setup.clone().from(position).run();
    }
    assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), Vec::from_iter(1..=12));
    server.sql("INSERT INTO shop.t VALUES (13, '')");
    host.until(1).await;
    while host.place().in_tx.is_some() {
        host.batch().await;
    }
    let parts = |text: &str| -> Vec<String> {
        let mut parts: Vec<String> = text.trim().split(',').map(str::to_owned).collect();
        parts.sort();
        parts
    };
    let expected = server.sql("SELECT @@gtid_binlog_pos");
    assert_eq!(parts(&host.place().gtids.unwrap()), parts(&expected));
    host.stop().await;
}

/// Without `gtid_strict_mode`, as by default: a write on a replica between those that it replicates, or two
/// servers that write to one domain. The order of the log is what counts.
#[tokio::test]
async fn m16_numbers_that_fall_in_a_domain_are_not_taken_for_repeated() {
    let Some(server) = server(Flavor::Mariadb, &[]) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server).rows(1);
    let mut host = setup.ready().await;
    let one = |writer: u32, number: u64, what: &str| {
        server.sql(&format!(
            "USE shop; SET gtid_domain_id=5, server_id={writer}, gtid_seq_no={number}; {what}"
        ));
    };
    let row = |id: u64| format!("INSERT INTO t VALUES ({id}, '')");
    let written = [(99, 500), (99, 300), (22, 200), (22, 500), (99, 300), (22, 501)];
    let mut seen = Vec::new();
    for (id, (writer, number)) in (1..).zip(written) {
        one(writer, number, &row(id));
        // Now and then several come at once.
        if id % 2 == 0 {
            continue;
        }
        while seen.len() < usize::try_from(id).unwrap() {
            host.batch().await;
            seen.append(&mut host.events);
            let position = host.kill().await;
            host = setup.clone().from(position).run();
        }
    }
    host.until(1).await;
    seen.append(&mut host.events);
    assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), Vec::from_iter(1..=6));
    while host.place().in_tx.is_some() {
        host.batch().await;
    }
    assert!(host.place().gtids.unwrap().contains("5-22-501"));
    // What a prepared transaction makes the server send again is known by where it ends.
    one(22, 900, "XA START 'a'; INSERT INTO t VALUES (7, ''); XA END 'a'; XA PREPARE 'a'");
    one(99, 400, &row(8));
    host.until(1).await;
    while host.place().in_tx.is_some() || host.place().pending.is_empty() {
        host.batch().await;
    }
    let position = host.kill().await;
    one(99, 350, &row(9));
    let mut host = setup.clone().from(position).run();
    host.until(1).await;
    one(22, 351, "XA COMMIT 'a'");
    host.until(2).await;
    assert_eq!(host.events.iter().map(id).collect::<Vec<_>>(), [9, 7]);
    while !host.place().pending.is_empty() || host.place().in_tx.is_some() {
        host.batch().await;
    }
    host.stop().await;
}

/// Of each domain the server sends what comes after its GTID, which may be anywhere in the log.
#[tokio::test]
async fn m16_a_stream_by_gtids_has_no_place_until_a_file_begins_behind_them() {
    let Some(server) = server(Flavor::Mariadb, &[]) else { return };
    server.sql(TABLES);
    for id in 1..=10 {
        server.sql(&format!("SET gtid_domain_id={}; {}", id % 2, insert("t", id..=id)));
    }
    let setup = Setup::new(&server).rows(1);
    let all = server.sql("SELECT @@gtid_binlog_pos");
    assert_eq!(all.trim().split(',').count(), 2, "{all}");
    let of = |domain: &str, until: usize| {
        let parts = all.trim().split(',').find(|gtid| gtid.starts_with(domain)).unwrap();
        let (head, number) = parts.rsplit_once('-').unwrap();
        format!("{head}-{}", number.parse::<usize>().unwrap() - until)
    };
    // The odd ones are domain 1's, of which the first was handed over; all but one of the others were.
    let gtids = format!("{},{}", of("0-", 1), of("1-", 4));
    let position = position_at(&setup.source(), &gtids).await.unwrap();
    let mut host = setup.clone().from(Some(position)).run();
    let mut seen = Vec::new();
    while seen.len() < 5 {
        host.batch().await;
        seen.append(&mut host.events);
        assert!(host.place().by_gtids);
        let position = host.kill().await;
        host = setup.clone().from(position).run();
    }
    assert_eq!(seen.iter().map(id).collect::<Vec<_>>(), [3, 5, 7, 9, 10]);
    server.sql("FLUSH BINARY LOGS");
    server.sql(&insert("t", 11..=11));
    host.until(1).await;
    while host.place().in_tx.is_some() {
        host.batch().await;
    }
    assert!(!host.place().by_gtids, "{:?}", host.place());
    let position = host.kill().await;
    let mut host = setup.from(position).run();
    server.sql(&insert("t", 12..=12));
    host.until(1).await;
    assert_eq!(id(&host.events[0]), 12);
    host.stop().await;
}

#[tokio::test]
async fn m70_a_killed_stream_and_a_server_that_restarts_repeat_nothing() {
    for flavor in Flavor::ALL {
        for mut server in servers(flavor) {
            server.sql(TABLES);
            let setup = Setup::new(&server);
            let mut host = setup.ready().await;
            server.sql(&insert("t", 1..=3));
            host.until(3).await;
            let dumps = server.sql(
                "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'",
            );
            for id in dumps.lines() {
                server.sql(&format!("KILL {id}"));
            }
            let error = host.error().await;
            assert_eq!(error.class(), Class::Transient, "{error}");
            server.sql(&insert("t", 4..=4));
            let mut host = setup.clone().from(host.position.clone()).run();
            host.until(1).await;
            assert_eq!(id(&host.events[0]), 4);
            for crash in [false, true] {
                server.halt(crash);
                let error = host.error().await;
                assert_eq!(error.class(), Class::Transient, "{error}");
                server.resume();
                let next = if crash { 6 } else { 5 };
                server.sql(&insert("t", next..=next));
                host = setup.clone().from(host.position.clone()).run();
                host.until(1).await;
                assert_eq!(id(&host.events[0]), next, "{flavor:?}");
            }
            host.stop().await;
        }
    }
}

/// The server dies while it writes transactions, and the source goes on with what it has then.
#[tokio::test]
async fn m23_a_server_that_dies_in_a_transaction_tears_none() {
    for flavor in Flavor::ALL {
        let Some(mut server) =
            server(flavor, &["sync_binlog=1", "innodb_flush_log_at_trx_commit=1"])
        else {
            return;
        };
        server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id varchar(12) PRIMARY KEY, v varchar(2000), tx int)");
        let setup = Setup::new(&server).rows(200);
        let mut host = setup.ready().await;
        let mut kept: BTreeMap<u64, String> = BTreeMap::new();
        let mut next = 1;
        for round in 0..3_u64 {
            let socket = server.socket().to_owned();
            let (url, from) = (server.url().to_owned(), next);
            let _ = socket;
            next += 100_000;
            let writer = tokio::spawn(async move {
                let Ok(mut conn) = mysql_async::Conn::from_url(url).await else { return };
                use mysql_async::prelude::Queryable as _;
                for at in 0..200 {
                    let first = from + at * 400;
                    let values: Vec<String> = (first..first + 400)
                        .map(|id| format!("({id}, REPEAT('x', 1000), {first})"))
                        .collect();
                    let sql = format!("INSERT INTO shop.t VALUES {}", values.join(","));
                    if conn.query_drop(sql).await.is_err() {
                        return;
                    }
                }
            });
            host.during(Duration::from_millis(700 + round * 313)).await;
            server.halt(true);
            let error = host.error().await;
            assert_eq!(error.class(), Class::Transient, "{error}");
            kept.extend(host.events.drain(..).map(|event| (id(&event), event.id.clone())));
            writer.await.unwrap();
            server.resume();
            host = setup.clone().from(host.position.clone()).run();
        }
        server.sql("INSERT INTO shop.t VALUES (9999999, 'last', 9999999)");
        while !kept.contains_key(&9_999_999) {
            host.batch().await;
            kept.extend(host.events.drain(..).map(|event| (id(&event), event.id.clone())));
        }
        let there = server.sql("SELECT id FROM shop.t ORDER BY id + 0");
        let there: Vec<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
        assert!(there.len() > 400, "{}", there.len());
        assert_eq!(kept.keys().copied().collect::<Vec<_>>(), there, "{flavor:?}");
        host.stop().await;
    }
}

/// A position by hand is where the run from it begins.
#[tokio::test]
async fn a_position_by_hand_is_where_a_run_begins() {
    for flavor in Flavor::ALL {
        for server in servers(flavor) {
            server.sql(TABLES);
            let setup = Setup::new(&server);
            let mut places = Vec::new();
            let show = match flavor {
                Flavor::Mysql => "SHOW BINARY LOG STATUS",
                Flavor::Mariadb => "SHOW MASTER STATUS",
            };
            for id in 1..=3 {
                let status = server.sql(show);
                let mut fields = status.trim_end_matches('\n').split('\t');
                places.push((format!("{}:{}", fields.next().unwrap(), fields.next().unwrap()), id));
                let gtids = match flavor {
                    Flavor::Mysql => server.sql("SELECT @@gtid_executed").replace('\n', ""),
                    Flavor::Mariadb => server.sql("SELECT @@gtid_binlog_pos").trim().to_owned(),
                };
                if !gtids.is_empty() {
                    places.push((gtids, id));
                }
                server.sql(&insert("t", id..=id));
                if id == 2 {
                    server.sql("FLUSH BINARY LOGS");
                }
            }
            for (place, first) in &places {
                let position = position_at(&setup.source(), place).await.unwrap();
                let mut host = setup.clone().from(Some(position)).run();
                host.until(usize::try_from(4 - first).unwrap()).await;
                let ids: Vec<u64> = host.events.iter().map(id).collect();
                assert_eq!(ids, Vec::from_iter(*first..=3), "{place}");
                host.stop().await;
            }
            let end = position_at_end(&setup.source()).await.unwrap();
            let mut host = setup.clone().from(Some(end)).run();
            server.sql(&insert("t", 4..=4));
            host.until(1).await;
            assert_eq!(id(&host.events[0]), 4);
            host.stop().await;
            let never = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5";
            for wrong in [
                "binlog.000099:4",
                "binlog.000001:3",
                "binlog.000001:99999999",
                "nonsense",
                "0:1",
                "0-1-99999",
                never,
            ] {
                let error = position_at(&setup.source(), wrong).await.unwrap_err();
                assert_eq!(
                    (error.code().0, error.class()),
                    ("RT2717", Class::Fatal),
                    "{wrong}: {error}"
                );
            }
        }
    }
}

/// Writers with transactions of all sizes, and kills at any moment.
#[tokio::test]
async fn kills_at_any_moment_lose_and_invent_nothing() {
    use mysql_async::prelude::Queryable as _;
    for flavor in Flavor::ALL {
        for server in servers(flavor) {
            server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id varchar(12) PRIMARY KEY, w varchar(4))");
            let setup = Setup::new(&server).rows(37);
            let mut host = setup.ready().await;
            let mut writers = Vec::new();
            for writer in 0..3 {
                let url = server.url().to_owned();
                writers.push(tokio::spawn(async move {
                    let mut conn = mysql_async::Conn::from_url(url).await.unwrap();
                    for round in 0..60 {
                        let rows = (round * 7 + writer * 13) % 90 + 1;
                        let values: Vec<String> = (0..rows)
                            .map(|row| {
                                format!(
                                    "({}, {writer})",
                                    1_000_000 * (writer + 1) + round * 1000 + row
                                )
                            })
                            .collect();
                        conn.query_drop("BEGIN").await.unwrap();
                        let sql = format!("INSERT INTO shop.t VALUES {}", values.join(","));
                        conn.query_drop(sql).await.unwrap();
                        conn.query_drop("COMMIT").await.unwrap();
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    conn.disconnect().await.unwrap();
                }));
            }
            let mut kept: Vec<Event> = Vec::new();
            for round in 0..30_u64 {
                host.during(Duration::from_millis(20 + round * 17 % 90)).await;
                kept.append(&mut host.events);
                let position = host.kill().await;
                host = setup.clone().from(position).run();
            }
            for writer in writers {
                writer.await.unwrap();
            }
            let there = server.sql("SELECT id FROM shop.t ORDER BY id + 0");
            let there: Vec<u64> = there.lines().map(|line| line.parse().unwrap()).collect();
            host.until(there.len().saturating_sub(kept.len())).await;
            host.during(Duration::from_millis(300)).await;
            kept.append(&mut host.events);
            let mut ids: Vec<u64> = kept.iter().map(id).collect();
            ids.sort_unstable();
            assert_eq!(ids, there, "{flavor:?}");
            let mut identities: Vec<&str> = kept.iter().map(|event| event.id.as_str()).collect();
            identities.sort_unstable();
            identities.dedup();
            assert_eq!(identities.len(), there.len(), "{flavor:?}");
            host.stop().await;
            assert_eq!(spooled(&setup.scratch).0, 0);
        }
    }
}

/// What was not saved comes again, the same.
#[tokio::test]
async fn what_was_not_saved_comes_again_with_the_same_identity() {
    for flavor in Flavor::ALL {
        for server in servers(flavor) {
            server.sql(TABLES);
            let setup = Setup::new(&server).rows(10);
            let mut host: Host = setup.ready().await;
            let first = host.position.clone();
            server.sql(&(insert("t", 1..=25) + &insert("t", 26..=50)));
            host.saves = false;
            host.until(50).await;
            let seen = host.events.clone();
            host.kill().await;
            let mut host = setup.from(first).run();
            host.until(50).await;
            assert_eq!(host.events, seen);
            host.stop().await;
        }
    }
}
