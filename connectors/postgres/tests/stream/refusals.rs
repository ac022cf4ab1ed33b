//! What is refused, with which code and words, and what `check` finds.

use std::time::Duration;

use rowtide_postgres::{PgPosition, describe, position_at, position_at_slot};
use rowtide_sdk::{Class, Error, Position, Severity};
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;

use crate::changes::database;
use crate::host::Setup;
use crate::logs::{keep_warnings, warnings};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";

fn is(error: &Error, code: &str, class: Class, words: &[&str]) {
    assert_eq!((error.code().0, error.class()), (code, class), "{error}");
    for word in words {
        assert!(error.message().contains(word), "{word} is not in: {error}");
    }
}

/// Captures one row and stops.
async fn captured(setup: &Setup, sql: &tokio_postgres::Client) -> Option<Position> {
    let mut host = setup.run();
    host.ready().await;
    sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    host.until(1).await;
    host.stop().await
}

#[tokio::test]
async fn h03_a_slot_that_was_advanced_created_again_or_dropped() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let setup = Setup::new(&server, "shop");
    let position = captured(&setup, &sql).await;
    sql.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    sql.batch_execute("SELECT pg_replication_slot_advance('shop', pg_current_wal_lsn())")
        .await
        .unwrap();
    let ours = PgPosition::parse(position.as_ref().unwrap()).unwrap().confirm;
    let theirs: String = sql
        .query_one("SELECT confirmed_flush_lsn::text FROM pg_replication_slots", &[])
        .await
        .unwrap()
        .get(0);
    let resumed = setup.clone().from(position.clone());
    let error = resumed.refusal().await;
    is(&error, "RT2203", Class::Fatal, &["shop", &ours.to_string(), &theirs]);

    // What resolves it.
    let adopted = position_at_slot(&setup.source()).await.unwrap();
    assert_eq!(PgPosition::parse(&adopted).unwrap().confirm.to_string(), theirs);
    assert!(describe(&adopted).unwrap().contains(&theirs));
    let error = position_at(&setup.source(), ours).await.unwrap_err();
    is(&error, "RT2203", Class::Fatal, &[]);
    let later = sql
        .query_one("SELECT pg_current_wal_lsn()::text", &[])
        .await
        .unwrap()
        .get::<_, String>(0)
        .parse()
        .unwrap();
    let set = position_at(&setup.source(), later).await.unwrap();
    assert_eq!(PgPosition::parse(&set).unwrap().confirm, later);
    let mut host = setup.clone().from(Some(adopted)).run();
    sql.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    assert_eq!(host.until(1).await, ["c public.t none > id=3,v=-"]);
    host.stop().await;

    sql.batch_execute("SELECT pg_drop_replication_slot('shop')").await.unwrap();
    is(&resumed.refusal().await, "RT2204", Class::Fatal, &["shop", &ours.to_string()]);
    sql.batch_execute("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
        .await
        .unwrap();
    is(&resumed.refusal().await, "RT2203", Class::Fatal, &[]);
    is(&setup.from(Some(Position::new("{}"))).refusal().await, "RT2201", Class::Fatal, &[]);
}

#[tokio::test]
async fn h14_another_cluster_database_or_incarnation_of_it() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let Some(other) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let position = captured(&Setup::new(&server, "shop"), &sql).await;
    let system = PgPosition::parse(position.as_ref().unwrap()).unwrap().history.system;
    let _other = database(&other, "shop", TABLE).await;
    let error = Setup::new(&other, "shop").from(position.clone()).refusal().await;
    is(&error, "RT2202", Class::Fatal, &[&system, "shop"]);
    let _second = database(&server, "second", TABLE).await;
    let error = Setup::new(&server, "second").from(position.clone()).refusal().await;
    is(&error, "RT2202", Class::Fatal, &["shop", "second"]);
    drop(sql);
    let admin = server.client("postgres").await;
    admin.batch_execute("SELECT pg_drop_replication_slot('shop')").await.unwrap();
    admin.batch_execute("DROP DATABASE shop WITH (FORCE)").await.unwrap();
    let _again = database(&server, "shop", TABLE).await;
    let error = Setup::new(&server, "shop").from(position).refusal().await;
    is(&error, "RT2202", Class::Fatal, &["oid"]);
}

#[tokio::test]
async fn h18_slots_of_another_kind() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    sql.batch_execute(
        "SELECT pg_create_physical_replication_slot('physical');
         SELECT pg_create_logical_replication_slot('plugin', 'test_decoding');
         SELECT pg_create_logical_replication_slot('prepared', 'pgoutput', false, true);
         SELECT pg_create_logical_replication_slot('passing', 'pgoutput', true)",
    )
    .await
    .unwrap();
    let admin = server.client("postgres").await;
    admin
        .batch_execute("SELECT pg_create_logical_replication_slot('elsewhere', 'pgoutput')")
        .await
        .unwrap();
    for (slot, word) in [
        ("physical", "physical"),
        ("plugin", "test_decoding"),
        ("prepared", "two_phase"),
        ("passing", "temporary"),
        ("elsewhere", "postgres"),
    ] {
        let error = Setup::new(&server, "shop").set("slot", json!(slot)).refusal().await;
        is(&error, "RT2205", Class::Fatal, &[slot, word]);
    }
}

#[tokio::test]
async fn h17_an_invalidated_slot() {
    let settings = ["max_slot_wal_keep_size=1MB", "min_wal_size=2MB", "max_wal_size=2MB"];
    let Some(server) = Postgres::start("15", &[&settings[..1], &["wal_keep_size=0"]].concat())
    else {
        return;
    };
    let sql = database(&server, "shop", TABLE).await;
    let setup = Setup::new(&server, "shop");
    let position = captured(&setup, &sql).await;
    for _ in 0..4 {
        sql.batch_execute("SELECT pg_switch_wal(); CREATE TABLE x (); DROP TABLE x").await.unwrap();
    }
    sql.batch_execute("CHECKPOINT").await.unwrap();
    let error = setup.from(position).refusal().await;
    is(&error, "RT2120", Class::Fatal, &["shop"]);
}

#[tokio::test]
async fn h37_publications_managed_elsewhere_or_gone() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    let setup = Setup::new(&server, "shop");
    let external = setup.clone().set("publication_management", json!("external"));
    let error = external.refusal().await;
    is(&error, "RT2121", Class::Fatal, &["shop"]);
    let slots: i64 =
        sql.query_one("SELECT count(*) FROM pg_replication_slots", &[]).await.unwrap().get(0);
    assert_eq!(slots, 0, "a refusal must come before any side effect");
    let position = captured(&setup, &sql).await;
    sql.batch_execute("DROP PUBLICATION shop").await.unwrap();
    let error = setup.clone().from(position).refusal().await;
    is(&error, "RT2121", Class::Fatal, &["shop"]);
    assert!(error.remedy().unwrap().contains("CREATE PUBLICATION"), "{error}");

    // A position is not adopted before the publication is there.
    is(&position_at_slot(&setup.source()).await.unwrap_err(), "RT2121", Class::Fatal, &["shop"]);
    sql.batch_execute("CREATE PUBLICATION shop FOR TABLE ONLY t").await.unwrap();
    assert!(position_at_slot(&setup.source()).await.is_ok());
}

/// A table that belongs to somebody else does not end what runs, nor keep it from going on.
#[tokio::test]
async fn a_table_of_another_owner_is_left_out_until_it_is_granted() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let roles = "CREATE ROLE app; CREATE ROLE reader LOGIN REPLICATION";
    let sql = database(&server, "shop", roles).await;
    sql.batch_execute(&format!(
        "GRANT CREATE ON DATABASE shop TO reader; GRANT ALL ON SCHEMA public TO reader, app;
         SET ROLE reader; {TABLE}; RESET ROLE"
    ))
    .await
    .unwrap();
    let url = json!(format!("postgres://reader@127.0.0.1:{}/shop", server.port()));
    let setup = Setup::new(&server, "shop").set("url", url);
    let mut host = setup.run();
    host.ready().await;
    let others = "SET ROLE app; CREATE TABLE theirs (id int PRIMARY KEY); RESET ROLE;
        SET ROLE reader; CREATE TABLE ours (id int PRIMARY KEY); RESET ROLE";
    sql.batch_execute(others).await.unwrap();
    let sends = async |name: &str| -> bool {
        let query = "SELECT EXISTS (SELECT FROM pg_publication_tables WHERE tablename = $1)";
        sql.query_one(query, &[&name]).await.unwrap().get(0)
    };
    while !sends("ours").await {
        host.during(Duration::from_millis(100)).await;
    }
    assert!(!sends("theirs").await);
    let position = host.stop().await;
    let mut host = setup.clone().from(position).run();
    sql.batch_execute("INSERT INTO ours VALUES (1)").await.unwrap();
    assert_eq!(host.until(1).await, ["c public.ours none > id=1"]);
    sql.batch_execute("GRANT app TO reader").await.unwrap();
    while !sends("theirs").await {
        host.during(Duration::from_millis(100)).await;
    }
    sql.batch_execute("INSERT INTO theirs VALUES (2)").await.unwrap();
    assert_eq!(host.until(2).await[1], "c public.theirs none > id=2");
    host.stop().await;
}

/// Deletes that the publication leaves out would be missing without a sign.
#[tokio::test]
async fn h38_a_publication_that_leaves_operations_out() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema =
            format!("{TABLE}; CREATE PUBLICATION shop FOR TABLE t WITH (publish = 'insert')");
        let sql = database(&server, "shop", &schema).await;
        let auto = Setup::new(&server, "shop");
        let external = auto.clone().set("publication_management", json!("external"));
        is(
            &external.refusal().await,
            "RT2221",
            Class::Fatal,
            &["shop", "update, delete, truncate"],
        );
        let stated = external.clone().set("publication_operations", json!(["insert"]));
        captured(&stated, &sql).await;
        rowtide_postgres::drop_slot_and_publication(&auto.source()).await.unwrap();

        // Of a table without an identity, updates and deletes would fail in the application.
        sql.batch_execute(
            "CREATE TABLE keyless (id int);
             CREATE PUBLICATION shop FOR TABLE t, keyless WITH (publish = 'insert')",
        )
        .await
        .unwrap();
        is(&auto.refusal().await, "RT2221", Class::Fatal, &["public.keyless"]);
        sql.batch_execute("ALTER PUBLICATION shop DROP TABLE keyless").await.unwrap();

        let mut host = auto.run();
        host.ready().await;
        sql.batch_execute("DELETE FROM t; INSERT INTO t VALUES (7); DELETE FROM t").await.unwrap();
        let texts = host.until(3).await;
        assert_eq!(texts[2], "d public.t id=7 > none", "{version}");
        // And while running.
        let publish = "SELECT pubdelete FROM pg_publication";
        sql.batch_execute("ALTER PUBLICATION shop SET (publish = 'insert')").await.unwrap();
        host.during(Duration::from_millis(1500)).await;
        assert!(sql.query_one(publish, &[]).await.unwrap().get::<_, bool>(0), "{version}");
        let position = host.stop().await;
        let mut host = external.from(position).run();
        sql.batch_execute("INSERT INTO t VALUES (8)").await.unwrap();
        host.until(1).await;
        sql.batch_execute("ALTER PUBLICATION shop SET (publish = 'insert, update')").await.unwrap();
        is(&host.error().await, "RT2221", Class::Fatal, &["delete, truncate"]);
    }
}

#[tokio::test]
async fn h66_a_slot_creation_that_waits_names_who_blocks_it() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let _sql = database(&server, "shop", TABLE).await;
    let admin = server.client("postgres").await;
    admin.batch_execute("CREATE TABLE x (); BEGIN; LOCK x; SELECT txid_current()").await.unwrap();
    let pid: i32 = admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let error = Setup::new(&server, "shop").refusal().await;
    is(&error, "RT2206", Class::Transient, &[&format!("pid {pid}")]);
    admin.batch_execute("COMMIT").await.unwrap();
    let mut host = Setup::new(&server, "shop").run();
    host.ready().await;
    host.stop().await;
}

/// A first start that is stopped while the server still waits leaves nothing behind, and one that was
/// killed is not taken for another reader of the slot.
#[tokio::test]
async fn h66_a_slot_creation_is_called_off_by_a_stop() {
    keep_warnings();
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let name = format!("waits{version}");
        let sql = database(&server, &name, TABLE).await;
        let admin = server.client("postgres").await;
        admin.batch_execute("BEGIN; SELECT txid_current()").await.unwrap();
        let pid: i32 = admin.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let slots = async || -> i64 {
            sql.query_one("SELECT count(*) FROM pg_replication_slots", &[]).await.unwrap().get(0)
        };
        let setup = Setup::new(&server, &name).set("connect_timeout_seconds", json!(5));
        let blocker = format!("oldest first: pid {pid} ");
        let host = setup.run();
        let told = async {
            while warnings(&["RT2206", &name, &blocker]).is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(9), told).await.unwrap();
        assert_eq!(slots().await, 1, "{version}");
        host.stop().await;
        let gone = async {
            while slots().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), gone).await.unwrap();

        let host = setup.run();
        while slots().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        host.kill().await;
        let found = setup.check().await;
        let codes: Vec<&str> = found.iter().map(|finding| finding.code.0).collect();
        assert!(codes.contains(&"RT2206") && !codes.contains(&"RT2199"), "{version}: {found:?}");
        let words = ["still creating", &format!("pid {pid} ")];
        is(&setup.refusal().await, "RT2206", Class::Transient, &words);
        admin.batch_execute("COMMIT").await.unwrap();
    }
}

#[tokio::test]
async fn h19_servers_and_roles_that_cannot_replicate() {
    let Some(server) = Postgres::start("15", &["wal_level=replica"]) else { return };
    let _sql = database(&server, "shop", TABLE).await;
    is(&Setup::new(&server, "shop").refusal().await, "RT2116", Class::Fatal, &["replica"]);
    let Some(server) = Postgres::start("15", &[]) else { return };
    let sql = database(&server, "shop", TABLE).await;
    sql.batch_execute("CREATE ROLE plain LOGIN; CREATE ROLE replicator LOGIN REPLICATION")
        .await
        .unwrap();
    let url = |role: &str| json!(format!("postgres://{role}@127.0.0.1:{}/shop", server.port()));
    let setup = Setup::new(&server, "shop");
    is(&setup.clone().set("url", url("plain")).refusal().await, "RT2114", Class::Fatal, &[]);
    let error = setup.set("url", url("replicator")).refusal().await;
    is(&error, "RT2115", Class::Fatal, &["public.t"]);
}

#[tokio::test]
async fn check_finds_everything_at_once() {
    let Some(server) = Postgres::start("15", &["wal_level=replica", "max_replication_slots=0"])
    else {
        return;
    };
    let schema = "CREATE TABLE t (id int PRIMARY KEY, email text); CREATE TABLE keyless (id int);
        CREATE ROLE plain LOGIN";
    let _sql = database(&server, "shop", schema).await;
    let url = format!("postgres://plain@127.0.0.1:{}/shop", server.port());
    let setup = Setup::new(&server, "shop").set("url", json!(url));
    let keys = |_: &str, table: &str| (table == "t").then(|| vec!["email".to_owned()]);
    let findings = setup.check_keys(&keys).await;
    let errors: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.code.0)
        .collect();
    for code in ["RT2116", "RT2114", "RT2117", "RT2115", "RT2218"] {
        assert!(errors.contains(&code), "{code} is not among {findings:#?}");
    }
    assert!(findings.iter().any(|finding| finding.code.0 == "RT2209"
        && finding.message.contains("public.keyless")
        && finding.remedy.is_some()));
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity != Severity::Error || finding.remedy.is_some())
    );

    let remedies: Vec<&str> = findings.iter().filter_map(|f| f.remedy.as_deref()).collect();
    let grant = "GRANT CREATE ON DATABASE \"shop\" TO \"plain\"";
    assert!(remedies.contains(&grant), "{remedies:#?}");
    assert!(remedies.iter().any(|remedy| remedy.contains("ALTER ROLE \"plain\" REPLICATION")));

    let gone = Setup::new(&server, "shop").set("url", json!("postgres://x@127.0.0.1:1/shop"));
    let findings = gone.check().await;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code.0, "RT2101");
}

#[tokio::test]
async fn check_is_content_with_a_good_server_and_changes_nothing() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop");
        for _ in 0..2 {
            let findings = setup.check().await;
            assert!(findings.iter().all(|f| f.severity == Severity::Info), "{findings:#?}");
        }
        let objects: i64 = sql
            .query_one(
                "SELECT (SELECT count(*) FROM pg_replication_slots)
                    + (SELECT count(*) FROM pg_publication)",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(objects, 0);
        let position = captured(&setup, &sql).await;
        let findings = setup.clone().from(position).check().await;
        assert!(findings.iter().all(|f| f.severity == Severity::Info), "{findings:#?}");
        let lost = setup.check().await;
        let warnings: Vec<&str> =
            lost.iter().filter(|f| f.severity != Severity::Info).map(|f| f.code.0).collect();
        assert_eq!(warnings, ["RT2207"], "{lost:#?}");
        rowtide_postgres::drop_slot_and_publication(&setup.source()).await.unwrap();
        let objects: i64 = sql
            .query_one(
                "SELECT (SELECT count(*) FROM pg_replication_slots)
                    + (SELECT count(*) FROM pg_publication)",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(objects, 0);
    }
}
