//! `rowtide status`: asks a running process how it stands.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Map, Value};

use super::output::{Out, bytes, columns, complain};
use super::{Exit, runtime};
use crate::ops::http;
use crate::ops::status::{ConnectorStatus, Status};

/// RT1031: the process cannot be asked.
const NOT_ANSWERED: &str = "RT1031";

/// Prints how the process at `address` stands. Ends with a failure where one of its connectors does
/// not read its log.
pub(super) fn status(address: Option<SocketAddr>, as_json: bool) -> Exit {
    let Some(address) = address else {
        complain(&format!(
            "{NOT_ANSWERED}: the configuration serves no status: add `ops: {{ listen: \
             127.0.0.1:9187 }}` and restart the process, or name its address with --ops"
        ));
        return Exit::Config;
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let answer = runtime.block_on(http::get(address, "/status"));
    let read = answer.and_then(|text| match serde_json::from_str::<Status>(&text) {
        Ok(status) => Ok((text, status)),
        Err(error) => Err(format!("the answer is not a status of this version: {error}")),
    });
    let (json, status) = match read {
        Ok(read) => read,
        Err(error) => {
            complain(&format!("{NOT_ANSWERED}: {address} cannot be asked: {error}"));
            return Exit::Host;
        }
    };
    let text = if as_json { json + "\n" } else { table(&status) };
    match Out::new().text(&text) {
        Exit::Ok if !status.ready => Exit::Host,
        exit => exit,
    }
}

/// A line for each connector, then what each one's source says.
fn table(status: &Status) -> String {
    let mut text =
        format!("rowtide {}, running for {}\n\n", status.version, duration(status.uptime_s));
    let header = ["CONNECTOR", "STATE", "EVENTS", "DEAD LETTERS", "LAG", "SAVED", "RESTARTS"];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(status.connectors.iter().map(row));
    columns(&mut text, &rows);
    for connector in &status.connectors {
        details(&mut text, connector);
    }
    text
}

fn row(connector: &ConnectorStatus) -> [String; 7] {
    let saved = connector.position_age_s.map(|age| format!("{} ago", duration(age)));
    [
        connector.name.clone(),
        connector.state.clone(),
        connector.events.to_string(),
        connector.dead_letters.to_string(),
        duration(connector.lag_ms as f64 / 1000.0),
        saved.unwrap_or_else(|| "-".to_owned()),
        connector.restarts.to_string(),
    ]
}

fn details(text: &mut String, connector: &ConnectorStatus) {
    let ConnectorStatus { name, source, sink, error, position, facts, last_facts, .. } = connector;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n{name} ({source} to {sink})");
    if let Some(error) = error {
        let _ = writeln!(text, "  {}: {}", error.code, error.message);
        for line in error.remedy.iter().flat_map(|remedy| remedy.lines()) {
            let _ = writeln!(text, "      {line}");
        }
    }
    if let Some(position) = position {
        let _ = writeln!(text, "  position  {position}");
    }
    push_facts(text, "  ", facts);
    if let Some(age) = connector.facts_age_s.filter(|_| !last_facts.is_empty()) {
        let _ = writeln!(text, "  as of {} ago; nobody has looked since:", duration(age));
        push_facts(text, "    ", last_facts);
    }
}

fn push_facts(text: &mut String, indent: &str, facts: &Map<String, Value>) {
    let facts = facts.iter().map(|(name, value)| [format!("{indent}{name}"), shown(name, value)]);
    columns(text, &facts.collect::<Vec<_>>());
}

/// A fact for people, by the unit at the end of its name.
fn shown(name: &str, value: &Value) -> String {
    match (value.as_f64(), value) {
        (Some(number), _) if name.ends_with("_bytes") => bytes(number),
        (Some(number), _) if name.ends_with("_bytes_per_second") => format!("{}/s", bytes(number)),
        (Some(number), _) if name.ends_with("_seconds") => duration(number),
        (Some(number), _) => format!("{number}"),
        (None, Value::String(text)) => text.clone(),
        (None, other) => other.to_string(),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_a_table() {
        let status: Status = serde_json::from_value(json!({
            "version": "1.2.3", "uptime_s": 4000.0, "ready": false, "connectors": [
                {"name": "shop", "source": "postgres", "sink": "kafka", "state": "streaming",
                 "restarts": 0, "events": 1200, "dead_letters": 0, "bytes": 9, "lag_ms": 12,
                 "position": {"confirm": "0/1"}, "position_age_s": 0.25,
                 "facts": {"slot_retained_bytes": 16_777_216.0, "slot_runway_seconds": 90_000.0,
                           "slot_wal_status": "reserved"}, "facts_age_s": 1.0},
                {"name": "audit", "source": "postgres", "sink": "jsonl", "state": "failed",
                 "error": {"code": "RT2204", "message": "gone", "remedy": "make it"},
                 "restarts": 3, "events": 0, "dead_letters": 0, "bytes": 0, "lag_ms": 0,
                 "facts": {}, "last_facts": {"slot_active": 1.0}, "facts_age_s": 8000.0}]
        }))
        .unwrap();
        let text = table(&status);
        for line in [
            "rowtide 1.2.3, running for 67 min",
            "CONNECTOR  STATE      EVENTS  DEAD LETTERS  LAG    SAVED       RESTARTS",
            "shop       streaming  1200    0             12 ms  250 ms ago  0",
            "audit      failed     0       0             0 ms   -           3",
            "  position  {\"confirm\":\"0/1\"}",
            "  slot_retained_bytes  16.0 MiB",
            "  slot_runway_seconds  25.0 h",
            "  RT2204: gone",
            "  as of 2.2 h ago; nobody has looked since:",
            "    slot_active  1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!(bytes(1.5 * 1024.0), "1.5 KiB");
        assert_eq!(duration(0.0124), "12 ms");
        assert_eq!(duration(259_200.0), "3.0 d");
    }
}
