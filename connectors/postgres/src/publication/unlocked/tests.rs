//! The catalog against the functions of the server itself.

use rowtide_testkit::{Postgres, postgres_versions};
use tokio_postgres::Client;

use super::{identity_index, partition_tree, sent_tables};

const SCHEMA: &str = "CREATE SCHEMA far;
    CREATE TABLE plain (id int PRIMARY KEY); CREATE TABLE full_row (id int);
    ALTER TABLE full_row REPLICA IDENTITY FULL;
    CREATE TABLE keyless (id int); CREATE UNLOGGED TABLE unlogged (id int);
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
    CREATE TABLE chosen (id int NOT NULL, n int); CREATE UNIQUE INDEX chosen_id ON chosen (id);
    CREATE UNIQUE INDEX chosen_some ON chosen (id) WHERE n > 1;
    ALTER TABLE chosen REPLICA IDENTITY USING INDEX chosen_id;
    CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
    CREATE TABLE root (id int, r int, PRIMARY KEY (id, r)) PARTITION BY LIST (r);
    CREATE TABLE mid PARTITION OF root FOR VALUES IN (1, 2) PARTITION BY LIST (r);
    CREATE TABLE far.leaf PARTITION OF mid FOR VALUES IN (1);
    CREATE TABLE leaf PARTITION OF mid FOR VALUES IN (2);
    CREATE TABLE side PARTITION OF root FOR VALUES IN (3);
    CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent)";

async fn listed(sql: &Client, query: &str) -> String {
    let query = format!("SELECT coalesce(string_agg(t, ' ' ORDER BY t), '') FROM ({query}) q (t)");
    sql.query_one(&query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn the_catalog_alone_says_what_the_servers_functions_say() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        let sql = server.client("postgres").await;
        sql.batch_execute(SCHEMA).await.unwrap();
        let major: u32 = version.parse().unwrap();
        let mut publications = vec!["FOR ALL TABLES", "FOR TABLE plain, root", "FOR TABLE mid", ""];
        if major >= 15 {
            publications.extend([
                "FOR TABLE far.leaf, root, parent",
                "FOR TABLES IN SCHEMA far",
                "FOR TABLES IN SCHEMA public, TABLE far.leaf",
            ]);
        }
        for (at, wanted) in publications.iter().enumerate() {
            for via_root in [true, false] {
                let name = format!("p{at}_{via_root}");
                sql.batch_execute(&format!(
                    "CREATE PUBLICATION {name} {wanted}
                         WITH (publish_via_partition_root = {via_root})"
                ))
                .await
                .unwrap();
                let theirs = format!(
                    "SELECT schemaname || '.' || tablename FROM pg_publication_tables
                         WHERE pubname = '{name}'"
                );
                let ours = format!(
                    "SELECT n.nspname || '.' || c.relname FROM pg_publication p
                         CROSS JOIN LATERAL {} t JOIN pg_class c ON c.oid = t.relid
                         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = '{name}'",
                    sent_tables(major)
                );
                let (theirs, ours) = (listed(&sql, &theirs).await, listed(&sql, &ours).await);
                assert_eq!(ours, theirs, "{wanted}, {via_root} on {version}");
            }
        }
        let of_all = |what: &str| {
            format!(
                "SELECT c.oid::regclass || ':' || coalesce({what}, 0)::oid FROM pg_class c
                     WHERE relkind IN ('r', 'p') AND c.oid >= 16384"
            )
        };
        let ours = of_all(&identity_index("c"));
        let theirs = of_all("pg_get_replica_identity_index(c.oid)");
        assert_eq!(listed(&sql, &ours).await, listed(&sql, &theirs).await, "{version}");
        for root in ["root", "mid", "leaf"] {
            let oid = format!("'{root}'::regclass::oid");
            let ours = format!("SELECT relid::regclass::text FROM {} t", partition_tree(&oid));
            let theirs = format!("SELECT relid::regclass::text FROM pg_partition_tree('{root}')");
            assert_eq!(listed(&sql, &ours).await, listed(&sql, &theirs).await, "{version}");
        }
    }
}
