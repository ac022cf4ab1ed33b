//! Servers without room for one more slot or sender, or that let nobody in: refused before anything
//! is changed.

use std::time::Duration;

use rowtide_postgres::wire::ReplicationConnection;
use rowtide_sdk::Class;
use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::Client;

use crate::changes::database;
use crate::host::Setup;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

/// Waits until the server has let go of earlier connections.
async fn no_senders(sql: &Client) {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'";
    while sql.query_one(query, &[]).await.unwrap().get::<_, i64>(0) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn h19_a_server_without_room_is_refused_before_anything_is_changed() {
    for version in postgres_versions() {
        let settings = ["max_replication_slots=1", "max_wal_senders=1"];
        let Some(server) = Postgres::start(&version, &settings) else { return };
        let sql = database(&server, "shop", TABLE).await;
        let setup = Setup::new(&server, "shop");
        let create = "SELECT pg_create_physical_replication_slot('other')";
        sql.batch_execute(create).await.unwrap();
        let error = setup.refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2117", Class::Fatal), "{error}");
        let objects = "SELECT (SELECT count(*) FROM pg_publication)
            + (SELECT count(*) FROM pg_replication_slots)";
        let count: i64 = sql.query_one(objects, &[]).await.unwrap().get(0);
        assert_eq!(count, 1, "{version}: a refusal changes nothing");

        sql.batch_execute("SELECT pg_drop_replication_slot('other')").await.unwrap();
        no_senders(&sql).await;
        let sender = ReplicationConnection::connect(&setup.source_options()).await.unwrap();
        let error = setup.refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2109", Class::Transient), "{error}");
        assert!(error.remedy().unwrap().contains("max_wal_senders"), "{error}");
        drop(sender);
        no_senders(&sql).await;
        let mut host = setup.run();
        host.ready().await;
        host.stop().await;
    }
}

#[tokio::test]
async fn h19_a_server_that_lets_nobody_in_is_refused() {
    for version in postgres_versions() {
        let hba = ["--hba", "host shop all 127.0.0.1/32 reject"];
        let Some(server) = Postgres::start(&version, &hba) else { return };
        let _sql = database(&server, "shop", TABLE).await;
        let error = Setup::new(&server, "shop").refusal().await;
        assert_eq!((error.code().0, error.class()), ("RT2105", Class::Fatal), "{error}");
    }
}
