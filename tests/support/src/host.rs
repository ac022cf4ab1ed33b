//! A stand-in for the host: runs a source, takes its batches, keeps what they say in plain form, and
//! says that their positions are saved.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "used by tests alone: a broken assumption must fail the test"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rowtide_sdk::{
    Batch, BatchSender, Cell, Change, Claims, Entry, Error, Hiding, Image, ImageKind, JsonWriter,
    KnownTable, Limits, Note, Position, Reporter, Reselection, Result, Sightings, Source,
    SourceContext, Span, Table, batch_channel,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How a source is run.
#[derive(Clone)]
pub struct Run {
    /// Makes the source.
    pub source: Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>,
    /// Where it resumes.
    pub resume: Option<Position>,
    /// The table versions in force there.
    pub known_tables: Vec<KnownTable>,
    /// The limits that it keeps.
    pub limits: Limits,
    /// Where it reports to.
    pub report: Reporter,
    /// The folder for what it sets aside.
    pub scratch: PathBuf,
    /// What is read back.
    pub reselection: Reselection,
    /// What is hidden.
    pub hiding: Option<Hiding>,
    /// Under which names tables were seen.
    pub sightings: Sightings,
    /// What it notes.
    pub note: Note,
    /// What begins every name that the source claims.
    pub claims: &'static str,
    /// The code with which it ends where the server has not let go of the one before it; it is
    /// started again then.
    pub busy: Option<&'static str>,
}

/// Grants every claim that begins as it should.
#[derive(Debug, Clone, Copy)]
pub struct ClaimsOf(pub &'static str);

impl Claims for ClaimsOf {
    fn claim(&self, resource: &str) -> Result<()> {
        assert!(resource.starts_with(self.0), "{resource}");
        Ok(())
    }
}

/// One change in plain form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The operation's letter.
    pub op: &'static str,
    /// `schema.table`, or the prefix of a message.
    pub table: String,
    /// `commit:index`, and `.part` where there is one: the identity.
    pub id: String,
    /// `column=value` of the old image: `-` for NULL, `?` for unchanged, nothing for absent.
    pub before: Option<String>,
    /// The same of the new image.
    pub after: Option<String>,
    /// The code, where the change is poison.
    pub poison: Option<&'static str>,
    /// What became of reading values back: the columns and the place, or the reason.
    pub reselected: Option<String>,
    /// What is known of its transaction beside its id: origin, trace and annotation.
    pub known: [String; 3],
    /// The beginning of its statement.
    pub statement: String,
    /// When its transaction committed, in microseconds since 1970.
    pub commit_us: i64,
    /// The images in JSON, as an envelope has them: `{"column":value,…}`, with `?` for unchanged
    /// and without what is absent.
    pub json: [Option<String>; 2],
}

impl Event {
    /// `op table before > after`, the images in JSON.
    pub fn in_json(&self) -> String {
        let [before, after] = [0, 1].map(|at| self.json[at].as_deref().unwrap_or("none"));
        format!("{} {} {before} > {after}", self.op, self.table)
    }

    /// `op table before > after`.
    pub fn text(&self) -> String {
        let image = |image: &Option<String>| image.clone().unwrap_or_else(|| "none".to_owned());
        format!("{} {} {} > {}", self.op, self.table, image(&self.before), image(&self.after))
    }
}

fn image(batch: &Batch, table: &Table, image: Image) -> String {
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

fn json(batch: &Batch, table: &Table, image: Image) -> String {
    let mut out = JsonWriter::default();
    for (column, cell) in table.columns.iter().zip(batch.image(image, table.columns.len())) {
        if matches!(cell, Cell::Absent) {
            continue;
        }
        out.byte(if out.is_empty() { b'{' } else { b',' });
        out.string(&column.name);
        out.byte(b':');
        let before = out.len();
        match cell {
            Cell::Value(span) => {
                if let Err(error) = column.decode.write(span.of(&batch.bytes), &mut out) {
                    out.truncate(before);
                    out.raw(format!("({error})").as_bytes());
                }
            }
            Cell::Unchanged => out.byte(b'?'),
            Cell::Null | Cell::Absent => out.null(),
        }
    }
    out.byte(b'}');
    String::from_utf8(out.into_inner()).unwrap()
}

/// What a batch holds.
pub fn events(batch: &Batch) -> Vec<Event> {
    let text = |span: Span| String::from_utf8(span.of(&batch.text).to_vec()).unwrap();
    let columns = |batch: &Batch, table: u32, columns: &[u32]| -> String {
        let table = &batch.tables[table as usize];
        let names = columns.iter().map(|&at| table.columns[at as usize].name.clone());
        names.collect::<Vec<_>>().join(",")
    };
    let reselected = |number: usize, change: &Change| {
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
        let (table, before, after, json) = if let Entry::Message(message) = entry {
            assert_eq!(message.is_transactional, tx.id.len > 0);
            (text(message.prefix), None, Some(text(message.content)), [None, None])
        } else {
            let table = &batch.tables[change.table as usize];
            let name = format!("{}.{}", table.schema, table.name);
            let image = |row| image(batch, table, row);
            let json = [change.before, change.after].map(|row| Some(json(batch, table, row?)));
            (name, change.before.map(image), change.after.map(image), json)
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
            statement: text(tx.statement),
            commit_us: tx.commit_ts_us,
            json,
        }
    };
    batch.entries.iter().enumerate().map(plain).collect()
}

/// A running source.
pub struct Host {
    run: Run,
    /// What the source sent and nobody took yet.
    pub received: mpsc::Receiver<Batch>,
    spent: mpsc::Sender<Batch>,
    committed: watch::Sender<Option<Position>>,
    shutdown: CancellationToken,
    drained: CancellationToken,
    /// The source.
    pub task: JoinHandle<Result<()>>,
    /// Everything received.
    pub events: Vec<Event>,
    /// The tables of the last batch that had any.
    pub tables: Vec<Arc<Table>>,
    /// The position after the last batch that was received.
    pub position: Option<Position>,
    /// Whether positions are saved as they come.
    pub saves: bool,
    /// The most entries, and the most bytes of memory for what came from the wire, of a batch so far.
    pub largest: (usize, usize),
}

impl Host {
    /// Starts a source.
    pub fn start(run: Run) -> Self {
        let (out, received, spent): (BatchSender, _, _) = batch_channel(2);
        let (committed, watching) = watch::channel(run.resume.clone());
        let (shutdown, drained) = (CancellationToken::new(), CancellationToken::new());
        let cx = SourceContext {
            name: "test".to_owned(),
            resume: run.resume.clone(),
            known_tables: run.known_tables.clone(),
            reselection: Arc::clone(&run.reselection),
            hiding: run.hiding.clone(),
            review: None,
            sightings: run.sightings.clone(),
            note: run.note.clone(),
            out,
            committed: watching,
            shutdown: shutdown.clone(),
            drained: drained.clone(),
            limits: run.limits,
            claims: Arc::new(ClaimsOf(run.claims)),
            report: run.report.clone(),
            scratch: run.scratch.clone(),
        };
        let task = tokio::spawn((run.source)().run(cx));
        Self {
            received,
            spent,
            committed,
            shutdown,
            drained,
            task,
            events: Vec::new(),
            tables: Vec::new(),
            position: run.resume.clone(),
            saves: true,
            largest: (0, 0),
            run,
        }
    }

    /// The error with which a run ends at once.
    pub async fn refusal(mut self) -> Error {
        let error = timeout(PATIENCE, async {
            loop {
                tokio::select! {
                    ended = &mut self.task => return ended.unwrap().unwrap_err(),
                    Some(batch) = self.received.recv() => {
                        self.committed.send_replace(batch.resume);
                    }
                }
            }
        });
        error.await.expect("the source was not refused")
    }

    /// Takes one batch.
    pub async fn batch(&mut self) {
        let mut batch = loop {
            let batch = timeout(PATIENCE, self.received.recv()).await.expect("no batch came");
            if let Some(batch) = batch {
                break batch;
            }
            let error = (&mut self.task).await.unwrap().unwrap_err();
            // The server has not let go of the source before this one yet.
            assert_eq!(Some(error.code().0), self.run.busy, "the source ended: {error}");
            // Before anything is awaited: `during` may end this call there.
            *self = Self {
                events: std::mem::take(&mut self.events),
                saves: self.saves,
                largest: self.largest,
                ..Self::start(self.run.clone())
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
    pub fn save(&self) {
        self.committed.send_replace(self.position.clone());
    }

    /// Takes batches until so many events have come; their texts.
    pub async fn until(&mut self, events: usize) -> Vec<String> {
        while self.events.len() < events {
            self.batch().await;
        }
        self.events.iter().map(Event::text).collect()
    }

    /// Takes batches for so long.
    pub async fn during(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(()) = tokio::time::timeout_at(end, self.batch()).await {}
    }

    /// Waits until the source streams: a first position is there.
    pub async fn ready(&mut self) {
        if self.position.is_none() {
            self.batch().await;
        }
    }

    /// A clean stop; the position to resume from.
    pub async fn stop(mut self) -> Option<Position> {
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
    pub async fn kill(self) -> Option<Position> {
        self.task.abort();
        let _ = self.task.await;
        self.position
    }

    /// The error with which the source ends.
    pub async fn error(&mut self) -> Error {
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
