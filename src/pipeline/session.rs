//! One run of a connector: open, stream, drain, close.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rowtide_sdk::{
    BufferPool, Checkpoint, Class, Column, Error, Held, Limits, Origin, Reselection, Sink, Source,
    SourceContext, SourceInfo, Table, TableReview, batch_channel,
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::acks::AckTracker;
use super::claims::ConnectorClaims;
use super::commit::{CommitEnd, CommitTask, TASK_GONE};
use super::hidden::note_patterns;
use super::plans::Planner;
use super::progress::Progress;
use super::pump::{Pump, Stopped};
use super::schema_files::SchemaFiles;
use super::{Job, RAW_BATCHES, check_not_elsewhere, review};
use crate::config::{BuildContext, ConnectorConfig, Unchanged};
use crate::envelope::Encoder;
use crate::offsets::{FileStore, KeptNote};
use crate::schema::{HostState, Versions};

/// Batches in the channel between source and pump.
const CHANNEL_BATCHES: usize = 2;
/// How long what is in flight may take to land after an error, before the connector restarts.
const DRAIN_AFTER_ERROR: Duration = Duration::from_secs(5);
/// How long the source has to close its connection politely.
const SOURCE_GOODBYE: Duration = Duration::from_secs(3);
/// The least memory a connector's share may be.
const MEMORY_MIN: usize = 1024 * 1024;
/// The most memory for what a source sets aside.
const SPOOL_MEMORY_MAX: usize = 4 * 1024 * 1024;
/// The folder in the state folder below which sources set aside what they may not hand over yet.
const SPOOL: &str = "spool";

/// How a run ended.
pub(crate) struct SessionEnd {
    pub(crate) result: Result<(), Error>,
    /// Whether any position was committed, which makes a restart a fresh start.
    pub(crate) has_progressed: bool,
}

impl SessionEnd {
    fn failed(error: Error) -> Self {
        Self { result: Err(error), has_progressed: false }
    }
}

/// Runs the connector once, from its saved position until it stops or fails.
pub(crate) async fn run(job: &Job) -> SessionEnd {
    let end = match Box::pin(open(job)).await {
        Ok(opened) => Box::pin(stream(job, opened)).await,
        Err(error) => Err(error),
    };
    end.unwrap_or_else(SessionEnd::failed)
}

/// What opening gives.
struct Opened {
    source: Box<dyn Source>,
    sink: Box<dyn Sink>,
    store: Option<FileStore>,
    /// Where the sink keeps the position, where it does.
    note: Option<KeptNote>,
    checkpoint: Option<Checkpoint>,
    versions: Versions,
    review: Option<TableReview>,
}

async fn open(job: &Job) -> Result<Opened, Error> {
    let cx = BuildContext {
        connector: &job.connector.name,
        memory: share(job),
        max_event: job.config.max_event,
    };
    if let Some(dir) = &job.connector.schema_changes.dir {
        SchemaFiles::new(dir).open()?;
    }
    let source = job.connector.source.renewed()?.build(&cx)?;
    let factory = job.connector.sink.renewed()?;
    // First what does not pass by itself: a sink that is away must not hide it.
    let stored = if factory.keeps_position() { None } else { Some(stored_in_file(job)?) };
    let is_first = match &stored {
        Some((_, checkpoint)) => checkpoint.is_none(),
        None => matches!(factory.saved(), Ok(None)),
    };
    if is_first {
        check_not_elsewhere(&job.config, &job.connector)?;
    }
    let mut sink = factory.build(&cx)?;
    let held = tokio::select! {
        held = sink.open() => held?,
        () = job.shutdown.cancelled() => return Err(stopped_while_opening()),
    };
    let (store, checkpoint) = match held {
        Held::Here(checkpoint) => (None, checkpoint),
        Held::Elsewhere => {
            let (store, checkpoint) = stored.map_or_else(|| stored_in_file(job), Ok)?;
            (Some(store), checkpoint)
        }
    };
    let state = match &checkpoint {
        Some(checkpoint) => HostState::parse(&checkpoint.host)?,
        None => HostState::default(),
    };
    let versions = Versions::new(state)?;
    note_patterns(&job.connector, &versions);
    let review = to_review(job, versions.state())?;
    let note = if store.is_none() { kept_note(job) } else { None };
    Ok(Opened { source, sink, store, note, checkpoint, versions, review })
}

/// The state file and what it holds.
fn stored_in_file(job: &Job) -> Result<(FileStore, Option<Checkpoint>), Error> {
    let mut store = FileStore::open(&job.config.state_dir, &job.connector.name)?;
    let checkpoint = store.load()?;
    if checkpoint.is_some() {
        store.try_out()?;
    }
    Ok((store, checkpoint))
}

fn stopped_while_opening() -> Error {
    Error::transient(Origin::Host, TASK_GONE, "stopped while the sink was being opened")
}

/// The connector's share of the memory ceiling: equal shares, so that one whose sink stands still
/// cannot starve the others.
fn share(job: &Job) -> usize {
    (job.config.memory / job.config.connectors.len().max(1)).max(MEMORY_MIN)
}

async fn stream(job: &Job, opened: Opened) -> Result<SessionEnd, Error> {
    let limits = limits(job, opened.source.as_ref());
    let (out, received, spent) = batch_channel(CHANNEL_BATCHES);
    let resume = opened.checkpoint.map(|checkpoint| checkpoint.position);
    let (committed, committed_seen) = watch::channel(resume.clone());
    let claims = Arc::new(claims(job, opened.versions.state().claims.clone()));
    let (stop_source, drained) = (CancellationToken::new(), CancellationToken::new());
    let context = SourceContext {
        name: job.connector.name.clone(),
        resume,
        known_tables: opened.versions.state().known_tables(),
        reselection: reselection(&job.connector),
        hiding: job.connector.hiding(),
        review: opened.review,
        sightings: opened.versions.sightings(),
        note: opened.versions.note(),
        out,
        committed: committed_seen,
        shutdown: stop_source.clone(),
        drained: drained.clone(),
        limits,
        claims: Arc::clone(&claims) as Arc<dyn rowtide_sdk::Claims>,
        report: job.board.report().clone(),
        scratch: scratch(&job.config.state_dir, &job.connector.name),
    };
    let (planner, encoder) = encoding(job, opened.source.info(), opened.versions)?;
    let tracker = Arc::new(Mutex::new(AckTracker::default()));
    let (outcomes, outcomes_seen) = mpsc::unbounded_channel();
    let (failed, failed_seen) = oneshot::channel();
    let (saves, saves_seen) = watch::channel(true);
    let memory_max = encoded_memory(job, limits);
    let pump = Pump {
        received,
        spent,
        sink: opened.sink,
        encoder,
        planner,
        claims,
        tracker: Arc::clone(&tracker),
        outcomes: Some(outcomes),
        memory: Arc::new(Semaphore::new(memory_max)),
        memory_max,
        sink_holds_position: opened.store.is_none(),
        flush_interval: job.config.commit_interval,
        limits,
        pool: BufferPool::default(),
        progress: Progress::new(),
        board: Arc::clone(&job.board),
        saves: saves_seen,
    };
    let has_progressed = Arc::<AtomicBool>::default();
    let commit = CommitTask {
        tracker,
        outcomes: outcomes_seen,
        note: opened.note,
        store: opened.store,
        committed,
        interval: job.config.commit_interval,
        board: Arc::clone(&job.board),
        has_progressed: Arc::clone(&has_progressed),
        failed: Some(failed),
        saves,
    };
    let source = AbortOnDrop(tokio::spawn(opened.source.run(context)));
    let commit = AbortOnDrop(tokio::spawn(commit.run()));
    let session = Session { pump, source, commit, stop_source, drained, has_progressed };
    Ok(session.run(job, failed_seen).await)
}

/// That the sink keeps the position.
fn kept_note(job: &Job) -> Option<KeptNote> {
    let place = job.connector.sink.factory.resource()?;
    let (folder, connector) = (job.config.state_dir.clone(), job.connector.name.clone());
    Some(KeptNote { folder, connector, place })
}

/// The folder for what a connector's source sets aside.
pub(crate) fn scratch(state: &Path, connector: &str) -> PathBuf {
    state.join(SPOOL).join(connector)
}

/// What is made of the tables when a run begins, until it is done.
fn to_review(job: &Job, saved: &HostState) -> Result<Option<TableReview>, Error> {
    // Without settings there is nothing that might not fit.
    if job.connector.tables.is_empty() || job.is_reviewed.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let saved = Versions::new(saved.clone())?;
    Ok(Some(review::review(&job.connector, saved, &job.is_reviewed)))
}

/// What the connector holds, and can hold beside the others.
fn claims(job: &Job, held: Vec<String>) -> ConnectorClaims {
    let (folder, name) = (job.config.state_dir.clone(), job.connector.name.clone());
    ConnectorClaims::new(job.claims.clone(), folder, name, held)
}

/// The columns that the settings want to be read back.
fn reselection(connector: &ConnectorConfig) -> Reselection {
    let connector = connector.clone();
    Arc::new(move |table: &Table| {
        let config = connector.table(&table.schema, &table.name);
        if config.unchanged != Unchanged::Reselect {
            return Vec::new();
        }
        let wanted =
            |column: &Column| column.may_be_unchanged && !config.exclude.contains(&column.name);
        let columns = table.columns.iter().enumerate();
        columns.filter(|(_, column)| wanted(column)).map(|(index, _)| index).collect()
    })
}

/// The planner and the encoder.
fn encoding(job: &Job, info: SourceInfo, versions: Versions) -> Result<(Planner, Encoder), Error> {
    let max_event = job.config.max_event;
    let planner = Planner::new(&job.connector, info, max_event, versions)?;
    let mut encoder = Encoder::new(
        &job.connector.name,
        info.write_position,
        job.connector.routing.headers,
        job.connector.validation,
        max_event,
        planner.dead_letters(),
    )?;
    if let Some(topic) = planner.messages() {
        encoder = encoder.with_messages(info, topic)?;
    }
    Ok((planner, encoder))
}

/// What a source must keep to. What it sets aside it may hold in memory as far as that is good for
/// writing to disk in large pieces.
fn limits(job: &Job, source: &dyn Source) -> Limits {
    let spool_memory = if source.spools() { (share(job) / 8).min(SPOOL_MEMORY_MAX) } else { 0 };
    Limits { max_event: job.config.max_event, spool_memory, ..Limits::default() }
}

/// What the raw batches and what is set aside leave of the connector's share for encoded records.
fn encoded_memory(job: &Job, limits: Limits) -> usize {
    let raw = RAW_BATCHES.saturating_mul(limits.batch_bytes);
    let left = share(job).saturating_sub(raw).saturating_sub(limits.spool_memory);
    left.max(MEMORY_MIN / 2)
}

/// A task that ends with its handle: a session that is dropped leaves nothing running.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Session {
    pump: Pump,
    source: AbortOnDrop<Result<(), Error>>,
    commit: AbortOnDrop<CommitEnd>,
    stop_source: CancellationToken,
    drained: CancellationToken,
    /// Read in place of the commit task's own word, as that task may not end in time.
    has_progressed: Arc<AtomicBool>,
}

impl Session {
    async fn run(mut self, job: &Job, failed: oneshot::Receiver<Error>) -> SessionEnd {
        let stopped = self.pump.run(&job.shutdown, failed).await;
        let patience = match &stopped {
            Ok(Stopped::Shutdown) => job.config.shutdown_timeout,
            _ => DRAIN_AFTER_ERROR,
        };
        let deadline = Instant::now() + patience;
        self.stop_source.cancel();
        self.pump.received.close();
        // What came before an event that is refused is committed: the next run begins with it.
        let can_flush =
            stopped.as_ref().map_or_else(|error| error.origin() != Origin::Sink, |_| true);
        let commit = self.drain(can_flush, deadline).await;
        self.drained.cancel();
        let source = timeout(SOURCE_GOODBYE, &mut self.source.0).await;
        let closed = self.pump.sink.close(deadline.into_std()).await;
        let is_drained = commit.as_ref().is_some_and(|end| end.is_drained);
        let has_progressed = self.has_progressed.load(Ordering::Relaxed);
        let result = match stopped {
            Err(error) => Err(error),
            Ok(Stopped::SourceEnded) => match source {
                Ok(Ok(Err(error))) => Err(error),
                Ok(Ok(Ok(()))) => Err(ended("the source ended without being told to")),
                Ok(Err(error)) => Err(ended("the source's task ended").with_source(error)),
                Err(_) => Err(ended("the source hangs after it closed its channel")),
            },
            Ok(Stopped::Shutdown) => {
                let events = self.pump.progress.total();
                if is_drained {
                    tracing::info!(events, "drained: everything submitted is committed");
                } else {
                    tracing::warn!(
                        events_total = events,
                        "stopping before everything submitted is committed; the next start repeats it"
                    );
                }
                closed
            }
        };
        SessionEnd { result, has_progressed }
    }

    /// Waits until what was submitted is committed, or until the deadline.
    async fn drain(&mut self, can_flush: bool, deadline: Instant) -> Option<CommitEnd> {
        if can_flush && let Err(error) = self.pump.sink.flush().await {
            tracing::warn!(error = %error, "the last flush failed");
        }
        // Completions hold the other senders; the commit task ends with the last of them.
        self.pump.outcomes = None;
        timeout_at(deadline, &mut self.commit.0).await.ok()?.ok()
    }
}

fn ended(what: &'static str) -> Error {
    Error::new(Class::Transient, Origin::Source, TASK_GONE, what)
}
