//! Files of one record per line, exactly-once.
//!
//! ```text
//! <dir>/lock                          held by the one process that writes
//! <dir>/manifest.json                 what is committed: position, host state, length per topic
//! <dir>/<topic>/0000000001.jsonl      segments: envelopes, one per line
//! ```
//!
//! **Writing.** A thread of the sink's own appends lines to the kernel; another one commits: it
//! syncs the segments and the names of new ones, then replaces the manifest, then answers the
//! batches. While it syncs, writing goes on. A commit starts when the host asks ([`Sink::flush`]) or
//! when a good amount is uncommitted.
//!
//! **Reading.** Bytes beyond a topic's `length` in the manifest are not committed; a start removes
//! them. A segment with a lower number than the manifest's, or one marked `finished`, never changes
//! again and may be moved or deleted. A table that is written to no more gets its segment finished
//! once it is as old as `rotate.age`.
//!
//! Keys, headers and tombstones leave no trace: the envelope holds the key, and a delete is an
//! envelope. A truncate is one line.

mod commit;
mod config;
mod disk;
mod ledger;
mod manifest;
#[cfg(test)]
mod power;
mod recover;
mod writer;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowtide_sdk::{
    BoxFuture, BufferPool, Checkpoint, Completion, Error, Finding, Held, Origin, RecordBatch,
    Result, Severity, Sink, TopicInfo, TopicSpec,
};
use tokio::sync::mpsc;

pub use config::{JsonlConfig, Rotate};

use self::commit::Committer;
use self::disk::Disk;
use self::ledger::Ledger;
use self::recover::Recovered;
use self::writer::Writer;
use crate::error::{IO, LOCKED, UNUSABLE, file_error};
use crate::handoff::Handoff;

/// How long a start waits for a lock: the process before may be on its way out.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Writes records into files, with the position in the manifest that commits them.
#[derive(Debug)]
pub struct JsonlSink {
    config: JsonlConfig,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    handoff: Arc<Handoff>,
    ledger: Arc<Ledger>,
}

impl JsonlSink {
    /// A sink that is not open yet.
    pub fn new(config: JsonlConfig) -> Self {
        Self { config, running: None }
    }

    async fn start(&mut self) -> Result<Held> {
        // A sink that is opened again first lets go of its own lock.
        self.running = None;
        let (disk, recovered) = self.lock_and_recover().await?;
        let held = recovered.manifest.checkpoint();
        let (disk, handoff, ledger) = (Arc::new(disk), Handoff::new(), Arc::default());
        let writer = Writer::new(
            Arc::clone(&disk),
            Arc::clone(&handoff),
            Arc::clone(&ledger),
            self.config.rotate,
            &recovered.manifest,
        );
        let committer = Committer::new(disk, Arc::clone(&handoff), Arc::clone(&ledger), recovered);
        let running = Running { handoff, ledger };
        running.handoff.spawn("rowtide-jsonl-w", move || writer.run())?;
        let spawned = running.handoff.spawn("rowtide-jsonl-c", move || committer.run());
        self.running = Some(running);
        spawned.map(|()| Held::Here(held))
    }

    async fn lock_and_recover(&self) -> Result<(Disk, Recovered)> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            let config = self.config.clone();
            let opened = tokio::task::spawn_blocking(move || {
                let disk = Disk::lock(&config)?;
                let recovered = recover::recover(&disk)?;
                Ok((disk, recovered))
            });
            let opened = opened.await.unwrap_or_else(|error| {
                Err(Error::transient(Origin::Sink, IO, "the folder could not be opened")
                    .with_source(error))
            });
            match opened {
                Err(error) if error.code() == LOCKED && Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().ok_or_else(|| {
            Error::fatal(Origin::Sink, UNUSABLE, "the jsonl folder is used before it is open")
        })
    }

    async fn store(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if self.running.is_none() {
            self.start().await?;
        }
        let (reply, mut outcomes) = mpsc::unbounded_channel();
        let batch = RecordBatch {
            data: Vec::new(),
            topics: Vec::new(),
            records: Vec::new(),
            checkpoint: checkpoint.clone(),
            pool: BufferPool::default(),
        };
        let running = self.running()?;
        running.handoff.submit(batch, Completion::new(0, reply, None)).await?;
        running.flush()?;
        match outcomes.recv().await {
            Some(outcome) => outcome.result,
            None => Err(Error::transient(Origin::Sink, IO, "the position was not stored")),
        }
    }
}

impl Running {
    fn flush(&self) -> Result<()> {
        self.ledger.ask(self.handoff.submitted()?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handoff.abandon();
    }
}

impl Sink for JsonlSink {
    fn open(&mut self) -> BoxFuture<'_, Result<Held>> {
        Box::pin(self.start())
    }

    fn prepare<'a>(&'a mut self, topic: &'a TopicSpec) -> BoxFuture<'a, Result<TopicInfo>> {
        Box::pin(async { disk::check_topic(&topic.name).map(|()| TopicInfo { compacts: false }) })
    }

    fn submit(&mut self, batch: RecordBatch, done: Completion) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.running()?.handoff.submit(batch, done).await })
    }

    fn flush(&mut self) -> BoxFuture<'_, Result<()>> {
        let asked = self.running().and_then(Running::flush);
        Box::pin(async { asked })
    }

    fn close(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            match &self.running {
                Some(running) => running.handoff.close(deadline).await,
                None => Ok(()),
            }
        })
    }

    fn store_position<'a>(&'a mut self, checkpoint: &'a Checkpoint) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.store(checkpoint))
    }
}

/// The checkpoint committed in a folder, read without the lock (for `rowtide position show`); `None`
/// where nothing was committed yet. Blocks for the read of one file.
///
/// # Errors
/// RT3502 and RT3503 where the folder is not one of this sink's, or what keeps it from being read.
pub fn stored_checkpoint(config: &JsonlConfig) -> Result<Option<Checkpoint>> {
    let found = recover::look(&config.dir)?;
    Ok(found.and_then(|(manifest, _)| manifest.checkpoint()))
}

/// With less space than this no folder passes the preflight.
const PROBE_BYTES: usize = 1024 * 1024;

/// The preflight: what a start would refuse. Changes nothing. Blocks for reading the folder's
/// entries.
pub fn check(config: &JsonlConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |result: Result<()>| findings.extend(result.err().as_ref().map(Finding::from));
    note(check_writable(&config.dir));
    note(recover::look(&config.dir).and_then(|found| match found {
        Some((manifest, _)) => recover::survey(&config.dir, &manifest).map(drop),
        None => Ok(()),
    }));
    if is_held(config) {
        let message = format!("a process is writing to the folder {}", config.dir.display());
        let finding = Finding::new(Severity::Info, LOCKED, message);
        findings.push(finding.with_remedy("this is as it should be while the connector runs"));
    }
    findings
}

/// Tries to fill an unnamed file in the folder, or in the one that it would be created in.
fn check_writable(dir: &Path) -> Result<()> {
    let existing = dir.ancestors().find(|path| path.exists() || path.as_os_str().is_empty());
    let existing = match existing {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => Path::new("."),
    };
    let filled = tempfile::tempfile_in(existing)
        .and_then(|mut unnamed| unnamed.write_all(&vec![0; PROBE_BYTES]));
    filled.map_err(|error| file_error("write to", existing, error))
}

/// Whether a process writes to the folder now. Changes nothing.
pub fn is_held(config: &JsonlConfig) -> bool {
    let lock = File::open(config.dir.join(disk::LOCK));
    lock.is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}
