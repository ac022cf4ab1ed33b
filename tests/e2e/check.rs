//! `rowtide check` where a position is saved: it reports what a run refuses, and changes nothing.

use std::fs;
use std::path::Path;

use rowtide_testkit::{Kafka, Postgres, postgres_versions};

use crate::host::{Options, Setup, sql, value};

/// Every file below the folder, with what it holds.
fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(content(&path));
        } else {
            files.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// What was saved is of the published form.
fn conforms(state: &Path) {
    let schema = include_str!("../../schemas/position/v1/position.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let files = content(state);
    for (part, extension) in [("", ".json"), ("/$defs/host", ".host")] {
        let validator = jsonschema::options().build(schema.pointer(part).unwrap()).unwrap();
        let (name, text) = files.iter().find(|(name, _)| name.ends_with(extension)).unwrap();
        let value = serde_json::from_slice(text).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

fn checked(setup: &Setup) -> (Option<i32>, String) {
    let output = setup.output(&["check"]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Check reports as an error what run then refuses, with the same exit code.
fn both(setup: &Setup, code: &str, exit: i32) {
    let before = content(&setup.path("state"));
    let (status, text) = checked(setup);
    assert_eq!(status, Some(exit), "{code}: {text}");
    assert!(text.contains(&format!("error {code}")), "{code} is not in:\n{text}");
    assert_eq!(content(&setup.path("state")), before, "{code}: check changed the state");
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(exit), "{log}");
    assert!(log.contains(code), "{code} is not in:\n{log}");
}

fn write(setup: &Setup, url: &str) {
    let sink = "{ type: discard }".to_owned();
    setup.write(&Options { url, source: "", sink, connector: "" });
}

/// A set-up that keeps its position in the state folder, and has streamed and stopped.
fn streamed(server: &Postgres) -> Setup {
    sql(server, "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY)");
    let setup = Setup::new();
    write(&setup, server.url());
    let mut host = setup.first_start();
    sql(server, "INSERT INTO t VALUES (0)");
    host.until_logged("new schema version");
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    conforms(&setup.path("state"));
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("shop state (saved position): ok"), "{text}");
    setup
}

#[test]
fn a_position_that_the_server_cannot_serve_is_reported() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let setup = streamed(&server);
    sql(&server, "INSERT INTO t VALUES (1)");
    sql(&server, "SELECT pg_replication_slot_advance('e2e', pg_current_wal_lsn())");
    both(&setup, "RT2203", 3);

    sql(&server, "SELECT pg_drop_replication_slot('e2e')");
    both(&setup, "RT2204", 3);
    let slots = value(&server, "SELECT count(*) FROM pg_replication_slots");
    assert_eq!(slots, "0", "nothing was created");

    let Some(other) = Postgres::start("15", &[]) else { return };
    sql(&other, "CREATE TABLE t (id int PRIMARY KEY)");
    write(&setup, other.url());
    both(&setup, "RT2202", 3);
}

#[test]
fn a_publication_that_is_gone_under_a_saved_position_is_reported() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let setup = streamed(&server);
    sql(&server, "DROP PUBLICATION e2e");
    both(&setup, "RT2121", 3);
    assert_eq!(value(&server, "SELECT count(*) FROM pg_publication"), "0");
    sql(&server, "CREATE PUBLICATION e2e FOR TABLE ONLY t");

    // Its files keep the position of a jsonl sink: the same is refused.
    let files = Setup::new();
    let options = Options {
        url: server.url(),
        source: "      publication_management: auto\n",
        sink: files.jsonl(),
        connector: "",
    };
    sql(&server, "SELECT pg_drop_replication_slot('e2e')");
    files.write(&options);
    let mut host = files.first_start();
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    sql(&server, "SELECT pg_drop_replication_slot('e2e')");
    both(&files, "RT2204", 3);
}

#[test]
fn state_that_cannot_be_used_is_reported() {
    let Some(server) = Postgres::start("15", &[]) else { return };
    let setup = streamed(&server);
    let config = fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
    // Another name, but the slot belongs to the first.
    fs::write(setup.path("rowtide.yaml"), config.replace("  shop:", "  store:")).unwrap();
    both(&setup, "RT4008", 3);
    fs::write(setup.path("rowtide.yaml"), &config).unwrap();

    let state = setup.path("state/shop.json");
    let saved = fs::read_to_string(&state).unwrap();
    fs::write(&state, saved.replace("\"generation\":", "\"generation\":1")).unwrap();
    both(&setup, "RT4002", 5);
    fs::write(&state, saved).unwrap();

    // A process that runs holds the state: good to know, and no problem.
    let mut host = setup.start();
    host.until_logged("streaming");
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("info RT4006"), "{text}");
    assert_eq!(host.stop(), Some(0), "{}", host.log());

    fs::remove_dir_all(setup.path("state")).unwrap();
    crate::host::block(&setup.path("state"));
    both(&setup, "RT4001", 5);
    // By whatever else needs the folder, once.
    fs::write(
        setup.path("rowtide.yaml"),
        config.replace("slot: e2e", "slot: e2e\n      streaming: on"),
    )
    .unwrap();
    let (_, text) = checked(&setup);
    assert_eq!(text.matches("  error ").count(), 1, "{text}");
}

/// A slot that is there and no position: told by both, and only where it is known that none is saved.
#[test]
fn a_slot_that_is_older_than_the_first_position_is_reported() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let setup = streamed(&server);
    let (_, text) = checked(&setup);
    assert!(!text.contains("RT2207"), "{text}");
    fs::write(setup.path("state/shop.json"), "{").unwrap();
    let (status, text) = checked(&setup);
    assert!(status == Some(5) && !text.contains("RT2207"), "{text}");

    fs::remove_dir_all(setup.path("state")).unwrap();
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(0), "{text}");
    let confirmed = value(&server, "SELECT confirmed_flush_lsn FROM pg_replication_slots");
    let told =
        format!("there is no saved position: a run starts at the slot's confirmed LSN {confirmed}");
    assert!(text.contains("warning RT2207 (slot e2e): ") && text.contains(&told), "{text}");
    let mut host = setup.first_start();
    assert!(host.log().contains("RT2207"), "{}", host.log());
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    let (_, text) = checked(&setup);
    assert!(!text.contains("RT2207"), "{text}");

    // The same where the sink keeps the position.
    let files = Setup::new();
    let sink = files.jsonl();
    files.write(&Options { url: server.url(), source: "", sink, connector: "" });
    let (_, text) = checked(&files);
    assert!(text.contains("warning RT2207 (slot e2e): "), "{text}");
}

/// A table without a key, and dead letters, on a topic that compacts, or that would be made so.
#[test]
fn records_without_keys_on_a_compacted_topic_are_reported() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(
        &server,
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (v text);
         ALTER TABLE keyless REPLICA IDENTITY FULL",
    );
    let setup = Setup::new();
    let sink = format!(
        "{{ type: kafka, brokers: \"{}\", topics: {{ config: {{ cleanup.policy: compact }} }} }}",
        kafka.brokers()
    );
    let connector = "    tables: { public.t: { on_violation: dead_letter } }\n";
    setup.write(&Options { url: server.url(), source: "", sink, connector });
    let told = [
        "error RT5013 (topic shop.public.keyless): public.keyless has no key of its own, but its topic \
         shop.public.keyless",
        "error RT5013 (topic shop.dead_letter): a dead letter has no key of its own, but its topic \
         shop.dead_letter",
    ];
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(2), "{text}");
    assert!(told.iter().all(|told| text.contains(told)), "{text}");
    assert_eq!(text.matches("RT5013").count(), 2, "{text}");

    // The run makes the topic, and refuses it; check then sees the topic as it is.
    let mut host = setup.first_start();
    sql(&server, "INSERT INTO keyless VALUES ('a')");
    assert_eq!(host.wait(), Some(2), "{}", host.log());
    assert!(host.log().contains("RT5013"), "{}", host.log());
    let mut host = setup.start();
    assert_eq!(host.wait(), Some(2), "{}", host.log());
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(2), "{text}");
    assert!(told.iter().all(|told| text.contains(told)), "{text}");
    assert_eq!(text.matches("RT5013").count(), 2, "{text}");
}

/// The folder of the schemas, and the topic of their changes.
#[test]
fn where_schema_changes_go_is_looked_at() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let Some(kafka) = Kafka::start(&[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY)");
    let setup = Setup::new();
    let write = |more: &str| {
        let connector = format!(
            "    schema_changes: {{ dir: {}{more} }}\n",
            setup.path("blocked/schemas").display()
        );
        let sink = format!("{{ type: kafka, brokers: \"{}\" }}", kafka.brokers());
        setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
    };
    write("");
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains("topic shop.schema_changes does not exist and will be created"),
        "{text}"
    );
    assert!(!setup.path("blocked").exists(), "a check makes nothing");
    write(", enabled: false");
    let (_, text) = checked(&setup);
    assert!(!text.contains("shop.schema_changes"), "{text}");
    crate::host::block(&setup.path("blocked"));
    both(&setup, "RT5031", 2);
    assert_eq!(value(&server, "SELECT count(*) FROM pg_replication_slots"), "0");
    write(", topic: shop.public.t");
    let (status, text) = checked(&setup);
    assert_eq!(status, Some(2), "{text}");
    assert!(
        text.contains("error RT5008") && text.contains("topic of the schema changes"),
        "{text}"
    );
}

/// Settings that do not fit a table are refused before anything is made, where the first row would be; where
/// rows of the table as it was may still come, they are told of.
#[test]
fn settings_that_do_not_fit_a_table_are_found_before_its_first_row() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        sql(&server, "CREATE TABLE t (id int PRIMARY KEY, email text)");
        let setup = Setup::new();
        let write = |settings: &str| {
            let connector = format!("    tables:\n{settings}");
            let sink = "{ type: discard }".to_owned();
            setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
        };
        for (settings, code) in [
            ("{ columns: { mask: { emial: sha256 } } }", "RT5007"),
            ("{ key: [nothing] }", "RT5007"),
            ("{ columns: { exclude: [id] } }", "RT5014"),
            ("{ key: [email] }", "RT5006"),
        ] {
            write(&format!("      public.t: {settings}\n"));
            both(&setup, code, 2);
            let (_, text) = checked(&setup);
            assert_eq!(text.matches("  error ").count(), 1, "{text}");
            assert!(text.contains(&format!("  error {code} (table public.t): ")), "{text}");
            assert!(!setup.path("state/shop.json").exists(), "{settings}");
        }
        let made = "SELECT (SELECT count(*) FROM pg_replication_slots)
            + (SELECT count(*) FROM pg_publication)";
        assert_eq!(value(&server, made), "0", "nothing was made");
        // Updates and deletes become dead letters, and the run goes on.
        write("      public.t: { key: [email], on_violation: dead_letter }\n");
        let (status, text) = checked(&setup);
        assert!(status == Some(0) && text.contains("warning RT2218 (table public.t)"), "{text}");

        let told = |setup: &Setup| {
            let mut host = setup.first_start();
            host.until_logged("streaming");
            assert_eq!(host.stop(), Some(0), "{}", host.log());
            host.log()
        };
        write(
            "      public.t: { columns: { mask: { email: sha256 } } }\n      \
             public.tt: { columns: { mask: { email: sha256 } } }\n",
        );
        let log = told(&setup);
        assert_eq!(log.matches("RT1027").count(), 1, "{log}");
        assert!(log.contains("public.tt") && !log.contains("RT5007"), "{log}");
        let mut host = setup.start();
        host.until_logged("streaming");
        sql(&server, "INSERT INTO t VALUES (1, 'a')");
        host.until_logged("new schema version");
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        // Rows of before are still to come.
        sql(&server, "INSERT INTO t VALUES (2, 'b'); ALTER TABLE t RENAME COLUMN email TO mail");
        let (status, text) = checked(&setup);
        assert!(status == Some(0) && text.contains("warning RT5007 (table public.t)"), "{text}");
        let mut host = setup.start();
        host.until_logged("RT5007");
        host.until_logged("streaming");
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        // As it was and as it is: neither has it.
        write("      public.t: { columns: { mask: { emial: sha256 } } }\n");
        let (status, text) = checked(&setup);
        assert!(status == Some(2) && text.contains("error RT5007 (table public.t)"), "{text}");
    }
}

/// Settings of a table are not for those that inherit from it: where they show what it hides, that is told of.
#[test]
fn tables_that_inherit_and_show_what_is_hidden_are_named() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        sql(
            &server,
            "CREATE TABLE people (id int PRIMARY KEY, ssn text, note text);
             CREATE TABLE staff (PRIMARY KEY (id)) INHERITS (people);
             CREATE TABLE boss (PRIMARY KEY (id)) INHERITS (staff);
             CREATE TABLE named (PRIMARY KEY (id)) INHERITS (people);
             CREATE TABLE same (PRIMARY KEY (id)) INHERITS (people);
             CREATE TABLE keyless () INHERITS (people);
             CREATE TABLE parts (id int PRIMARY KEY, ssn text) PARTITION BY LIST (id);
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
             CREATE SCHEMA other; CREATE TABLE other.far (PRIMARY KEY (id)) INHERITS (people)",
        );
        let hide = "{ columns: { exclude: [ssn] } }";
        let connector = format!(
            "    tables:\n      public.people: {hide}\n      public.parts: {hide}\n      \
             public.named: {{}}\n      public.same*: {hide}\n"
        );
        let setup = Setup::new();
        let sink = "{ type: discard }".to_owned();
        setup.write(&Options { url: server.url(), source: "", sink, connector: &connector });
        let told = |text: &str| {
            assert_eq!(text.matches("RT2382").count(), 2, "{version}: {text}");
            for name in ["public.staff", "public.boss"] {
                let words = format!("settings hide ssn of public.people; {name} inherits from it");
                assert!(text.contains(&words), "{version}: {text}");
            }
        };
        let (status, text) = checked(&setup);
        assert_eq!(status, Some(0), "{text}");
        assert!(text.contains("warning RT2382 (table public.staff): "), "{text}");
        told(&text);
        let mut host = setup.first_start();
        assert_eq!(host.stop(), Some(0), "{}", host.log());
        told(&host.log());
    }
}
