//! Tables that somebody else has locked.

use rowtide_testkit::{Postgres, postgres_versions};

use crate::changes::database;
use crate::host::Setup;

/// A migration holds a captured table for long: the connector starts all the same, keeps its
/// publication in step, and nobody waits for a lock of its own meanwhile.
#[tokio::test]
async fn a_locked_table_holds_up_neither_the_start_nor_through_us_others() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let schema =
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE a_locked (id int PRIMARY KEY);
            CREATE TABLE z_locked (id int PRIMARY KEY);
            CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY LIST (id);
            CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
            CREATE TABLE kept (id int PRIMARY KEY, ssn text) PARTITION BY LIST (id);
            CREATE TABLE kept_1 PARTITION OF kept FOR VALUES IN (1);
            CREATE TABLE kept_2 PARTITION OF kept FOR VALUES IN (2)";
        let sql = database(&server, "shop", schema).await;
        // With hidden columns partitions are looked up while it streams.
        let mut setup = Setup::new(&server, "shop");
        setup.hides = Some("kept");
        let mut host = setup.run();
        host.ready().await;
        let position = host.stop().await;

        let migration = server.client("shop").await;
        migration
            .batch_execute("BEGIN; LOCK TABLE a_locked, z_locked, kept_2 IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        let mut host = setup.from(position).run();
        host.ready().await;
        sql.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        assert_eq!(host.until(1).await, ["c public.t none > id=1"], "{version}");
        sql.batch_execute("INSERT INTO kept_1 VALUES (1, 'x')").await.unwrap();
        assert_eq!(host.until(2).await[1], "c public.kept none > id=1,ssn=x", "{version}");
        // Long enough for the publication to be looked at again.
        for id in 2..12 {
            sql.batch_execute("SET lock_timeout = '300ms'; TRUNCATE parted").await.unwrap();
            sql.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        host.until(20).await;
        migration.batch_execute("ROLLBACK").await.unwrap();
        host.stop().await;
    }
}
