//! Rows of all operations, as the log has them.

use rowtide_testkit::Flavor;

use crate::host::{Place as _, Setup, server};

const TABLES: &str = "CREATE DATABASE shop; USE shop;
    CREATE TABLE t (id int PRIMARY KEY, v varchar(40), n int);
    CREATE TABLE keyless (a int, b varchar(10));
    CREATE TABLE unwanted (id int PRIMARY KEY);";

#[tokio::test]
async fn m34_rows_come_with_both_images_in_the_order_of_the_log() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(TABLES);
        let setup = Setup::new(&server);
        let mut host = setup.ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 'one', NULL), (2, 'two', 2);
             INSERT INTO unwanted VALUES (1); UPDATE t SET n = id + 10;
             INSERT INTO keyless VALUES (1, 'x'); UPDATE t SET id = 3 WHERE id = 2;
             DELETE FROM t WHERE id = 1; TRUNCATE t; TRUNCATE keyless",
        );
        let texts = host.until(9).await;
        let ops: Vec<&str> = texts.iter().map(|text| &text[..1]).collect();
        assert_eq!(ops.concat(), "ccuucudtt", "{texts:#?}");
        assert_eq!(texts[8], "t shop.keyless none > none");
        let ids: Vec<&str> = host.events.iter().map(|event| event.id.as_str()).collect();
        let suffix = |id: &str| id.rsplit(':').next().unwrap().to_owned();
        let indexes: Vec<String> = ids.iter().map(|id| suffix(id)).collect();
        assert_eq!(indexes, ["0", "1", "0", "1", "0", "0", "0", "0", "0"], "{ids:?}");
        let place = host.place();
        assert!(place.gtids.is_some() && place.in_tx.is_none() && place.pending.is_empty());
        host.stop().await;
    }
}
