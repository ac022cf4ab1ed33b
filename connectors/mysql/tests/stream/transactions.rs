//! How transactions begin and end, and what becomes of those that are rolled back.

use rowtide_testkit::Flavor;

use crate::host::{Place as _, Setup, server, server_without_gtids, spooled};

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id int PRIMARY KEY) ENGINE=InnoDB;
    CREATE TABLE my (id int PRIMARY KEY) ENGINE=MyISAM;";

#[tokio::test]
async fn m28_every_kind_of_end_is_seen() {
    for flavor in Flavor::ALL {
        let Some(server) = server_without_gtids(flavor) else { return };
        server.sql(TABLES);
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO my VALUES (1); INSERT INTO t VALUES (1);
             BEGIN; INSERT INTO t VALUES (2); INSERT INTO my VALUES (2); COMMIT;
             CREATE TABLE made (id int PRIMARY KEY) AS SELECT id FROM t;
             TRUNCATE my; DROP TABLE made; INSERT INTO t VALUES (3)",
        );
        let texts = host.until(8).await;
        let of = |name: &str| texts.iter().filter(|text| text.contains(name)).count();
        assert_eq!((of("shop.t "), of("shop.my "), of("shop.made ")), (3, 3, 2), "{texts:#?}");
        assert!(host.place().in_tx.is_none());
        host.stop().await;
    }
}

/// What a savepoint's rollback undoes is not delivered, and what it cannot undo is.
#[tokio::test]
async fn m29_m30_what_is_rolled_back_is_left_out_and_what_stays_is_not() {
    for flavor in Flavor::ALL {
        let Some(server) = server_without_gtids(flavor) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql(
            "USE shop; BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2);
             INSERT INTO my VALUES (2); SAVEPOINT b; INSERT INTO t VALUES (3); ROLLBACK TO b;
             ROLLBACK TO a; INSERT INTO t VALUES (4); COMMIT;
             BEGIN; INSERT INTO t VALUES (5); INSERT INTO my VALUES (5); ROLLBACK;
             BEGIN; INSERT INTO t VALUES (6); SAVEPOINT a; INSERT INTO t VALUES (7); ROLLBACK TO a; COMMIT;
             BEGIN; INSERT INTO t VALUES (8); ROLLBACK; INSERT INTO t VALUES (9)",
        );
        let texts = host.until(6).await;
        let mut sorted = texts.clone();
        sorted.sort();
        assert_eq!(texts.len(), 6, "{texts:#?}");
        let last = server.sql("SELECT COUNT(*) FROM shop.t; SELECT COUNT(*) FROM shop.my");
        assert_eq!(last.split_whitespace().collect::<Vec<_>>(), ["4", "2"]);
        let of = |name: &str| texts.iter().filter(|text| text.contains(name)).count();
        assert_eq!((of("shop.t "), of("shop.my ")), (4, 2), "{texts:#?}");
        host.stop().await;
        assert_eq!(spooled(&setup.scratch).0, 0);
    }
}

/// A prepared XA transaction is delivered at its XA COMMIT, and a restart in between finds it again.
#[tokio::test]
async fn m31_xa_transactions_come_with_their_commit_also_after_a_restart() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql("USE shop; XA START 'a'; INSERT INTO t VALUES (1); XA END 'a'; XA PREPARE 'a'");
        server.sql("USE shop; INSERT INTO t VALUES (2)");
        server.sql(
            "USE shop; XA START 'b','x',7; INSERT INTO t VALUES (3); XA END 'b','x',7;
             XA PREPARE 'b','x',7",
        );
        host.until(1).await;
        while host.place().pending.len() < 2 {
            host.batch().await;
        }
        assert_eq!(host.events.len(), 1);
        let position = host.stop().await;
        let mut host = setup.clone().from(position).run();
        server.sql("XA COMMIT 'a'");
        host.until(1).await;
        assert_eq!(host.events[0].after.as_deref(), Some("id=1"));
        let position = host.stop().await;
        server.sql("XA ROLLBACK 'b','x',7");
        server.sql(
            "USE shop; INSERT INTO t VALUES (4); XA START 'c'; INSERT INTO t VALUES (5);
            XA END 'c'; XA COMMIT 'c' ONE PHASE",
        );
        let mut host = setup.clone().from(position).run();
        host.until(2).await;
        while !host.place().pending.is_empty() {
            host.batch().await;
        }
        assert_eq!(host.events.len(), 2);
        host.stop().await;
        assert_eq!(spooled(&setup.scratch).0, 0);
    }
}

#[tokio::test]
async fn m29_savepoints_of_any_name_nest_and_are_released() {
    for flavor in Flavor::ALL {
        let Some(server) = server_without_gtids(flavor) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql(
            "USE shop; BEGIN; SAVEPOINT before_all; INSERT INTO my VALUES (1); INSERT INTO t VALUES (1);
             SAVEPOINT `Sp ``One`; INSERT INTO t VALUES (2); INSERT INTO my VALUES (2);
             SAVEPOINT Inner_É; INSERT INTO t VALUES (3); INSERT INTO my VALUES (3);
             ROLLBACK TO SAVEPOINT INNER_é; INSERT INTO t VALUES (4); RELEASE SAVEPOINT inner_É;
             ROLLBACK WORK TO `sp ``ONE`; INSERT INTO t VALUES (5); SAVEPOINT x; INSERT INTO t VALUES (6);
             SAVEPOINT X; INSERT INTO t VALUES (7); INSERT INTO my VALUES (7); ROLLBACK TO x; COMMIT;
             BEGIN; INSERT INTO my VALUES (8); SAVEPOINT a; INSERT INTO t VALUES (8); ROLLBACK TO A;
             COMMIT; INSERT INTO t VALUES (9)",
        );
        let count = server.sql("SELECT COUNT(*) FROM shop.t; SELECT COUNT(*) FROM shop.my");
        assert_eq!(count.split_whitespace().collect::<Vec<_>>(), ["4", "5"]);
        let mut texts = host.until(9).await;
        texts.sort();
        let mut expected: Vec<String> =
            [1, 5, 6, 9].map(|id| format!("shop.t none > id={id}")).into();
        expected.extend([1, 2, 3, 7, 8].map(|id| format!("shop.my none > id={id}")));
        let mut got: Vec<String> =
            host.events.iter().map(|event| event.in_json()[2..].to_owned()).collect();
        for text in &mut got {
            *text = text.replace("{\"id\":", "id=").replace('}', "");
        }
        got.sort();
        expected.sort();
        assert_eq!(got, expected, "{}", flavor.name());
        host.stop().await;
        assert_eq!(spooled(&setup.scratch).0, 0);
    }
}

/// XA transactions with names of all sorts, some of them crossing, a large one of them on disk, over
/// a restart of the server.
#[tokio::test]
async fn m31_xa_transactions_of_any_name_outlive_the_server() {
    for flavor in Flavor::ALL {
        let Some(mut server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        server.sql("USE shop; XA START 'early'; INSERT INTO t VALUES (-1); XA END 'early'; XA PREPARE 'early'");
        let mut setup = Setup::new(&server);
        setup.limits.spool_memory = 64 << 10;
        let mut host = setup.ready().await;
        let prepare = |xid: &str, insert: &str| {
            server.sql(&format!(
                "USE shop; XA START {xid}; INSERT INTO t {insert}; XA END {xid}; XA PREPARE {xid}"
            ));
        };
        let odd = ["X'00ff27','it''s',1", "'b','',0", "'It''S','',2147483647", "'large'"];
        prepare(odd[0], "VALUES (1)");
        prepare(odd[1], "VALUES (2)");
        prepare(odd[2], "VALUES (3)");
        let many: Vec<String> = (1000..31_000).map(|id| format!("({id})")).collect();
        prepare(odd[3], &format!("VALUES {}", many.join(",")));
        while host.place().pending.len() < 4 {
            host.batch().await;
        }
        assert!(spooled(&setup.scratch).1 > 0);
        server.sql(&format!("XA COMMIT {}; XA ROLLBACK {}; XA COMMIT 'early'", odd[1], odd[2]));
        host.until(1).await;
        while host.place().pending.len() > 2 {
            host.batch().await;
        }
        assert_eq!(host.events.len(), 1);
        assert_eq!(host.events[0].in_json(), "c shop.t none > {\"id\":2}");
        let position = host.stop().await;
        server.halt(false);
        server.resume();
        let setup = setup.from(position);
        let mut host = setup.run();
        server.sql(&format!("XA COMMIT {}; XA COMMIT {}", odd[3], odd[0]));
        host.until(30_001).await;
        assert_eq!(host.events[0].in_json(), "c shop.t none > {\"id\":1000}");
        assert_eq!(host.events[30_000].in_json(), "c shop.t none > {\"id\":1}");
        while !host.place().pending.is_empty() {
            host.batch().await;
        }
        host.stop().await;
        assert_eq!(spooled(&setup.scratch).0, 0);
    }
}

#[tokio::test]
async fn m38_commits_have_the_time_that_the_log_has() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let mut host = Setup::new(&server).ready().await;
        let now = || {
            let text = server.sql("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)");
            text.trim().parse::<i64>().unwrap()
        };
        let before = now();
        server.sql("USE shop; BEGIN; INSERT INTO t VALUES (1); SELECT SLEEP(1.1); COMMIT");
        let after = now();
        host.until(1).await;
        let at = host.events[0].commit_us;
        match flavor {
            Flavor::Mysql => {
                assert!(at > before + 1_000_000 && at < after, "{before} {at} {after}");
            }
            Flavor::Mariadb => {
                assert!(at > before - 1_000_000 && at % 1_000_000 == 0 && at < after);
            }
        }
        host.stop().await;
    }
}

/// A large transaction that may be rolled back in part waits on disk.
#[tokio::test]
async fn m29_a_large_transaction_with_savepoints_leaves_nothing_on_disk() {
    for flavor in Flavor::ALL {
        let Some(server) = server_without_gtids(flavor) else { return };
        server.sql(TABLES);
        let mut setup = Setup::new(&server).rows(500);
        setup.limits.spool_memory = 64 << 10;
        let mut host = setup.ready().await;
        let rows = |from: u32| {
            let rows: Vec<String> = (from..from + 20_000).map(|id| format!("({id})")).collect();
            format!("INSERT INTO t VALUES {};", rows.join(","))
        };
        server.sql(&format!(
            "USE shop; BEGIN; {} SAVEPOINT a; {} INSERT INTO my VALUES (1); ROLLBACK TO a; {} COMMIT;
             INSERT INTO t VALUES (-1)",
            rows(0),
            rows(20_000),
            rows(40_000)
        ));
        host.until(40_002).await;
        assert!(host.largest.0 < 3_000, "{:?}", host.largest);
        let ids: Vec<String> = host.events.iter().map(|event| event.in_json()).collect();
        let mine = ids.iter().filter(|text| text.contains("shop.my")).count();
        assert_eq!(mine, 1);
        let kept: Vec<&String> = ids.iter().filter(|text| text.contains("shop.t ")).collect();
        let expected = (0..20_000).chain(40_000..60_000).chain([-1]);
        let expected: Vec<String> =
            expected.map(|id: i32| format!("c shop.t none > {{\"id\":{id}}}")).collect();
        assert!(kept.into_iter().eq(&expected), "{}", flavor.name());
        host.stop().await;
        assert_eq!(spooled(&setup.scratch).0, 0);
    }
}

/// The flag of a GTID event says whether a transaction can have savepoints.
#[tokio::test]
async fn m29_savepoints_of_transactions_with_gtids() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(TABLES);
    let mut host = Setup::new(&server).rows(1).ready().await;
    server.sql(
        "USE shop; CREATE TEMPORARY TABLE tmp (id int) ENGINE=MyISAM;
         BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2); SAVEPOINT b;
         INSERT INTO t VALUES (3); INSERT INTO tmp VALUES (3); ROLLBACK TO b; INSERT INTO t VALUES (4);
         ROLLBACK TO a; INSERT INTO t VALUES (5); COMMIT; BEGIN; INSERT INTO t VALUES (6);
         SAVEPOINT a; INSERT INTO t VALUES (7); ROLLBACK TO a; RELEASE SAVEPOINT a; COMMIT;
         INSERT INTO t VALUES (8)",
    );
    let row = |id: u32| format!("c shop.t none > {{\"id\":{id}}}");
    host.until(4).await;
    let texts: Vec<String> = host.events.iter().map(|event| event.in_json()).collect();
    assert_eq!(texts, [row(1), row(5), row(6), row(8)]);
    host.stop().await;
}
