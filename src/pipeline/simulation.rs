//! A seeded simulation: the real pump, encoder, tracker, commit task and file store between a
//! simulated log and a simulated sink, killed and failed at random awaits, under a paused clock.
//!
//! The oracle holds what A5 and A8 promise: nothing lost, nothing invented, order kept, repeats only
//! of what was not saved and byte-identical, a source never told of what is not durable, and never
//! resumed before what it was told. `SIMULATION_SEED=n` replays one run.

mod cases;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rowtide_sdk::{
    Batch, BoxFuture, Cell, Change, Checkpoint, Class, Code, Completion, Entry, Error, Finding,
    Held, Image, ImageKind, JsonWriter, Op, Origin, Position, RecordBatch, Result, Sink, Source,
    SourceContext, SourceInfo, Span, Table, TopicInfo, TopicSpec, Tx,
};
use tokio_util::sync::CancellationToken;

use super::{ClaimRegistry, Job, session};
use crate::config::{
    BuildContext, Config, ConnectorConfig, Headers, LogFormat, Logs, Routing, SchemaChanges,
    SinkConfig, SinkFactory, Snapshot, SourceConfig, SourceFactory, Tombstones, Validation,
};
use crate::envelope::testing::{integer_column, table, text_column};
use crate::ops::board::ConnectorBoard;

/// Transactions in the simulated log, and changes in each.
const TRANSACTIONS: u64 = 60;
const CHANGES: u64 = 5;
const TOTAL: u64 = TRANSACTIONS * CHANGES;
/// Changes between two versions of the table, fewer than a batch may hold.
const VERSION_CHANGES: u64 = 4;
const TEST: Code = Code("RT4009");

/// What outlives a kill: the log, what the sink published, and what it stored with it.
#[derive(Debug, Default)]
struct World {
    rng: fastrand::Rng,
    /// Every record that reached the sink, in order.
    published: Vec<String>,
    /// The event number of each of them.
    numbers: Vec<u64>,
    /// How many of them are durable, counted in records.
    durable: usize,
    /// The checkpoint of a sink that keeps it, with the records it covers.
    held: Option<(Checkpoint, usize)>,
    /// The newest event number the source was told is committed.
    told: u64,
    /// Where each event was published first, by id.
    first_at: HashMap<String, usize>,
    /// Whether faults are still injected.
    faults: bool,
    sink_holds: bool,
    /// Bytes in each row, beside the rest.
    padding: usize,
    /// The sink takes batches and reports nothing.
    stalls: bool,
    /// The sink fails the first batch that has this event or a later one.
    fails_at: Option<u64>,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn fault(&mut self, one_in: u64) -> bool {
        self.faults && self.rng.u64(0..one_in) == 0
    }
}

fn fault(world: &Shared, one_in: u64) -> bool {
    world.lock().unwrap().fault(one_in)
}

fn transient(what: &'static str) -> Error {
    Error::new(Class::Transient, Origin::Source, TEST, what)
}

async fn pause(world: &Shared) {
    let micros = world.lock().unwrap().rng.u64(0..3000);
    tokio::time::sleep(Duration::from_micros(micros)).await;
}

fn write_position(out: &mut JsonWriter, _tx: &Tx, change: &Change, _text: &[u8]) {
    out.raw(b"{\"at\":");
    out.u64(change.offset);
    out.byte(b'}');
}

/// Changes that the source does not capture: whole transactions, and single changes.
fn is_filtered(number: u64) -> bool {
    number / CHANGES % 4 == 3 || number % 11 == 10
}

/// The captured events of the log.
fn captured() -> usize {
    (0..TOTAL).filter(|number| !is_filtered(*number)).count()
}

/// The table's versions: it gains a column, loses it, gains it again.
fn versions() -> Vec<Arc<Table>> {
    let columns = |count| {
        let all = [integer_column("id"), text_column("a"), text_column("b")];
        all.into_iter().take(count).collect()
    };
    (0..=TOTAL / VERSION_CHANGES)
        .map(|version| Arc::new(table("t", columns(if version % 2 == 0 { 2 } else { 3 }))))
        .collect()
}

/// The version that an event must name: gaining a column is compatible, losing it is not.
fn version(number: u64) -> String {
    let captured = (0..=number).filter(|number| !is_filtered(*number));
    let mut kinds: Vec<u64> = captured.map(|number| number / VERSION_CHANGES % 2).collect();
    kinds.dedup();
    let changes = kinds.len() - 1;
    format!("{}.{}", changes / 2 + 1, changes % 2)
}

/// The log: transaction t holds changes t*CHANGES.., and the table changes all the time.
#[derive(Debug)]
struct SimSource(Shared);

impl Source for SimSource {
    fn info(&self) -> SourceInfo {
        SourceInfo { connector: "simulated", write_position }
    }

    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move { self.stream(cx).await })
    }
}

impl SimSource {
    async fn stream(&self, mut cx: SourceContext) -> Result<()> {
        let tables = versions();
        let mut next: u64 = cx.resume.as_ref().map_or(0, |at| at.as_str().parse().unwrap());
        let told = self.0.lock().unwrap().told;
        assert!(next >= told, "resumed at {next}, but the server was told {told}");
        cx.claims.claim("slot/s")?;
        let end = TOTAL;
        loop {
            self.observe(&cx);
            if fault(&self.0, 40) {
                return Err(transient("the connection was cut"));
            }
            if next == end || cx.shutdown.is_cancelled() {
                tokio::select! {
                    () = cx.drained.cancelled() => { self.observe(&cx); return Ok(()); }
                    () = tokio::time::sleep(Duration::from_millis(5)) => continue,
                }
            }
            let (count, padding) = {
                let mut world = self.0.lock().unwrap();
                (world.rng.u64(0..9).min(end - next), world.padding)
            };
            let batch = batch(cx.out.empty_batch(), &tables, next, count, padding);
            next += count;
            tokio::select! {
                // Refused only where a stop is under way, which waits for what is in flight.
                sent = cx.out.send(batch) => if sent.is_err() { continue },
                () = cx.shutdown.cancelled() => {}
            }
            pause(&self.0).await;
        }
    }

    /// What is told must be durable (A5).
    fn observe(&self, cx: &SourceContext) {
        let told = cx.committed.borrow().as_ref().map_or(0, |at| at.as_str().parse().unwrap());
        let mut world = self.0.lock().unwrap();
        world.told = world.told.max(told);
        let mut durable = durable_events(&world);
        while durable < TOTAL && is_filtered(durable) {
            durable += 1;
        }
        assert!(told <= durable, "told {told}, but only {durable} events are durable");
    }
}

/// The number of the first event that is not durable.
fn durable_events(world: &World) -> u64 {
    let records = match &world.held {
        Some((_, records)) if world.sink_holds => *records,
        _ => world.durable,
    };
    world.numbers.iter().take(records).max().map_or(0, |number| number + 1)
}

fn event_number(value: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(value).unwrap();
    value["source"]["position"]["at"].as_u64().unwrap()
}

fn batch(mut batch: Batch, tables: &[Arc<Table>], first: u64, count: u64, padding: usize) -> Batch {
    for number in (first..first + count).filter(|number| !is_filtered(*number)) {
        let table = &tables[usize::try_from(number / VERSION_CHANGES).unwrap()];
        let known = batch.tables.iter().position(|known| Arc::ptr_eq(known, table));
        let table_index = known.unwrap_or_else(|| {
            batch.tables.push(Arc::clone(table));
            batch.tables.len() - 1
        });
        let commit = (number / CHANGES).to_string();
        let start = u32::try_from(batch.text.len()).unwrap();
        batch.text.extend_from_slice(commit.as_bytes());
        let span = Span { start, len: u32::try_from(commit.len()).unwrap() };
        batch.txs.push(Tx { id: span, commit: span, commit_ts_us: 7, ..Tx::default() });
        let first_cell = u32::try_from(batch.cells.len()).unwrap();
        let wide = format!("{number}{}", "x".repeat(padding));
        for text in
            [(number % 7).to_string(), wide, "b".to_owned()].iter().take(table.columns.len())
        {
            let start = u32::try_from(batch.bytes.len()).unwrap();
            batch.bytes.extend_from_slice(text.as_bytes());
            let len = u32::try_from(text.len()).unwrap();
            batch.cells.push(Cell::Value(Span { start, len }));
        }
        batch.entries.push(Entry::Change(Change {
            op: Op::Create,
            table: u32::try_from(table_index).unwrap(),
            tx: u32::try_from(batch.txs.len() - 1).unwrap(),
            offset: number,
            index: number % CHANGES,
            part: None,
            before: None,
            after: Some(Image { first_cell, kind: ImageKind::Row }),
        }));
    }
    batch.resume = Some(Position::new((first + count).to_string()));
    batch
}

/// Publishes at once and reports later, out of order, or never.
#[derive(Debug)]
struct SimSink {
    world: Shared,
    /// Batches published and not yet reported, with the number of records up to each.
    waiting: Vec<(usize, Checkpoint, Completion)>,
}

impl SimSink {
    fn report(&mut self, everything: bool) {
        let mut world = self.world.lock().unwrap();
        if world.stalls {
            return;
        }
        if let Some(number) = world.fails_at
            && let Some(at) = world.numbers.iter().position(|reached| *reached >= number)
            && let Some(failing) = self.waiting.iter().position(|(records, ..)| *records > at)
        {
            world.fails_at = None;
            let (_, _, done) = self.waiting.remove(failing);
            return done.failed(transient("the delivery failed"));
        }
        if world.sink_holds {
            // One atomic commit of everything written so far.
            if let Some((records, checkpoint, _)) = self.waiting.last() {
                world.held = Some((checkpoint.clone(), *records));
            }
            drop(world);
            for (_, _, done) in self.waiting.drain(..) {
                done.durable();
            }
            return;
        }
        while !self.waiting.is_empty() {
            let index = world.rng.usize(0..self.waiting.len());
            // In a broker all that was acknowledged is there; acknowledgements may come in any
            // order, but records are durable up to the newest one written.
            let (_, _, done) = self.waiting.swap_remove(index);
            world.durable = world.published.len();
            match world.fault(60) {
                true if world.rng.bool() => drop(done),
                true => done.failed(transient("a delivery failed")),
                false => done.durable(),
            }
            if !everything && world.rng.bool() {
                break;
            }
        }
    }
}

impl Sink for SimSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async {
            pause(&self.world).await;
            let mut world = self.world.lock().unwrap();
            if !world.sink_holds {
                return Ok(Held::Elsewhere);
            }
            let (checkpoint, records) = match &world.held {
                Some((checkpoint, records)) => (Some(checkpoint.clone()), *records),
                None => (None, 0),
            };
            world.published.truncate(records);
            world.numbers.truncate(records);
            Ok(Held::Here(checkpoint))
        })
    }

    fn prepare<'a>(&'a mut self, _topic: &'a TopicSpec) -> BoxFuture<'a, Result<TopicInfo>> {
        Box::pin(async {
            pause(&self.world).await;
            if fault(&self.world, 20) {
                return Err(transient("the topic is not ready"));
            }
            Ok(TopicInfo { compacts: false })
        })
    }

    fn submit(&mut self, batch: RecordBatch, done: Completion) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            pause(&self.world).await;
            if fault(&self.world, 50) {
                return Err(transient("the queue is gone"));
            }
            {
                let mut world = self.world.lock().unwrap();
                for record in &batch.records {
                    let value = batch.slice(record.value.as_ref().unwrap());
                    publish(&mut world, std::str::from_utf8(value).unwrap());
                }
                let records = world.published.len();
                drop(world);
                self.waiting.push((records, batch.checkpoint.clone(), done));
            }
            if self.world.lock().unwrap().rng.u8(0..3) == 0 {
                self.report(false);
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            pause(&self.world).await;
            self.report(true);
            Ok(())
        })
    }

    fn close(&mut self, _deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            self.waiting.clear();
            Ok(())
        })
    }
}

/// Checks each record as it is published: a repeat is byte-identical (the simulated capture time is
/// constant) and never of what the source was told is committed.
fn publish(world: &mut World, value: &str) {
    let parsed: serde_json::Value = serde_json::from_str(value).unwrap();
    let id = parsed["id"].as_str().unwrap().to_owned();
    let number = event_number(value);
    let at = world.published.len();
    if let Some(&first) = world.first_at.get(&id)
        && !world.sink_holds
    {
        assert_eq!(world.published[first], value, "a repeat differs");
        assert!(number >= world.told, "event {number} repeated, but {} was told", world.told);
    } else {
        world.first_at.insert(id, at);
    }
    world.published.push(value.to_owned());
    world.numbers.push(number);
}

impl SourceFactory for SharedWorld {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(SimSource(Arc::clone(&self.0))))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        _known: rowtide_sdk::Preflight<'a>,
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }

    fn resources(&self) -> Vec<String> {
        Vec::new()
    }
}

impl SinkFactory for SharedWorld {
    fn build(&self, _cx: &BuildContext<'_>) -> Result<Box<dyn Sink>> {
        Ok(Box::new(SimSink { world: Arc::clone(&self.0), waiting: Vec::new() }))
    }

    fn check<'a>(
        &'a self,
        _cx: &'a BuildContext<'a>,
        _topics: &'a [TopicSpec],
    ) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }

    fn keeps_position(&self) -> bool {
        self.0.lock().is_ok_and(|world| world.sink_holds)
    }

    fn resource(&self) -> Option<String> {
        None
    }
}

#[derive(Debug, Clone)]
struct SharedWorld(Shared);

fn job(world: &Shared, state_dir: &std::path::Path, shutdown: &CancellationToken) -> Job {
    let factory = Arc::new(SharedWorld(Arc::clone(world)));
    let connector = ConnectorConfig {
        name: "shop".to_owned(),
        source: SourceConfig {
            kind: "simulated",
            factory: Arc::clone(&factory) as _,
            renewal: None,
        },
        snapshot: Snapshot::Never,
        tables: Vec::new(),
        sink: SinkConfig { kind: "simulated", factory, renewal: None },
        routing: Routing {
            topic_template: "{name}.{schema}.{table}".to_owned(),
            headers: Headers::None,
            tombstones: Tombstones::Never,
        },
        validation: Validation::Always,
        schema_changes: SchemaChanges { topic: Some("shop.schema_changes".to_owned()), dir: None },
    };
    let config = Config {
        connectors: vec![connector.clone()],
        state_dir: state_dir.to_owned(),
        memory: 1 << 20,
        max_event: 1 << 20,
        shutdown_timeout: Duration::from_secs(5),
        commit_interval: Duration::from_millis(20),
        logs: Logs { format: LogFormat::Text, level: "error".to_owned() },
        ops: None,
    };
    Job {
        config: Arc::new(config),
        connector,
        claims: ClaimRegistry::default(),
        board: Arc::new(ConnectorBoard::new("shop", "simulated", "simulated")),
        shutdown: shutdown.clone(),
        is_reviewed: Arc::default(),
    }
}

/// One life of the log under faults, then without, until everything is through.
async fn simulate(seed: u64, sink_holds: bool) {
    let state = tempfile::tempdir().unwrap();
    let world = Arc::new(Mutex::new(World {
        rng: fastrand::Rng::with_seed(seed),
        faults: true,
        sink_holds,
        ..World::default()
    }));
    for life in 0..44 {
        let shutdown = CancellationToken::new();
        let job = job(&world, state.path(), &shutdown);
        let lifetime = {
            let mut world = world.lock().unwrap();
            world.faults = life < 40;
            Duration::from_millis(if world.faults { world.rng.u64(1..80) } else { 1_500 })
        };
        if world.lock().unwrap().rng.u8(0..4) == 0 {
            // A polite stop: everything submitted is drained and committed.
            let stop = async {
                tokio::time::sleep(lifetime).await;
                shutdown.cancel();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _end = session::run(&job) => {}
                () = stop => {}
            }
        } else {
            // A kill: the session's future is dropped wherever it stands.
            let _killed = tokio::time::timeout(lifetime, session::run(&job)).await;
        }
        // Tasks of a dropped session end at their next poll.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    check(&world.lock().unwrap());
    check_saved(&world, state.path());
}

fn saved(world: &Shared, state_dir: &std::path::Path) -> Option<Checkpoint> {
    match &world.lock().unwrap().held {
        Some((checkpoint, _)) => Some(checkpoint.clone()),
        None => crate::offsets::saved(state_dir, "shop").unwrap(),
    }
}

/// The position is at the end of the log, with the versions and claims of that place.
fn check_saved(world: &Shared, state_dir: &std::path::Path) {
    let saved = saved(world, state_dir).unwrap();
    assert_eq!(saved.position.as_str(), TOTAL.to_string());
    let host = crate::schema::HostState::parse(&saved.host).unwrap();
    assert_eq!(host.claims, ["slot/s"]);
    assert!(saved.host.contains(&format!("\"{}\"", version(TOTAL - 1))), "{}", saved.host);
    let told = world.lock().unwrap().told;
    assert_eq!(told, TOTAL, "a quiet log is committed, and told");
}

fn check(world: &World) {
    let mut seen = vec![false; usize::try_from(TOTAL).unwrap()];
    let mut expected_next = 0;
    let mut events = 0;
    let mut told = Told::default();
    for (value, &number) in world.published.iter().zip(&world.numbers) {
        assert!(!is_filtered(number), "event {number} was invented");
        while is_filtered(expected_next) {
            expected_next += 1;
        }
        // A repeat may only rewind to something published before; new events come in order.
        assert!(number <= expected_next, "event {number} came before {expected_next}");
        let version = version(number);
        assert!(value.contains(&format!("\"version\":\"{version}\"")), "{value}");
        if told.is_change(value, number, &version) {
            continue;
        }
        if number == expected_next {
            expected_next += 1;
        }
        seen[usize::try_from(number).unwrap()] = true;
        events += 1;
    }
    let seen = seen.iter().filter(|seen| **seen).count();
    assert_eq!(seen, captured(), "events were lost");
    if world.sink_holds {
        assert_eq!(events, captured(), "exactly once");
        assert_eq!(told.records, told.versions.len(), "each version is told once");
    }
}

fn is_schema_change(value: &str) -> bool {
    value.contains("\"compatibility\":")
}

/// The versions that were told so far.
#[derive(Default)]
struct Told {
    versions: HashSet<String>,
    records: usize,
    /// The event that must follow the record of its version.
    follows: Option<u64>,
}

impl Told {
    /// Whether a record tells of a new version. It stands right before an event of that version, and
    /// no event comes before the record of its version.
    fn is_change(&mut self, value: &str, number: u64, version: &str) -> bool {
        let is_change = is_schema_change(value);
        if let Some(follows) = self.follows.take() {
            assert!(!is_change && number == follows, "what follows a schema change: {value}");
        }
        if is_change {
            self.versions.insert(version.to_owned());
            self.records += 1;
            self.follows = Some(number);
        }
        assert!(self.versions.contains(version), "the version was not told before: {value}");
        is_change
    }
}

fn on_paused_clock(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(Box::pin(run));
}

#[test]
fn nothing_is_lost_or_invented_under_faults() {
    let replay: Option<u64> = std::env::var("SIMULATION_SEED").ok().map(|s| s.parse().unwrap());
    let seeds = replay.map_or(0..20, |seed| seed..seed + 1);
    for seed in seeds {
        for sink_holds in [false, true] {
            println!("SIMULATION_SEED={seed} sink_holds={sink_holds}");
            on_paused_clock(simulate(seed, sink_holds));
        }
    }
}
