//! The board as metrics, in Prometheus' text format (version 0.0.4).

use std::fmt::Write as _;

use rowtide_sdk::{Fact, FactValue};

use super::board::{Board, ConnectorBoard, Phase};

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics. A figure that is not known is left out.
pub fn render(board: &Board) -> String {
    let mut text = Text::default();
    text.family("rowtide_build_info", "gauge", "The version of this process");
    text.sample("rowtide_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    text.family("rowtide_uptime_seconds", "gauge", "How long this process has been running");
    text.sample("rowtide_uptime_seconds", &[], board.uptime().as_secs_f64());
    text.family("rowtide_connector_state", "gauge", "1 for what the connector is doing, else 0");
    for connector in board.connectors() {
        let phase = connector.phase();
        for state in Phase::NAMES {
            let labels = [("connector", connector.name()), ("state", state)];
            let is_so = if state == phase.name() { 1.0 } else { 0.0 };
            text.sample("rowtide_connector_state", &labels, is_so);
        }
    }
    for (name, kind, help, read) in FIGURES {
        text.family(name, kind, help);
        for connector in board.connectors() {
            if let Some(value) = read(connector) {
                text.sample(name, &[("connector", connector.name())], value);
            }
        }
    }
    facts(board, &mut text);
    text.0
}

type Figure = (&'static str, &'static str, &'static str, fn(&ConnectorBoard) -> Option<f64>);

/// What every connector has, whatever its source.
const FIGURES: [Figure; 8] = [
    ("rowtide_restarts_total", "counter", "Restarts after errors that may pass", |connector| {
        Some(count(connector.restarts()))
    }),
    ("rowtide_events_total", "counter", "Events given to the sink", |connector| {
        Some(count(connector.events()))
    }),
    ("rowtide_dead_letters_total", "counter", "Dead letters given to the sink", |connector| {
        Some(count(connector.dead_letters()))
    }),
    ("rowtide_schema_changes_total", "counter", "Schema changes given to the sink", |connector| {
        Some(count(connector.schema_changes()))
    }),
    ("rowtide_event_bytes_total", "counter", "Bytes of events and keys given to the sink", |c| {
        Some(count(c.bytes()))
    }),
    (
        "rowtide_event_lag_seconds",
        "gauge",
        "Capture time less commit time of the newest event",
        |c| Some(c.lag().as_secs_f64()),
    ),
    (
        "rowtide_position_age_seconds",
        "gauge",
        "How long ago a position was last saved",
        |connector| connector.position().map(|(_, age)| age.as_secs_f64()),
    ),
    ("rowtide_source_report_age_seconds", "gauge", "How old the source's own figures are", |c| {
        c.told().map(|told| told.age.as_secs_f64())
    }),
];

/// The figures of the sources: one family each, over all connectors that report it. What nobody looks
/// at any more is left out: an old figure would pass for a healthy one.
fn facts(board: &Board, text: &mut Text) {
    let reports: Vec<(&str, Vec<Fact>)> = board
        .connectors()
        .iter()
        .filter_map(|connector| {
            Some((connector.name(), connector.told().filter(|it| it.holds)?.facts))
        })
        .collect();
    let mut done: Vec<&'static str> = Vec::new();
    for fact in reports.iter().flat_map(|(_, facts)| facts) {
        if done.contains(&fact.name) {
            continue;
        }
        done.push(fact.name);
        let name = format!("rowtide_source_{}", fact.name);
        let kind = if matches!(fact.value, FactValue::Counter(_)) { "counter" } else { "gauge" };
        text.family(&name, kind, fact.help);
        for (connector, facts) in &reports {
            for fact in facts.iter().filter(|other| other.name == fact.name) {
                match &fact.value {
                    FactValue::Gauge(value) => {
                        text.sample(&name, &[("connector", connector)], *value);
                    }
                    FactValue::Counter(value) => {
                        text.sample(&name, &[("connector", connector)], count(*value));
                    }
                    FactValue::State(state) => {
                        text.sample(&name, &[("connector", connector), ("state", state)], 1.0);
                    }
                }
            }
        }
    }
}

/// Prometheus' numbers are floats; above 2^53 they lose their last digits.
fn count(value: u64) -> f64 {
    value as f64
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ =
            writeln!(self.0, "# HELP {name} {}.\n# TYPE {name} {kind}", help.replace('\\', "\\\\"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        let mut open = '{';
        for (label, text) in labels {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{text}\"");
            open = ',';
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_states_and_labels_are_written() {
        let board = Board::new([("shop", "postgres", "kafka"), ("au\"dit", "postgres", "jsonl")]);
        let [shop, audit] = board.connectors() else { panic!() };
        shop.batch(7, 1, 1024, 2_500_000);
        let fact = |name, value| Fact { name, help: "Bytes", value };
        shop.report().streaming();
        shop.report().facts(vec![
            fact("slot_retained_bytes", FactValue::Gauge(16_777_216.0)),
            fact("slot_wal_status", FactValue::State("reserved".to_owned())),
            fact("heartbeats_total", FactValue::Counter(3)),
        ]);
        audit.report().facts(vec![fact("slot_retained_bytes", FactValue::Gauge(0.5))]);
        let text = render(&board);
        for line in [
            "rowtide_connector_state{connector=\"shop\",state=\"streaming\"} 1",
            "rowtide_connector_state{connector=\"shop\",state=\"failed\"} 0",
            "rowtide_events_total{connector=\"shop\"} 7",
            "rowtide_event_lag_seconds{connector=\"shop\"} 2.5",
            "# TYPE rowtide_source_slot_retained_bytes gauge",
            "rowtide_source_slot_retained_bytes{connector=\"shop\"} 16777216",
            "rowtide_source_slot_retained_bytes{connector=\"au\\\"dit\"} 0.5",
            "rowtide_source_slot_wal_status{connector=\"shop\",state=\"reserved\"} 1",
            "# TYPE rowtide_source_heartbeats_total counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE rowtide_source_slot_retained_bytes").count(), 1);
        assert!(!text.contains("rowtide_position_age_seconds{"), "not known yet");
    }

    #[test]
    fn figures_of_a_source_that_does_not_run_are_left_out() {
        let board = Board::new([("shop", "postgres", "kafka"), ("audit", "postgres", "jsonl")]);
        for connector in board.connectors() {
            let value = FactValue::Gauge(56.0);
            let fact = Fact { name: "slot_retained_bytes", help: "Bytes", value };
            connector.report().facts(vec![fact]);
        }
        let [shop, _] = board.connectors() else { panic!() };
        let code = rowtide_sdk::Code("RT5007");
        shop.ends(&Err(rowtide_sdk::Error::fatal(rowtide_sdk::Origin::Host, code, "renamed")));
        let text = render(&board);
        assert!(!text.contains("rowtide_source_slot_retained_bytes{connector=\"shop\"}"), "{text}");
        for part in [
            "rowtide_source_slot_retained_bytes{connector=\"audit\"} 56",
            "rowtide_source_report_age_seconds{connector=\"shop\"} ",
            "rowtide_connector_state{connector=\"shop\",state=\"failed\"} 1",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
