//! What an operator asks of a running process and of the server's slots.

use std::net::SocketAddr;
use std::process::Output;

use rowtide::ops::http;
use rowtide_testkit::{Postgres, postgres_versions};
use serde_json::Value;

use crate::host::{Setup, runtime, sql, value};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

/// Adds an address for the ops endpoint that nobody listens on.
fn with_ops(setup: &Setup) -> SocketAddr {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = setup.path("rowtide.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}ops: {{ listen: {address} }}\n")).unwrap();
    address
}

fn ask(address: SocketAddr, path: &str) -> Result<String, String> {
    runtime().block_on(http::get(address, path))
}

fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{err}")
}

#[test]
fn a_running_process_tells_how_it_stands() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &["max_slot_wal_keep_size=1GB"]) else {
            return;
        };
        sql(&server, TABLE);
        let setup = Setup::to_files(&server);
        let address = with_ops(&setup);
        assert_eq!(setup.output(&["status"]).status.code(), Some(5), "nobody answers");
        let mut host = setup.first_start();
        host.until("it is ready", || ask(address, "/ready").is_ok());
        sql(&server, "INSERT INTO t SELECT generate_series(1, 10)");
        host.until("the events are there", || setup.count() == 10);
        host.until("a look at the slot is reported", || {
            let metrics = ask(address, "/metrics").unwrap();
            let has = |line: &str| metrics.lines().any(|found| found.starts_with(line));
            has("rowtide_events_total{connector=\"shop\"} 10")
                && has("rowtide_source_slot_retained_bytes{connector=\"shop\"} ")
                && has("rowtide_source_slot_safe_bytes{connector=\"shop\"} ")
                && has("rowtide_source_slot_wal_status{connector=\"shop\",state=\"reserved\"} 1")
                && has("rowtide_connector_state{connector=\"shop\",state=\"streaming\"} 1")
        });
        assert!(ask(address, "/live").unwrap().contains("shop streaming"));
        let status: Value = serde_json::from_str(&ask(address, "/status").unwrap()).unwrap();
        let shop = &status["connectors"][0];
        assert_eq!(shop["events"], 10, "{status}");
        assert_eq!(shop["position"]["slot"], "e2e", "{status}");

        let shown = setup.output(&["status"]);
        assert_eq!(shown.status.code(), Some(0));
        let table = text(&shown);
        for part in ["shop", "streaming", "slot_retained_bytes", "reserved"] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        // While the server is away the process lives and is not ready.
        let mut server = server;
        server.halt(true);
        host.until("it is not ready", || ask(address, "/ready").is_err());
        assert!(ask(address, "/live").is_ok());
        let shown = setup.output(&["status", "--json"]);
        assert_eq!(shown.status.code(), Some(5));
        server.resume();
        host.until("it is ready again", || ask(address, "/ready").is_ok());
        assert_eq!(host.stop(), Some(0));
    }
}

/// A connector fails for good beside one that runs: what was known of its slot passes for nothing now.
#[test]
fn facts_of_a_connector_that_failed_are_not_told_as_if_they_were_true() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    sql(&server, "CREATE TABLE t (id int PRIMARY KEY, email text)");
    let setup = Setup::to_files(&server);
    let config = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
    let connector = config.split("state:").next().unwrap().split("connectors:\n").nth(1).unwrap();
    let second = connector.replace("shop:", "audit:").replace("e2e", "e2e_b");
    let second = second.replace("/out", "/out_b");
    let masked = "    tables: { public.t: { columns: { mask: { email: sha256 } } } }\n";
    let both = config.replace("state:", &format!("{masked}{second}state:"));
    std::fs::write(setup.path("rowtide.yaml"), both).unwrap();
    let address = with_ops(&setup);
    let mut host = setup.start();
    let metrics = || ask(address, "/metrics").unwrap_or_default();
    let retained =
        |name: &str| format!("rowtide_source_slot_retained_bytes{{connector=\"{name}\"}} ");
    host.until("both slots were looked at", || {
        let metrics = metrics();
        metrics.contains(&retained("shop")) && metrics.contains(&retained("audit"))
    });
    sql(&server, "ALTER TABLE t RENAME COLUMN email TO mail; INSERT INTO t VALUES (1, 'x')");
    let failed = "rowtide_connector_state{connector=\"shop\",state=\"failed\"} 1";
    host.until("one has failed", || metrics().contains(failed));
    let metrics = metrics();
    let of_shop: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with("rowtide_source_") && line.contains("\"shop\""))
        .collect();
    assert_eq!(of_shop.len(), 1, "{of_shop:?}");
    assert!(of_shop[0].starts_with("rowtide_source_report_age_seconds{"), "{of_shop:?}");
    assert!(metrics.contains(&retained("audit")), "{metrics}");

    let status: Value = serde_json::from_str(&ask(address, "/status").unwrap()).unwrap();
    let [shop, audit] = [&status["connectors"][0], &status["connectors"][1]];
    assert_eq!(shop["error"]["code"], "RT5007", "{status}");
    assert_eq!(shop["facts"], serde_json::json!({}), "{status}");
    assert!(shop["last_facts"]["slot_retained_bytes"].is_number(), "{status}");
    assert!(audit["facts"]["slot_retained_bytes"].is_number(), "{status}");
    assert!(audit.get("last_facts").is_none(), "{status}");
    let table = text(&setup.output(&["status"]));
    let last = table.split(" ago; nobody has looked since:\n").nth(1).unwrap();
    assert!(last.contains("\n    slot_wal_status      reserved\n"), "{table}");
    assert_eq!(host.stop(), Some(2), "{}", host.log());
}

#[test]
fn an_address_in_use_is_refused_before_anything_starts() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let setup = Setup::to_files(&server);
    let address = with_ops(&setup);
    let _taken = std::net::TcpListener::bind(address).unwrap();
    let (status, log) = setup.run_to_end();
    assert_eq!(status, Some(2), "{log}");
    assert!(log.contains("RT1030") && log.contains(&address.to_string()), "{log}");
    assert_eq!(value(&server, "SELECT count(*) FROM pg_replication_slots"), "0");
}

/// The process that a check is about may be running, also where its sink keeps the position.
#[test]
fn an_address_that_the_running_process_has_is_no_error_of_a_check() {
    let Some(server) = Postgres::start("18", &[]) else { return };
    let setup = Setup::to_files(&server);
    let address = with_ops(&setup);
    let in_files = std::fs::read_to_string(setup.path("rowtide.yaml")).unwrap();
    let discards = in_files.replace(&setup.jsonl(), "{ type: discard }");
    assert_ne!(in_files, discards);
    // Another sink with the same state would be refused.
    let discards = discards.replace("e2e", "e2e_b").replace("/state", "/state_b");
    for config in [in_files, discards] {
        std::fs::write(setup.path("rowtide.yaml"), &config).unwrap();
        let mut host = setup.first_start();
        let checked = setup.output(&["check"]);
        let found = text(&checked);
        assert!(checked.status.success(), "{found}");
        assert!(found.contains("ops (metrics and status): ok\n  info RT1030"), "{found}");
        // One of another state folder and sink is not it, whatever its connector is called.
        let folder = setup.folder.path().display().to_string();
        let other = config.replace(&folder, &format!("{folder}/other"));
        std::fs::write(setup.path("rowtide.yaml"), other).unwrap();
        let checked = setup.output(&["check"]);
        let found = text(&checked);
        let told = format!("error RT1030 (ops.listen): nothing can listen on {address}: ");
        assert!(!checked.status.success() && found.contains(&told), "{found}");
        std::fs::write(setup.path("rowtide.yaml"), &config).unwrap();
        assert_eq!(host.stop(), Some(0), "{}", host.log());
    }
}

#[test]
fn slots_are_listed_and_dropped_with_care() {
    for version in postgres_versions() {
        let Some(server) = Postgres::start(&version, &[]) else { return };
        sql(&server, TABLE);
        sql(&server, "SELECT pg_create_physical_replication_slot('other', true)");
        let setup = Setup::to_files(&server);
        let mut host = setup.first_start();
        let listed = text(&setup.output(&["slot", "list"]));
        let line = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("e2e").contains("pgoutput") && line("e2e").ends_with("shop"), "{listed}");
        assert!(line("e2e").contains("process "), "{listed}");
        assert!(line("other").contains("physical") && line("other").ends_with('-'), "{listed}");

        let drop = |arguments: &[&str]| {
            let arguments = [&["slot", "drop", "--connector", "shop"], arguments].concat();
            let done = setup.output(&arguments);
            (done.status.code(), text(&done))
        };
        let slots = || value(&server, "SELECT count(*) FROM pg_replication_slots");
        let (status, said) = drop(&["--yes"]);
        assert!(status == Some(3) && said.contains("RT2118"), "{said}");
        assert_eq!(host.stop(), Some(0));

        let (status, said) = drop(&[]);
        assert!(status == Some(0) && said.contains("nothing was changed"), "{said}");
        assert!(said.contains("RT2204"), "{said}");
        let (status, said) = drop(&["--slot", "absent", "--yes"]);
        assert!(status == Some(3) && said.contains("RT2119"), "{said}");
        assert_eq!(slots(), "2");
        let (status, said) = drop(&["--slot", "other", "--yes"]);
        assert!(status == Some(0) && !said.contains("RT2204"), "{said}");
        assert_eq!(slots(), "1");
        let (status, said) = drop(&["--yes"]);
        assert_eq!((status, slots().as_str()), (Some(0), "0"), "{said}");
        let (status, log) = setup.run_to_end();
        assert!(status == Some(3) && log.contains("RT2204"), "{log}");
        // One of that name that cannot be the connector's goes only where it is named.
        sql(&server, "SELECT pg_create_logical_replication_slot('e2e', 'test_decoding')");
        let (status, said) = drop(&["--yes"]);
        assert!(status == Some(3) && said.contains("RT2205"), "{said}");
        assert_eq!(slots(), "1");
        let (status, said) = drop(&["--slot", "e2e", "--yes"]);
        assert_eq!((status, slots().as_str()), (Some(0), "0"), "{said}");
    }
}
