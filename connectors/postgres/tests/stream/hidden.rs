//! Columns that settings hide, when rows come under another name.

use std::collections::BTreeSet;
use std::time::Duration;

use rowtide_sdk::{Class, Sighting};
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::json;

use crate::changes::database;
use crate::host::Setup;

const SCHEMA: &str =
    "CREATE TABLE m (id int, y int, ssn text, PRIMARY KEY (id, y)) PARTITION BY LIST (y);
    CREATE TABLE m1 PARTITION OF m FOR VALUES IN (1);
    CREATE TABLE alone (id int, y int, ssn text, PRIMARY KEY (id, y));
    CREATE TABLE other (id int PRIMARY KEY)";

/// A source whose settings hide `ssn` of one table by its exact name.
fn hiding(server: &Postgres, database: &str, hides: &'static str) -> Setup {
    let mut setup = Setup::new(server, database);
    setup.hides = Some(hides);
    setup
}

async fn exposed(setup: &Setup) -> Vec<String> {
    let found = setup.check().await;
    let exposed = found.into_iter().filter(|finding| finding.code.0 == "RT2381");
    exposed.map(|finding| finding.place.unwrap_or_default()).collect()
}

/// A table with hidden columns is attached as a partition while it streams: nothing of it comes under
/// the other name, and the position stays before it.
#[tokio::test]
async fn h33_hidden_columns_stay_hidden_when_partitions_come_and_go() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", SCHEMA).await;
        let setup = hiding(&server, "shop", "alone");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO m VALUES (1, 1, 'a'); INSERT INTO other VALUES (1)")
            .await
            .unwrap();
        assert_eq!(host.until(2).await.len(), 2, "{version}");
        sql.batch_execute("ALTER TABLE m ATTACH PARTITION alone FOR VALUES IN (2)").await.unwrap();
        // PostgreSQL 14 goes on sending rows under the table's own name until the publication follows.
        let mut inserts = tokio::time::interval(Duration::from_millis(300));
        let insert_until_refused = async {
            for id in 10.. {
                inserts.tick().await;
                let insert = format!("INSERT INTO alone VALUES ({id}, 2, 'x')");
                sql.batch_execute(&insert).await.unwrap();
            }
        };
        let error = tokio::select! {
            error = host.error() => error,
            () = insert_until_refused => unreachable!(),
        };
        assert_eq!((error.code().0, error.class()), ("RT2381", Class::Fatal), "{error}");
        assert!(error.message().contains("public.m "), "{error}");
        let leaked = host.events.iter().skip(2).find(|event| event.table == "public.m");
        assert_eq!(leaked, None, "{version}");
        assert_eq!(exposed(&setup).await, ["table public.m"], "{version}");
        // Settings for the exact name are a choice, and nothing is lost.
        let mut again = setup.clone().from(host.position.clone());
        again.hides = None;
        let mut again = again.run();
        again.until(1).await;
        assert!(again.events[0].after.as_deref().unwrap().contains("ssn=x"));
        again.stop().await;
    }
}

/// The names under which rows come are noted before anything of them is handed over: of the tables and
/// partitions that are there at the start, and of those that come later. Nothing else is.
#[tokio::test]
async fn h33_names_under_which_hidden_columns_come_are_noted() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", SCHEMA).await;
        let setup = hiding(&server, "shop", "m");
        let oid = async |table: &str| {
            let statement = format!("SELECT '{table}'::regclass::oid");
            u64::from(sql.query_one(&statement, &[]).await.unwrap().get::<_, u32>(0))
        };
        let under_m = [Sighting {
            schema: "public".to_owned(),
            name: "m".to_owned(),
            columns: ["id", "y", "ssn"].map(str::to_owned).to_vec(),
            tables: BTreeSet::from([oid("m").await, oid("m1").await]),
            hidden: BTreeSet::from([(oid("m").await, "ssn".to_owned(), 3)]),
            later: BTreeSet::new(),
        }];
        let mut host = setup.run();
        host.ready().await;
        assert_eq!(setup.sightings.unsaved().unwrap(), under_m, "{version}");
        sql.batch_execute(
            "CREATE TABLE m3 PARTITION OF m FOR VALUES IN (3);
            INSERT INTO m VALUES (1, 3, 'a')",
        )
        .await
        .unwrap();
        host.until(1).await;
        let tables = setup.sightings.unsaved().unwrap().remove(0).tables;
        assert!(tables.contains(&oid("m3").await), "{version}: {tables:?}");
        host.stop().await;
    }
}

/// Partitions under their own names, where the settings are for the table above.
#[tokio::test]
async fn h33_hidden_columns_stay_hidden_without_the_option_for_the_root() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = database(&server, "shop", SCHEMA).await;
        sql.batch_execute("DROP TABLE alone; CREATE PUBLICATION shop FOR TABLE m, other")
            .await
            .unwrap();
        let external =
            |hides| hiding(&server, "shop", hides).set("publication_management", json!("external"));
        let setup = external("m");
        assert_eq!(exposed(&setup).await, ["table public.m1"], "{version}");
        // Settings for the partition's name are of use, then.
        let tables = rowtide_postgres::tables(&setup.source()).await.unwrap();
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["m1", "other"], "{version}");
        let mut host = setup.run();
        host.ready().await;
        sql.batch_execute("INSERT INTO other VALUES (1); INSERT INTO m VALUES (1, 1, 'a')")
            .await
            .unwrap();
        let error = host.error().await;
        assert_eq!(error.code().0, "RT2381", "{version}: {error}");
        assert!(host.events.iter().all(|event| event.table == "public.other"));
        // Where the partition's own settings hide it, it may come.
        let mut again = external("m1").from(host.position.clone()).run();
        let seen = host.events.len();
        assert!(again.until(2 - seen).await.last().unwrap().starts_with("c public.m1 "));
        again.stop().await;
    }
}
