//! The board: how every connector stands, noted by the pipelines and read by whoever asks. No I/O
//! happens here.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rowtide_sdk::{Error, Fact, Position, Reporter};

/// A pipeline whose thread has not moved for so long hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// How long what a source said of its server is taken for true once the run that said it has ended:
/// about as long as the longest wait between two tries.
const HOLDS_FOR: Duration = Duration::from_secs(30);

/// How all connectors of the process stand.
#[derive(Debug)]
pub struct Board {
    started: Instant,
    connectors: Vec<Arc<ConnectorBoard>>,
}

/// What a connector is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It opens its sink and source.
    Starting,
    /// Its source reads the log.
    Streaming,
    /// It waits after an error that may pass by itself.
    Waiting(Trouble),
    /// It stopped as asked.
    Stopped,
    /// It ended for good.
    Failed(Trouble),
}

impl Phase {
    /// The names of all phases.
    pub const NAMES: [&'static str; 5] = ["starting", "streaming", "waiting", "stopped", "failed"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Streaming => "streaming",
            Self::Waiting(_) => "waiting",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }

    /// The error behind it.
    pub fn trouble(&self) -> Option<&Trouble> {
        match self {
            Self::Waiting(trouble) | Self::Failed(trouble) => Some(trouble),
            _ => None,
        }
    }
}

/// An error as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its code.
    pub code: &'static str,
    /// What happened, with causes.
    pub message: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl From<&Error> for Trouble {
    fn from(error: &Error) -> Self {
        Self {
            code: error.code().0,
            message: error.message_with_causes(),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}

/// What a source said of itself last.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What it said.
    pub facts: Vec<Fact>,
    /// How long ago.
    pub age: Duration,
    /// Whether it is to be taken for true. Once the connector has ended, or has not come back for long,
    /// nobody looks at its server any more.
    pub holds: bool,
}

/// How one connector stands.
#[derive(Debug)]
pub struct ConnectorBoard {
    name: String,
    source: &'static str,
    sink: &'static str,
    report: Reporter,
    phase: Mutex<Phase>,
    restarts: AtomicU64,
    events: AtomicU64,
    dead_letters: AtomicU64,
    schema_changes: AtomicU64,
    bytes: AtomicU64,
    lag_us: AtomicI64,
    saved: Mutex<Option<(Position, Instant)>>,
    /// When its thread last moved.
    moved: Mutex<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// A board for these connectors: name, kind of source, kind of sink.
    pub fn new<'a>(
        connectors: impl IntoIterator<Item = (&'a str, &'static str, &'static str)>,
    ) -> Self {
        let connectors = connectors
            .into_iter()
            .map(|(name, source, sink)| Arc::new(ConnectorBoard::new(name, source, sink)))
            .collect();
        Self { started: Instant::now(), connectors }
    }

    /// How long the process has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// All connectors, in the order of the configuration.
    pub fn connectors(&self) -> &[Arc<ConnectorBoard>] {
        &self.connectors
    }

    /// Whether every connector reads its log.
    pub fn is_ready(&self) -> bool {
        self.connectors.iter().all(|connector| connector.phase() == Phase::Streaming)
    }

    /// Whether no connector hangs. One that failed for good, or waits for its server, does not: a
    /// restart of the process would not help it.
    pub fn is_live(&self) -> bool {
        self.connectors.iter().all(|connector| !connector.hangs())
    }
}

impl ConnectorBoard {
    /// A connector that has not started.
    pub fn new(name: &str, source: &'static str, sink: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            source,
            sink,
            report: Reporter::default(),
            phase: Mutex::new(Phase::Starting),
            restarts: AtomicU64::new(0),
            events: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            schema_changes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lag_us: AtomicI64::new(0),
            saved: Mutex::new(None),
            moved: Mutex::new(Instant::now()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kinds of its source and sink.
    pub fn kinds(&self) -> (&'static str, &'static str) {
        (self.source, self.sink)
    }

    /// Where its source reports to.
    pub fn report(&self) -> &Reporter {
        &self.report
    }

    /// What its source said of itself last.
    pub fn told(&self) -> Option<Told> {
        let known = self.report.known()?;
        let holds = !self.has_ended() && (known.is_of_this_run || known.age <= HOLDS_FOR);
        Some(Told { facts: known.facts, age: known.age, holds })
    }

    fn has_ended(&self) -> bool {
        matches!(*lock(&self.phase), Phase::Stopped | Phase::Failed(_))
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match lock(&self.phase).clone() {
            Phase::Starting if self.report.is_streaming() => Phase::Streaming,
            phase => phase,
        }
    }

    /// A run begins.
    pub(crate) fn starts(&self) {
        self.set(Phase::Starting);
    }

    /// A run ended with an error that may pass.
    pub(crate) fn waits(&self, error: &Error) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.set(Phase::Waiting(error.into()));
    }

    /// It has ended.
    pub(crate) fn ends(&self, result: &Result<(), Error>) {
        self.set(match result {
            Ok(()) => Phase::Stopped,
            Err(error) => Phase::Failed(error.into()),
        });
    }

    fn set(&self, phase: Phase) {
        self.report.ended();
        *lock(&self.phase) = phase;
    }

    /// A batch was encoded. `behind_us` is capture time less commit time of its newest event, where
    /// it has events.
    pub(crate) fn batch(&self, events: u64, dead_letters: u64, bytes: usize, behind_us: i64) {
        self.events.fetch_add(events, Ordering::Relaxed);
        self.dead_letters.fetch_add(dead_letters, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if events > 0 {
            self.lag_us.store(behind_us.max(0), Ordering::Relaxed);
        }
    }

    /// Schema versions were told.
    pub(crate) fn schema_changes_told(&self, changes: u64) {
        self.schema_changes.fetch_add(changes, Ordering::Relaxed);
    }

    /// Records of schema changes given to the sink.
    pub fn schema_changes(&self) -> u64 {
        self.schema_changes.load(Ordering::Relaxed)
    }

    /// A position is saved.
    pub(crate) fn saved(&self, position: Position) {
        *lock(&self.saved) = Some((position, Instant::now()));
    }

    /// The newest saved position of this process, and its age.
    pub fn position(&self) -> Option<(Position, Duration)> {
        lock(&self.saved).as_ref().map(|(position, at)| (position.clone(), at.elapsed()))
    }

    /// How often it was restarted.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Events encoded and given to the sink, without dead letters.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Dead letters given to the sink.
    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }

    /// Bytes of events and keys given to the sink.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long after its commit the newest event was captured.
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_us.load(Ordering::Relaxed).try_into().unwrap_or_default())
    }

    /// Its thread moves; said every second or so.
    pub(crate) fn moves(&self) {
        *lock(&self.moved) = Instant::now();
    }

    /// Whether its thread has been stuck for long.
    fn hangs(&self) -> bool {
        !self.has_ended() && lock(&self.moved).elapsed() > HANGS_AFTER
    }
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::{Code, Origin};

    use super::*;

    #[test]
    fn phases_follow_the_pipeline_and_its_source() {
        let board = Board::new([("shop", "postgres", "kafka"), ("audit", "postgres", "jsonl")]);
        let [shop, audit] = board.connectors() else { panic!() };
        assert_eq!((shop.phase(), board.is_ready()), (Phase::Starting, false));
        shop.report().streaming();
        assert_eq!(shop.phase(), Phase::Streaming);
        audit.report().streaming();
        assert!(board.is_ready() && board.is_live());
        shop.waits(&Error::transient(Origin::Source, Code("RT2101"), "away"));
        assert_eq!((shop.phase().name(), shop.restarts()), ("waiting", 1));
        shop.starts();
        assert_eq!(shop.phase(), Phase::Starting);
        audit.ends(&Err(Error::fatal(Origin::Source, Code("RT2204"), "gone")));
        let phase = audit.phase();
        assert_eq!(phase.trouble().map(|trouble| trouble.code), Some("RT2204"));
        assert!(!board.is_ready() && board.is_live());
    }

    #[test]
    fn a_thread_that_is_stuck_is_not_live() {
        let board = Board::new([("shop", "postgres", "kafka")]);
        let [shop] = board.connectors() else { panic!() };
        *lock(&shop.moved) = Instant::now().checked_sub(2 * HANGS_AFTER).unwrap();
        assert!(!board.is_live());
        shop.moves();
        assert!(board.is_live());
    }

    #[test]
    fn what_a_source_said_holds_while_somebody_looks() {
        let board = ConnectorBoard::new("shop", "postgres", "kafka");
        let away = Error::transient(Origin::Source, Code("RT2101"), "away");
        let look = || {
            board.starts();
            board.report().streaming();
            let value = rowtide_sdk::FactValue::Gauge(1.0);
            board.report().facts(vec![Fact { name: "slot_active", help: "x", value }]);
        };
        let holds = || board.told().unwrap().holds;
        assert_eq!(board.told(), None);
        look();
        assert!(holds());
        board.waits(&away);
        assert!(holds(), "over a short wait");
        board.starts();
        assert!(holds(), "until the next run has looked");
        for result in [Ok(()), Err(Error::fatal(Origin::Source, Code("RT2204"), "gone"))] {
            look();
            board.ends(&result);
            assert!(!holds() && board.told().unwrap().facts.len() == 1, "{result:?}");
        }
    }

    #[test]
    fn progress_without_events_leaves_the_lag_alone() {
        let board = ConnectorBoard::new("shop", "postgres", "kafka");
        board.batch(3, 1, 100, 5_000);
        board.batch(0, 0, 0, 0);
        assert_eq!((board.events(), board.dead_letters(), board.bytes()), (3, 1, 100));
        assert_eq!(board.lag(), Duration::from_millis(5));
    }
}
