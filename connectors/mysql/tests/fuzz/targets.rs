//! What is fuzzed of MySQL and MariaDB: all that reads the server's bytes, what holds whatever the
//! bytes, and inputs to begin with, made of events of real servers (`data/events.jsonl`), the type table
//! and the statements of the tests beside this.

#[path = "gtids.rs"]
mod gtids;
#[path = "json.rs"]
mod json;
#[path = "log.rs"]
mod log;
#[path = "login.rs"]
mod login;
#[path = "packed.rs"]
mod packed;
#[path = "packets.rs"]
mod packets;
#[path = "statements.rs"]
mod statements;
#[path = "stream.rs"]
mod stream;
#[path = "values.rs"]
mod values;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rowtide_mysql::binlog::event::{HEADER, kind};
use rowtide_mysql::binlog::rows::{Rows, Value};
use rowtide_mysql::binlog::table_map::{MappedColumn, TableMap};

use crate::frame::{Check, ROOT, Target, lines, unhex};

/// The target of a name. `tests/fuzz/run.sh` lists them, `fuzz.rs` has a test of each.
pub(crate) fn target(name: &str) -> Target {
    match name {
        "mysql_events" => log::events(),
        "mysql_tables" => log::tables(),
        "mysql_rows" => log::rows(),
        "mysql_packed" => packed::target(),
        "mysql_values" => values::target(),
        "mysql_json" => json::target(),
        "mysql_gtids" => gtids::target(),
        "mysql_statements" => statements::target(),
        "mysql_packets" => packets::target(),
        "mysql_login" => login::target(),
        "mysql_stream" => stream::target(),
        _ => panic!("no fuzz target {name}"),
    }
}

fn checks(all: &[fn(&[u8])]) -> Vec<Check> {
    all.iter().map(|check| -> Check { Box::new(*check) }).collect()
}

/// The recorded events of servers of a name, whole but without a checksum.
pub(crate) fn recorded_of(server: &str) -> Vec<Vec<u8>> {
    let lines = lines(&Path::new(ROOT).join("connectors/mysql/tests/data/events.jsonl"));
    let of_it = lines.iter().filter(|line| line["server"] == server);
    of_it.map(|line| unhex(line["event"].as_str().unwrap())).collect()
}

/// The recorded events of all servers, each body once.
pub(crate) fn recorded() -> Vec<Vec<u8>> {
    let mut events = [recorded_of("mysql"), recorded_of("mariadb")].concat();
    let mut bodies = HashSet::new();
    events.retain(|event| bodies.insert((event[4], event[HEADER..].to_vec())));
    events
}

/// The type and the body of each recorded event.
fn bodies() -> impl Iterator<Item = (u8, Vec<u8>)> {
    recorded().into_iter().map(|event| (event[4], event[HEADER..].to_vec()))
}

/// A recorded event of rows, behind the description of its table.
struct Described {
    is_mariadb: bool,
    map: Vec<u8>,
    event: u8,
    body: Vec<u8>,
}

fn described() -> Vec<Described> {
    let mut all = Vec::new();
    for (server, is_mariadb) in [("mysql", false), ("mariadb", true)] {
        let mut maps = HashMap::new();
        for whole in recorded_of(server) {
            let (event, body) = (whole[4], whole[HEADER..].to_vec());
            if event == kind::TABLE_MAP {
                maps.insert(TableMap::id(&body).unwrap(), body);
            } else if let Ok(rows) = Rows::parse(event, &body)
                && let Some(map) = maps.get(&rows.table_id)
            {
                all.push(Described { is_mariadb, map: map.clone(), event, body });
            }
        }
    }
    all
}

/// A column of a recorded image, its value, and whether that is changes to the one before.
type Recorded = (MappedColumn, Option<Vec<u8>>, bool);

/// The images of recorded rows.
fn recorded_rows() -> Vec<Vec<Recorded>> {
    let mut all = Vec::new();
    for Described { is_mariadb, map, event, body } in described() {
        let map = TableMap::parse(&map, is_mariadb).unwrap();
        let mut images = Rows::parse(event, &body).unwrap().images();
        while images.has_more() {
            let mut columns = map.columns.iter().cloned();
            let mut row = Vec::new();
            let push = |value: Value<'_>, _| {
                let (raw, is_diff) = match value {
                    Value::Bytes(raw) => (Some(raw.to_vec()), false),
                    Value::JsonDiff(raw) => (Some(raw.to_vec()), true),
                    Value::Absent | Value::Null => (None, false),
                };
                row.push((columns.next().unwrap(), raw, is_diff));
            };
            images.next_image(&map, push).unwrap();
            all.push(row);
        }
    }
    all
}

/// Two parts of an input: the first behind its length.
fn halves(input: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = input.split_first_chunk::<2>() else { return (&[], input) };
    rest.split_at(rest.len().min(u16::from_le_bytes(*len).into()))
}

/// What [`halves`] takes apart.
fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    [&u16::try_from(first.len()).unwrap().to_le_bytes(), first, second].concat()
}
