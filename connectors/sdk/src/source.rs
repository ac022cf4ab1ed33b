//! What a source is, and what the host gives it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::BoxFuture;
use crate::batch::{Batch, Change, Tx};
use crate::error::Result;
use crate::json::JsonWriter;
use crate::note::Note;
use crate::position::Position;
use crate::report::Reporter;
use crate::sightings::Sightings;
use crate::table::Table;

/// Writes the envelope's `source.position` object for one change: exactly one JSON object whose
/// fields are the source's own. `text` is [`Batch::text`].
pub type PositionWriter = fn(out: &mut JsonWriter, tx: &Tx, change: &Change, text: &[u8]);

/// The constant facts of a source.
#[derive(Debug, Clone, Copy)]
pub struct SourceInfo {
    /// The envelope's `source.connector`: `postgres`.
    pub connector: &'static str,
    /// Renders positions.
    pub write_position: PositionWriter,
}

/// The limits a source keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A batch leaves when its raw bytes reach this. One larger event makes a batch of its own.
    pub batch_bytes: usize,
    /// A batch leaves when it holds this many entries.
    pub batch_rows: usize,
    /// A drained socket flushes at once, but not more often than this under load.
    pub linger: Duration,
    /// One event's raw bytes at most; a larger one is [`crate::Entry::Poisoned`].
    pub max_event: usize,
    /// Bytes in memory, at most, of what a source sets aside until it may be handed over; what is
    /// above goes to [`SourceContext::scratch`]. Zero for a source that does not say
    /// [`Source::spools`].
    pub spool_memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_bytes: 256 * 1024,
            batch_rows: 1024,
            linger: Duration::from_millis(1),
            max_event: 16 * 1024 * 1024,
            spool_memory: 0,
        }
    }
}

/// A table version that was saved with the position: what the source froze about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTable {
    /// The schema of the table.
    pub schema: String,
    /// The table.
    pub name: String,
    /// [`crate::Table::facts`] of the newest version used before the position.
    pub facts: String,
}

/// Keeps two connectors from using one resource (a replication slot) under different names.
pub trait Claims: Send + Sync {
    /// Claims `resource`, a stable text such as `postgres/<system>/<database>/<slot>`.
    ///
    /// # Errors
    /// A fatal error naming the other connector where the state says that one holds it.
    fn claim(&self, resource: &str) -> Result<()>;
}

/// The columns of a table whose values shall be read back from the database where the log does not
/// carry them, as indexes into its columns; none for most tables.
pub type Reselection = Arc<dyn Fn(&Table) -> Vec<usize> + Send + Sync>;

/// What a table's settings keep from leaving the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// The columns that are left out or masked.
    pub columns: Vec<String>,
    /// Whether the settings are for the table's exact name, whatever they say.
    pub is_named: bool,
}

type HiddenOf = Arc<dyn Fn(&str, &str) -> Hidden + Send + Sync>;

/// What settings hide of tables, so that a source can tell where rows would come under a name that hides
/// less.
#[derive(Clone)]
pub struct Hiding {
    of: HiddenOf,
    columns: Arc<[String]>,
}

impl Hiding {
    /// What `of` says of a table, by schema and name; `columns` are all that settings hide of any.
    pub fn new(
        columns: impl IntoIterator<Item = String>,
        of: impl Fn(&str, &str) -> Hidden + Send + Sync + 'static,
    ) -> Self {
        Self { of: Arc::new(of), columns: columns.into_iter().collect() }
    }

    /// What they hide of a table.
    pub fn of(&self, schema: &str, name: &str) -> Hidden {
        (self.of)(schema, name)
    }

    /// The names of all columns that they hide, of whatever table.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

impl std::fmt::Debug for Hiding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hiding").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Where a run begins to read the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// At the look at the catalog: unless a table is altered before its first row comes, that row is of
    /// the table as it was described.
    Now,
    /// Before the look at the catalog: the log may hold rows of tables as they were.
    Earlier,
}

/// What the host makes of the captured tables as the catalog describes them when a run begins. A refusal
/// is the run's.
pub type TableReview = Box<dyn FnOnce(&[Arc<Table>], LogStart) -> Result<()> + Send>;

/// Everything a source may touch.
pub struct SourceContext {
    /// The connector's name in the config.
    pub name: String,
    /// Where to resume; `None` on the first start.
    pub resume: Option<Position>,
    /// The table versions in force at `resume`.
    pub known_tables: Vec<KnownTable>,
    /// What shall be read back.
    pub reselection: Reselection,
    /// What is hidden; `None` where no settings hide anything.
    pub hiding: Option<Hiding>,
    /// To be told of the captured tables before anything of the log is read and, on a first start, before
    /// anything is made at the server; `None` where the host knows them already.
    pub review: Option<TableReview>,
    /// Under which names tables were seen, of which something is hidden. What the source notes before
    /// it hands a batch over is saved with that batch's position.
    pub sightings: Sightings,
    /// What the source noted for its next run. As it stands when a batch is handed over, it is saved with
    /// that batch's position.
    pub note: Note,
    /// Where batches go.
    pub out: BatchSender,
    /// The newest saved position. The source confirms it to the server on a timer of its own and
    /// never confirms anything else (A5).
    pub committed: watch::Receiver<Option<Position>>,
    /// Cancelled when the source should stop reading and return `Ok`. It keeps confirming
    /// `committed` until `drained` is cancelled.
    pub shutdown: CancellationToken,
    /// Cancelled when nothing is in flight any more (or the deadline passed): confirm `committed`
    /// one last time, close the connection politely and return.
    pub drained: CancellationToken,
    /// Limits to keep.
    pub limits: Limits,
    /// Ownership of shared resources.
    pub claims: Arc<dyn Claims>,
    /// Where the source says that it streams, and how its side stands.
    pub report: Reporter,
    /// A folder for what the source sets aside while it runs, made by the source if it needs it. It is
    /// this connector's alone, and what is in it is worth nothing to the next run.
    pub scratch: PathBuf,
}

/// A source: owns its connection, keepalives and pace.
///
/// `run` returns `Ok(())` only after `shutdown` (and `drained`); any other end is an error whose
/// class tells the host what to do. It may be dropped at any await: nothing is lost, because only
/// saved positions are ever confirmed (A8).
pub trait Source: Send {
    /// The constant facts.
    fn info(&self) -> SourceInfo;

    /// Whether the source sets aside what it may not hand over yet, and wants memory for it:
    /// [`Limits::spool_memory`].
    fn spools(&self) -> bool {
        false
    }

    /// Reads the log from `cx.resume` until told to stop.
    fn run(self: Box<Self>, cx: SourceContext) -> BoxFuture<'static, Result<()>>;
}

/// The sending half of the bounded batch channel, with a way back for spent batches.
#[derive(Debug)]
pub struct BatchSender {
    out: mpsc::Sender<Batch>,
    spent: mpsc::Receiver<Batch>,
}

impl BatchSender {
    /// Hands a batch over, waiting while the channel is full.
    ///
    /// # Errors
    /// Gives the batch back where the host has gone away; the source then returns.
    pub async fn send(&self, batch: Batch) -> std::result::Result<(), Box<Batch>> {
        self.out.send(batch).await.map_err(|error| Box::new(error.0))
    }

    /// Waits until the channel has room and reserves it; cancel-safe.
    ///
    /// # Errors
    /// `None` where the host has gone away.
    pub async fn reserve(&self) -> Option<mpsc::Permit<'_, Batch>> {
        self.out.reserve().await.ok()
    }

    /// An empty batch, with the allocations of a spent one where there is one.
    pub fn empty_batch(&mut self) -> Batch {
        self.spent.try_recv().unwrap_or_default()
    }
}

/// A batch channel of `capacity` batches. The second pair gives spent batches back (cleared).
pub fn batch_channel(capacity: usize) -> (BatchSender, mpsc::Receiver<Batch>, mpsc::Sender<Batch>) {
    let (out, received) = mpsc::channel(capacity);
    let (give_back, spent) = mpsc::channel(capacity.saturating_add(2));
    (BatchSender { out, spent }, received, give_back)
}

impl std::fmt::Debug for SourceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceContext").field("name", &self.name).finish_non_exhaustive()
    }
}
