//! Values of every type, through the stream.

use std::fmt::Write as _;

use rowtide_mysql::decode::decoding;
use rowtide_sdk::JsonWriter;
use rowtide_testkit::Flavor;
use rowtide_testkit::host::Event;
use serde_json::Value;

use crate::common::{Owned, written};
use crate::host::{Setup, server};

/// The type table's rows that a server takes, as types and literals. What the log does not tell from
/// BINARY is tested with the catalog.
fn rows(flavor: Flavor) -> Vec<(String, String)> {
    let lines = include_str!("../data/types.jsonl").lines();
    let rows = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_known = |row: &Value| {
        !matches!(row["type"].as_str().unwrap(), "inet4" | "inet6" | "uuid")
            && row["only"].as_str().is_none_or(|only| only == flavor.name())
            && !(flavor == Flavor::Mysql && row["mysql_error"].is_string())
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    rows.filter(is_known).map(|row| (text(&row["type"]), text(&row["literal"]))).collect()
}

/// What the log holds of them is compared with what the servers print where the decoders are tested;
/// here the same values come in the same order, also inside wide rows.
#[tokio::test]
async fn m52_every_row_of_the_type_table_comes_through_the_stream() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &["default_time_zone=+00:00"]) else { return };
        let mut host = Setup::new(&server).ready().await;
        let rows = rows(flavor);
        let mut statements =
            "SET sql_mode='NO_ENGINE_SUBSTITUTION'; CREATE DATABASE t CHARACTER SET utf8mb4; USE t;"
                .to_owned();
        for (at, (type_name, literal)) in rows.iter().enumerate() {
            let _ = write!(
                statements,
                "CREATE TABLE t{at} (id int PRIMARY KEY, v {type_name}, n int, w {type_name});
                 INSERT INTO t{at} (id, v, w) VALUES (1, {literal}, {literal});
                 UPDATE t{at} SET n = 2;"
            );
        }
        server.sql(&statements);
        host.until(2 * rows.len()).await;
        let mut images = host.events.iter().flat_map(|event| event.json.iter().flatten());
        let mut seen = 0;
        for (_, table, values) in written(&server) {
            let mut expected = JsonWriter::default();
            for (column, value) in table.columns.iter().zip(&values) {
                expected.byte(if expected.is_empty() { b'{' } else { b',' });
                expected.string(column.name.as_deref().unwrap());
                expected.byte(b':');
                match value {
                    Owned::Bytes(raw) => {
                        decoding(column).unwrap().decode.write(raw, &mut expected).unwrap();
                    }
                    _ => expected.null(),
                }
            }
            expected.byte(b'}');
            let expected = String::from_utf8(expected.into_inner()).unwrap();
            assert_eq!(images.next(), Some(&expected), "{} {}", flavor.name(), table.name);
            seen += 1;
        }
        assert_eq!((seen, images.next()), (3 * rows.len(), None));
        host.stop().await;
    }
}

/// The log states a collation for VECTOR (MySQL) and for geometries (MariaDB) too, among those of text.
#[tokio::test]
async fn m62_vectors_and_geometries_leave_the_text_beside_them_its_character_set() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        let mut host = Setup::new(&server).ready().await;
        let shapes = match flavor {
            Flavor::Mysql => "v vector(2), g geometry, p point",
            Flavor::Mariadb => "v geometry, g point, p polygon",
        };
        // Where most columns have one collation the log states that once, and else each.
        server.sql(&format!(
            "CREATE DATABASE t CHARACTER SET utf8mb4; USE t;
             CREATE TABLE most (id int PRIMARY KEY, {shapes}, a text CHARACTER SET latin1, b text,
               c text, d text, e text, f blob, g2 geometry, h text);
             INSERT INTO most (id, a, b, h) VALUES (1, 'é', 'ü', 'ö');
             CREATE TABLE few (id int PRIMARY KEY, a text CHARACTER SET latin1, {shapes},
               b varchar(5) CHARACTER SET sjis, c varchar(5) CHARACTER SET gbk, d blob);
             INSERT INTO few (id, a, b, c, d) VALUES (1, 'é', 'ソ', '你', 'a');"
        ));
        host.until(2).await;
        let texts: Vec<String> = host.events.iter().map(Event::in_json).collect();
        let expected = [
            r#"c t.most none > {"id":1,"v":null,"g":null,"p":null,"a":"é","b":"ü","c":null,"d":null,"e":null,"f":null,"g2":null,"h":"ö"}"#,
            r#"c t.few none > {"id":1,"a":"é","v":null,"g":null,"p":null,"b":"ソ","c":"你","d":"YQ=="}"#,
        ];
        assert_eq!(texts, expected, "{}", flavor.name());
        host.stop().await;
    }
}

/// The values of the new rows, as JSON.
fn new_rows(events: &[Event]) -> Vec<Value> {
    let row = |event: &Event| serde_json::from_str(event.json[1].as_deref().unwrap()).unwrap();
    events.iter().map(row).collect()
}

/// The log has a bit for each number, and types that nobody thinks of as numbers count among them.
#[tokio::test]
async fn m56_each_number_has_the_sign_of_its_own_column() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop;
             CREATE TABLE t (id int PRIMARY KEY, a tinyint unsigned, y year, b tinyint, bits bit(3),
                c bigint unsigned, z year, d int, e decimal(4,1) unsigned, name char(3), f float unsigned,
                g mediumint unsigned, h smallint, i decimal(4,1), j double, k bigint)",
        );
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; INSERT INTO t VALUES (-1, 255, 2155, -1, b'101', 18446744073709551615, 1901, -1,
                999.9, 'abc', 1.5, 16777215, -1, -999.9, -2.5, -1)",
        );
        host.until(1).await;
        let expected = serde_json::json!({
            "id": -1, "a": 255, "y": 2155, "b": -1, "bits": "101", "c": 18_446_744_073_709_551_615_u64,
            "z": 1901, "d": -1, "e": "999.9", "name": "abc", "f": 1.5, "g": 16_777_215, "h": -1,
            "i": "-999.9", "j": -2.5, "k": -1
        });
        assert_eq!(new_rows(&host.events), [expected], "{}", flavor.name());
        host.stop().await;
    }
}

/// The log has BLOB and TEXT, and CHAR and BINARY, under one type: the collation alone tells them apart.
#[tokio::test]
async fn m65_bytes_are_told_from_text_by_the_collation() {
    for flavor in Flavor::ALL {
        let Some(server) = server(flavor, &[]) else { return };
        server.sql(
            "CREATE DATABASE shop; USE shop;
             CREATE TABLE t (id int PRIMARY KEY, a text, b blob, c varchar(5), d varbinary(5), e char(3),
                f binary(3), g longtext CHARACTER SET latin1, h tinyblob, i text CHARACTER SET binary,
                j varchar(5) COLLATE utf8mb4_bin, k mediumtext CHARACTER SET ascii)",
        );
        let mut host = Setup::new(&server).ready().await;
        server.sql(
            "USE shop; SET NAMES utf8mb4; INSERT INTO t VALUES
            (1, 'é', 'é', 'é', 'é', 'é', 'é', 'é', 'é', 'é', 'é', 'e')",
        );
        host.until(1).await;
        // C3 A9, and with the zero that BINARY is padded with.
        let expected = serde_json::json!({
            "id": 1, "a": "é", "b": "w6k=", "c": "é", "d": "w6k=", "e": "é", "f": "w6kA", "g": "é",
            "h": "w6k=", "i": "w6k=", "j": "é", "k": "e"
        });
        assert_eq!(new_rows(&host.events), [expected], "{}", flavor.name());
        host.stop().await;
    }
}

/// An index of an expression is a column that nobody sees, and one of an array has a type of its own.
#[tokio::test]
async fn m66_indexes_of_expressions_and_arrays_are_no_part_of_rows() {
    let Some(server) = server(Flavor::Mysql, &[]) else { return };
    server.sql(
        "CREATE DATABASE shop; USE shop;
         CREATE TABLE t (id int PRIMARY KEY, j json, v varchar(9), n int,
            KEY tags ((CAST(j->'$.tags' AS UNSIGNED ARRAY))), KEY low ((LOWER(v))), KEY twice ((n * 2)));",
    );
    let mut host = Setup::new(&server).ready().await;
    server.sql(
        "USE shop; INSERT INTO t VALUES (1, '{\"tags\": [1, 2]}', 'A', 1), (2, NULL, NULL, NULL);
         UPDATE t SET j = '{\"tags\": []}', n = 2 WHERE id = 1; DELETE FROM t WHERE id = 2;
         SET SESSION binlog_row_image = 'MINIMAL'; UPDATE t SET v = 'B' WHERE id = 1",
    );
    host.until(5).await;
    let texts: Vec<String> = host.events.iter().map(Event::in_json).collect();
    let expected = [
        r#"c shop.t none > {"id":1,"j":{"tags":[1,2]},"v":"A","n":1}"#,
        r#"c shop.t none > {"id":2,"j":null,"v":null,"n":null}"#,
        r#"u shop.t {"id":1,"j":{"tags":[1,2]},"v":"A","n":1} > {"id":1,"j":{"tags":[]},"v":"A","n":2}"#,
        r#"d shop.t {"id":2,"j":null,"v":null,"n":null} > none"#,
        r#"u shop.t {"id":1} > {"id":1,"j":?,"v":"B","n":?}"#,
    ];
    assert_eq!(texts, expected);
    host.stop().await;
}
