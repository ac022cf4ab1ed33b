//! A stream told in short lines, each record proven on the way.

use std::collections::HashMap;

use jsonschema::Validator;
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::Value;

use crate::host::{Running, Setup, sql, sql_each};

/// Runs a test on a server of each version.
#[allow(clippy::print_stdout, reason = "says which version a failure is of")]
pub(crate) fn on_each_version(test: impl Fn(&Postgres, u32)) {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { continue };
        println!("PostgreSQL {version}");
        test(&server, version.parse().unwrap());
    }
}

/// A running connector to standard output, and what it printed.
pub(crate) struct Stream<'a> {
    pub(crate) server: &'a Postgres,
    pub(crate) setup: Setup,
    pub(crate) host: Running,
    /// Lines that were told already.
    told: usize,
}

impl<'a> Stream<'a> {
    /// Prepares the database and starts, with more lines of the source and of the connector.
    pub(crate) fn start(
        server: &'a Postgres,
        prepare: &str,
        source: &str,
        connector: &str,
    ) -> Self {
        sql(server, prepare);
        let setup = Setup::to_lines(server, source, connector);
        let host = setup.first_start();
        Self { server, setup, host, told: 0 }
    }

    /// The lines of the default configuration.
    pub(crate) fn plain(server: &'a Postgres, prepare: &str) -> Self {
        Self::start(server, prepare, "", "")
    }

    /// Runs statements one by one, and tells what came of them; a row of the table `done` says when
    /// everything is there.
    pub(crate) fn tell(&mut self, statements: &str) -> Vec<String> {
        sql_each(self.server, statements);
        sql(self.server, "INSERT INTO done VALUES (1)");
        let Self { setup, host, told, .. } = self;
        let is_marker =
            |line: &Value| line["source"]["table"] == "done" && line.get("op").is_some();
        let markers = |lines: &[Value]| lines.iter().filter(|line| is_marker(line)).count();
        let before = markers(&setup.lines()[..*told]);
        host.until("the marker is there", || markers(&setup.lines()) > before);
        let lines = setup.lines();
        prove(&lines);
        let news = &lines[*told..];
        *told = lines.len();
        news.iter().filter(|line| line["source"]["table"] != "done").map(short).collect()
    }

    pub(crate) fn stop(mut self) -> Setup {
        assert_eq!(self.host.stop(), Some(0), "{}", self.host.log());
        self.setup
    }
}

/// The table of the markers, to be made with the others.
pub(crate) const DONE: &str = "CREATE TABLE done (n int); ALTER TABLE done REPLICA IDENTITY FULL;";

/// A record in one line: `schema t 1.1 compatible: column_added b`, or `c t 1.1 {"id":1}`.
pub(crate) fn short(line: &Value) -> String {
    let table = line["source"]["table"].as_str().unwrap();
    let version = line["schema"]["version"].as_str().unwrap();
    if let Some(op) = line.get("op") {
        let image = if line["after"].is_null() { &line["before"] } else { &line["after"] };
        return format!("{} {table} {version} {image}", op.as_str().unwrap());
    }
    let reasons: Vec<String> = line["reasons"].as_array().unwrap().iter().map(reason).collect();
    let compatibility = line["compatibility"].as_str().unwrap();
    format!("schema {table} {version} {compatibility}: {}", reasons.join(", "))
}

fn reason(reason: &Value) -> String {
    let text = |field: &str| reason[field].as_str().map(str::to_owned);
    let kind = reason["kind"].as_str().unwrap();
    let what = text("column").or_else(|| Some(format!("{}>{}", text("from")?, text("to")?)));
    let what = what.map_or(String::new(), |what| format!(" {what}"));
    let sure = if reason["certain"] == false { "?" } else { "" };
    let mark = if reason["breaking"] == true { "!" } else { "" };
    format!("{kind}{what}{sure}{mark}")
}

struct Known {
    row: Validator,
    key_image: Validator,
}

/// Every line fits its published schema; every event comes after the record of its version, whose
/// derived schema it fits, and that record names the place of its first event.
pub(crate) fn prove(lines: &[Value]) {
    let validator = |text: &str| {
        let schema: Value = serde_json::from_str(text).unwrap();
        jsonschema::options().build(&schema).unwrap()
    };
    let envelope = validator(rowtide::envelope::ENVELOPE_SCHEMA_JSON);
    let change = validator(rowtide::envelope::SCHEMA_CHANGE_JSON);
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut expected: Option<&Value> = None;
    for line in lines {
        if line.get("op").is_none() {
            assert!(change.is_valid(line), "{line:#}");
            assert!(expected.is_none(), "two schema changes in a row");
            let compile = |part: &str| jsonschema::validator_for(&line[part]).unwrap();
            let schemas = Known { row: compile("row"), key_image: compile("key_image") };
            known.insert(line["schema"].to_string(), schemas);
            expected = Some(line);
            continue;
        }
        assert!(envelope.is_valid(line), "{line:#}");
        if let Some(change) = expected.take() {
            assert_eq!(change["schema"], line["schema"]);
            assert_eq!(change["source"], line["source"]);
            assert_eq!(change["transaction"], line["transaction"]);
            let position = &line["source"]["position"];
            let name = line["source"]["name"].as_str().unwrap();
            let commit = position["commit_lsn"].as_str().unwrap();
            let id = change["id"].as_str().unwrap();
            assert!(id.starts_with(&format!("{name}:{commit}:{}", position["index"])), "{id}");
        }
        let schemas = known.get(&line["schema"].to_string());
        let schemas = schemas.unwrap_or_else(|| panic!("no schema was told for {line:#}"));
        assert!(line["after"].is_null() || schemas.row.is_valid(&line["after"]), "{line:#}");
        let before = &line["before"];
        let fits = schemas.row.is_valid(before) || schemas.key_image.is_valid(before);
        assert!(before.is_null() || fits, "{line:#}");
    }
}
