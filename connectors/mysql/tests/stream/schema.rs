//! Tables that come, change and go while the stream runs, and while it does not.

use rowtide_testkit::Flavor;
use rowtide_testkit::host::{Event, Host};

use crate::host::{Setup, server, server_without_gtids};

fn texts(host: &Host) -> Vec<String> {
    host.events.iter().map(Event::in_json).collect()
}

#[tokio::test]
async fn m32_a_table_made_of_a_query_comes_with_its_rows() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v text);");
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 'a'), (2, 'b');
             CREATE TABLE made (PRIMARY KEY (id)) AS SELECT id, v FROM t ORDER BY id;
             CREATE TABLE bare SELECT 7 AS n; CREATE TABLE none SELECT * FROM t WHERE id > 5;
             INSERT INTO none VALUES (3, 'c')",
        );
        host.until(6).await;
        let expected = [
            r#"c shop.t none > {"id":1,"v":"a"}"#,
            r#"c shop.t none > {"id":2,"v":"b"}"#,
            r#"c shop.made none > {"id":1,"v":"a"}"#,
            r#"c shop.made none > {"id":2,"v":"b"}"#,
            r#"c shop.bare none > {"n":7}"#,
            r#"c shop.none none > {"id":3,"v":"c"}"#,
        ];
        assert_eq!(texts(&host), expected, "{}", flavor.name());
        host.stop().await;
    }
}

#[tokio::test]
async fn m33_m35_statements_of_several_tables_and_of_keys_that_were_there() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop; CREATE TABLE a (id int PRIMARY KEY, n int);
             CREATE TABLE b (id int PRIMARY KEY, n int); CREATE TABLE log (id int, n int);
             CREATE TABLE k (id int PRIMARY KEY, u int UNIQUE, v int);
             CREATE TABLE unwanted (id int PRIMARY KEY, n int);
             CREATE TRIGGER tr AFTER UPDATE ON b FOR EACH ROW INSERT INTO log VALUES (NEW.id, NEW.n);
             CREATE TRIGGER tu AFTER UPDATE ON unwanted FOR EACH ROW INSERT INTO log VALUES (-NEW.id, NEW.n);
             INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); INSERT INTO unwanted VALUES (1, 1);
             INSERT INTO k VALUES (1, 1, 1), (2, 2, 2)",
        );
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop;
             UPDATE a, b, unwanted SET a.n = 5, b.n = 6, unwanted.n = 7
                WHERE a.id = b.id AND unwanted.id = a.id",
        );
        host.until(4).await;
        let mut got = texts(&host);
        got.sort();
        let expected = [
            r#"c shop.log none > {"id":-1,"n":7}"#,
            r#"c shop.log none > {"id":1,"n":6}"#,
            r#"u shop.a {"id":1,"n":1} > {"id":1,"n":5}"#,
            r#"u shop.b {"id":1,"n":1} > {"id":1,"n":6}"#,
        ];
        assert_eq!(got, expected, "{}", flavor.name());
        server.sql(
            "USE shop; INSERT INTO k VALUES (1, 9, 9) ON DUPLICATE KEY UPDATE id = 7, v = 8;
             REPLACE INTO k VALUES (3, 2, 3); DELETE FROM k",
        );
        while host.events.last().unwrap().op != "d" || host.events.len() < 8 {
            host.batch().await;
        }
        let got = texts(&host);
        assert_eq!(got[4], r#"u shop.k {"id":1,"u":1,"v":1} > {"id":7,"u":1,"v":8}"#);
        // What is left is what the table holds.
        let mut rows = std::collections::BTreeSet::from([r#"{"id":2,"u":2,"v":2}"#.to_owned()]);
        let replace: Vec<&Event> = host.events[5..]
            .iter()
            .take_while(|event| event.id != host.events[host.events.len() - 1].id)
            .collect();
        for event in replace.iter().take(replace.len().saturating_sub(1)) {
            let [before, after] = event.json.clone();
            before.map(|row| rows.remove(&row));
            after.map(|row| rows.insert(row));
        }
        assert_eq!(rows, [r#"{"id":3,"u":2,"v":3}"#.to_owned()].into(), "{got:#?}");
        host.stop().await;
    }
}

#[tokio::test]
async fn m39_m41_m46_each_row_is_read_by_the_table_that_was_in_force() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v varchar(20));",
        );
        let setup = Setup::new(&server);
        let host = setup.ready().await;
        let position = host.stop().await;
        let steps = [
            ("", "1, 'a'", r#"{"id":1,"v":"a"}"#),
            ("ALTER TABLE t ADD COLUMN n int FIRST", "0, 2, 'b'", r#"{"n":0,"id":2,"v":"b"}"#),
            (
                "ALTER TABLE t MODIFY v varchar(20) CHARACTER SET latin1 AFTER n",
                "1, 'é', 3",
                r#"{"n":1,"v":"é","id":3}"#,
            ),
            ("ALTER TABLE t RENAME COLUMN v TO w", "1, 'c', 4", r#"{"n":1,"w":"c","id":4}"#),
            (
                "ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4",
                "1, '€', 5",
                r#"{"n":1,"w":"€","id":5}"#,
            ),
            (
                "ALTER TABLE t MODIFY n tinyint unsigned",
                "200, 'd', 6",
                r#"{"n":200,"w":"d","id":6}"#,
            ),
            ("ALTER TABLE t DROP COLUMN n", "'e', 7", r#"{"w":"e","id":7}"#),
            (
                "ALTER TABLE t ADD COLUMN e enum('x','y') DEFAULT 'x'",
                "'f', 8, 'y'",
                r#"{"w":"f","id":8,"e":"y"}"#,
            ),
            ("ALTER TABLE t MODIFY e enum('y','x')", "'g', 9, 'y'", r#"{"w":"g","id":9,"e":"y"}"#),
            ("ALTER TABLE t ADD INDEX (w)", "'h', 10, 'x'", r#"{"w":"h","id":10,"e":"x"}"#),
            (
                "DROP TABLE t; CREATE TABLE t (id bigint PRIMARY KEY, d date)",
                "1, '2026-01-02'",
                r#"{"id":1,"d":"2026-01-02"}"#,
            ),
            ("RENAME TABLE t TO u, u TO v, v TO t", "2, NULL", r#"{"id":2,"d":null}"#),
            (
                "CREATE TABLE s LIKE t; RENAME TABLE t TO old, s TO t",
                "3, NULL",
                r#"{"id":3,"d":null}"#,
            ),
            ("ALTER TABLE t RENAME TO x; CREATE TABLE t (a int)", "4", r#"{"a":4}"#),
        ];
        let mut script = "USE shop;".to_owned();
        for (change, values, _) in &steps {
            script.push_str(&format!("{change}; INSERT INTO t VALUES ({values});"));
        }
        server.sql(
            &script
                .replace(";;", ";")
                .replace("USE shop;;", "USE shop;")
                .replace("USE shop;; ", ""),
        );
        let mut host = setup.from(position).run();
        host.until(steps.len()).await;
        let expected: Vec<String> =
            steps.iter().map(|(_, _, row)| format!("c shop.t none > {row}")).collect();
        assert_eq!(texts(&host), expected, "{}", flavor.name());
        host.stop().await;
    }
}

/// What gh-ost and pt-online-schema-change do, as the log sees it.
#[tokio::test]
async fn m42_shadow_tables_are_passed_over_until_they_have_the_name() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, v text);");
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1, 'a');
             CREATE TABLE _t_ghc (id int PRIMARY KEY, v text); INSERT INTO _t_ghc VALUES (1, 'log');
             CREATE TABLE _t_gho LIKE t; ALTER TABLE _t_gho ADD COLUMN n int;
             INSERT INTO _t_gho (id, v) SELECT id, v FROM t; INSERT INTO t VALUES (2, 'b');
             REPLACE INTO _t_gho (id, v) VALUES (2, 'b');
             RENAME TABLE t TO _t_del, _t_gho TO t; INSERT INTO t VALUES (3, 'c', 3);
             DELETE FROM _t_del; DROP TABLE _t_ghc, _t_del;
             CREATE TABLE _t_new LIKE t; ALTER TABLE _t_new DROP COLUMN v;
             CREATE TRIGGER pt_osc_shop_t_ins AFTER INSERT ON t FOR EACH ROW
                REPLACE INTO _t_new (id, n) VALUES (NEW.id, NEW.n);
             INSERT INTO t VALUES (4, 'd', 4); INSERT IGNORE INTO _t_new (id, n) SELECT id, n FROM t;
             RENAME TABLE t TO _t_old, _t_new TO t; DROP TABLE _t_old; INSERT INTO t VALUES (5, 5)",
        );
        host.until(5).await;
        let expected = [
            r#"c shop.t none > {"id":1,"v":"a"}"#,
            r#"c shop.t none > {"id":2,"v":"b"}"#,
            r#"c shop.t none > {"id":3,"v":"c","n":3}"#,
            r#"c shop.t none > {"id":4,"v":"d","n":4}"#,
            r#"c shop.t none > {"id":5,"n":5}"#,
        ];
        assert_eq!(texts(&host), expected, "{}", flavor.name());
        host.stop().await;
    }
}

#[tokio::test]
async fn m44_names_of_any_case_where_the_server_knows_none() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &["lower_case_table_names=1"]) else { return };
        server.sql("CREATE DATABASE Shop; USE SHOP; CREATE TABLE T (Id int PRIMARY KEY);");
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE SHOP; INSERT INTO T VALUES (1); TRUNCATE TABLE T; ALTER TABLE T ADD COLUMN N int;
             INSERT INTO t VALUES (2, 2); TRUNCATE Shop.T; CREATE TABLE Unwanted (id int);
             TRUNCATE UNWANTED; INSERT INTO T VALUES (3, 3)",
        );
        host.until(5).await;
        let expected = [
            r#"c shop.t none > {"Id":1}"#,
            "t shop.t none > none",
            r#"c shop.t none > {"Id":2,"N":2}"#,
            "t shop.t none > none",
            r#"c shop.t none > {"Id":3,"N":3}"#,
        ];
        assert_eq!(texts(&host), expected, "{}", flavor.name());
        host.stop().await;
    }
}

#[tokio::test]
async fn m44_m45_hidden_and_generated_columns_are_columns() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql("CREATE DATABASE shop");
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; CREATE TABLE t (id int PRIMARY KEY, a int INVISIBLE DEFAULT 5,
                s int GENERATED ALWAYS AS (id * 2) STORED, v int GENERATED ALWAYS AS (id * 3) VIRTUAL);
             INSERT INTO t (id) VALUES (1); UPDATE t SET id = 2",
        );
        host.until(2).await;
        let expected = [
            r#"c shop.t none > {"id":1,"a":5,"s":2,"v":3}"#,
            r#"u shop.t {"id":1,"a":5,"s":2,"v":3} > {"id":2,"a":5,"s":4,"v":6}"#,
        ];
        assert_eq!(texts(&host), expected, "{}", flavor.name());
        if flavor == Flavor::Mysql {
            server.sql(
                "USE shop; SET SESSION sql_generate_invisible_primary_key = ON;
                 CREATE TABLE g (a int); INSERT INTO g VALUES (4)",
            );
            host.until(3).await;
            assert_eq!(texts(&host)[2], r#"c shop.g none > {"my_row_id":1,"a":4}"#);
            assert_eq!(host.tables.last().unwrap().primary_key, [0]);
        }
        host.stop().await;
    }
}

/// Statements of temporary tables concern no others, whatever their names.
#[tokio::test]
async fn m44_temporary_tables_are_nobody_elses() {
    for flavor in Flavor::ALL {
        let Some(server) = server_without_gtids(flavor) else { return };
        server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY);");
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1); SET SESSION binlog_format = 'MIXED';
             CREATE TEMPORARY TABLE t (a int, b int); ALTER TABLE t ADD COLUMN c int;
             TRUNCATE t; ALTER TABLE t RENAME TO tmp; ALTER TABLE tmp RENAME TO t;
             DROP TEMPORARY TABLE t; SET SESSION binlog_format = 'ROW'; INSERT INTO t VALUES (2)",
        );
        host.until(2).await;
        let expected = [r#"c shop.t none > {"id":1}"#, r#"c shop.t none > {"id":2}"#];
        assert_eq!(texts(&host), expected, "{}", flavor.name());
        host.stop().await;
    }
}

/// Rows that go with a partition are not in the log; what stays is read on.
#[tokio::test]
async fn m37_partitions_come_and_go_without_rows() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)
             (PARTITION a VALUES LESS THAN (10), PARTITION b VALUES LESS THAN (20),
              PARTITION c VALUES LESS THAN (30)); CREATE TABLE x (id int PRIMARY KEY);",
        );
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (1), (11), (21); ALTER TABLE t TRUNCATE PARTITION b;
             ALTER TABLE t EXCHANGE PARTITION c WITH TABLE x; INSERT INTO t VALUES (12);
             ALTER TABLE t DROP PARTITION a; TRUNCATE t; INSERT INTO t VALUES (13)",
        );
        host.until(6).await;
        let row = |id: u32| format!("c shop.t none > {{\"id\":{id}}}");
        let truncated = "t shop.t none > none".to_owned();
        assert_eq!(texts(&host), [row(1), row(11), row(21), row(12), truncated, row(13)]);
        host.stop().await;
    }
}

/// What a captured table cannot be read with is no matter in one that is not.
#[tokio::test]
async fn m64_compressed_columns_are_refused_where_they_are_wanted() {
    let Some(server) = server(Flavor::Mariadb, &[]) else { return };
    server.sql("CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY);");
    let mut host = Setup::new(&server).ready().await;
    server.sql(
        "USE shop; CREATE TABLE unwanted (id int PRIMARY KEY, v text COMPRESSED, w varchar(9) COMPRESSED);
         INSERT INTO unwanted VALUES (1, 'a', 'b'); UPDATE unwanted SET v = 'c'; INSERT INTO t VALUES (1)",
    );
    host.until(1).await;
    server.sql(
        "USE shop; CREATE TABLE wanted (id int PRIMARY KEY, v text COMPRESSED);
         INSERT INTO wanted VALUES (1, 'a')",
    );
    let error = host.error().await;
    assert_eq!(error.code().0, "RT2801", "{error}");
    let text = error.to_string();
    assert!(text.contains("shop.wanted") && text.contains("type 140"), "{text}");
    assert_eq!(host.events.len(), 1);
}

#[tokio::test]
async fn m64_old_temporal_columns_are_read() {
    let settings = ["mysql56_temporal_format=OFF", "default_time_zone=+00:00"];
    let Some(server) = server(Flavor::Mariadb, &settings) else { return };
    server.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE t (id int PRIMARY KEY, t time, d datetime,
            s timestamp NULL);",
    );
    let mut host = Setup::new(&server).ready().await;
    server.sql(
        "USE shop; INSERT INTO t VALUES (1, '-838:59:59', '9999-12-31 23:59:59', '2038-01-19 03:14:07'),
            (2, '00:00:01', '1000-01-01 00:00:00', '1970-01-01 00:00:01'), (3, NULL, NULL, NULL)",
    );
    host.until(3).await;
    let expected = [
        r#"c shop.t none > {"id":1,"t":"-838:59:59.000000","d":"9999-12-31T23:59:59.000000","s":"2038-01-19T03:14:07.000000Z"}"#,
        r#"c shop.t none > {"id":2,"t":"00:00:01.000000","d":"1000-01-01T00:00:00.000000","s":"1970-01-01T00:00:01.000000Z"}"#,
        r#"c shop.t none > {"id":3,"t":null,"d":null,"s":null}"#,
    ];
    assert_eq!(texts(&host), expected);
    host.stop().await;
}
