//! What a connector crate offers to the configuration, without the host naming any connector.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rowtide_sdk::{
    BoxFuture, Checkpoint, Code, Error, Finding, Origin, Position, Preflight, Provider,
    ReselectRules, Result, Sink, Source, Table, TopicSpec,
};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

/// What a source or sink may know of the connector it is built for.
#[derive(Debug, Clone, Copy)]
pub struct BuildContext<'a> {
    /// The connector's name.
    pub connector: &'a str,
    /// [`crate::config::Config::memory`], in bytes.
    pub memory: usize,
    /// [`crate::config::Config::max_event`], in bytes.
    pub max_event: usize,
}

/// Builds one connector's source, again for every restart.
pub trait SourceFactory: Send + Sync + fmt::Debug {
    /// A source that has not connected yet.
    ///
    /// # Errors
    /// Fatal where the settings cannot work (a certificate that cannot be read).
    fn build(&self, cx: &BuildContext<'_>) -> Result<Box<dyn Source>>;

    /// The preflight of `rowtide check`: connects, looks, changes nothing.
    fn check<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        known: Preflight<'a>,
    ) -> BoxFuture<'a, Vec<Finding>>;

    /// The tables that would be captured, as the database describes them now. Connects and reads.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    fn tables<'a>(&'a self, cx: &'a BuildContext<'a>) -> BoxFuture<'a, Result<Vec<Arc<Table>>>> {
        let _unused = cx;
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The topic of the messages that the source hands over as events, with `{name}` for the
    /// connector; `None` where it hands none over.
    fn message_topic(&self) -> Option<String> {
        None
    }

    /// Whether the source can read back what the log did not carry (`unchanged: reselect`).
    fn reads_back(&self) -> bool {
        false
    }

    /// The SQL with which an administrator gives this source what it needs and no more, on a server
    /// that `provider` runs; empty where there is nothing to prepare. Values of the tables of `reselects`
    /// are to be read back. Holds no secret. Connects and
    /// reads where it may, and does without where the server cannot be asked yet.
    ///
    /// # Errors
    /// Where the SQL cannot be worked out.
    fn setup_sql<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        provider: Provider,
        reselects: ReselectRules<'a>,
    ) -> BoxFuture<'a, Result<String>> {
        let _unused = (cx, provider, reselects);
        Box::pin(async { Ok(String::new()) })
    }

    /// A text for each server-side resource that only one connector may use (a replication slot on a
    /// server), as far as the settings tell; without secrets.
    fn resources(&self) -> Vec<String>;

    /// Works out the position that `rowtide position set` or `adopt` would save. Connects and looks,
    /// changes nothing. The host never makes a position itself (invariant A4).
    ///
    /// # Errors
    /// Fatal where this source has no such position, or the server refuses.
    fn propose<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        wanted: &'a Wanted,
        saved: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<Proposal>> {
        let _unused = (cx, wanted, saved);
        Box::pin(async {
            let message = "positions of this kind of source cannot be set";
            Err(Error::fatal(Origin::Config, Code("RT1024"), message))
        })
    }

    /// The replication slots of the source's server. Connects and reads.
    ///
    /// # Errors
    /// Where the server cannot be asked, or this kind of source has no slots.
    fn slots<'a>(&'a self, cx: &'a BuildContext<'a>) -> BoxFuture<'a, Result<Vec<ServerSlot>>> {
        let _unused = cx;
        Box::pin(async { Err(no_slots()) })
    }

    /// Drops a slot that nobody reads, and gives it as it was; without a name, the one of the
    /// settings. Without `apply` nothing is changed.
    ///
    /// # Errors
    /// Where there is no such slot, somebody reads it, or the server refuses.
    fn drop_slot<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        name: Option<&'a str>,
        apply: bool,
    ) -> BoxFuture<'a, Result<ServerSlot>> {
        let _unused = (cx, name, apply);
        Box::pin(async { Err(no_slots()) })
    }
}

fn no_slots() -> Error {
    Error::fatal(Origin::Config, Code("RT1024"), "this kind of source has no replication slots")
}

/// A replication slot of a source's server, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSlot {
    /// Its name.
    pub name: String,
    /// What it is for, in a word: `pgoutput`, `physical`.
    pub kind: String,
    /// The database it belongs to.
    pub database: Option<String>,
    /// The server process that reads it.
    pub reader: Option<i64>,
    /// Bytes of log that the server keeps for it.
    pub retained: Option<u64>,
    /// Whether what it needs is safe, in a word.
    pub state: String,
    /// Whether it is the one of the source's settings.
    pub is_ours: bool,
}

/// What `rowtide position` asks of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The place that the text names (an LSN), in the server's present history.
    At(String),
    /// Wherever the server's own resource (the slot) stands now, in its present history.
    Adopt,
}

/// A position that could be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The position.
    pub position: Position,
    /// What saving it means, one sentence per line: what is skipped, what is repeated.
    pub consequences: Vec<String>,
}

/// Builds one connector's sink, again for every restart.
pub trait SinkFactory: Send + Sync + fmt::Debug {
    /// A sink that has not connected yet.
    ///
    /// # Errors
    /// Fatal where the settings cannot work.
    fn build(&self, cx: &BuildContext<'_>) -> Result<Box<dyn Sink>>;

    /// The preflight of `rowtide check`: connects, looks, changes nothing. `topics` are those that
    /// are known to be written to; possibly none.
    fn check<'a>(
        &'a self,
        cx: &'a BuildContext<'a>,
        topics: &'a [TopicSpec],
    ) -> BoxFuture<'a, Vec<Finding>>;

    /// Whether this sink keeps the position with its data, so that the state folder is not used.
    fn keeps_position(&self) -> bool;

    /// The checkpoint that such a sink keeps, without holding anything: the connector may be
    /// running.
    ///
    /// # Errors
    /// Where what is kept cannot be read.
    fn saved(&self) -> Result<Option<Checkpoint>> {
        Ok(None)
    }

    /// Whether a process holds the position of such a sink now. Changes nothing.
    fn is_held(&self) -> bool {
        false
    }

    /// A text for the target that only one connector may use (a folder); without secrets.
    fn resource(&self) -> Option<String>;
}

/// The JSON Schema of a kind's own settings, without `type` and the common fields.
pub type KindSchema = fn(&mut SchemaGenerator) -> Schema;

/// Something wrong with a kind's own settings that its schema cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// The connector's own code, where it has one; else RT1018.
    pub code: Option<Code>,
    /// The field within the settings, such as `tls.ca`; empty for the settings as a whole.
    pub field: String,
    /// What is so; never quotes a secret.
    pub message: String,
    /// What mends it.
    pub remedy: Option<String>,
}

/// Reads a kind's settings. Relative files among them are relative to `folder`, that of the
/// configuration file.
pub type Parse<F> = fn(settings: Value, folder: &Path) -> Result<Arc<F>, Vec<SettingProblem>>;

/// One kind of source.
#[derive(Debug, Clone, Copy)]
pub struct SourceKind {
    /// The `type` in the file.
    pub name: &'static str,
    /// Its settings.
    pub schema: KindSchema,
    /// Reads its settings, which already passed the schema. Problems never quote a secret.
    pub parse: Parse<dyn SourceFactory>,
}

/// One kind of sink.
#[derive(Debug, Clone, Copy)]
pub struct SinkKind {
    /// The `type` in the file.
    pub name: &'static str,
    /// Its settings.
    pub schema: KindSchema,
    /// Reads its settings, which already passed the schema. Problems never quote a secret.
    pub parse: Parse<dyn SinkFactory>,
}

/// The kinds of sources and sinks this build knows.
#[derive(Debug, Clone, Copy)]
pub struct Kinds {
    /// Sources.
    pub sources: &'static [SourceKind],
    /// Sinks.
    pub sinks: &'static [SinkKind],
}
