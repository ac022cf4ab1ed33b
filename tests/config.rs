//! Configurations as people write them: layers, formats, secrets, and every problem with its code
//! and its place.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::path::Path;
use std::time::Duration;

use rowtide::config::{
    self, Config, Environment, Headers, LogFormat, Mask, OnViolation, Problem, Tombstones,
    Validation,
};
use rowtide::registry::KINDS;

#[path = "config/forms.rs"]
mod forms;
#[path = "config/hidden.rs"]
mod hidden;

const SOURCE: &str = "{ type: postgres, url: 'postgres://u@h/db', slot: s, publication: p }";

const FULL_YAML: &str = r#"
connectors:
  shop:
    source:
      type: postgres
      url: postgres://rowtide@db.internal:5432/shop?sslmode=disable
      password: secret
      slot: rowtide_shop
      publication: rowtide_shop
      tables: { include: ["public.*"], exclude: ["public.tmp_*"] }
      streaming: on
      spool: { dir: /var/tmp/rowtide, max: 50GiB }
    snapshot: never
    tables:
      public.orders:
        key: [id]
        columns: { exclude: [internal_note], mask: { Zip: redact, email: sha256 } }
        on_violation: dead_letter
      Sales.Order Lines: {}
      public.*:
        on_violation: stop
    sink:
      type: kafka
      brokers: kafka:9092
      topic: "{name}.{schema}.{table}"
      headers: id
      tombstones: always
    validation: sample:10
state: /var/lib/rowtide
memory: 64MiB
max_event: 1048576
shutdown_timeout: 5s
commit_interval: 100ms
logs: { format: json, level: "info,rowtide_kafka=debug" }
"#;

const FULL_TOML: &str = r#"
state = "/var/lib/rowtide"
memory = "64MiB"
max_event = 1048576
shutdown_timeout = "5s"
commit_interval = "100ms"
logs = { format = "json", level = "info,rowtide_kafka=debug" }

[connectors.shop]
snapshot = "never"
validation = "sample:10"
source = { type = "postgres", url = "postgres://rowtide@db.internal:5432/shop?sslmode=disable", password = "secret", slot = "rowtide_shop", publication = "rowtide_shop", tables = { include = ["public.*"], exclude = ["public.tmp_*"] } }
sink = { type = "kafka", brokers = "kafka:9092", topic = "{name}.{schema}.{table}", headers = "id", tombstones = "always" }

[connectors.shop.tables."public.orders"]
key = ["id"]
columns = { exclude = ["internal_note"], mask = { Zip = "redact", email = "sha256" } }
on_violation = "dead_letter"

[connectors.shop.tables."Sales.Order Lines"]

[connectors.shop.tables."public.*"]
on_violation = "stop"
"#;

const FULL_JSON: &str = r#"{
  "connectors": { "shop": {
    "source": {
      "type": "postgres", "url": "postgres://rowtide@db.internal:5432/shop?sslmode=disable",
      "password": "secret", "slot": "rowtide_shop", "publication": "rowtide_shop",
      "tables": { "include": ["public.*"], "exclude": ["public.tmp_*"] } },
    "snapshot": "never",
    "tables": {
      "public.orders": {
        "key": ["id"],
        "columns": { "exclude": ["internal_note"], "mask": { "Zip": "redact", "email": "sha256" } },
        "on_violation": "dead_letter" },
      "Sales.Order Lines": {},
      "public.*": { "on_violation": "stop" } },
    "sink": {
      "type": "kafka", "brokers": "kafka:9092", "topic": "{name}.{schema}.{table}",
      "headers": "id", "tombstones": "always" },
    "validation": "sample:10" } },
  "state": "/var/lib/rowtide", "memory": "64MiB", "max_event": 1048576,
  "shutdown_timeout": "5s", "commit_interval": "100ms",
  "logs": { "format": "json", "level": "info,rowtide_kafka=debug" }
}"#;

fn load_from(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
    let environment = Environment::from_iter(variables.iter().copied());
    config::load_text(Path::new(name), text, &environment, &KINDS).map_err(|problems| problems.0)
}

fn load(text: &str) -> Result<Config, Vec<Problem>> {
    load_from("rowtide.yaml", text, &[])
}

/// A configuration with one connector, whose parts beside the source are given.
fn with_parts(sink: &str, rest: &str) -> String {
    format!(
        "connectors:\n  shop:\n    source: {SOURCE}\n    snapshot: never\n    sink: {sink}\n{rest}"
    )
}

/// `code path` of every problem.
fn places(loaded: Result<Config, Vec<Problem>>) -> Vec<String> {
    match loaded {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| format!("{} {}", p.code, p.path)).collect(),
    }
}

fn only_problem(loaded: Result<Config, Vec<Problem>>) -> Problem {
    let problems = loaded.expect_err("there is a problem");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn the_three_formats_say_the_same() {
    for (name, text) in [("c.yaml", FULL_YAML), ("c.toml", FULL_TOML), ("c.json", FULL_JSON)] {
        let config = load_from(name, text, &[]).unwrap_or_else(|p| panic!("{name}: {p:#?}"));
        assert_eq!(config.state_dir, Path::new("/var/lib/rowtide"));
        assert_eq!((config.memory, config.max_event), (64 << 20, 1 << 20));
        assert_eq!(config.shutdown_timeout, Duration::from_secs(5));
        assert_eq!(config.commit_interval, Duration::from_millis(100));
        assert_eq!(config.logs.format, LogFormat::Json);
        assert_eq!(config.logs.level, "info,rowtide_kafka=debug");
        let [shop] = config.connectors.as_slice() else { panic!("{name}: one connector") };
        assert_eq!(
            (shop.name.as_str(), shop.source.kind, shop.sink.kind),
            ("shop", "postgres", "kafka")
        );
        assert_eq!(shop.routing.headers, Headers::Id);
        assert_eq!(shop.routing.tombstones, Tombstones::Always);
        assert!(matches!(shop.validation, Validation::Sample(n) if n.get() == 10));
        let names: Vec<&str> = shop.tables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["public.orders", "Sales.Order Lines", "public.*"], "{name}");
        let orders = shop.table("public", "orders");
        assert_eq!(orders.key.as_deref(), Some(["id".to_owned()].as_slice()));
        assert_eq!(orders.exclude, ["internal_note"]);
        let mask = [("Zip".to_owned(), Mask::Redact), ("email".to_owned(), Mask::Sha256)];
        assert_eq!(orders.mask, mask, "{name}: in the order and spelling of the file");
        assert_eq!(orders.on_violation, OnViolation::DeadLetter);
        assert_eq!(shop.table("public", "other").on_violation, OnViolation::Stop);
    }
}

#[test]
fn defaults_are_as_documented() {
    let config = load(&with_parts("{ type: stdout }", "")).unwrap();
    assert_eq!(config.state_dir, Path::new("./state"));
    assert_eq!((config.memory, config.max_event), (32 << 20, 16 << 20));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.commit_interval, Duration::from_millis(250));
    assert_eq!((config.logs.format, config.logs.level.as_str()), (LogFormat::Text, "info"));
    let shop = &config.connectors[0];
    assert_eq!(shop.routing.topic_template, "{name}.{schema}.{table}");
    assert_eq!(shop.routing.headers, Headers::None);
    assert_eq!(shop.routing.tombstones, Tombstones::Auto);
    assert_eq!(shop.validation, Validation::Always);
    assert_eq!(shop.table("any", "table").on_violation, OnViolation::Stop);
}

#[test]
fn exact_names_come_before_patterns_and_patterns_in_order() {
    let rest = "
    tables:
      'public.o*': { key: [a] }
      'public.*': { key: [b] }
      'public.orders': { key: [c] }
";
    let config = load(&with_parts("{ type: stdout }", rest)).unwrap();
    let key = |table: &str| config.connectors[0].table("public", table).key.clone().unwrap();
    assert_eq!(
        (key("orders"), key("others"), key("x")),
        (vec!["c".into()], vec!["a".into()], vec!["b".into()])
    );
    assert_eq!(config.connectors[0].table("sales", "orders").key, None);
}

#[test]
fn keys_without_values_count_as_not_given() {
    let rest = "    tables:\n    validation:\nlogs:\nmemory:\n";
    let config = load(&with_parts("{ type: stdout, headers: }", rest)).unwrap();
    assert_eq!(config.memory, 32 << 20);
    let problem = only_problem(load(&with_parts("", "")));
    assert_eq!((problem.code.0, problem.path.as_str()), ("RT1004", "connectors.shop.sink"));
}

#[test]
fn the_environment_is_laid_over_the_file() {
    let variables = [
        ("ROWTIDE__MEMORY", "128MiB"),
        ("ROWTIDE__LOGS__FORMAT", "json"),
        ("rowtide__connectors__shop__sink__headers", "all"),
        ("ROWTIDE__CONNECTORS__SHOP__SINK__BATCH_BYTES", "5000"),
        ("ROWTIDE__CONNECTORS__SHOP__SOURCE__TABLES__INCLUDE", "public.a, public.b"),
        ("ROWTIDE__CONNECTORS__SHOP__TABLES__PUBLIC_ORDERS__KEY", r#"["a","b"]"#),
        ("ROWTIDE__CONNECTORS__SHOP__TABLES__PUBLIC_ORDERS__COLUMNS__MASK__EMAIL", "redact"),
        ("ROWTIDE__CONNECTORS__SHOP__TABLES__SALES_ORDER_LINES__ON_VIOLATION", "dead_letter"),
        ("ROWTIDE_CONFIG", "ignored: it has one underscore"),
        ("OTHER", "ignored"),
    ];
    let config = load_from("c.yaml", FULL_YAML, &variables).unwrap();
    assert_eq!(config.memory, 128 << 20);
    assert_eq!(config.logs.format, LogFormat::Json);
    assert_eq!(config.logs.level, "info,rowtide_kafka=debug", "the rest of the map stays");
    let shop = &config.connectors[0];
    assert_eq!(shop.routing.headers, Headers::All);
    let settings = format!("{:?} {:?}", shop.sink, shop.source);
    assert!(settings.contains("batch_bytes: 5000"), "{settings}");
    assert!(settings.contains("public.a") && !settings.contains("secret"), "{settings}");
    let orders = shop.table("public", "orders");
    assert_eq!(orders.key, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(orders.mask.last(), Some(&("email".to_owned(), Mask::Redact)));
    let lines = shop.table("Sales", "Order Lines");
    assert_eq!(lines.on_violation, OnViolation::DeadLetter);
}

#[test]
fn a_connector_may_come_from_the_environment_alone() {
    let variables = [
        ("ROWTIDE__CONNECTORS__SHOP__SOURCE__TYPE", "postgres"),
        ("ROWTIDE__CONNECTORS__SHOP__SOURCE__URL", "postgres://u@h/db"),
        ("ROWTIDE__CONNECTORS__SHOP__SOURCE__SLOT", "s"),
        ("ROWTIDE__CONNECTORS__SHOP__SOURCE__PUBLICATION", "p"),
        ("ROWTIDE__CONNECTORS__SHOP__SOURCE__CONNECT_TIMEOUT_SECONDS", "7"),
        ("ROWTIDE__CONNECTORS__SHOP__SNAPSHOT", "never"),
        ("ROWTIDE__CONNECTORS__SHOP__SINK__TYPE", "jsonl"),
        ("ROWTIDE__CONNECTORS__SHOP__SINK__DIR", "/data"),
        ("ROWTIDE__CONNECTORS__SHOP__SINK__FSYNC", "false"),
    ];
    let config = load_from("c.yaml", "", &variables).unwrap();
    let shop = &config.connectors[0];
    assert_eq!((shop.name.as_str(), shop.sink.kind), ("shop", "jsonl"));
    assert!(format!("{:?}", shop.sink).contains("fsync: false"));
}

#[test]
fn variables_that_fit_no_field_are_problems() {
    for (name, remedy) in [
        ("ROWTIDE__MEMRY", Some("Did you mean MEMORY?")),
        ("ROWTIDE__CONNECTORS__SHOP__SINK__TOPC", Some("Did you mean TOPIC?")),
        ("ROWTIDE__CONNECTORS__SHOP____TYPE", None),
        ("ROWTIDE__MEMORY__MORE", None),
    ] {
        let loaded = load_from("c.yaml", FULL_YAML, &[(name, "hunter2")]);
        let problem = only_problem(loaded);
        assert_eq!((problem.code.0, problem.path.as_str()), ("RT1010", name));
        assert_eq!(problem.remedy.as_deref(), remedy, "{name}");
        assert!(!problem.to_string().contains("hunter2"));
    }
    let twins = "{ a-b: {}, a_b: {} }";
    let text = format!("connectors: {twins}");
    let variable = [("ROWTIDE__CONNECTORS__A_B__SNAPSHOT", "never")];
    let found = places(load_from("c.yaml", &text, &variable));
    assert!(found.contains(&format!("RT1010 {}", variable[0].0)), "{found:?}");
}

#[test]
fn references_to_environment_and_files_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("user"), "rowtide\n").unwrap();
    let absolute = folder.path().join("slot");
    std::fs::write(&absolute, "slot_7\r\n").unwrap();
    let text = format!(
        "connectors:
  shop:
    source:
      type: postgres
      url: postgres://${{file:user}}@${{env:HOST}}/db
      slot: ${{file:{}}}
      publication: a$${{b
      connect_timeout_seconds: ${{env:SECONDS}}
      tables: {{ include: ['${{env:SCHEMA}}.*'] }}
    snapshot: never
    sink: {{ type: stdout }}
memory: ${{env:MEMORY}}
",
        absolute.display()
    );
    let file = folder.path().join("rowtide.yaml");
    std::fs::write(&file, text).unwrap();
    let variables =
        [("HOST", "db.internal"), ("SECONDS", "9"), ("SCHEMA", "sales"), ("MEMORY", "64MiB")];
    let config = config::load(&file, &Environment::from_iter(variables), &KINDS).unwrap();
    assert_eq!(config.memory, 64 << 20);
    let source = format!("{:?}", config.connectors[0].source);
    for part in ["db.internal", "\"rowtide\"", "slot_7", "a${b", "sales.*"] {
        assert!(source.contains(part), "{part} in {source}");
    }
    let resource = config.connectors[0].source.factory.resources().remove(0);
    assert_eq!(resource, "postgres/db.internal:5432/db/slot_7");
}

#[test]
fn references_that_cannot_be_resolved_are_problems_alone() {
    for (reference, code) in [
        ("${env:MISSING}", "RT1007"),
        ("${file:missing}", "RT1008"),
        ("${vault:x}", "RT1009"),
        ("${env:X", "RT1009"),
    ] {
        let problem = only_problem(load(&format!(
            "{}memory: '{reference}'",
            with_parts("{ type: stdout }", "")
        )));
        assert_eq!((problem.code.0, problem.path.as_str()), (code, "memory"));
    }
}

/// Every case gives the problem that it names, perhaps among others.
fn expect_problems(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        let found = places(load(text));
        let is_named = found.iter().any(|place| place == expected);
        assert!(is_named, "expected {expected}, found {found:?} for\n{text}");
    }
}

#[test]
fn problems_of_the_whole_have_their_codes_and_places() {
    let stdout = "{ type: stdout }";
    expect_problems(&[
        (String::new(), "RT1004 connectors"),
        ("connectors: {}".into(), "RT1019 connectors"),
        ("connectors: [a]".into(), "RT1005 connectors"),
        (with_parts(stdout, "stat: x"), "RT1003 stat"),
        (with_parts(stdout, "memory: 32"), "RT1012 memory"),
        (with_parts(stdout, "memory: 1 parsec"), "RT1006 memory"),
        (with_parts(stdout, "memory: -1"), "RT1006 memory"),
        (with_parts(stdout, "memory: 99999999999999999999999GiB"), "RT1012 memory"),
        (with_parts(stdout, "memory: 1.5"), "RT1005 memory"),
        (with_parts(stdout, "max_event: 64MiB"), "RT1023 max_event"),
        (with_parts(stdout, "shutdown_timeout: 30"), "RT1005 shutdown_timeout"),
        (with_parts(stdout, "shutdown_timeout: 2d"), "RT1012 shutdown_timeout"),
        (with_parts(stdout, "commit_interval: 1w"), "RT1006 commit_interval"),
        (with_parts(stdout, "state: ''"), "RT1006 state"),
        (with_parts(stdout, "logs: { level: loud }"), "RT1022 logs.level"),
        (with_parts(stdout, "logs: { format: xml }"), "RT1006 logs.format"),
        (with_parts(stdout, "logs: { lines: 1 }"), "RT1003 logs.lines"),
    ]);
}

#[test]
fn problems_of_connectors_have_their_codes_and_places() {
    let stdout = "{ type: stdout }";
    expect_problems(&[
        (with_parts(stdout, "").replace("shop:", "Shop:"), "RT1011 connectors.Shop"),
        (with_parts(stdout, "").replace("shop:", "-x:"), "RT1011 connectors.-x"),
        (
            with_parts(stdout, "").replace("snapshot", "snapshots"),
            "RT1004 connectors.shop.snapshot",
        ),
        (with_parts(stdout, "").replace("never", "initial"), "RT1006 connectors.shop.snapshot"),
        (with_parts("{ type: kafak }", ""), "RT1006 connectors.shop.sink.type"),
        (with_parts("{ dir: x }", ""), "RT1004 connectors.shop.sink.type"),
        (with_parts("stdout", ""), "RT1005 connectors.shop.sink"),
        (with_parts("{ type: jsonl }", ""), "RT1004 connectors.shop.sink.dir"),
        (with_parts("{ type: jsonl, dir: [x] }", ""), "RT1005 connectors.shop.sink.dir"),
        (with_parts("{ type: stdout, dir: x }", ""), "RT1003 connectors.shop.sink.dir"),
        (with_parts("{ type: stdout, headers: most }", ""), "RT1006 connectors.shop.sink.headers"),
        (
            with_parts("{ type: stdout, tombstones: 1 }", ""),
            "RT1005 connectors.shop.sink.tombstones",
        ),
        (with_parts("{ type: stdout, topic: '{tabel}' }", ""), "RT1016 connectors.shop.sink.topic"),
        (with_parts("{ type: stdout, topic: 'a/b' }", ""), "RT1016 connectors.shop.sink.topic"),
        (with_parts("{ type: stdout, topic: '' }", ""), "RT1016 connectors.shop.sink.topic"),
        (
            with_parts(stdout, "    schema_changes: { topic: '{name}.{table}' }"),
            "RT1016 connectors.shop.schema_changes.topic",
        ),
        (
            with_parts(stdout, "    schema_changes: { topic: '{name}.dead_letter' }"),
            "RT1016 connectors.shop.schema_changes.topic",
        ),
        (
            with_parts(stdout, "    schema_changes: { dir: '' }"),
            "RT1006 connectors.shop.schema_changes.dir",
        ),
        (
            with_parts(stdout, "    schema_changes: { folder: x }"),
            "RT1003 connectors.shop.schema_changes.folder",
        ),
        (with_parts("{ type: kafka, brokers: ' ' }", ""), "RT1018 connectors.shop.sink.brokers"),
        (
            with_parts("{ type: kafka, brokers: b:1, batch_bytes: 0 }", ""),
            "RT1006 connectors.shop.sink.batch_bytes",
        ),
        (with_parts(stdout, "    validation: sample:0"), "RT1006 connectors.shop.validation"),
        (with_parts(stdout, "    validation: yes"), "RT1006 connectors.shop.validation"),
        (
            with_parts(stdout, "").replace("slot: s", "slot: S-1"),
            "RT1006 connectors.shop.source.slot",
        ),
        (
            with_parts(stdout, "").replace("u@h/db'", "u@h/db?sslmode=maybe'"),
            "RT2002 connectors.shop.source",
        ),
        (
            with_parts(stdout, "").replace("postgres://", "mysql://"),
            "RT2001 connectors.shop.source",
        ),
    ]);
}

#[test]
fn problems_of_tables_have_their_codes_and_places() {
    let stdout = "{ type: stdout }";
    expect_problems(&[
        (with_parts(stdout, "    tables: { orders: {} }"), "RT1017 connectors.shop.tables.orders"),
        (
            with_parts(stdout, "    tables: { 'public.[x': {} }"),
            "RT1017 connectors.shop.tables.\"public.[x\"",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { key: [] } }"),
            "RT1006 connectors.shop.tables.\"p.t\".key",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { key: [a, a] } }"),
            "RT1017 connectors.shop.tables.\"p.t\".key",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { key: [a], columns: { exclude: [a] } } }"),
            "RT1017 connectors.shop.tables.\"p.t\".columns.exclude",
        ),
        (
            with_parts(
                stdout,
                "    tables: { p.t: { columns: { exclude: [a], mask: { a: sha256 } } } }",
            ),
            "RT1017 connectors.shop.tables.\"p.t\".columns.mask.a",
        ),
        (
            with_parts(
                stdout,
                "    tables: { p.t: { key: [a], columns: { mask: { a: redact } } } }",
            ),
            "RT1017 connectors.shop.tables.\"p.t\".columns.mask.a",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { columns: { mask: { a: md5 } } } }"),
            "RT1006 connectors.shop.tables.\"p.t\".columns.mask.a",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { on_violation: skip } }"),
            "RT1006 connectors.shop.tables.\"p.t\".on_violation",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { unchanged: reselect } }")
                .replace(SOURCE, "{ type: mysql, url: 'mysql://u@h' }"),
            "RT1032 connectors.shop.tables.\"p.t\".unchanged",
        ),
        (
            with_parts(stdout, "    tables: { p.t: { contract: missing.json } }"),
            "RT1013 connectors.shop.tables.\"p.t\".contract",
        ),
    ]);
}

#[test]
fn names_close_to_the_right_one_are_suggested() {
    for (text, remedy) in [
        (with_parts("{ type: stdout, topc: x }", ""), "Did you mean topic?"),
        (with_parts("{ type: kafka, broker: b:1, brokers: b:1 }", ""), "Did you mean brokers?"),
        (with_parts("{ type: stdout }", "comit_interval: 1s"), "Did you mean commit_interval?"),
        (
            with_parts("{ type: stdout }", "    tables: { p.t: { colums: {} } }"),
            "Did you mean columns?",
        ),
        (
            with_parts("{ type: stdout }", "")
                .replace("publication: p", "publication: p, pasword: x"),
            "Did you mean password?",
        ),
    ] {
        let problem = only_problem(load(&text));
        assert_eq!((problem.code.0, problem.remedy.as_deref()), ("RT1003", Some(remedy)));
    }
    let problem = only_problem(load(&with_parts("{ type: stdot }", "")));
    let remedy = problem.remedy.unwrap();
    assert!(remedy.starts_with("Did you mean stdout? Allowed: kafka, jsonl"), "{remedy}");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "
connectors:
  one:
    source: { type: postgres, url: 'postgres://u@h/db', slot: s, publication: p, x: 1 }
    snapshot: always
    sink: { type: jsonl, dir: d, headers: most, rotate: { bytes: 1KiB } }
    tables: { orders: { key: [a, a] } }
  two:
    source: { type: postgres, url: 'postgres://u@h/db', slot: S, publication: p }
    sink: { type: stdout, topic: '{x}' }
memory: ${env:MISSING}
max_event: x
";
    let mut found = places(load(text));
    found.sort();
    assert_eq!(
        found,
        [
            "RT1003 connectors.one.source.x",
            "RT1004 connectors.two.snapshot",
            "RT1006 connectors.one.sink.headers",
            "RT1006 connectors.one.snapshot",
            "RT1006 connectors.two.source.slot",
            "RT1006 max_event",
            "RT1007 memory",
            "RT1016 connectors.two.sink.topic",
            "RT1017 connectors.one.tables.orders",
            "RT1017 connectors.one.tables.orders.key",
            "RT1018 connectors.one.sink",
        ]
    );
}

/// What settings of one source mean together is said once each has its form; the other sections do
/// not wait for it, and an unknown field holds nothing up.
#[test]
fn what_settings_mean_together_waits_for_their_form_alone() {
    let text = |slot: &str, more: &str| {
        let source = format!(
            "{{ type: postgres, url: 'postgres://u@h/db?sslmode=maybe', slot: {slot}, publication: p{more} }}"
        );
        with_parts("{ type: kafka, brokers: ' ' }", "    tables: { orders: {} }")
            .replace(SOURCE, &source)
    };
    let others = ["RT1017 connectors.shop.tables.orders", "RT1018 connectors.shop.sink.brokers"];
    let expect = |text: String, own: &[&str]| {
        let mut found = places(load(&text));
        found.sort();
        let mut expected = [own, &others].concat();
        expected.sort_unstable();
        assert_eq!(found, expected);
    };
    expect(text("S", ""), &["RT1006 connectors.shop.source.slot"]);
    expect(text("s", ""), &["RT2002 connectors.shop.source"]);
    let both = ["RT1003 connectors.shop.source.x", "RT2002 connectors.shop.source"];
    expect(text("s", ", x: 1"), &both);
}

#[test]
fn two_connectors_never_share_a_slot_a_publication_or_a_folder() {
    let connector = |slot: &str, publication: &str, dir: &str| {
        format!(
            "{{ source: {{ type: postgres, url: 'postgres://u@h/db', slot: {slot}, publication: {publication} }}, snapshot: never, sink: {{ type: jsonl, dir: {dir} }} }}"
        )
    };
    let config = |second: String| {
        format!("connectors:\n  a: {}\n  b: {second}\n", connector("s", "p", "x/y"))
    };
    assert_eq!(places(load(&config(connector("t", "q", "z")))), [""; 0]);
    let external = "p, publication_management: external";
    assert_eq!(places(load(&config(connector("t", external, "z")))), [""; 0]);
    for second in [connector("s", "q", "z"), connector("t", "p", "z")] {
        assert_eq!(places(load(&config(second))), ["RT1015 connectors.b.source"]);
    }
    let second = connector("t", "q", "./x//y/");
    assert_eq!(places(load(&config(second))), ["RT1015 connectors.b.sink"]);
}

#[test]
fn contracts_are_read_beside_the_file_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rowtide.yaml");
    let text = with_parts(
        "{ type: stdout }",
        "    tables: { p.t: { contract: t.json, columns: { exclude: [secret] } } }",
    );
    let load = |contract: &str| {
        std::fs::write(folder.path().join("t.json"), contract).unwrap();
        config::load_text(&file, &text, &Environment::default(), &KINDS).map_err(|p| p.0)
    };
    let config = load(r#"{"type":"object","required":["id"]}"#).unwrap();
    let contract = config.connectors[0].table("p", "t").contract.clone().unwrap();
    assert_eq!(contract["required"][0], "id");
    for (contract, code) in [
        ("not json", "RT1014"),
        (r#"{"type":"objekt"}"#, "RT1014"),
        (r#"{"$ref":"other.json"}"#, "RT1014"),
        (r#"{"$ref":"http://127.0.0.1:9/x.json"}"#, "RT1014"),
        (r#"{"required":["secret"]}"#, "RT1017"),
    ] {
        let problem = only_problem(load(contract));
        assert_eq!(
            (problem.code.0, problem.path.as_str()),
            (code, "connectors.shop.tables.\"p.t\".contract"),
            "{contract}"
        );
    }
}

#[test]
fn files_that_cannot_be_read_or_parsed_are_problems() {
    let load = |path: &Path| config::load(path, &Environment::default(), &KINDS).map_err(|p| p.0);
    assert_eq!(only_problem(load(Path::new("/nowhere/rowtide.yaml"))).code.0, "RT1001");
    for (name, text) in [
        ("c.yaml", "a: [hunter2"),
        ("c.yaml", "a: hunter2\na: hunter2"),
        ("c.yaml", "a: 1\n---\nb: 2"),
        ("c.yaml", "just text"),
        ("c.toml", "password = hunter2"),
        ("c.toml", "a = 'hunter2'\nb = "),
        ("c.json", "{\"a\": hunter2}"),
        ("c.json", "[]"),
        ("c.ini", "a=1"),
        ("config", "a: 1"),
    ] {
        let problem = only_problem(load_from(name, text, &[]));
        assert_eq!((problem.code.0, problem.path.as_str()), ("RT1002", name), "{text}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}
