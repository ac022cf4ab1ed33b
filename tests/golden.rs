//! Golden transcripts: for each case the SQL that was run, the messages that a real PostgreSQL sent
//! for it (`connectors/postgres/tests/golden`), and the envelopes they become, with the schema changes
//! between them. Offline.
//!
//! `BLESS=1` rewrites the envelopes; read the difference before committing it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may fail, and says where"
)]

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use rowtide::config::{Headers, Routing, TableConfig, Tombstones, Validation};
use rowtide::envelope::{
    ENVELOPE_SCHEMA_JSON, Encoder, MESSAGE_SCHEMA_JSON, Plan, PlanContext, SCHEMA_CHANGE_JSON,
    TableRoute,
};
use rowtide::schema::{HostState, Versions};
use rowtide_postgres::MessageSelection;
use rowtide_postgres::replay::{Recorded, replay};
use rowtide_sdk::{Batch, BufferPool, Limits, TopicInfo};
use serde_json::Value;

const CASES: [&str; 14] = [
    "basics",
    "ddl_stream",
    "logical_message",
    "many_rows_tx",
    "names",
    "no_pk",
    "origin",
    "partitioned_root",
    "pk_change",
    "replica_full",
    "replica_index",
    "restart",
    "toast_default",
    "truncate_default",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn recorded(case: &str) -> Vec<Recorded> {
    let path = folder().join(format!("connectors/postgres/tests/golden/{case}.jsonl"));
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let hex = line["data"].as_str().unwrap().as_bytes();
            let message = hex
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect();
            Recorded { lsn: line["lsn"].as_str().unwrap().parse().unwrap(), message }
        })
        .collect()
}

/// Encodes batches as a pipeline named `shop` does.
struct Host {
    encoder: Encoder,
    versions: Versions,
    routing: Routing,
}

impl Host {
    fn new() -> Self {
        let info = rowtide_postgres::info();
        let encoder = Encoder::new(
            "shop",
            info.write_position,
            Headers::None,
            Validation::Always,
            1 << 24,
            "shop.dead_letter".into(),
        )
        .and_then(|encoder| encoder.with_messages(info, "shop.messages".into()))
        .unwrap();
        let routing = Routing {
            topic_template: String::new(),
            headers: Headers::None,
            tombstones: Tombstones::Never,
        };
        Self { encoder, versions: Versions::new(HostState::default()).unwrap(), routing }
    }

    fn encode(&mut self, batch: &Batch) -> String {
        let config = TableConfig::default();
        for table in &batch.tables {
            if self.encoder.knows(table) {
                continue;
            }
            let projection = Plan::projection(table, &config, true).unwrap();
            let subject = format!("shop.{}.{}", table.schema, table.name);
            let changes = "shop.schema_changes";
            let assigned = self.versions.assign(&subject, table, &projection, Some(changes));
            let assigned = assigned.unwrap();
            let cx = PlanContext {
                name: "shop",
                info: rowtide_postgres::info(),
                config: &config,
                routing: &self.routing,
            };
            let route = TableRoute {
                topic: subject.into(),
                info: TopicInfo { compacts: false },
                schema_changes: Some(changes.into()),
            };
            let table = std::sync::Arc::clone(table);
            self.encoder.learn(Plan::new(&cx, table, &projection, &assigned, route).unwrap());
        }
        let encoded = self.encoder.encode(batch, &BufferPool::default()).unwrap();
        String::from_utf8(encoded.data).unwrap()
    }
}

fn envelopes(case: &str, limits: Limits) -> String {
    encoded(case, None, limits)
}

/// The events of a case; messages of applications among them as the selection says.
fn encoded(case: &str, messages: Option<&MessageSelection>, limits: Limits) -> String {
    let read_at = 1_763_657_833_125_001;
    let batches = replay("golden", &recorded(case), messages, limits, read_at).unwrap();
    let mut host = Host::new();
    batches.iter().map(|batch| host.encode(batch)).collect()
}

/// The published schemas of what can be in a stream.
struct Published {
    event: Validator,
    message: Validator,
    schema_change: Validator,
}

impl Published {
    fn new() -> Self {
        let validator = |schema: &str| {
            let schema: Value = serde_json::from_str(schema).unwrap();
            jsonschema::options().build(&schema).unwrap()
        };
        Self {
            event: validator(ENVELOPE_SCHEMA_JSON),
            message: validator(MESSAGE_SCHEMA_JSON),
            schema_change: validator(SCHEMA_CHANGE_JSON),
        }
    }

    /// Whether a line is what it claims to be.
    fn hold(&self, line: &str) -> bool {
        let record: Value = serde_json::from_str(line).unwrap();
        let validator = match record["op"].as_str() {
            Some("m") => &self.message,
            Some(_) => &self.event,
            None => &self.schema_change,
        };
        validator.is_valid(&record)
    }
}

#[test]
fn recorded_messages_become_the_committed_envelopes() {
    let published = Published::new();
    for case in CASES {
        let path = folder().join(format!("tests/golden/{case}.envelopes.jsonl"));
        let got = envelopes(case, Limits::default());
        for line in got.lines() {
            assert!(published.hold(line), "{case}: {line}");
        }
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &got).unwrap();
        }
        let wanted = fs::read_to_string(&path).unwrap_or_default();
        for (number, (got, wanted)) in got.lines().zip(wanted.lines()).enumerate() {
            assert_eq!(got, wanted, "{case}, event {number}");
        }
        assert_eq!(got.lines().count(), wanted.lines().count(), "{case}");
    }
}

#[test]
fn recorded_messages_of_applications_become_the_committed_events() {
    let published = Published::new();
    let all: MessageSelection = serde_json::from_str("{}").unwrap();
    let path = folder().join("tests/golden/logical_message.with_messages.jsonl");
    let got = encoded("logical_message", Some(&all), Limits::default());
    for line in got.lines() {
        assert!(published.hold(line), "{line}");
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &got).unwrap();
    }
    assert_eq!(got, fs::read_to_string(&path).unwrap_or_default());
    for batch_rows in [1, 2, 3] {
        let limits = Limits { batch_rows, ..Limits::default() };
        assert_eq!(encoded("logical_message", Some(&all), limits), got);
    }
}

#[test]
fn where_batches_are_cut_changes_nothing() {
    for case in CASES {
        let whole = envelopes(case, Limits::default());
        for batch_rows in [1, 2, 3] {
            let cut = envelopes(case, Limits { batch_rows, ..Limits::default() });
            assert_eq!(cut, whole, "{case} cut after {batch_rows}");
        }
    }
}
