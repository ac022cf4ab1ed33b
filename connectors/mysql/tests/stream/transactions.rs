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
        assert_eq!(host.events[0].after.as_deref().map(str::len), Some("id=".len() + 4));
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
