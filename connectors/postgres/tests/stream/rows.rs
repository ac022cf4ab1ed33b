//! Which rows a transaction leaves in the log: duplicates without a key, rows that a cascade, a rule or
//! a trigger changed, one row changed again and again.

use std::time::Duration;

use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;

use crate::changes::database;
use crate::host::{Event, Host, Setup};

/// All events are of one transaction and numbered as they came.
fn one_transaction(events: &[Event]) {
    let commit = events[0].id.split(':').next().unwrap();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event.id, format!("{commit}:{at}"));
    }
}

/// Nothing comes after what came.
async fn no_more(host: &mut Host) {
    let events = host.events.len();
    host.during(Duration::from_millis(200)).await;
    assert_eq!(host.events.len(), events, "{:?}", &host.events[events..]);
}

/// Rows that nothing tells apart: each has an event of its own with all of its old row, and which of
/// them it was is not known. Such a table has no key.
#[tokio::test]
async fn h31_rows_without_a_key_are_events_one_by_one() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE k (a int, b text, big text);
            ALTER TABLE k ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
            CREATE TABLE u (a int UNIQUE, b text); ALTER TABLE u REPLICA IDENTITY FULL";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO k SELECT 1, 'x', repeat('y', 3000) FROM generate_series(1, 3);
             UPDATE k SET b = 'z' WHERE ctid = (SELECT min(ctid) FROM k);
             UPDATE k SET a = 2; DELETE FROM k WHERE ctid IN (SELECT ctid FROM k WHERE b = 'x' LIMIT 1);
             DELETE FROM k; INSERT INTO k VALUES (NULL, NULL, NULL); DELETE FROM k",
        )
        .await
        .unwrap();
        let big = "big=3000 bytes";
        let expected = [
            format!("c public.k none > a=1,b=x,{big}"),
            format!("c public.k none > a=1,b=x,{big}"),
            format!("c public.k none > a=1,b=x,{big}"),
            format!("u public.k a=1,b=x,{big} > a=1,b=z,big=?"),
            format!("u public.k a=1,b=x,{big} > a=2,b=x,big=?"),
            format!("u public.k a=1,b=x,{big} > a=2,b=x,big=?"),
            format!("u public.k a=1,b=z,{big} > a=2,b=z,big=?"),
            format!("d public.k a=2,b=x,{big} > none"),
            format!("d public.k a=2,b=x,{big} > none"),
            format!("d public.k a=2,b=z,{big} > none"),
            "c public.k none > a=-,b=-,big=-".to_owned(),
            "d public.k a=-,b=-,big=- > none".to_owned(),
        ];
        assert_eq!(host.until(12).await, expected, "{version}");
        one_transaction(&host.events);
        let table = &host.tables[0];
        assert!(table.primary_key.is_empty(), "{version}: {table:?}");
        assert!(table.columns.iter().all(|column| column.is_identity), "{version}: {table:?}");
        // A key that a row may lack is none either.
        sql.batch_execute("INSERT INTO u VALUES (NULL, 'x'), (NULL, 'x'); UPDATE u SET b = 'y'")
            .await
            .unwrap();
        let texts = host.until(16).await;
        assert_eq!(texts[14..], ["u public.u a=-,b=x > a=-,b=y"; 2], "{version}");
        assert!(host.tables.iter().all(|table| table.primary_key.is_empty()), "{version}");
        no_more(&mut host).await;
        host.stop().await;
    }
}

/// An index as the identity: its columns are the key, in the table's order. Once it is dropped, updates
/// fail in the application for as long as the table is published; rows are then without a key, and
/// another index makes one again.
#[tokio::test]
async fn h29_an_index_as_identity_and_its_loss() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE i (v text, b int NOT NULL, a int NOT NULL, id int PRIMARY KEY);
            CREATE UNIQUE INDEX i_ab ON i (a, b);
            ALTER TABLE i REPLICA IDENTITY USING INDEX i_ab; CREATE PUBLICATION shop FOR TABLE i";
        let sql = database(&server, "shop", schema).await;
        let external = Setup::new(&server, "shop").set("publication_management", json!("external"));
        let mut host = external.run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO i VALUES ('x', 1, 2, 3); UPDATE i SET id = 4, v = 'y'; UPDATE i SET b = 5;
             DELETE FROM i",
        )
        .await
        .unwrap();
        let expected = [
            "c public.i none > v=x,b=1,a=2,id=3",
            "u public.i none > v=y,b=1,a=2,id=4",
            "u public.i b=1,a=2 > v=y,b=5,a=2,id=4",
            "d public.i b=5,a=2 > none",
        ];
        assert_eq!(host.until(4).await, expected, "{version}");
        let identity = |host: &Host| {
            let columns = host.tables[0].columns.iter();
            let of_key = columns.filter(|column| column.is_identity);
            of_key.map(|column| column.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(identity(&host), ["b", "a"], "{version}");

        sql.batch_execute("DROP INDEX i_ab; INSERT INTO i VALUES ('z', 6, 7, 8)").await.unwrap();
        sql.batch_execute("UPDATE i SET v = ''").await.unwrap_err();
        assert_eq!(host.until(5).await[4], "c public.i none > v=z,b=6,a=7,id=8", "{version}");
        assert!(identity(&host).is_empty(), "{version}");
        let found = external.check().await;
        assert!(found.iter().any(|finding| finding.code.0 == "RT2209"), "{version}: {found:#?}");

        sql.batch_execute(
            "CREATE UNIQUE INDEX i_a ON i (a); ALTER TABLE i REPLICA IDENTITY USING INDEX i_a",
        )
        .await
        .unwrap();
        sql.batch_execute("UPDATE i SET a = 9").await.unwrap();
        assert_eq!(host.until(6).await[5], "u public.i a=7 > v=z,b=6,a=9,id=8", "{version}");
        assert_eq!(identity(&host), ["a"], "{version}");
        no_more(&mut host).await;
        host.stop().await;
    }
}

/// What a foreign key does to the rows that refer: through several tables, with deletes and updates,
/// each in the transaction and after what caused it.
#[tokio::test]
async fn h50_rows_changed_by_a_foreign_key_are_there() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE a (id int PRIMARY KEY);
            CREATE TABLE b (id int PRIMARY KEY,
                a int REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE);
            CREATE TABLE c (id int PRIMARY KEY, b int REFERENCES b ON DELETE CASCADE);
            CREATE TABLE n (id int PRIMARY KEY, a int REFERENCES a ON DELETE SET NULL);
            CREATE TABLE f (id int, a int DEFAULT 9 REFERENCES a
                ON DELETE SET DEFAULT DEFERRABLE INITIALLY DEFERRED);
            ALTER TABLE f REPLICA IDENTITY FULL;
            CREATE TABLE unwanted (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);
            INSERT INTO a VALUES (1), (2), (9); INSERT INTO b VALUES (10, 1), (11, 1), (12, 2);
            INSERT INTO c VALUES (100, 10), (101, 11), (102, 12);
            INSERT INTO n VALUES (20, 1); INSERT INTO f VALUES (30, 1);
            INSERT INTO unwanted VALUES (40, 1)";
        let sql = database(&server, "shop", schema).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute("UPDATE a SET id = 3 WHERE id = 2").await.unwrap();
        let updated = ["u public.a id=2 > id=3", "u public.b none > id=12,a=3"];
        assert_eq!(host.until(2).await, updated, "{version}");
        host.events.clear();
        sql.batch_execute("DELETE FROM a WHERE id = 1").await.unwrap();
        let texts = host.until(7).await;
        one_transaction(&host.events);
        assert_eq!(texts[0], "d public.a id=1 > none", "{version}: the cause comes first");
        let mut caused = texts[1..].to_vec();
        caused.sort();
        let expected = [
            "d public.b id=10 > none",
            "d public.b id=11 > none",
            "d public.c id=100 > none",
            "d public.c id=101 > none",
            "u public.f id=30,a=1 > id=30,a=9",
            "u public.n none > id=20,a=-",
        ];
        assert_eq!(caused, expected, "{version}");
        let at = |text: &str| texts.iter().position(|found| found == text).unwrap();
        assert!(at("d public.b id=10 > none") < at("d public.c id=100 > none"), "{version}");
        no_more(&mut host).await;
        host.stop().await;
    }
}

const RULES_AND_TRIGGERS: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE log (id int PRIMARY KEY, v text);
    CREATE TABLE r (id int PRIMARY KEY, v text); CREATE TABLE log_r (id int, v text);
    ALTER TABLE log_r REPLICA IDENTITY FULL;
    CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE instead (id int PRIMARY KEY);
    CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF new.v = 'skip' THEN RETURN NULL; END IF;
        new.v = upper(new.v); RETURN new; END $$;
    CREATE TRIGGER before BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION change();
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log VALUES (new.id, 'of ' || new.v); RETURN NULL; END $$;
    CREATE TRIGGER after AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
    CREATE FUNCTION replica() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO log VALUES (-new.id, 'replica'); RETURN NULL; END $$;
    CREATE TRIGGER replica AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION replica();
    ALTER TABLE t ENABLE REPLICA TRIGGER replica;
    CREATE RULE also AS ON INSERT TO r DO ALSO INSERT INTO log_r VALUES (new.id, new.v);
    CREATE RULE instead AS ON INSERT TO kept DO INSTEAD INSERT INTO instead VALUES (new.id);
    CREATE RULE nothing AS ON DELETE TO r DO INSTEAD NOTHING";

/// What triggers and rules write are rows like others: at their place in the transaction, as they are
/// stored. What they left out is not there.
#[tokio::test]
async fn h51_rows_of_rules_and_triggers_are_rows_like_others() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", RULES_AND_TRIGGERS).await;
        let mut host = Setup::new(&server, "shop").run();
        host.ready().await;
        sql.batch_execute(
            "INSERT INTO t VALUES (1, 'a'), (2, 'skip'); UPDATE t SET v = 'b'; UPDATE t SET v = 'skip';
             INSERT INTO r VALUES (3, 'c'); DELETE FROM r; INSERT INTO kept VALUES (4)",
        )
        .await
        .unwrap();
        let expected = [
            "c public.t none > id=1,v=A",
            "c public.log none > id=1,v=of A",
            "u public.t none > id=1,v=B",
            "c public.r none > id=3,v=c",
            "c public.log_r none > id=3,v=c",
            "c public.instead none > id=4",
        ];
        assert_eq!(host.until(6).await, expected, "{version}");
        one_transaction(&host.events);
        // A session that applies what another server did: other triggers fire and rules do not, foreign
        // keys are not looked at, and what it writes is decoded like anything else.
        host.events.clear();
        sql.batch_execute(
            "SET session_replication_role = replica;
             INSERT INTO t VALUES (5, 'skip'); INSERT INTO r VALUES (6, 'd'); DELETE FROM r WHERE id = 6;
             INSERT INTO kept VALUES (7); UPDATE t SET v = 'e' WHERE id = 5; DELETE FROM t WHERE id = 5;
             TRUNCATE r; RESET session_replication_role; INSERT INTO t VALUES (8, 'f')",
        )
        .await
        .unwrap();
        let expected = [
            "c public.t none > id=5,v=skip",
            "c public.log none > id=-5,v=replica",
            "c public.r none > id=6,v=d",
            "d public.r id=6 > none",
            "c public.kept none > id=7",
            "u public.t none > id=5,v=e",
            "d public.t id=5 > none",
            "t public.r none > none",
            "c public.t none > id=8,v=F",
            "c public.log none > id=8,v=of F",
        ];
        assert_eq!(host.until(10).await, expected, "{version}");
        one_transaction(&host.events);
        assert_eq!(host.events[0].known[0], "", "{version}: no origin");
        no_more(&mut host).await;
        host.stop().await;
    }
}

/// One row, changed again and again in one transaction: every change in its order, told apart by the
/// index alone, whole or streamed, and wherever the stream is cut.
#[tokio::test]
async fn h52_changes_of_one_row_in_one_transaction_keep_their_order() {
    for version in postgres_versions() {
        for streaming in ["off", "on"] {
            let settings = ["logical_decoding_work_mem=64kB"];
            let Some(server) = Postgres::start(&version, &settings) else { return };
            let sql = database(&server, "shop", "CREATE TABLE t (id int PRIMARY KEY, n int)").await;
            let setup = Setup::new(&server, "shop").set("streaming", json!(streaming)).rows(300);
            let mut host = setup.run();
            host.ready().await;
            sql.batch_execute(
                "BEGIN; INSERT INTO t VALUES (1, 0); UPDATE t SET n = 1; UPDATE t SET n = 1;
                 DELETE FROM t; INSERT INTO t VALUES (1, 2); UPDATE t SET id = 2;
                 UPDATE t SET id = 1; SAVEPOINT s; UPDATE t SET n = -1; ROLLBACK TO s;
                 DO $$ BEGIN FOR i IN 3..2000 LOOP UPDATE t SET n = i; END LOOP; END $$; COMMIT",
            )
            .await
            .unwrap();
            let mut expected = [
                "c public.t none > id=1,n=0",
                "u public.t none > id=1,n=1",
                "u public.t none > id=1,n=1",
                "d public.t id=1 > none",
                "c public.t none > id=1,n=2",
                "u public.t id=1 > id=2,n=2",
                "u public.t id=2 > id=1,n=2",
            ]
            .map(str::to_owned)
            .to_vec();
            expected.extend((3..=2000).map(|n| format!("u public.t none > id=1,n={n}")));
            let mut seen = Vec::new();
            while seen.len() < expected.len() {
                host.batch().await;
                seen.append(&mut host.events);
                let position = host.kill().await;
                host = setup.clone().from(position).run();
            }
            let texts: Vec<String> = seen.iter().map(Event::text).collect();
            assert_eq!(texts, expected, "{version} {streaming}");
            one_transaction(&seen);
            no_more(&mut host).await;
            host.stop().await;
        }
    }
}
