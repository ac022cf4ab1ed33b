//! What is refused, with which code.

use std::time::Duration;

use rowtide_mysql::position_at;
use rowtide_sdk::{Class, Error, Position};
use rowtide_testkit::{Flavor, Mysql};
use serde_json::json;

use crate::host::{Place as _, Setup, server, server_without_gtids};

const TABLES: &str =
    "CREATE DATABASE shop; USE shop; CREATE TABLE t (id varchar(12) PRIMARY KEY, v varchar(4));";

fn is(error: &Error, code: &str, class: Class) {
    assert_eq!((error.code().0, error.class()), (code, class), "{error}");
}

/// Captures one row and stops.
async fn captured(setup: &Setup, server: &Mysql, id: u32) -> Option<Position> {
    let mut host = setup.ready().await;
    server.sql(&format!("INSERT INTO shop.t VALUES ({id}, 0)"));
    host.until(1).await;
    host.stop().await
}

fn purge(server: &Mysql) {
    server.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    loop {
        let shown = server.sql("SHOW BINARY LOGS");
        if shown.lines().count() == 1 {
            return;
        }
        // What a stream that ended a moment ago still reads stays.
        let last = shown.lines().last().unwrap().split('\t').next().unwrap();
        server.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn reset(server: &Mysql, flavor: Flavor) {
    server.sql(match flavor {
        Flavor::Mysql => "RESET BINARY LOGS AND GTIDS",
        Flavor::Mariadb => "RESET MASTER",
    });
}

#[tokio::test]
async fn m10_a_log_that_was_thrown_away() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server);
        let position = captured(&setup, &server, 1).await;
        server.sql("INSERT INTO shop.t VALUES (2, 0)");
        purge(&server);
        let code = if flavor == Flavor::Mysql { "RT2716" } else { "RT2619" };
        is(&setup.from(position).refusal().await, code, Class::Fatal);
    }
    let Some(server) = server_without_gtids(Flavor::Mysql) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server);
    let position = captured(&setup, &server, 1).await;
    purge(&server);
    is(&setup.from(position).refusal().await, "RT2619", Class::Fatal);
}

/// The log begins anew, and comes to where the position was with other transactions.
#[tokio::test]
async fn m22_a_log_that_was_reset_is_another() {
    for flavor in Flavor::ALL {
        for gtids in [true, false] {
            if !gtids && flavor == Flavor::Mariadb {
                continue;
            }
            let made = if gtids { server(flavor, &[]) } else { server_without_gtids(flavor) };
            let Some(server) = made else { return };
            server.sql(TABLES);
            let setup = Setup::new(&server);
            let position = captured(&setup, &server, 1).await;
            tokio::time::sleep(Duration::from_millis(1100)).await;
            reset(&server, flavor);
            let error = setup.clone().from(position.clone()).refusal().await;
            assert_eq!(error.class(), Class::Fatal, "{flavor:?} {gtids}: {error}");
            for id in 2..20 {
                server.sql(&format!("INSERT INTO shop.t VALUES ({id}, 0)"));
            }
            let error = setup.clone().from(position.clone()).refusal().await;
            is(&error, "RT2702", Class::Fatal);
            // And in a later file.
            server.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
            let error = setup.from(position).refusal().await;
            is(&error, "RT2702", Class::Fatal);
        }
    }
}

/// The same where nothing was read yet: of a first position, one that was chosen, and one that was chosen with
/// transactions behind it that were not read. The GTIDs begin anew and name other transactions.
#[tokio::test]
async fn m22_a_log_that_was_reset_before_anything_was_read_of_it() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server);
        let fill = |from: u32| {
            for id in from..from + 12 {
                server.sql(&format!("INSERT INTO shop.t VALUES ({id}, 0)"));
            }
        };
        for (round, way) in ["first", "at the end", "before the end"].into_iter().enumerate() {
            reset(&server, flavor);
            let from = u32::try_from(round).unwrap() * 100;
            fill(from);
            let gtids = server.sql(match flavor {
                Flavor::Mysql => "SELECT @@gtid_executed",
                Flavor::Mariadb => "SELECT @@gtid_binlog_pos",
            });
            let position = match way {
                "first" => setup.ready().await.stop().await,
                way => {
                    if way == "before the end" {
                        fill(from + 20);
                    }
                    Some(position_at(&setup.source(), gtids.trim()).await.unwrap())
                }
            };
            assert!(position.is_some(), "{way}");
            tokio::time::sleep(Duration::from_millis(1100)).await;
            reset(&server, flavor);
            fill(from + 40);
            fill(from + 60);
            for more in ["", "FLUSH BINARY LOGS; FLUSH BINARY LOGS"] {
                server.sql(more);
                let error = setup.clone().from(position.clone()).refusal().await;
                assert_eq!(error.code().0, "RT2702", "{flavor:?} {way} {more}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn m22_another_server_with_files_of_the_same_names() {
    for flavor in Flavor::ALL {
        let Some(one) = server_without_gtids(flavor) else { return };
        // MariaDB's servers of one server_id are told apart by the second that the file was made in.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let Some(other) = server_without_gtids(flavor) else { return };
        for server in [&one, &other] {
            server.sql(TABLES);
        }
        let setup = Setup::new(&one);
        let position = captured(&setup, &one, 1).await;
        other.sql("INSERT INTO shop.t VALUES (7, 0); INSERT INTO shop.t VALUES (8, 0)");
        let error = Setup::new(&other).from(position).refusal().await;
        is(&error, "RT2702", Class::Fatal);
    }
}

/// A server and a replica of it that logs what it replicates.
fn pair(flavor: Flavor) -> Option<(Mysql, Mysql)> {
    let more =
        if flavor == Flavor::Mysql { "log_replica_updates=ON" } else { "log_slave_updates=ON" };
    let source = server(flavor, &[])?;
    let replica = server(flavor, &["server_id=2", more])?;
    reset(&source, flavor);
    reset(&replica, flavor);
    source.sql(TABLES);
    let port = source.port();
    replica.sql(&match flavor {
        Flavor::Mysql => format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port},
             SOURCE_USER='rowtide', SOURCE_PASSWORD='rowtide', SOURCE_AUTO_POSITION=1,
             GET_SOURCE_PUBLIC_KEY=1; START REPLICA"
        ),
        Flavor::Mariadb => format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='rowtide',
             MASTER_PASSWORD='rowtide', MASTER_USE_GTID=slave_pos; START SLAVE"
        ),
    });
    Some((source, replica))
}

/// Waits until the replica has so many rows.
async fn follows(replica: &Mysql, flavor: Flavor, rows: u32) {
    let count = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='shop'";
    for attempt in 0.. {
        let is_there = replica.sql(count).trim() == "1"
            && replica.sql("SELECT COUNT(*) FROM shop.t").trim() == rows.to_string();
        if is_there {
            return;
        }
        let status = || {
            replica.sql(if flavor == Flavor::Mysql {
                "SHOW REPLICA STATUS"
            } else {
                "SHOW SLAVE STATUS"
            })
        };
        assert!(attempt < 100, "the replica does not follow: {}", status());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A replica goes on where GTIDs say that it has the same transactions.
#[tokio::test]
async fn m22_a_replica_goes_on_by_gtids() {
    for flavor in Flavor::ALL {
        let Some((source, replica)) = pair(flavor) else { return };
        let position = captured(&Setup::new(&source), &source, 1).await;
        source.sql("INSERT INTO shop.t VALUES (2, 0)");
        follows(&replica, flavor, 2).await;
        let mut host = Setup::new(&replica).from(position).run();
        assert_eq!(host.until(1).await, ["c shop.t none > id=2,v=0"], "{flavor:?}");
        source.sql("INSERT INTO shop.t VALUES (3, 0)");
        assert_eq!(host.until(2).await[1], "c shop.t none > id=3,v=0");
        let position = host.stop().await;
        // And back.
        source.sql("INSERT INTO shop.t VALUES (4, 0)");
        let mut host = Setup::new(&source).from(position).run();
        assert_eq!(host.until(1).await, ["c shop.t none > id=4,v=0"], "{flavor:?}");
        host.stop().await;
    }
}

/// A server that does not have all that was handed over may be a replica that is behind: it is waited for. What
/// it lacks may be a whole domain of MariaDB's, which the server itself takes for one that is yet to come.
#[tokio::test]
async fn m22_a_server_that_lacks_transactions_is_waited_for() {
    for flavor in Flavor::ALL {
        let Some((source, replica)) = pair(flavor) else { return };
        let stop = if flavor == Flavor::Mysql { "STOP REPLICA" } else { "STOP SLAVE" };
        let start = if flavor == Flavor::Mysql { "START REPLICA" } else { "START SLAVE" };
        follows(&replica, flavor, 0).await;
        replica.sql(stop);
        let position = captured(&Setup::new(&source), &source, 1).await;
        let behind = Setup::new(&replica).from(position.clone());
        is(&behind.refusal().await, "RT2703", Class::Transient);
        replica.sql(start);
        follows(&replica, flavor, 1).await;
        let mut host = behind.run();
        source.sql("INSERT INTO shop.t VALUES (2, 0)");
        assert_eq!(host.until(1).await, ["c shop.t none > id=2,v=0"], "{flavor:?}");
        host.stop().await;
        replica.sql(stop);
        let mut host = Setup::new(&source).from(position).run();
        host.until(1).await;
        if flavor == Flavor::Mariadb {
            source.sql("SET gtid_domain_id=10; INSERT INTO shop.t VALUES (3, 0)");
        } else {
            source.sql("INSERT INTO shop.t VALUES (3, 0)");
        }
        host.until(2).await;
        while host.place().in_tx.is_some() {
            host.batch().await;
        }
        let position = host.stop().await;
        let behind = Setup::new(&replica).from(position);
        is(&behind.refusal().await, "RT2703", Class::Transient);
    }
}

/// Of two readers with one id the elder ends and stays so.
#[tokio::test]
async fn m19_two_sources_with_one_server_id() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server).set("server_id", json!(4711));
        let mut first = setup.ready().await;
        let mut other = setup.clone();
        other.scratch.set_extension("other");
        let mut second = other.ready().await;
        is(&first.error().await, "RT2620", Class::Fatal);
        server.sql("INSERT INTO shop.t VALUES (1, 0)");
        second.until(1).await;
        second.stop().await;
    }
}

/// What does not begin at an event is no place, and neither is what the server never had.
#[tokio::test]
async fn m13_what_is_no_place_is_refused_before_it_is_saved() {
    for flavor in Flavor::ALL {
        let Some(server) = server_without_gtids(flavor) else { return };
        server.sql(TABLES);
        server.sql("INSERT INTO shop.t VALUES (1, 0)");
        let setup = Setup::new(&server);
        let mut places: Vec<String> =
            (200..300).step_by(7).map(|pos| format!("binlog.000001:{pos}")).collect();
        places.push(String::new());
        if flavor == Flavor::Mariadb {
            places.extend(["5-1-1", "0-1-99999", "0-7-2", "binlog.000001:5"].map(str::to_owned));
        }
        let begins: Vec<u64> = server
            .sql("SHOW BINLOG EVENTS IN 'binlog.000001'")
            .lines()
            .filter_map(|line| line.split('\t').nth(1)?.parse().ok())
            .collect();
        assert!(begins.len() > 4, "{begins:?}");
        let begin = |place: &str| {
            place.split_once(':').is_some_and(|(_, pos)| begins.contains(&pos.parse().unwrap()))
        };
        for place in places.iter().filter(|place| !begin(place)) {
            let error = position_at(&setup.source(), place).await.unwrap_err();
            is(&error, "RT2717", Class::Fatal);
            // Nothing is wrong with the log, which is what other errors would be about.
            let why = std::error::Error::source(&error).map(ToString::to_string);
            assert!(why.is_none_or(|why| !why.contains("RT2705")), "{place}: {error:?}");
        }
        // Where an event begins, it must be the first of its transaction.
        let listed = server.sql("SHOW BINLOG EVENTS IN 'binlog.000001'");
        let mut within = 0;
        for line in listed.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let Some(Ok(pos)) = fields.get(1).map(|pos| pos.parse::<u64>()) else { continue };
            let inside = ["Query", "Xid", "Table_map", "Write_rows", "Annotate_rows"];
            let is_inside = inside.iter().any(|kind| fields[2].starts_with(kind));
            let place = format!("binlog.000001:{pos}");
            let set = position_at(&setup.source(), &place).await;
            assert_eq!(set.is_err(), is_inside, "{} {line}: {set:?}", flavor.name());
            within += usize::from(is_inside);
        }
        assert!(within > 4, "{listed}");
    }
}

/// What was read before the place that cannot be is handed over: whoever sets the position behind that place
/// loses nothing else.
#[tokio::test]
async fn m40_what_is_before_a_table_that_cannot_be_read_is_handed_over() {
    for flavor in Flavor::ALL {
        let settings = ["binlog_row_metadata=MINIMAL"];
        let Some(server) = server(flavor, &settings) else { return };
        server.sql(TABLES);
        server.sql("CREATE TABLE shop.altered (id int PRIMARY KEY)");
        let setup = Setup::new(&server);
        let position = captured(&setup, &server, 1).await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (2, 0), (3, 0); INSERT INTO t VALUES (4, 0);
             INSERT INTO altered VALUES (1); ALTER TABLE altered ADD COLUMN c int",
        );
        let mut host = setup.clone().from(position).run();
        is(&host.error().await, "RT2801", Class::Fatal);
        let ids: Vec<String> = host.events.iter().map(|event| event.text()).collect();
        let expected = [2, 3, 4].map(|id| format!("c shop.t none > id={id},v=0"));
        assert_eq!(ids, expected, "{flavor:?}");
        // And they are behind the position.
        let mut host = setup.from(host.position.clone()).run();
        is(&host.error().await, "RT2801", Class::Fatal);
        assert!(host.events.is_empty());
    }
}

/// A server that was restored from a dump has transactions that its log does not even name.
#[tokio::test]
async fn m10_transactions_that_were_purged_by_hand_are_not_missing() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    let uuid = server.sql("SELECT @@server_uuid").trim().to_owned();
    server.sql("RESET BINARY LOGS AND GTIDS");
    server.sql(&format!("SET GLOBAL gtid_purged = '{uuid}:1-1000'"));
    server.sql(TABLES);
    let setup = Setup::new(&server);
    let shown = server.sql("SHOW BINARY LOG STATUS");
    let mut fields = shown.split('\t');
    let place = format!("{}:{}", fields.next().unwrap(), fields.next().unwrap());
    let position = position_at(&setup.source(), &place).await.unwrap();
    let mut host = setup.clone().from(Some(position)).run();
    server.sql(
        "INSERT INTO shop.t VALUES (1, 0); FLUSH BINARY LOGS; INSERT INTO shop.t VALUES (2, 0)",
    );
    host.until(2).await;
    let gtids = host.place().gtids.unwrap();
    assert!(gtids.contains(":1-1004"), "{gtids}");
    let position = host.stop().await;
    let mut host = setup.from(position).run();
    server.sql("INSERT INTO shop.t VALUES (3, 0)");
    assert_eq!(host.until(1).await, ["c shop.t none > id=3,v=0"]);
    host.stop().await;
}

/// The server shows the first 1024 characters of a setting alone, where it shows all of them.
#[tokio::test]
async fn m17_a_server_that_many_others_wrote_to() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql("RESET BINARY LOGS AND GTIDS");
    let others = (10..90).map(|other| format!("00000000-0000-0000-0000-0000000000{other}:1-7:9"));
    let others = others.collect::<Vec<_>>().join(",");
    server.sql(&format!("SET GLOBAL gtid_purged = '{others}'; {TABLES}"));
    let setup = Setup::new(&server);
    let position = captured(&setup, &server, 1).await;
    server.sql("FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY");
    let mut host = setup.from(position).run();
    server.sql("INSERT INTO shop.t VALUES (2, 0)");
    assert_eq!(host.until(1).await, ["c shop.t none > id=2,v=0"]);
    assert!(host.place().gtids.unwrap().matches(":1-7:9").count() == 80);
    host.stop().await;
}

/// What was logged while gtid_mode was off is not sent where it is on, and it is said how to read it.
#[tokio::test]
async fn m11_transactions_without_gtids_among_others() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(TABLES);
    let setup = Setup::new(&server);
    let position = captured(&setup, &server, 1).await;
    let steps = |modes: &[&str]| {
        for mode in modes {
            server.sql(&format!("SET GLOBAL gtid_mode = {mode}"));
        }
    };
    steps(&["ON_PERMISSIVE", "OFF_PERMISSIVE", "OFF"]);
    server.sql("INSERT INTO shop.t VALUES (2, 0)");
    steps(&["OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"]);
    server.sql("INSERT INTO shop.t VALUES (3, 0)");
    is(&setup.clone().from(position.clone()).refusal().await, "RT2623", Class::Fatal);
    steps(&["ON_PERMISSIVE"]);
    let mut host = setup.from(position).run();
    let expected = [2, 3].map(|id| format!("c shop.t none > id={id},v=0"));
    assert_eq!(host.until(2).await, expected);
    host.stop().await;
}

/// An XA transaction that is prepared at one server and ends at the replica that took its place, whose files
/// have lower numbers.
#[tokio::test]
async fn m31_m22_a_prepared_transaction_ends_at_the_server_that_took_the_place() {
    for flavor in Flavor::ALL {
        let Some((source, replica)) = pair(flavor) else { return };
        source.sql(&"FLUSH BINARY LOGS;".repeat(6));
        let setup = Setup::new(&source);
        let mut host = setup.ready().await;
        source
            .sql("USE shop; XA START 'a'; INSERT INTO t VALUES (1, 0); XA END 'a'; XA PREPARE 'a'");
        source
            .sql("USE shop; XA START 'b'; INSERT INTO t VALUES (2, 0); XA END 'b'; XA PREPARE 'b'");
        source.sql("INSERT INTO shop.t VALUES (3, 0)");
        host.until(1).await;
        while host.place().pending.len() < 2 || host.place().in_tx.is_some() {
            host.batch().await;
        }
        let position = host.stop().await;
        follows(&replica, flavor, 1).await;
        replica.sql(match flavor {
            Flavor::Mysql => "STOP REPLICA; SET GLOBAL read_only = OFF",
            Flavor::Mariadb => "STOP SLAVE",
        });
        let setup = Setup::new(&replica);
        let mut host = setup.clone().from(position).run();
        replica.sql("INSERT INTO shop.t VALUES (4, 0)");
        host.until(1).await;
        replica.sql("XA COMMIT 'a'");
        assert_eq!(
            host.until(2).await,
            ["c shop.t none > id=4,v=0", "c shop.t none > id=1,v=0"],
            "{flavor:?}"
        );
        while host.place().pending.len() > 1 || host.place().in_tx.is_some() {
            host.batch().await;
        }
        // The position is one of this server's log.
        let files = replica.sql("SHOW BINARY LOGS");
        let place = host.place();
        assert!(files.contains(&place.file), "{place:?} {files}");
        assert!(files.contains(&place.pending[0].file), "{place:?} {files}");
        let position = host.stop().await;
        let mut host = setup.clone().from(position).run();
        replica.sql("XA COMMIT 'b'; INSERT INTO shop.t VALUES (5, 0)");
        assert_eq!(host.until(2).await, ["c shop.t none > id=2,v=0", "c shop.t none > id=5,v=0"]);
        while !host.place().pending.is_empty() {
            host.batch().await;
        }
        host.stop().await;
    }
}
