//! What messages never quote: secrets, and what references stand for.

use super::*;

#[test]
fn what_was_interpolated_is_never_quoted() {
    let variables = [("LEAK", "hunter2")];
    for text in [
        with_parts("{ type: stdout }", "memory: '${env:LEAK}'"),
        with_parts("{ type: '${env:LEAK}' }", ""),
        with_parts("{ type: stdout, topic: 'x ${env:LEAK}' }", ""),
        with_parts("{ type: stdout }", "    validation: '${env:LEAK}'"),
        with_parts("{ type: kafka, brokers: 'http://${env:LEAK}' }", ""),
        with_parts("{ type: stdout }", "logs: { level: 'x=${env:LEAK}' }"),
        with_parts("{ type: stdout }", "")
            .replace("publication: p", "publication: p, password: ['${env:LEAK}']"),
        with_parts("{ type: stdout }", "")
            .replace("u@h/db", "u:${env:LEAK}@h/db?sslmode=${env:LEAK}"),
    ] {
        let problems = load_from("c.yaml", &text, &variables).expect_err(&text);
        for problem in problems {
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }
}

/// Values that are no secrets either: a message names the reference, and the place.
#[test]
fn a_reference_is_named_in_place_of_its_value() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("leak"), "hunter2\n").unwrap();
    let file = folder.path().join("rowtide.yaml");
    let variables = Environment::from_iter([
        ("LEAK", "hunter2"),
        ("BIG", "77MiB"),
        ("TWICE", "hunter2,hunter2"),
    ]);
    let two = |second: &str| {
        let first = with_parts("{ type: jsonl, dir: '${env:LEAK}' }", "");
        let second = second.replace("shop:", "audit:").replace("slot: s", "slot: '${env:LEAK}'");
        format!("{first}{}", second.replace("connectors:\n", ""))
    };
    let source = |url: &str| with_parts("{ type: stdout }", "").replace("postgres://u@h/db", url);
    let table =
        |rule: &str| with_parts("{ type: stdout }", &format!("    tables: {{ p.t: {rule} }}"));
    let cases = [
        (with_parts("{ type: '${env:LEAK}' }", ""), "RT1006", "${env:LEAK}"),
        (with_parts("{ type: '${file:leak}' }", ""), "RT1006", "${file:leak}"),
        (with_parts("{ type: stdout }", "max_event: '${env:BIG}'"), "RT1023", "${env:BIG}"),
        (with_parts("{ type: stdout }", "logs: { level: '${env:LEAK}' }"), "RT1022", "${env:LEAK}"),
        (table("{ contract: '${env:LEAK}.json' }"), "RT1013", "${env:LEAK}"),
        (table("{ key: '${env:TWICE}' }"), "RT1017", ""),
        (source("postgres://u@h/db?sslmode=${env:LEAK}"), "RT2002", ""),
        (source("postgres://u@h/db?${env:LEAK}=1"), "RT2002", ""),
        (source("postgres://u@h:${env:LEAK}/db"), "RT2001", ""),
        (with_parts("{ type: kafka, brokers: 'http://${env:LEAK}' }", ""), "RT1018", ""),
        (two(&with_parts("{ type: jsonl, dir: '${env:LEAK}' }", "")), "RT1015", "${env:LEAK}"),
    ];
    for (text, code, named) in cases {
        let loaded = config::load_text(&file, &text, &variables, &KINDS);
        let problems = loaded.expect_err(&text);
        let told = problems.to_string();
        assert!(told.contains(code), "{code} is not among {told}");
        assert!(told.contains(named), "{named} is not named in {told}");
        for value in ["hunter2", "77MiB", "80740352"] {
            assert!(!told.contains(value), "{value} is in {told}");
        }
    }
}

#[test]
fn secrets_written_in_the_file_are_never_quoted() {
    let source = |fields: &str| {
        format!(
            "connectors: {{ shop: {{ source: {{ type: postgres, slot: s, publication: p, {fields} }}, snapshot: never, sink: {{ type: stdout }} }} }}"
        )
    };
    for text in [
        source("url: 'postgres://u:hunter2@h:x/db'"),
        source("url: 'postgres://u:hunter2@h/db?sslmode=hunter2'"),
        source("url: 'postgres://u:hunter2@h/db', password: hunter2"),
        source("url: 'postgres://u@h/db', password: [hunter2]"),
        with_parts(
            "{ type: kafka, brokers: b:1, sasl: { mechanism: hunter2, username: u, password: hunter2 } }",
            "",
        ),
        with_parts("{ type: kafka, brokers: b:1, properties: { acks: hunter2 } }", ""),
    ] {
        let problems = load(&text).expect_err(&text);
        for problem in problems {
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }
    let config = load(&source("url: 'postgres://u@h/db', password: hunter2")).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
