//! What the catalog said of a table is not used again where a statement changed it since, also where a restart
//! comes between the statement and the next row.

use rowtide_testkit::{Flavor, Mysql};
use serde_json::{Value, json};

use crate::host::Setup;
use crate::mysql::configured;

/// Statements on a table after which its rows are as long and of the same types as before, or nearly; what is
/// inserted then; and what must come.
type Case = (&'static str, &'static str, fn(i64) -> Value);

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, email varchar(50), note varchar(50),
    e enum('x','y'), u int DEFAULT 1)";

const CASES: [Case; 7] = [
    (
        "ALTER TABLE t MODIFY note varchar(50) AFTER id",
        "(id, email, note, e, u) VALUES ({}, 'secret', 'note', 'x', 5)",
        |id| json!({"id": id, "note": "note", "e": "x", "u": 5}),
    ),
    (
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, note varchar(50), email varchar(50), u int)",
        "(id, email, note, u) VALUES ({}, 'secret', 'note', 5)",
        |id| json!({"id": id, "note": "note", "u": 5}),
    ),
    (
        "CREATE TABLE n LIKE t; ALTER TABLE n MODIFY email varchar(50) AFTER u; RENAME TABLE t TO _t_old, n TO t",
        "(id, email, note, e, u) VALUES ({}, 'secret', 'note', 'x', 5)",
        |id| json!({"id": id, "note": "note", "e": "x", "u": 5}),
    ),
    (
        "ALTER TABLE t ADD phone varchar(50) AFTER email, DROP note",
        "(id, email, phone, e, u) VALUES ({}, 'secret', 'phone', 'x', 5)",
        |id| json!({"id": id, "phone": "phone", "e": "x", "u": 5}),
    ),
    (
        "ALTER TABLE t MODIFY e enum('new','x','y')",
        "(id, email, note, e, u) VALUES ({}, 'secret', 'note', 'x', 5)",
        |id| json!({"id": id, "note": "note", "e": "x", "u": 5}),
    ),
    (
        "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (u)",
        "(id, email, note, e, u) VALUES (5, 'secret', 'note', 'x', {})",
        |id| json!({"id": 5, "note": "note", "e": "x", "u": id}),
    ),
    (
        "ALTER TABLE t RENAME COLUMN note TO a; ALTER TABLE t RENAME COLUMN u TO note;
         ALTER TABLE t RENAME COLUMN a TO u",
        "(id, email, note, e, u) VALUES ({}, 'secret', 5, 'x', 'u')",
        |id| json!({"id": id, "note": 5, "e": "x", "u": "u"}),
    ),
];

const ADDRESSES: &str =
    "CREATE TABLE t (id int PRIMARY KEY, email varchar(50), u uuid, b binary(16))";

const UUID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

/// The same of columns that MariaDB's log never tells apart.
const ADDRESS_CASES: [Case; 3] = [
    (
        "ALTER TABLE t MODIFY u binary(16)",
        "VALUES ({}, 'secret', 'aaaaaaaaaaaaaaaa', 'b')",
        |id| json!({"id": id, "u": "YWFhYWFhYWFhYWFhYWFhYQ==", "b": "YgAAAAAAAAAAAAAAAAAAAA=="}),
    ),
    (
        "ALTER TABLE t RENAME COLUMN u TO b, RENAME COLUMN b TO u",
        "VALUES ({}, 'secret', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'b')",
        |id| json!({"id": id, "b": UUID, "u": "YgAAAAAAAAAAAAAAAAAAAA=="}),
    ),
    (
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, email varchar(50), u binary(16), b uuid)",
        "VALUES ({}, 'secret', 'u', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')",
        |id| json!({"id": id, "u": "dQAAAAAAAAAAAAAAAAAAAA==", "b": UUID}),
    ),
];

fn rows(setup: &Setup) -> Vec<Value> {
    setup.events().remove("shop.shop.t").unwrap_or_default()
}

/// Runs a case on a new database: a row, the statements, another table's row so that the position is behind
/// them, a restart, a row, another restart, another row. In every third case the first row and the statements
/// arrive in one batch.
fn restarted(server: &Mysql, metadata: &str, table: &str, (round, case): (usize, &Case)) {
    let (change, insert, expected) = case;
    let (freezes, kills) = (round % 3 == 0, round % 2 == 0);
    server.sql(&format!(
        "DROP DATABASE IF EXISTS shop; CREATE DATABASE shop; USE shop; {table}; CREATE TABLE o (id int PRIMARY KEY)"
    ));
    let setup = configured(server);
    let path = setup.path("rowtide.yaml");
    let hidden = "    tables:\n      shop.t: { columns: { exclude: [email] } }\n    snapshot";
    let config = std::fs::read_to_string(&path).unwrap().replace("    snapshot", hidden);
    std::fs::write(&path, config).unwrap();
    let mut host = setup.first_start();
    if freezes {
        // What the catalog says is read before, where names are needed; else the statement says it.
        host.until_logged(": streaming");
        host.freeze();
        if metadata == "FULL" {
            server.sql(&format!("USE shop; DROP TABLE t; {table}"));
        }
    }
    server.sql("INSERT INTO shop.t (id, email) VALUES (1, 'secret')");
    if !freezes {
        host.until("the first row is there", || rows(&setup).len() == 1);
    }
    server.sql(&format!("USE shop; {change}; INSERT INTO o VALUES (1)"));
    if freezes {
        host.thaw();
    }
    host.until("the other table's row is there", || setup.count() == 2);
    for id in [2_usize, 3] {
        // Killed only once the position is behind the statements.
        if id == 3 && kills {
            host.kill();
        } else {
            assert_eq!(host.stop(), Some(0), "{}", host.log());
        }
        host = setup.start();
        let values = insert.replace("{}", &id.to_string());
        server.sql(&format!("INSERT INTO shop.t {values}"));
        host.until(change, || rows(&setup).len() == id);
        let row = &rows(&setup)[id - 1];
        assert_eq!(row["after"], expected(i64::try_from(id).unwrap()), "{change}");
        let key = if change.contains("PRIMARY KEY (u)") { "u" } else { "id" };
        assert_eq!(row["key"], json!({ key: id }), "{change}");
    }
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    assert!(!format!("{:?}", setup.events()).contains("secret"), "{change}");
}

#[test]
fn m40_a_restart_behind_an_alter_does_not_bring_the_old_table_back() {
    for flavor in Flavor::ALL {
        let all: &[&str] = match flavor {
            Flavor::Mysql => &["MINIMAL", "FULL"],
            Flavor::Mariadb => &["MINIMAL", "NO_LOG", "FULL"],
        };
        for metadata in all {
            let setting = format!("binlog_row_metadata={metadata}");
            let Some(server) = Mysql::start(flavor, &[setting.as_str()]) else { return };
            for case in CASES.iter().enumerate() {
                restarted(&server, metadata, TABLE, case);
            }
            if flavor == Flavor::Mariadb {
                for case in ADDRESS_CASES.iter().enumerate() {
                    restarted(&server, metadata, ADDRESSES, case);
                }
            }
        }
    }
}
