//! What `check` says of keys: those that are no identity, and those that rows may share.

use rowtide_testkit::{Postgres, postgres_versions};

use crate::changes::database;
use crate::check::{of, one};
use crate::host::Setup;

/// A primary key that is checked late is no identity; each way that is offered makes one.
#[tokio::test]
async fn a_deferrable_key_is_told_apart() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, v int)";
        let sql = database(&server, "shop", schema).await;
        let setup = Setup::new(&server, "shop");
        let findings = setup.check().await;
        assert!(one(&findings, "RT2209").starts_with("warning table public.late: "), "{version}");
        let found = findings.iter().find(|finding| finding.code.0 == "RT2209").unwrap();
        let remedy = found.remedy.as_deref().unwrap();
        let (why, ways) = remedy.split_once(": ").unwrap();
        assert_eq!(why, "its primary key is DEFERRABLE, and such a key is no identity");
        let ways: Vec<&str> = ways.split("; or ").collect();
        assert_eq!(ways.len(), 3, "{remedy}");
        for way in ways.iter().rev() {
            assert_eq!(of(&setup.check().await, "RT2209").len(), 1, "{version}");
            sql.batch_execute(&way.replace('…', "late_pkey")).await.unwrap();
            assert!(of(&setup.check().await, "RT2209").is_empty(), "{version}: {way}");
            sql.batch_execute("ALTER TABLE late REPLICA IDENTITY DEFAULT").await.unwrap();
        }
    }
}

/// A configured key that rows may share is warned of; what the finding says mends it.
#[tokio::test]
async fn keys_that_rows_may_share_are_named() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema = "
            CREATE TABLE loose (id int PRIMARY KEY, email text, phone text NOT NULL);
            ALTER TABLE loose REPLICA IDENTITY FULL;
            CREATE UNIQUE INDEX ON loose (phone) WHERE id > 0;
            CREATE TABLE strict (id int PRIMARY KEY, region text);
            ALTER TABLE strict REPLICA IDENTITY FULL";
        let sql = database(&server, "shop", schema).await;
        let setup = Setup::new(&server, "shop");
        let keys = |_: &str, table: &str| {
            let key: &[&str] =
                if table == "loose" { &["email", "phone"] } else { &["region", "id"] };
            Some(key.iter().map(|&column| column.to_owned()).collect())
        };
        let findings = setup.check_keys(&keys).await;
        let found = one(&findings, "RT2218");
        assert!(found.starts_with("warning table public.loose: rows of public.loose may share"));
        assert!(found.ends_with("is within email, phone (email may be NULL)"), "{found}");
        let found = findings.iter().find(|finding| finding.code.0 == "RT2218").unwrap();
        let (mend, _) = found.remedy.as_deref().unwrap().split_once("; or ").unwrap();
        sql.batch_execute(mend).await.unwrap();
        assert!(of(&setup.check_keys(&keys).await, "RT2218").is_empty(), "{version}: {mend}");
    }
}
