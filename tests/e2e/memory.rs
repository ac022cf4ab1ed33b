//! How much a running process holds.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rowtide_testkit::{Flavor, Mysql, Postgres, postgres_versions};
use serde_json::Value;

use crate::host::{Options, PATIENCE, Setup, sql};

/// As in a configuration that does not say otherwise.
const MEMORY_KIB: u64 = 32 * 1024;
const ROWS: usize = 40_000;
const WIDTH: usize = 2600;

/// A process, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

impl Process {
    /// The most memory that it ever had.
    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Hazard 12: a transaction of three times the configured memory, into a pipe that nobody reads for a
/// while: what the process takes for it stays within that memory, sent whole or while it runs.
#[test]
fn h12_a_large_transaction_stays_within_the_configured_memory() {
    for version in postgres_versions() {
        for streaming in ["off", "on"] {
            let settings = ["logical_decoding_work_mem=64kB", "max_wal_size=2GB"];
            let Some(server) = Postgres::start(&version, &settings) else { return };
            sql(&server, "CREATE TABLE t (id int PRIMARY KEY, note text)");
            let setup = Setup::new();
            let source = format!("      streaming: \"{streaming}\"\n");
            let sink = "{ type: stdout }".to_owned();
            setup.write(&Options { url: server.url(), source: &source, sink, connector: "" });
            let log = fs::File::create(setup.path("log")).unwrap();
            let mut command = setup.command(&["run"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
            let mut process = Process(command.spawn().unwrap());
            let log = || fs::read_to_string(setup.path("log")).unwrap();
            until("the start", || log().contains("the first position is saved"));
            let before = process.peak_kib();
            sql(
                &server,
                &format!(
                    "INSERT INTO t SELECT n, repeat('x', {WIDTH}) FROM generate_series(1, {ROWS}) n"
                ),
            );
            std::thread::sleep(Duration::from_secs(2));
            let held = process.peak_kib() - before;
            assert!(held < MEMORY_KIB, "{version} {streaming}: {held} KiB while held back");

            let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
            let events = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
            let ids = events.filter_map(|event| event["after"]["id"].as_u64());
            assert!(ids.take(ROWS).eq(1..=ROWS as u64), "{version} {streaming}: {}", log());
            let took = process.peak_kib() - before;
            assert!(took < MEMORY_KIB, "{version} {streaming}: {took} KiB");
            let pid = process.0.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            until("the end", || process.0.try_wait().unwrap().is_some());
        }
    }
}

/// The ceiling of the whole process.
const CEILING_KIB: u64 = 64 * 1024;

/// Hazards 5 and 26 of MySQL's log: a transaction is one packed event, whatever its size. One of a million
/// rows that pack well, and one that cannot be packed smaller and takes several packets.
#[test]
fn m5_m26_a_packed_transaction_stays_within_the_ceiling() {
    let settings =
        ["binlog_row_metadata=FULL", "binlog_transaction_compression=ON", "max_allowed_packet=1G"];
    let Some(server) = Mysql::start(Flavor::Mysql, &settings) else { return };
    server.sql(
        "CREATE DATABASE shop; USE shop; CREATE TABLE narrow (id int PRIMARY KEY, n int);
         CREATE TABLE random (id int PRIMARY KEY, v varbinary(1000))",
    );
    let statement = |table: &str, rows: usize, value: &str| {
        format!(
            "SET SESSION cte_max_recursion_depth = {rows};
             INSERT INTO shop.{table} WITH RECURSIVE n (i) AS
                 (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) SELECT i, {value} FROM n;"
        )
    };
    for (table, rows, value) in
        [("narrow", 1_000_000, "i % 7"), ("random", 60_000, "RANDOM_BYTES(1000)")]
    {
        let setup = Setup::new();
        let text = format!(
            "connectors:\n  shop:\n    source:\n      type: mysql\n      url: {}\n    snapshot: never\n    sink: {{ type: stdout }}\nstate: {}\n",
            server.url(),
            setup.path("state").display()
        );
        fs::write(setup.path("rowtide.yaml"), text).unwrap();
        let log = fs::File::create(setup.path("log")).unwrap();
        let mut command = setup.command(&["run"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut process = Process(command.spawn().unwrap());
        let log = || fs::read_to_string(setup.path("log")).unwrap();
        until("the start", || log().contains("streaming"));
        server.sql(&statement(table, rows, value));
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let last = lines
            .map(|line| line.unwrap())
            .filter(|line| line.contains("\"op\":\"c\""))
            .nth(rows - 1);
        let last: Value = serde_json::from_str(&last.unwrap()).unwrap();
        assert_eq!(last["after"]["id"], rows, "{}", log());
        let peak = process.peak_kib();
        println!("{table}: {rows} rows in one packed transaction, at most {peak} KiB");
        assert!(peak < CEILING_KIB, "{table}: {peak} KiB");
        let pid = process.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        until("the end", || process.0.try_wait().unwrap().is_some());
    }
}
