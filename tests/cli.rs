//! The program from outside, without servers: what it prints, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn rowtide(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowtide"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    let ours = |name: &str| name.starts_with("ROWTIDE") || name == "RUST_LOG";
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A configuration whose database nobody serves: port 1 on loopback.
const UNREACHABLE: &str = "
connectors:
  shop:
    source: { type: postgres, url: 'postgres://u:hunter2@127.0.0.1:1/db?sslmode=disable', slot: s, publication: p }
    snapshot: never
    sink: { type: jsonl, dir: events }
";

#[test]
fn usage_and_configuration_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["fly"][..], &[], &["run", "--fast"], &["position", "set"]] {
        let ended = rowtide(folder.path(), arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains("Usage"), "{arguments:?}: {}", ended.err);
    }
    for command in ["run", "check"] {
        let ended = rowtide(folder.path(), &[command]);
        assert_eq!(ended.code, Some(2));
        assert!(ended.err.contains("RT1001 rowtide.yaml: "), "{}", ended.err);
        assert!(ended.out.is_empty());
    }
    fs::write(folder.path().join("rowtide.yaml"), UNREACHABLE.replace("slot", "slott")).unwrap();
    let ended = rowtide(folder.path(), &["check"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.starts_with("2 problems in rowtide.yaml:"), "{}", ended.err);
    assert!(ended.err.contains("RT1003 connectors.shop.source.slott"), "{}", ended.err);
    assert!(ended.err.contains("Did you mean slot?"), "{}", ended.err);
    assert!(!ended.err.contains("hunter2"));
}

#[test]
fn help_and_version_end_with_0() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"], &["help", "check"]] {
        let ended = rowtide(folder.path(), arguments);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ended.out.contains("rowtide"), "{}", ended.out);
    }
}

#[test]
fn the_schema_and_the_pages_are_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let ended = rowtide(folder.path(), &["config", "schema"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.out, fs::read_to_string(root.join("schemas/config.schema.json")).unwrap());

    let ended = rowtide(folder.path(), &["explain", "rt1003"]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.out, fs::read_to_string(root.join("src/explain/RT1003.md")).unwrap());
    let ended = rowtide(folder.path(), &["explain"]);
    assert!(ended.out.contains("RT1003  Unknown field\n"), "{}", ended.out);
    let ended = rowtide(folder.path(), &["explain", "RT9999"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("RT1021"), "{}", ended.err);
}

#[test]
fn check_names_what_cannot_work_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rowtide.yaml"), UNREACHABLE).unwrap();
    let ended = rowtide(folder.path(), &["check"]);
    assert_eq!(ended.code, Some(3), "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("shop source (postgres): cannot work"), "{}", ended.out);
    assert!(ended.out.contains("error RT2101"), "{}", ended.out);
    assert!(ended.out.contains("shop sink (jsonl): ok"), "{}", ended.out);
    assert!(!format!("{}{}", ended.out, ended.err).contains("hunter2"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
}

/// What a run refuses of the machine that it runs on is found before, and nothing is made.
#[test]
fn check_looks_at_the_address_and_the_folders_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: String| fs::write(folder.path().join("rowtide.yaml"), text).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Nothing but documentation has the second one.
    for (address, remedy) in [(&*address, "ss -ltnp"), ("192.0.2.1:9187", "ip address")] {
        write(format!("{UNREACHABLE}ops: {{ listen: '{address}' }}\n"));
        let told = format!("nothing can listen on {address}: ");
        let ended = rowtide(folder.path(), &["check"]);
        assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
        assert!(ended.out.contains("ops (metrics and status): cannot work\n"), "{}", ended.out);
        let line = format!("  error RT1030 (ops.listen): {told}");
        assert!(ended.out.contains(&line) && ended.out.contains(remedy), "{}", ended.out);
        let ended = rowtide(folder.path(), &["check", "--format", "json"]);
        let found: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        let first = found.pointer("/findings/0").unwrap();
        assert_eq!(first.get("code").unwrap(), "RT1030", "{found}");
        assert!(first.get("connector").unwrap().is_null(), "{found}");
        let ended = rowtide(folder.path(), &["run"]);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        let line = format!("RT1030 ops.listen: {told}");
        assert!(ended.err.contains(&line) && ended.err.contains(remedy), "{}", ended.err);
    }
    drop(taken);
    write(format!("{UNREACHABLE}ops: {{ listen: '{address}' }}\n"));
    let ended = rowtide(folder.path(), &["check"]);
    assert!(ended.out.contains("ops (metrics and status): ok\n"), "{}", ended.out);

    let streaming = "publication: p, streaming: on, spool: { dir: set-aside }";
    let streamed = UNREACHABLE.replace("publication: p", streaming);
    write(streamed.clone());
    let ended = rowtide(folder.path(), &["check"]);
    assert!(!ended.out.contains("RT2302"), "{}", ended.out);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was made");
    fs::write(folder.path().join("set-aside"), "").unwrap();
    let ended = rowtide(folder.path(), &["check"]);
    assert_eq!(ended.code, Some(5), "{}", ended.out);
    assert!(ended.out.contains("  error RT2302 (spool): "), "{}", ended.out);
    // Without streaming nothing is set aside.
    write(streamed.replace("streaming: on", "streaming: off"));
    let ended = rowtide(folder.path(), &["check"]);
    assert!(!ended.out.contains("RT2302"), "{}", ended.out);
}

#[test]
fn positions_are_shown_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rowtide.yaml"), UNREACHABLE).unwrap();
    let ended = rowtide(folder.path(), &["position", "show", "--connector", "shop"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let shown: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(shown.get("connector").and_then(|name| name.as_str()), Some("shop"));
    assert!(shown.get("position").is_some_and(serde_json::Value::is_null));

    let ended = rowtide(folder.path(), &["position", "show", "--connector", "shoop"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("RT1020") && ended.err.contains("shop"), "{}", ended.err);

    let set = ["position", "set", "--connector", "shop", "--lsn", "0/1", "--yes"];
    let ended = rowtide(folder.path(), &set);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    assert!(ended.err.contains("RT2101"), "{}", ended.err);
}
