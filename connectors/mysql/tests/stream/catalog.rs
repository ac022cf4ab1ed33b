//! What the log does not say of tables and the catalog does: `binlog_row_metadata` is not FULL.

use rowtide_sdk::KnownTable;
use rowtide_testkit::host::Host;
use rowtide_testkit::{Flavor, Mysql};

use crate::host::Setup;

/// Both servers with the least that each writes of tables.
fn bare(flavor: Flavor) -> Option<Mysql> {
    match flavor {
        Flavor::Mysql => Mysql::start(flavor, &["binlog_row_metadata=MINIMAL"]),
        Flavor::Mariadb => Mysql::start(flavor, &["binlog_row_metadata=NO_LOG"]),
    }
}

/// The names of the columns of the new row of each event.
fn names(host: &Host) -> Vec<String> {
    let names = |after: &str| {
        let parts = after.split(',').filter_map(|part| part.split_once('='));
        parts.map(|(name, _)| name.to_owned()).collect::<Vec<_>>().join(",")
    };
    host.events.iter().filter_map(|event| event.after.as_deref()).map(names).collect()
}

fn known(host: &Host) -> Vec<KnownTable> {
    let one = |table: &std::sync::Arc<rowtide_sdk::Table>| KnownTable {
        schema: table.schema.clone(),
        name: table.name.clone(),
        facts: table.facts.clone(),
    };
    host.tables.iter().map(one).collect()
}

const TABLE: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (a int unsigned, e enum('x','y'), k bigint, s set('p','q'), PRIMARY KEY (k, a));
    CREATE TABLE other (id int PRIMARY KEY);";

/// The first definition is read at the start, so that an ALTER right behind a row is no trouble; each
/// later one when its first row comes.
#[tokio::test]
async fn m3_names_keys_and_labels_come_from_the_catalog() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 'y', 7, 'p,q'); INSERT INTO other VALUES (1);
             ALTER TABLE t RENAME COLUMN e TO f; INSERT INTO t VALUES (2, 'x', 8, '')",
        );
        host.until(3).await;
        server.sql(
            "USE shop; ALTER TABLE t ADD COLUMN z int FIRST; RENAME TABLE t TO u;
             INSERT INTO u VALUES (5, 4, 'x', 9, 'q')",
        );
        host.until(4).await;
        assert_eq!(names(&host), ["a,e,k,s", "id", "a,f,k,s", "z,a,f,k,s"], "{}", flavor.name());
        let table = host.tables.iter().find(|table| table.name == "u").unwrap();
        assert_eq!(table.primary_key, [3, 1], "{table:?}");
        let types: Vec<&str> = table.columns.iter().map(|one| one.type_name.as_str()).collect();
        assert_eq!(types, ["int", "int unsigned", "enum('x','y')", "bigint", "set('p','q')"]);
        host.stop().await;
    }
}

/// Each row is read by the names that were in force when it was logged.
#[tokio::test]
async fn m39_m40_a_table_that_is_altered_after_its_rows_were_read_has_its_old_names_in_them() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql("USE shop; INSERT INTO t VALUES (1, 'y', 7, 'p')");
        host.until(1).await;
        let (tables, position) = (known(&host), host.stop().await);
        server.sql(
            "USE shop; INSERT INTO t VALUES (2, 'y', 8, 'p');
             ALTER TABLE t RENAME COLUMN e TO f; INSERT INTO t VALUES (3, 'y', 9, 'p')",
        );
        let resumed = Setup { known_tables: tables, ..setup.clone().from(position.clone()) };
        let mut host = resumed.run();
        host.until(2).await;
        assert_eq!(names(&host), ["a,e,k,s", "a,f,k,s"], "{}", flavor.name());
        host.stop().await;
        // Without what was saved, nobody knows how the table was.
        let error = setup.from(position).refusal().await;
        assert_eq!(error.code().0, "RT2801", "{error}");
        assert!(error.message().contains("shop.t was changed after"), "{error}");
    }
}

/// Tables that were altered before the position, or beside it, are no reason to stop.
#[tokio::test]
async fn m43_only_statements_on_the_table_count() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let setup = Setup::new(&server);
        let host = setup.ready().await;
        let position = host.stop().await;
        server.sql(
            "USE shop; ALTER TABLE t ADD early int; INSERT INTO t VALUES (1, 'y', 7, 'p', 1);
             ALTER TABLE other ADD x int; CREATE TABLE new_one (id int); FLUSH BINARY LOGS;
             INSERT INTO t VALUES (2, 'y', 7, 'p', 1); CREATE DATABASE elsewhere; DROP DATABASE elsewhere",
        );
        let mut host = setup.from(position).run();
        host.until(2).await;
        assert_eq!(names(&host), ["a,e,k,s,early"; 2]);
        host.stop().await;
    }
}

/// A table that no row was seen of is emptied.
#[tokio::test]
async fn m37_a_truncate_of_a_table_that_was_not_described_is_an_event() {
    for flavor in Flavor::ALL {
        let Some(server) = bare(flavor) else { return };
        server.sql(TABLE);
        let mut host = Setup::new(&server).ready().await;
        server.sql("USE shop; TRUNCATE t; INSERT INTO other VALUES (1)");
        let texts = host.until(2).await;
        assert_eq!(texts[0], "t shop.t none > none");
        assert_eq!(host.events[0].id.rsplit(':').next(), Some("0"));
        host.stop().await;
    }
}
