//! A connector whose sink is another one than before does not begin anew without a word.

use std::fs;

use rowtide_testkit::{Flavor, Mysql};
use serde_json::Value;

use crate::host::Setup;
use crate::mysql::configured;

fn with_sink(setup: &Setup, sink: &str) {
    let path = setup.path("rowtide.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("    sink: ")).unwrap();
    fs::write(&path, text.replace(line, &format!("    sink: {sink}"))).unwrap();
}

/// Sees that a start and the preflight refuse the sink, and that nothing came.
fn is_refused(setup: &Setup, named: &str) {
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(2), "{log}");
    assert!(log.contains("RT4012") && log.contains(named), "{log}");
    let checked = setup.output(&["check"]);
    let told = String::from_utf8(checked.stdout).unwrap();
    assert!(!checked.status.success() && told.contains("RT4012"), "{told}");
}

/// The place that is saved, as `position set` takes it.
fn place(setup: &Setup) -> String {
    let shown = setup.output(&["position", "show", "--connector", "shop"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).unwrap();
    let position = &shown["position"];
    format!("{}:{}", position["file"].as_str().unwrap(), position["pos"])
}

fn set(setup: &Setup, place: &str) {
    let arguments = ["position", "set", "--connector", "shop", "--at", place, "--yes"];
    let output = setup.output(&arguments);
    assert!(output.status.success(), "{output:?}");
}

/// The keys of the changes that were printed.
fn printed(setup: &Setup) -> Vec<Value> {
    let lines = setup.lines();
    let changes = lines.iter().filter(|line| line["op"] == "c");
    changes.map(|line| line["key"]["id"].clone()).collect()
}

#[test]
fn a5_another_sink_does_not_skip_what_came_since() {
    let Some(server) = Mysql::start(Flavor::Mysql, &["binlog_row_metadata=FULL"]) else { return };
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.t (id int PRIMARY KEY)");
    let setup = configured(&server);
    let files = setup.jsonl();
    let mut host = setup.first_start();
    server.sql("INSERT INTO shop.t VALUES (1)");
    host.until("the first row is there", || setup.count() == 1);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    server.sql("INSERT INTO shop.t VALUES (2)");
    let behind_first = place(&setup);

    // What was there is gone, as where a disk is not mounted.
    fs::rename(setup.path("out"), setup.path("away")).unwrap();
    is_refused(&setup, "any more");
    assert!(!setup.path("out").exists());
    fs::rename(setup.path("away"), setup.path("out")).unwrap();

    // From files to other files, and to a sink that does not keep the position.
    let out = setup.path("out").display().to_string();
    with_sink(&setup, &files.replace("out", "other"));
    is_refused(&setup, &out);
    with_sink(&setup, "{ type: stdout }");
    is_refused(&setup, &out);
    set(&setup, &behind_first);
    let mut host = setup.start();
    host.until("the second row is there", || printed(&setup) == [2]);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    server.sql("INSERT INTO shop.t VALUES (3)");
    let behind_second = place(&setup);

    // And from there to other files.
    with_sink(&setup, &files.replace("out", "other"));
    is_refused(&setup, &setup.path("state").display().to_string());
    assert!(!setup.path("other").join("manifest.json").exists());
    set(&setup, &behind_second);
    let mut host = setup.start();
    host.until_logged(": streaming");
    let segments =
        || fs::read_dir(setup.path("other").join("shop.shop.t")).is_ok_and(|it| it.count() > 0);
    host.until("the third row is there", segments);
    assert_eq!(host.stop(), Some(0), "{}", host.log());
    assert_eq!(setup.count(), 1);
}
