//! Tables that were out of the publication for a while: it is said from when on they are complete.

use std::time::{Duration, Instant};

use rowtide_sdk::{Position, Reporter};
use rowtide_testkit::{Postgres, not_applicable, postgres_versions};
use serde_json::json;
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::{Host, PATIENCE, Setup};
use crate::logs::{keep_warnings, warnings};

/// Longer than it takes to look at the publication again.
const PAUSE: Duration = Duration::from_millis(900);

const TABLE_GAP: &str = "changes of these tables are complete only from";
const OPTIONS_GAP: &str = "somebody else altered the options";

/// How often it was said that a table is complete only from an LSN on, and that options were altered.
fn said(table: &str) -> (usize, usize) {
    let of = |words: &str| warnings(&[table, words, "lsn=\"0/"]).len();
    (of(TABLE_GAP), of(OPTIONS_GAP))
}

/// Starts from a position, and is streaming.
async fn start(setup: &Setup, position: Option<Position>) -> Host {
    // With a report of its own, which does not say that an earlier run streamed.
    let mut setup = setup.clone().from(position);
    setup.report = Reporter::default();
    let mut host = setup.run();
    host.ready().await;
    let since = Instant::now();
    while !setup.report.has_streamed() {
        assert!(since.elapsed() < PATIENCE, "it does not stream");
        host.during(Duration::from_millis(20)).await;
    }
    host
}

/// Starts from a position and stops.
async fn run(setup: &Setup, position: Option<Position>) -> Option<Position> {
    start(setup, position).await.stop().await
}

/// What others do to the publication of a database, and what is said of its table then: the tables, the
/// options.
struct Case {
    what: &'static str,
    from_version: u32,
    by_others: &'static str,
    said: (usize, usize),
}

const CASES: &[Case] = &[
    Case { what: "nothing", from_version: 14, by_others: "SELECT 1", said: (0, 0) },
    Case {
        what: "vacuum",
        from_version: 14,
        by_others: "VACUUM FREEZE pg_publication; VACUUM FULL pg_publication; \
            VACUUM FULL pg_publication_rel; VACUUM FREEZE pg_publication_rel",
        said: (0, 0),
    },
    Case {
        what: "other tables",
        from_version: 14,
        by_others: "CREATE TABLE IF NOT EXISTS unwanted_x (id int PRIMARY KEY);
            ALTER PUBLICATION $p ADD TABLE unwanted_x; ALTER PUBLICATION $p DROP TABLE unwanted_x",
        said: (0, 0),
    },
    Case {
        what: "the table, taken out and put back",
        from_version: 14,
        by_others: "ALTER PUBLICATION $p DROP TABLE $t; INSERT INTO $t VALUES (7);
            ALTER PUBLICATION $p ADD TABLE $t",
        said: (1, 0),
    },
    Case {
        what: "operations, left out and put back",
        from_version: 14,
        by_others: "ALTER PUBLICATION $p SET (publish = 'insert'); UPDATE $t SET id = id + 100;
            ALTER PUBLICATION $p SET (publish = 'insert, update, delete, truncate')",
        said: (0, 1),
    },
    Case {
        what: "a filter, set and taken away",
        from_version: 15,
        by_others: "ALTER PUBLICATION $p SET TABLE $t WHERE (id > 1000); INSERT INTO $t VALUES (8);
            ALTER PUBLICATION $p SET TABLE $t",
        said: (1, 0),
    },
];

async fn by_others(sql: &Client, statements: &str, publication: &str, table: &str) {
    for statement in statements.split(';') {
        let statement = statement.replace("$p", publication).replace("$t", table);
        sql.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Whether it happens to a connector that is stopped or to one that runs, between two of its looks.
#[tokio::test]
async fn h38_a_gap_is_told_once_and_nothing_else_is() {
    keep_warnings();
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        for management in ["auto", "external"] {
            let name = format!("{management}{version}");
            let table = format!("gap_{name}");
            let schema = format!("CREATE TABLE {table} (id int PRIMARY KEY, v int)");
            let sql = database(&server, &name, &schema).await;
            sql.batch_execute(&format!("CREATE PUBLICATION {name} FOR TABLE {table}"))
                .await
                .unwrap();
            let setup = Setup::new(&server, &name).set("publication_management", json!(management));
            let mut position = run(&setup, None).await;
            let mut wanted = (0, 0);
            for Case { what, from_version, by_others: statements, said: more } in CASES {
                if version.parse::<u32>().unwrap() < *from_version {
                    not_applicable("publications have filters from PostgreSQL 15 on");
                    continue;
                }
                by_others(&sql, statements, &name, &table).await;
                position = run(&setup, position).await;
                wanted = (wanted.0 + more.0, wanted.1 + more.1);
                assert_eq!(said(&table), wanted, "{name}: {what}, while stopped");
                position = run(&setup, position).await;
                assert_eq!(said(&table), wanted, "{name}: {what}, again");

                let mut host = start(&setup, position).await;
                let at_once = statements.replace("$p", &name).replace("$t", &table);
                // In one transaction, so that no look comes in between; vacuum allows none.
                match *what {
                    "vacuum" => by_others(&sql, statements, &name, &table).await,
                    _ => sql
                        .batch_execute(&at_once.replace("(7)", "(9)").replace("(8)", "(10)"))
                        .await
                        .unwrap(),
                }
                host.during(PAUSE).await;
                position = host.stop().await;
                wanted = (wanted.0 + more.0, wanted.1 + more.1);
                assert_eq!(said(&table), wanted, "{name}: {what}, while running");
            }
            // What we alter ourselves is no news at the next start, but for the table that is added.
            let added = format!("CREATE TABLE added_{name} (id int PRIMARY KEY)");
            sql.batch_execute(&added).await.unwrap();
            for _ in 0..2 {
                position = run(&setup, position).await;
            }
            let is_added = usize::from(management == "auto");
            assert_eq!(said(&format!("added_{name}")), (is_added, 0), "{name}");
            assert_eq!(said(&table), wanted, "{name}: ours");
            drop(sql);
        }
    }
}

/// Publications of schemas and of all tables have no entry for the table.
#[tokio::test]
async fn h38_a_gap_of_a_schema_or_of_everything_is_told() {
    keep_warnings();
    for version in postgres_versions() {
        if version.as_str() < "15" {
            not_applicable("publications of schemas came with PostgreSQL 15");
            continue;
        }
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let name = format!("wide{version}");
        let sql = database(&server, &name, "CREATE SCHEMA s; CREATE SCHEMA o").await;
        let table = format!("gap_{name}");
        sql.batch_execute(&format!(
            "CREATE TABLE s.{table} (id int PRIMARY KEY);
             CREATE PUBLICATION {name} FOR TABLES IN SCHEMA s"
        ))
        .await
        .unwrap();
        let setup = Setup::new(&server, &name).set("publication_management", json!("external"));
        let mut position = run(&setup, None).await;
        let cases = [
            (
                "CREATE TABLE s.later_$p (id int PRIMARY KEY); ALTER PUBLICATION $p ADD TABLES IN SCHEMA o",
                0,
            ),
            (
                "ALTER PUBLICATION $p DROP TABLES IN SCHEMA s; INSERT INTO s.$t VALUES (1); \
                 ALTER PUBLICATION $p ADD TABLES IN SCHEMA s",
                1,
            ),
        ];
        for (statements, more) in cases {
            let before = said(&table);
            by_others(&sql, statements, &name, &table).await;
            for _ in 0..2 {
                position = run(&setup, position).await;
            }
            assert_eq!(said(&table), (before.0 + more, before.1), "{version}: {statements}");
        }
        // Only what the second case took out.
        assert_eq!(said(&format!("later_{name}")).0, 1);
        drop(sql);
    }
}
