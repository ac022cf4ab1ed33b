//! Partial updates of generated documents.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::documents::{Random, quoted};
use crate::server::Server;

/// Documents in a table.
pub(crate) const COUNT: usize = 400;

/// Fills a new table and updates each document so many times; most updates are logged as diffs.
pub(crate) fn run(server: &Server, table: &str, image: &str, rounds: usize) {
    let mut random = Random::new(7);
    let mut sql = format!(
        "set sql_mode = 'NO_BACKSLASH_ESCAPES'; set session binlog_row_image = {image};
         set session binlog_row_value_options = PARTIAL_JSON;
         create table {table} (id int primary key, doc json);\n"
    );
    let mut documents = Vec::new();
    for id in 0..COUNT {
        let mut document = random.document(5);
        while !(document.is_object() || document.is_array()) {
            document = random.document(5);
        }
        // A diff is logged where it is shorter than the document.
        let padding = "p".repeat(if id % 50 == 0 { 70_000 } else { 2000 });
        let document =
            json!({ "doc": document, "padding": padding, "list": [1, [2, 3], { "k": 4 }] });
        let text = quoted(&document.to_string());
        writeln!(sql, "insert into {table} values ({id}, {text});").expect("text");
        documents.push(document);
    }
    for round in 0..rounds {
        for (id, document) in documents.iter().enumerate() {
            let update = update(&mut random, document, id + round);
            writeln!(sql, "update {table} set doc = {update} where id = {id};").expect("text");
        }
    }
    server.sql(&sql);
}

/// An expression that changes a document; its paths are those of the document at first.
fn update(random: &mut Random, document: &Value, kind: usize) -> String {
    let mut expression = "doc".to_owned();
    for _ in 0..=random.below(3) {
        expression = match kind % 8 {
            0 | 1 => format!("json_set({expression}, {})", pairs(random, document)),
            2 => format!("json_replace({expression}, {})", pairs(random, document)),
            3 | 4 => {
                format!("json_remove({expression}, {})", quoted(&path(random, document, false)))
            }
            5 => {
                let (set, removed) = (pairs(random, document), path(random, document, false));
                format!("json_remove(json_set({expression}, {set}), {})", quoted(&removed))
            }
            6 => {
                let at =
                    ["$.list[0]", "$.list[9]", "$.list[1][1]", "$.list[last]"][random.below(4)];
                format!("json_array_insert({expression}, {}, {})", quoted(at), value(random))
            }
            _ => format!("json_array_append({expression}, {})", pairs(random, document)),
        };
    }
    expression
}

/// One to three paths with values.
fn pairs(random: &mut Random, document: &Value) -> String {
    let pair = |random: &mut Random| {
        let path = path(random, document, true);
        format!("{}, {}", quoted(&path), value(random))
    };
    (0..=random.below(3)).map(|_| pair(random)).collect::<Vec<_>>().join(", ")
}

fn value(random: &mut Random) -> String {
    match random.below(6) {
        0 => "1.50".to_owned(),
        1 => "timestamp('2020-01-01 10:00:00.25')".to_owned(),
        2 => "x'00ff'".to_owned(),
        3 => quoted(&random.string(30).replace('\0', "")),
        _ => format!("cast({} as json)", quoted(&random.document(2).to_string())),
    }
}

/// A path to some value below the root, or with `new` perhaps to one that does not exist yet.
fn path(random: &mut Random, document: &Value, new: bool) -> String {
    let mut path = "$".to_owned();
    let mut at = document;
    loop {
        let stops = path.len() > 1 && random.below(4) == 0;
        let adds = new && stops && random.below(2) == 0;
        match at {
            Value::Array(elements) if adds => {
                write!(path, "[{}]", elements.len() + random.below(3)).expect("text");
                return path;
            }
            Value::Object(_) if adds => {
                let name = Value::from(random.string(6));
                write!(path, ".{name}").expect("text");
                return path;
            }
            Value::Array(elements) if !stops && !elements.is_empty() => {
                let index = random.below(elements.len());
                let back = elements.len() - 1 - index;
                match (random.below(3), back) {
                    (0, 0) => path.push_str("[last]"),
                    (0, _) => write!(path, "[last-{back}]").expect("text"),
                    _ => write!(path, "[{index}]").expect("text"),
                }
                at = &elements[index];
            }
            Value::Object(elements) if !stops && !elements.is_empty() => {
                let (key, element) =
                    elements.iter().nth(random.below(elements.len())).expect("an element");
                write!(path, ".{}", Value::from(key.as_str())).expect("text");
                at = element;
            }
            _ => return path,
        }
    }
}
