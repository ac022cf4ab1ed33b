//! The board as one JSON document: what `/status` serves and `rowtide status` reads.

use std::time::Duration;

use rowtide_sdk::{Fact, FactValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::board::{Board, ConnectorBoard};

/// How the process stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// How long it has been running.
    pub uptime_s: f64,
    /// Whether every connector reads its log.
    pub ready: bool,
    /// The connectors, in the order of the configuration.
    pub connectors: Vec<ConnectorStatus>,
}

/// How one connector stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: String,
    /// The kind of its source.
    pub source: String,
    /// The kind of its sink.
    pub sink: String,
    /// `starting`, `streaming`, `waiting`, `stopped` or `failed`.
    pub state: String,
    /// Why it waits or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Reason>,
    /// Restarts after errors that may pass.
    pub restarts: u64,
    /// Events given to the sink.
    pub events: u64,
    /// Dead letters given to the sink.
    pub dead_letters: u64,
    /// Bytes of events and keys given to the sink.
    pub bytes: u64,
    /// Capture time less commit time of the newest event.
    pub lag_ms: u64,
    /// The newest position saved by this process, in the source's own form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Value>,
    /// How long ago it was saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position_age_s: Option<f64>,
    /// What the source says of itself; empty where nobody looks any more.
    pub facts: Map<String, Value>,
    /// What it said last, where nobody looks any more: the connector has ended, or has not come back
    /// for long.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub last_facts: Map<String, Value>,
    /// How old the one or the other is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts_age_s: Option<f64>,
}

/// An error, for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reason {
    /// The code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Status {
    /// How the board stands now.
    pub fn of(board: &Board) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: seconds(board.uptime()),
            ready: board.is_ready(),
            connectors: board.connectors().iter().map(|c| ConnectorStatus::of(c)).collect(),
        }
    }
}

impl ConnectorStatus {
    fn of(board: &ConnectorBoard) -> Self {
        let phase = board.phase();
        let (source, sink) = board.kinds();
        let position = board.position();
        let told = board.told();
        let facts_age_s = told.as_ref().map(|told| seconds(told.age));
        let (facts, last_facts) = match told {
            Some(told) if told.holds => (map(told.facts), Map::new()),
            Some(told) => (Map::new(), map(told.facts)),
            None => (Map::new(), Map::new()),
        };
        Self {
            name: board.name().to_owned(),
            source: source.to_owned(),
            sink: sink.to_owned(),
            state: phase.name().to_owned(),
            error: phase.trouble().map(|trouble| Reason {
                code: trouble.code.to_owned(),
                message: trouble.message.clone(),
                remedy: trouble.remedy.clone(),
            }),
            restarts: board.restarts(),
            events: board.events(),
            dead_letters: board.dead_letters(),
            bytes: board.bytes(),
            lag_ms: u64::try_from(board.lag().as_millis()).unwrap_or(u64::MAX),
            position: position.as_ref().map(|(position, _)| json(position.as_str())),
            position_age_s: position.map(|(_, age)| seconds(age)),
            facts,
            last_facts,
            facts_age_s,
        }
    }
}

fn map(facts: Vec<Fact>) -> Map<String, Value> {
    facts.into_iter().map(|fact| (fact.name.to_owned(), value(fact.value))).collect()
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A position is JSON of the source's own; what is not is shown as text.
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn value(value: FactValue) -> Value {
    match value {
        FactValue::Gauge(number) => Value::from(number),
        FactValue::Counter(number) => Value::from(number),
        FactValue::State(state) => Value::from(state),
    }
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::{Code, Error, Origin, Position};

    use super::*;

    #[test]
    fn a_status_is_read_back_as_it_was_written() {
        let board = Board::new([("shop", "postgres", "kafka")]);
        let [shop] = board.connectors() else { panic!() };
        shop.report().streaming();
        shop.saved(Position::new("{\"confirm\":\"0/1\"}"));
        let value = FactValue::State("reserved".to_owned());
        shop.report().facts(vec![Fact { name: "slot_wal_status", help: "x", value }]);
        let text = serde_json::to_string(&Status::of(&board)).unwrap();
        let status: Status = serde_json::from_str(&text).unwrap();
        assert!(status.ready);
        let [shop] = status.connectors.as_slice() else { panic!() };
        assert_eq!(shop.state, "streaming");
        assert_eq!(shop.position.as_ref().unwrap()["confirm"], "0/1");
        assert_eq!(shop.facts["slot_wal_status"], "reserved");
        assert!(shop.error.is_none() && shop.position_age_s.is_some());
        assert!(shop.last_facts.is_empty() && shop.facts_age_s.is_some());
    }

    #[test]
    fn facts_of_a_connector_that_has_ended_are_its_last_ones() {
        let board = Board::new([("shop", "postgres", "kafka")]);
        let [shop] = board.connectors() else { panic!() };
        let value = FactValue::State("reserved".to_owned());
        shop.report().facts(vec![Fact { name: "slot_wal_status", help: "x", value }]);
        shop.ends(&Err(Error::fatal(Origin::Host, Code("RT5007"), "renamed")));
        let text = serde_json::to_value(Status::of(&board)).unwrap();
        let shop = &text["connectors"][0];
        assert_eq!(shop["facts"], Value::Object(Map::new()));
        assert_eq!(shop["last_facts"]["slot_wal_status"], "reserved");
        assert!(shop["facts_age_s"].is_number());
    }
}
