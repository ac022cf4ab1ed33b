//! Generated columns in a replica identity: the publication never makes the application's updates fail.

use rowtide_postgres::setup_sql;
use rowtide_sdk::{Finding, Provider, ReselectRules, Severity};
use rowtide_testkit::{Postgres, not_applicable, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::check::{as_role, of, one};
use crate::host::{PATIENCE, Setup};

const STORED: &str = "
    CREATE TABLE s (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
    ALTER TABLE s REPLICA IDENTITY FULL;
    CREATE TABLE gk (a int NOT NULL, g int GENERATED ALWAYS AS (a * 2) STORED PRIMARY KEY);
    CREATE TABLE gi (a int NOT NULL, g int GENERATED ALWAYS AS (a * 2) STORED NOT NULL);
    CREATE UNIQUE INDEX gi_g ON gi (g);
    ALTER TABLE gi REPLICA IDENTITY USING INDEX gi_g;
    CREATE TABLE gp (id int, a int, g int GENERATED ALWAYS AS (a * 2) STORED)
        PARTITION BY LIST (id);
    CREATE TABLE gp_1 PARTITION OF gp FOR VALUES IN (1);
    ALTER TABLE gp REPLICA IDENTITY FULL; ALTER TABLE gp_1 REPLICA IDENTITY FULL;
    CREATE TABLE plain (id int PRIMARY KEY, a int)";

const VIRTUAL: &str = "
    CREATE TABLE vv (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 2) VIRTUAL);
    ALTER TABLE vv REPLICA IDENTITY FULL;
    CREATE TABLE vp (id int, a int, g int GENERATED ALWAYS AS (a * 2) VIRTUAL, PRIMARY KEY (id))
        PARTITION BY LIST (id);
    CREATE TABLE vp_1 PARTITION OF vp FOR VALUES IN (1);
    ALTER TABLE vp_1 REPLICA IDENTITY FULL;
    CREATE TABLE vk (id int PRIMARY KEY, a int, note text,
        g int GENERATED ALWAYS AS (a * 2) VIRTUAL)";

const FILLED: &str = "INSERT INTO s (id, a) VALUES (1, 1); INSERT INTO gk (a) VALUES (1);
    INSERT INTO gi (a) VALUES (1); INSERT INTO gp (id, a) VALUES (1, 1)";

const CHANGES: &str = "UPDATE s SET a = 2; UPDATE gk SET a = 2; UPDATE gi SET a = 2;
    UPDATE gp SET a = 2; DELETE FROM s";

const VIRTUAL_CHANGES: &str = "INSERT INTO vv (id, a) VALUES (1, 1); UPDATE vv SET a = a + 1;
    DELETE FROM vv; INSERT INTO vp (id, a) VALUES (1, 1); UPDATE vp SET a = a + 1; DELETE FROM vp;
    INSERT INTO vk (id, a) VALUES (1, 1); UPDATE vk SET a = a + 1; DELETE FROM vk";

fn is_18(version: &str) -> bool {
    version.parse::<u32>().unwrap() >= 18
}

fn errors(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Error).collect()
}

/// The remedies of a code, by place.
fn remedy<'a>(findings: &'a [Finding], code: &str, place: &str) -> &'a str {
    let is_it = |found: &&Finding| found.code.0 == code && found.place.as_deref() == Some(place);
    let found =
        findings.iter().find(is_it).unwrap_or_else(|| panic!("{code} {place}: {findings:#?}"));
    found.remedy.as_deref().unwrap()
}

/// The columns that a table is described with before a run.
async fn described(setup: &Setup, table: &str) -> String {
    let tables = rowtide_postgres::tables(&setup.source()).await.unwrap();
    let table = tables.iter().find(|other| other.name == table).unwrap();
    table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn h34_a_new_publication_sends_what_updates_and_deletes_need() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", STORED).await;
        let setup = Setup::new(&server, "shop");
        if is_18(&version) {
            sql.batch_execute(VIRTUAL).await.unwrap();
        }
        let findings = setup.check().await;
        assert!(errors(&findings).is_empty(), "{findings:#?}");
        assert_eq!(described(&setup, "s").await, if is_18(&version) { "id,a,g" } else { "id,a" });
        if is_18(&version) {
            assert!(one(&findings, "RT2375").starts_with("info publication shop: "));
            let left_out = of(&findings, "RT2209");
            assert_eq!(left_out.len(), 2, "{left_out:?}");
            assert!(left_out[0].contains("table public.vp is not captured: partitions of it"));
            assert!(left_out[1].contains("table public.vv is not captured: it has"));
        } else {
            assert!(of(&findings, "RT2375").is_empty(), "{findings:#?}");
        }
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(FILLED).await.unwrap();
        sql.batch_execute(CHANGES).await.unwrap();
        let events = host.until(9).await;
        if is_18(&version) {
            sql.batch_execute(VIRTUAL_CHANGES).await.unwrap();
            let wanted = [
                "c public.s none > id=1,a=1,g=2",
                "c public.gk none > a=1,g=2",
                "c public.gi none > a=1,g=2",
                "c public.gp none > id=1,a=1,g=2",
                "u public.s id=1,a=1,g=2 > id=1,a=2,g=4",
                "u public.gk g=2 > a=2,g=4",
                "u public.gi g=2 > a=2,g=4",
                "u public.gp id=1,a=1,g=2 > id=1,a=2,g=4",
                "d public.s id=1,a=2,g=4 > none",
            ];
            assert_eq!(events, wanted);
            // What is told to be done has the others captured too.
            for table in ["table public.vv", "table public.vp"] {
                sql.batch_execute(remedy(&findings, "RT2209", table)).await.unwrap();
            }
            let query = "SELECT count(*) FROM pg_publication_tables
                WHERE pubname = 'shop' AND tablename IN ('vv', 'vp')";
            until(&sql, query, 2).await;
            host.events.clear();
            sql.batch_execute(VIRTUAL_CHANGES).await.unwrap();
            let events = host.until(12).await;
            assert!(events.contains(&"u public.vp none > id=1,a=2".to_owned()), "{events:?}");
        } else {
            assert_eq!(events[4], "u public.s id=1,a=1 > id=1,a=2", "{version}");
        }
        host.stop().await;
        assert!(of(&setup.check().await, "RT2375").is_empty());
    }
}

/// Waits until a count is this one.
async fn until(sql: &Client, query: &str, wanted: i64) {
    let since = std::time::Instant::now();
    while sql.query_one(query, &[]).await.unwrap().get::<_, i64>(0) != wanted {
        assert!(since.elapsed() < PATIENCE, "not in time: {query}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn h34_a_publication_of_ours_is_brought_in_step() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        if !is_18(&version) {
            not_applicable("generated columns can be published from PostgreSQL 18 on");
            continue;
        }
        let sql = database(&server, "shop", STORED).await;
        sql.batch_execute(FILLED).await.unwrap();
        sql.batch_execute("CREATE PUBLICATION shop FOR TABLE s, plain").await.unwrap();
        sql.batch_execute("UPDATE s SET a = 2").await.unwrap_err();
        let setup =
            Setup::new(&server, "shop").set("tables", json!({ "include": ["*.s", "*.p*"] }));
        let found = one(&setup.check().await, "RT2375");
        assert!(found.starts_with("warning publication shop: ") && found.contains("public.s (g)"));
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("UPDATE s SET a = 2").await.unwrap();
        assert_eq!(host.until(1).await, ["u public.s id=1,a=1,g=2 > id=1,a=2,g=4"]);
        // It is so again soon, where somebody turns it off while rows need it.
        sql.batch_execute("ALTER PUBLICATION shop SET (publish_generated_columns = none)")
            .await
            .unwrap();
        let query = "SELECT count(*) FROM pg_publication WHERE pubgencols = 's'";
        until(&sql, query, 1).await;
        sql.batch_execute("UPDATE s SET a = 3").await.unwrap();
        assert_eq!(host.until(2).await[1], "u public.s id=1,a=2,g=4 > id=1,a=3,g=6");
        host.stop().await;
    }
}

#[tokio::test]
async fn h34_a_publication_of_others_that_breaks_updates_is_refused() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", STORED).await;
        sql.batch_execute("CREATE PUBLICATION shop FOR TABLE s, plain").await.unwrap();
        let setup = Setup::new(&server, "shop").set("publication_management", json!("external"));
        let findings = setup.check().await;
        if is_18(&version) {
            let found = one(&findings, "RT2375");
            assert!(found.starts_with("error publication shop: "), "{found}");
            assert!(found.contains("public.s (g)"), "{found}");
            assert_eq!(setup.refusal().await.code().0, "RT2375");
            let remedy = remedy(&findings, "RT2375", "publication shop");
            let statement = remedy.split("owner: ").nth(1).unwrap().split(", with").next().unwrap();
            sql.batch_execute(statement).await.unwrap();
            assert!(errors(&setup.check().await).is_empty());
            // SQL that adds tables makes the publication fit for them.
            sql.batch_execute("DROP PUBLICATION shop; CREATE PUBLICATION shop FOR TABLE plain")
                .await
                .unwrap();
            let findings = setup.check().await;
            assert!(errors(&findings).is_empty(), "{findings:#?}");
            let unsent = findings.iter().filter(|found| found.code.0 == "RT2208");
            let unsent = unsent.filter_map(|found| found.remedy.clone()).next().unwrap();
            sql.batch_execute(&unsent).await.unwrap();
        } else {
            assert!(errors(&findings).is_empty(), "{findings:#?}");
        }
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute(FILLED).await.unwrap();
        sql.batch_execute(CHANGES).await.unwrap();
        host.stop().await;
    }
}

/// No SQL that comes with a finding leads a table into an identity that cannot be published.
#[tokio::test]
async fn h34_remedies_are_fit_for_generated_columns() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE n (id int PRIMARY KEY, a int, note text,
                g int GENERATED ALWAYS AS (a * 2) STORED);
            CREATE TABLE k (id int, a int, g int GENERATED ALWAYS AS (a * 2) STORED);
            CREATE TABLE whole (id int PRIMARY KEY, a int);
            ALTER TABLE whole REPLICA IDENTITY FULL";
        let sql = database(&server, "shop", schema).await;
        let setup = Setup::new(&server, "shop");
        if is_18(&version) {
            sql.batch_execute(VIRTUAL).await.unwrap();
        }
        let mut host = setup.run();
        host.ready().await;
        let findings =
            setup.check_keys(&|_, table| (table == "n").then(|| vec!["note".to_owned()])).await;
        let unchanged = remedy(&findings, "RT2372", "table public.n");
        let keyed = remedy(&findings, "RT2218", "table public.n");
        let none = remedy(&findings, "RT2209", "table public.k");
        if is_18(&version) {
            let unlisted = remedy(&findings, "RT2372", "table public.vk");
            assert!(unlisted.ends_with("in the table's settings"), "{unlisted}");
            assert!(keyed.starts_with("ALTER PUBLICATION"), "{keyed}");
        } else {
            assert!(keyed.starts_with("ALTER TABLE"), "{keyed}");
        }
        for (remedy, table) in [(unchanged, "n"), (none, "k")] {
            sql.batch_execute(remedy.split("or ").last().unwrap()).await.unwrap();
            let changes = format!(
                "INSERT INTO {table} (id, a) VALUES (1, 1); UPDATE {table} SET a = 2;
                 DELETE FROM {table}"
            );
            sql.batch_execute(&changes).await.unwrap();
        }
        host.stop().await;
        // A column list and FULL never go together, on any version.
        if version.as_str() >= "15" {
            sql.batch_execute("ALTER PUBLICATION shop SET TABLE whole (id, a)").await.unwrap();
            let findings = setup.check().await;
            assert!(remedy(&findings, "RT2375", "table public.whole").ends_with("without columns"));
        }
    }
}

/// The SQL that is printed makes a publication under which updates and deletes work.
#[tokio::test]
async fn h34_printed_sql_sends_what_updates_and_deletes_need() {
    let nothing = ReselectRules { lookup: &|_, _| false, rules: &[] };
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["--auth", "scram-sha-256"]) else { return };
        let admin = server.client("postgres").await;
        admin.batch_execute(STORED).await.unwrap();
        if is_18(&version) {
            admin.batch_execute(VIRTUAL).await.unwrap();
        }
        let stranger = Setup::new(&server, "postgres");
        // A role that may log in, by which the server can be asked.
        admin.batch_execute("CREATE ROLE cdc LOGIN REPLICATION PASSWORD 'secret'").await.unwrap();
        let known = as_role(Setup::new(&server, "postgres"), &server, "cdc", "postgres")
            .set("password", json!("secret"));
        for (setup, is_asked) in [(stranger, false), (known, true)] {
            for there in ["", "CREATE PUBLICATION postgres FOR TABLE plain"] {
                admin.batch_execute("DROP PUBLICATION IF EXISTS postgres").await.unwrap();
                admin.batch_execute(there).await.unwrap();
                let script = setup_sql(&setup.source(), "shop", Provider::SelfRun, nothing).await;
                assert_eq!(script.contains("could not be asked"), !is_asked, "{script}");
                // In one block each, as a reader would run them.
                let publishes = |part: &&str| part.contains("PUBLICATION");
                for part in script.split("\n\n").filter(publishes) {
                    admin
                        .batch_execute(part)
                        .await
                        .unwrap_or_else(|error| panic!("{part}: {error}"));
                }
                let sent = "SELECT count(*) FROM pg_publication_tables
                    WHERE tablename IN ('s', 'gk', 'gi', 'gp', 'gp_1', 'plain')";
                until(&admin, sent, 5).await;
                admin.batch_execute(FILLED).await.unwrap();
                admin.batch_execute(CHANGES).await.unwrap();
                admin.batch_execute("TRUNCATE s, gk, gi, gp").await.unwrap();
                if is_18(&version) {
                    let done = admin.batch_execute(VIRTUAL_CHANGES).await;
                    done.unwrap_or_else(|error| panic!("{error:?}: {script}"));
                    assert_eq!(
                        script.contains("-- ALTER TABLE public.vv REPLICA IDENTITY DEFAULT"),
                        is_asked,
                        "{script}"
                    );
                }
            }
        }
    }
}
