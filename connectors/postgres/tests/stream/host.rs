//! A stand-in for the host: takes batches, keeps what they say in plain form, and says that their
//! positions are saved.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rowtide_postgres::{ConnectOptions, PgPosition, PostgresConfig, PostgresSource};
use rowtide_sdk::{
    Batch, BatchSender, Cell, Claims, Entry, Error, Finding, Hidden, Hiding, Image, ImageKind,
    KeyLookup, KnownTable, Limits, Position, Preflight, Reporter, Reselection, Result, Source,
    SourceContext, Span, batch_channel,
};
use rowtide_testkit::Postgres;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A column that the settings leave out of events.
pub(crate) const HIDDEN: &str = "hidden";

/// One change in plain form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) op: &'static str,
    pub(crate) table: String,
    /// `commit:index`, and `.part` where there is one: the identity.
    pub(crate) id: String,
    /// `column=value` of the old image: `-` for NULL, `?` for unchanged, nothing for absent.
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// The code, where the change is poison.
    pub(crate) poison: Option<&'static str>,
    /// What became of reading values back: the columns and the place, or the reason.
    pub(crate) reselected: Option<String>,
    /// What is known of its transaction beside its id: origin, trace and annotation.
    pub(crate) known: [String; 3],
}

impl Event {
    /// `op table before > after`.
    pub(crate) fn text(&self) -> String {
        let image = |image: &Option<String>| image.clone().unwrap_or_else(|| "none".to_owned());
        format!("{} {} {} > {}", self.op, self.table, image(&self.before), image(&self.after))
    }
}

fn image(batch: &Batch, table: &rowtide_sdk::Table, image: Image) -> String {
    let cells = batch.image(image, table.columns.len());
    assert_eq!(cells.len(), table.columns.len());
    let mut parts = Vec::new();
    for (column, cell) in table.columns.iter().zip(cells) {
        let value = match cell {
            Cell::Absent => {
                assert_eq!(image.kind, ImageKind::Key);
                continue;
            }
            Cell::Null => "-".to_owned(),
            Cell::Unchanged => "?".to_owned(),
            Cell::Value(span) => {
                let text = column.decode.text(span.of(&batch.bytes));
                if text.len() > 60 {
                    format!("{} bytes", text.len())
                } else {
                    String::from_utf8_lossy(&text).into_owned()
                }
            }
        };
        parts.push(format!("{}={value}", column.name));
    }
    parts.join(",")
}

/// What a batch holds.
pub(crate) fn events(batch: &Batch) -> Vec<Event> {
    let text = |span: Span| String::from_utf8(span.of(&batch.text).to_vec()).unwrap();
    let columns = |batch: &Batch, table: u32, columns: &[u32]| -> String {
        let table = &batch.tables[table as usize];
        let names = columns.iter().map(|&at| table.columns[at as usize].name.clone());
        names.collect::<Vec<_>>().join(",")
    };
    let reselected = |number: usize, change: &rowtide_sdk::Change| {
        let found = batch.reselected.iter().find(|found| found.entry as usize == number)?;
        Some(match found.reason {
            Some(reason) => reason.name().to_owned(),
            None => {
                let names = columns(batch, change.table, &found.columns);
                format!("{names} {}", text(found.position))
            }
        })
    };
    let plain = |(number, entry): (usize, &Entry)| {
        let (change, poison) = match entry {
            Entry::Change(change) => (change, None),
            Entry::Poisoned(poisoned) => (&poisoned.change, Some(poisoned.code.0)),
            Entry::Message(message) => (&message.change, None),
        };
        let tx = &batch.txs[change.tx as usize];
        let part = change.part.map(|part| format!(".{part}")).unwrap_or_default();
        let (table, before, after) = if let Entry::Message(message) = entry {
            assert_eq!(message.is_transactional, tx.id.len > 0);
            (text(message.prefix), None, Some(text(message.content)))
        } else {
            let table = &batch.tables[change.table as usize];
            let name = format!("{}.{}", table.schema, table.name);
            let image = |row| image(batch, table, row);
            (name, change.before.map(image), change.after.map(image))
        };
        Event {
            op: change.op.letter(),
            table,
            id: format!("{}:{}{part}", text(tx.commit), change.index),
            before,
            after,
            poison,
            reselected: reselected(number, change),
            known: [tx.origin, tx.traceparent, tx.annotation].map(text),
        }
    };
    batch.entries.iter().enumerate().map(plain).collect()
}

struct NoClaims;

impl Claims for NoClaims {
    fn claim(&self, resource: &str) -> Result<()> {
        assert!(resource.starts_with("postgres/"), "{resource}");
        Ok(())
    }
}

/// How a source is run.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) config: serde_json::Value,
    pub(crate) resume: Option<Position>,
    pub(crate) known_tables: Vec<KnownTable>,
    pub(crate) limits: Limits,
    pub(crate) report: Reporter,
    /// The folder for what is set aside.
    pub(crate) scratch: PathBuf,
    /// The tables whose values are read back.
    pub(crate) reselects: Vec<String>,
    /// The table, by its exact name, whose settings hide the column `ssn`.
    pub(crate) hides: Option<&'static str>,
    /// What runs of one process share.
    process: Option<PostgresSource>,
}

impl Setup {
    /// A source of `database` with slot and publication named after it.
    pub(crate) fn new(server: &Postgres, database: &str) -> Self {
        let config = json!({
            "url": format!("postgres://postgres@127.0.0.1:{}/{database}", server.port()),
            "slot": database,
            "publication": database,
            "tables": { "include": ["*.*"], "exclude": ["*.unwanted*"] },
            "connect_timeout_seconds": 1,
        });
        let limits = Limits { max_event: 16 << 20, ..Limits::default() };
        let report = Reporter::default();
        let scratch = server.folder().join("spool").join(database);
        Self {
            config,
            resume: None,
            known_tables: Vec::new(),
            limits,
            report,
            scratch,
            reselects: Vec::new(),
            hides: None,
            process: None,
        }
    }

    /// All runs from here on are of one process.
    pub(crate) fn in_one_process(self) -> Self {
        Self { process: Some(self.source()), ..self }
    }

    /// Has values of a table read back.
    pub(crate) fn reselect(mut self, table: &str) -> Self {
        self.reselects.push(table.to_owned());
        self
    }

    fn reselection(&self) -> Reselection {
        let names = self.reselects.clone();
        Arc::new(move |table| {
            let columns = table.columns.iter().enumerate();
            let wanted = columns.filter(|(_, column)| column.may_be_unchanged);
            let is_named = names.contains(&table.name);
            wanted.map(|(index, _)| index).filter(|_| is_named).collect()
        })
    }

    fn hiding(&self) -> Option<Hiding> {
        let hides = self.hides?;
        Some(Arc::new(move |_, table| match table == hides {
            true => Hidden { columns: vec!["ssn".to_owned()], is_named: true },
            false => Hidden::default(),
        }))
    }

    pub(crate) fn set(mut self, field: &str, value: serde_json::Value) -> Self {
        self.config[field] = value;
        self
    }

    pub(crate) fn rows(mut self, batch_rows: usize) -> Self {
        self.limits.batch_rows = batch_rows;
        self
    }

    pub(crate) fn from(mut self, resume: Option<Position>) -> Self {
        self.resume = resume;
        self
    }

    pub(crate) fn source_config(&self) -> PostgresConfig {
        serde_json::from_value(self.config.clone()).unwrap()
    }

    pub(crate) fn options(&self) -> ConnectOptions {
        self.source_config().connect_options(Path::new("/")).unwrap()
    }

    pub(crate) fn source(&self) -> PostgresSource {
        if let Some(source) = &self.process {
            return source.clone();
        }
        let source = PostgresSource::new(self.source_config(), Path::new("/")).unwrap();
        source.reconcile_every(Duration::from_millis(500))
    }

    /// How the source connects.
    pub(crate) fn source_options(&self) -> ConnectOptions {
        let config: PostgresConfig = serde_json::from_value(self.config.clone()).unwrap();
        config.connect_options(Path::new("/")).unwrap()
    }

    pub(crate) async fn check(&self) -> Vec<Finding> {
        self.check_keys(&|_, _| None).await
    }

    pub(crate) async fn check_keys(&self, keys: KeyLookup<'_>) -> Vec<Finding> {
        let reselects = |_: &str, table: &str| self.reselects.iter().any(|name| name == table);
        let resume = self.resume.as_ref();
        let hiding = self.hiding();
        let known = Preflight {
            keys,
            reselects: &reselects,
            excludes: &|_, _, column| column == HIDDEN,
            hiding: hiding.as_ref(),
            resume,
            is_first_start: resume.is_none(),
            claims: &NoClaims,
        };
        rowtide_postgres::check(&self.source(), known).await
    }

    pub(crate) fn run(&self) -> Host {
        Host::start(self)
    }

    /// The error with which a run ends at once.
    pub(crate) async fn refusal(&self) -> Error {
        let mut host = self.run();
        let error = timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    ended = &mut host.task => return ended.unwrap().unwrap_err(),
                    Some(batch) = host.received.recv() => {
                        host.committed.send_replace(batch.resume);
                    }
                }
            }
        });
        error.await.expect("the source was not refused")
    }
}

/// A running source.
pub(crate) struct Host {
    setup: Setup,
    pub(crate) received: mpsc::Receiver<Batch>,
    spent: mpsc::Sender<Batch>,
    committed: watch::Sender<Option<Position>>,
    shutdown: CancellationToken,
    drained: CancellationToken,
    pub(crate) task: JoinHandle<Result<()>>,
    /// Everything received.
    pub(crate) events: Vec<Event>,
    /// The tables of the last batch that had any.
    pub(crate) tables: Vec<Arc<rowtide_sdk::Table>>,
    /// The position after the last batch that was received.
    pub(crate) position: Option<Position>,
    /// Whether positions are saved as they come.
    pub(crate) saves: bool,
    /// The most entries, and the most bytes of memory for what came from the wire, of a batch so far.
    pub(crate) largest: (usize, usize),
}

impl Host {
    fn start(setup: &Setup) -> Self {
        let (out, received, spent): (BatchSender, _, _) = batch_channel(2);
        let (committed, watching) = watch::channel(setup.resume.clone());
        let (shutdown, drained) = (CancellationToken::new(), CancellationToken::new());
        let cx = SourceContext {
            name: "test".to_owned(),
            resume: setup.resume.clone(),
            known_tables: setup.known_tables.clone(),
            reselection: setup.reselection(),
            hiding: setup.hiding(),
            out,
            committed: watching,
            shutdown: shutdown.clone(),
            drained: drained.clone(),
            limits: setup.limits,
            claims: Arc::new(NoClaims),
            report: setup.report.clone(),
            scratch: setup.scratch.clone(),
        };
        let task = tokio::spawn(Box::new(setup.source()).run(cx));
        Self {
            setup: setup.clone(),
            received,
            spent,
            committed,
            shutdown,
            drained,
            task,
            events: Vec::new(),
            tables: Vec::new(),
            position: setup.resume.clone(),
            saves: true,
            largest: (0, 0),
        }
    }

    /// Takes one batch.
    pub(crate) async fn batch(&mut self) {
        let mut batch = loop {
            let batch = timeout(PATIENCE, self.received.recv()).await.expect("no batch came");
            if let Some(batch) = batch {
                break batch;
            }
            let error = (&mut self.task).await.unwrap().unwrap_err();
            // The server has not let go of the source before this one yet.
            assert_eq!(error.code().0, "RT2118", "the source ended: {error}");
            // Before anything is awaited: `during` may end this call there.
            *self = Self {
                events: std::mem::take(&mut self.events),
                saves: self.saves,
                largest: self.largest,
                ..Self::start(&self.setup)
            };
        };
        let (entries, bytes) = self.largest;
        self.largest = (entries.max(batch.entries.len()), bytes.max(batch.bytes.capacity()));
        self.events.extend(events(&batch));
        if !batch.tables.is_empty() {
            self.tables.clone_from(&batch.tables);
        }
        self.position = Some(batch.resume.clone().expect("a batch without a position"));
        if self.saves {
            self.save();
        }
        batch.clear(1 << 20);
        let _ = self.spent.try_send(batch);
    }

    /// Saves the newest position.
    pub(crate) fn save(&self) {
        self.committed.send_replace(self.position.clone());
    }

    /// Takes batches until so many events have come; their texts.
    pub(crate) async fn until(&mut self, events: usize) -> Vec<String> {
        while self.events.len() < events {
            self.batch().await;
        }
        self.events.iter().map(Event::text).collect()
    }

    /// Takes batches for so long.
    pub(crate) async fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(()) = tokio::time::timeout_at(end, self.batch()).await {}
    }

    /// Waits until the source streams: a first position is there.
    pub(crate) async fn ready(&mut self) {
        if self.position.is_none() {
            self.batch().await;
        }
    }

    pub(crate) fn place(&self) -> PgPosition {
        PgPosition::parse(self.position.as_ref().unwrap()).unwrap()
    }

    /// A clean stop; the position to resume from.
    pub(crate) async fn stop(mut self) -> Option<Position> {
        self.shutdown.cancel();
        // What was sent before still counts, as it does for a host that drains.
        while let Ok(batch) = self.received.try_recv() {
            self.events.extend(events(&batch));
            self.position = batch.resume;
        }
        if self.saves {
            self.save();
        }
        self.drained.cancel();
        timeout(PATIENCE, self.task).await.expect("no stop").unwrap().unwrap();
        self.position
    }

    /// Dies where it stands.
    pub(crate) async fn kill(self) -> Option<Position> {
        self.task.abort();
        let _ = self.task.await;
        self.position
    }

    /// The error with which the source ends.
    pub(crate) async fn error(&mut self) -> Error {
        let ended = timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    ended = &mut self.task => return ended.unwrap(),
                    Some(batch) = self.received.recv() => {
                        self.events.extend(events(&batch));
                        self.position = batch.resume;
                        if self.saves { self.committed.send_replace(self.position.clone()); }
                    }
                }
            }
        });
        ended.await.expect("the source did not end").unwrap_err()
    }
}
