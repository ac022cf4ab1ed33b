//! The stream: reads the replication connection and hands batches over.
//!
//! One task owns the connection, on a thread of its own; files of what is held are read and written
//! there too. While the host has no room nothing is read, and the server waits (`net_write_timeout` of
//! its session is raised for that).

mod assemble;
mod progress;
mod short;
mod tables;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::poll_immediate;
use rowtide_sdk::{Batch, BatchSender, Error, Origin, Result, SourceContext};
use rowtide_spool::Folder;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::assemble::Fill;
pub(crate) use self::assemble::{Assembler, Changed, Step};
pub(crate) use self::progress::{Passed, Place, Progress};
pub(crate) use self::short::catalog_facts;
use crate::catalog::Catalog;
use crate::codes;
use crate::guard::FileTimes;
use crate::wire::{Packet, PacketStream};

/// After a read of this many bytes the socket is asked again at once: there is a backlog.
const LARGE_READ: usize = 8 * 1024;
/// So long the thread sleeps between two reads of a busy stream.
const PAUSE: Duration = Duration::from_micros(250);
/// How often progress alone is handed over.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Heartbeats that may be missed before the server counts as silent.
const MISSED: u32 = 3;

/// A started stream.
pub(crate) struct Session {
    pub(crate) stream: PacketStream,
    pub(crate) assembler: Assembler,
    /// Makes tables of descriptions.
    pub(crate) catalog: Catalog,
    /// How often the server says something at least.
    pub(crate) heartbeat: Duration,
    /// Where transactions are set aside.
    pub(crate) folder: Folder,
    /// Where it is said how old what was read is.
    pub(crate) times: FileTimes,
}

/// What follows a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    /// The host asked to stop.
    Stop,
}

struct Driver {
    session: Session,
    out: BatchSender,
    shutdown: CancellationToken,
    linger: Duration,
    last_flush: Instant,
    last_read: usize,
    last_progress: Instant,
    /// The version of the progress that was handed over last.
    handed_over: u64,
}

/// Streams until the host asks to stop.
///
/// # Errors
/// Whatever ends the stream otherwise.
pub(crate) async fn run(session: Session, cx: SourceContext) -> Result<()> {
    let now = Instant::now();
    let mut driver = Driver {
        handed_over: session.assembler.progress().version(),
        session,
        out: cx.out,
        shutdown: cx.shutdown,
        linger: cx.limits.linger,
        last_flush: now.checked_sub(cx.limits.linger).unwrap_or(now),
        last_read: 0,
        last_progress: now,
    };
    let ended = loop {
        match driver.step().await {
            Ok(Flow::Continue) => {}
            Ok(Flow::Stop) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    driver.session.catalog.close().await;
    ended
}

fn now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}

/// The host ended without saying so.
pub(crate) fn host_gone() -> Error {
    Error::transient(Origin::Host, codes::HOST_GONE, "the pipeline behind the source is gone")
}

fn stream_ended() -> Error {
    Error::transient(Origin::Source, codes::STREAM_ENDED, "the server ended the stream")
}

impl Driver {
    async fn step(&mut self) -> Result<Flow> {
        let stepped = match self.taken() {
            Ok(Some(step)) => self.follow(step).await,
            Ok(None) if self.session.assembler.has_entries() => self.coalesce().await,
            Ok(None) => self.read().await,
            Err(error) => Err(error),
        };
        if stepped.is_err() && self.session.assembler.has_entries() {
            // An operator sets the position behind what cannot be read: what is before it must have been
            // handed over.
            self.flush().await?;
        }
        stepped
    }

    /// Takes in the next of what is there; `None` where more must be read.
    fn taken(&mut self) -> Result<Option<Step>> {
        let Session { stream, assembler, .. } = &mut self.session;
        if assembler.is_replaying() {
            return assembler.replay().map(Some);
        }
        if assembler.is_unpacking() {
            return assembler.unpack().map(Some);
        }
        match stream.next()? {
            Some(Packet::Event(event)) => assembler.event(event).map(Some),
            Some(Packet::Part(part)) => assembler.part(part).map(Some),
            Some(Packet::Oversized { head, size }) => assembler.oversized(head, size).map(Some),
            Some(Packet::End) => Err(stream_ended()),
            None => Ok(None),
        }
    }

    async fn follow(&mut self, step: Step) -> Result<Flow> {
        match step {
            Step::More => self.forget(),
            Step::Full => self.flush().await,
            Step::Describe(map) => {
                self.forget_changed();
                let Session { assembler, catalog, .. } = &mut self.session;
                let table = catalog.table(&map, assembler.place()).await?;
                let table = self.session.assembler.as_logged(table);
                let is_new = !self.session.assembler.is_in_force(&table);
                // The host may refuse a version, and must then be able to save a position right before
                // its first change.
                if is_new
                    && self.session.assembler.has_entries()
                    && self.flush().await? == Flow::Stop
                {
                    return Ok(Flow::Stop);
                }
                self.session.assembler.learn(*map, table)?;
                Ok(Flow::Continue)
            }
            Step::DescribeNamed(schema, name) => {
                let table = self.session.catalog.logged(&schema, &name).await?;
                let next = self.session.assembler.learn_named(table)?;
                Box::pin(self.follow(next)).await
            }
            Step::Spill => self.spill(),
            Step::Fill(fill) => self.fill(fill).await,
            Step::Engines(tables) => {
                for (schema, name) in tables {
                    let stays = self.session.catalog.is_untransactional(&schema, &name).await?;
                    self.session.assembler.stays((schema, name), stays);
                }
                Ok(Flow::Continue)
            }
        }
    }

    /// Entries are held and everything received is taken in. Under backlog more is read at once; else
    /// the batch leaves, but not sooner than the linger time after the last one. Until then the thread
    /// sleeps between reads: a timer of the runtime would be too coarse.
    async fn coalesce(&mut self) -> Result<Flow> {
        if self.last_read >= LARGE_READ && self.read_now().await? {
            return Ok(Flow::Continue);
        }
        let left = self.linger.saturating_sub(self.last_flush.elapsed());
        if left.is_zero() {
            return self.flush().await;
        }
        std::thread::sleep(left.min(PAUSE));
        // Lets the runtime learn what arrived.
        tokio::task::yield_now().await;
        self.read_now().await?;
        Ok(Flow::Continue)
    }

    /// Reads what is there, without waiting; whether anything was.
    async fn read_now(&mut self) -> Result<bool> {
        match poll_immediate(self.session.stream.read()).await {
            Some(read) => self.received(read?).map(|()| true),
            None => {
                self.last_read = 0;
                Ok(false)
            }
        }
    }

    fn received(&mut self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Err(stream_ended());
        }
        self.last_read = bytes;
        self.session.assembler.received_at(now_us());
        Ok(())
    }

    /// Waits for bytes with nothing held, handing progress over when it is time.
    async fn read(&mut self) -> Result<Flow> {
        let silence = self.session.heartbeat.saturating_mul(MISSED);
        let silent_at = Instant::now() + silence;
        loop {
            let has_progress = self.session.assembler.progress().version() > self.handed_over;
            let progress_at = self.last_progress + PROGRESS_EVERY;
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Ok(Flow::Stop),
                () = sleep_until(progress_at), if has_progress => {
                    if self.hand_over(false).await? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                read = self.session.stream.read() => {
                    self.received(read?)?;
                    return Ok(Flow::Continue);
                }
                () = sleep_until(silent_at) => {
                    let seconds = silence.as_secs();
                    let message =
                        format!("the server said nothing for {seconds} s, not even a heartbeat");
                    return Err(Error::transient(Origin::Source, codes::SILENCE, message));
                }
            }
        }
    }

    /// Hands the batch over.
    async fn flush(&mut self) -> Result<Flow> {
        let flow = self.hand_over(true).await?;
        self.last_flush = Instant::now();
        Ok(flow)
    }

    /// Hands the batch over, or progress alone, once the channel has room. It is taken only then, so
    /// that a stop while waiting leaves everything as it was.
    async fn hand_over(&mut self, has_entries: bool) -> Result<Flow> {
        let next = if has_entries { self.out.empty_batch() } else { Batch::default() };
        let permit = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Ok(Flow::Stop),
            permit = self.out.reserve() => permit.ok_or_else(host_gone)?,
        };
        let Session { assembler, times, .. } = &mut self.session;
        for (file, seconds) in assembler.take_times() {
            times.note(&file, seconds);
        }
        let batch = if has_entries { assembler.take(next)? } else { assembler.progress_batch()? };
        permit.send(batch);
        self.handed_over = assembler.progress().version();
        self.last_progress = Instant::now();
        Ok(Flow::Continue)
    }

    /// What statements changed is not as it was read.
    fn forget_changed(&mut self) {
        let changed = self.session.assembler.take_changed();
        self.session.catalog.forget(changed);
    }

    /// Moves what memory has no room for to disk.
    fn spill(&mut self) -> Result<Flow> {
        let Session { assembler, folder, .. } = &mut self.session;
        while let Some((key, blocks)) = assembler.largest() {
            folder.append(key, &blocks)?;
            assembler.spilled(blocks);
        }
        Ok(Flow::Continue)
    }

    /// Brings more of what is held.
    async fn fill(&mut self, fill: Fill) -> Result<Flow> {
        if self.shutdown.is_cancelled() {
            return Ok(Flow::Stop);
        }
        let Fill { key, at, max } = fill;
        let Session { assembler, folder, .. } = &mut self.session;
        let Some(buffer) = assembler.fill_buffer() else { return Ok(Flow::Continue) };
        let before = buffer.len();
        folder.read(key, at, buffer, max)?;
        let bytes = buffer.len().saturating_sub(before);
        assembler.filled(bytes);
        // Lets the runtime learn what time it is.
        tokio::task::yield_now().await;
        Ok(Flow::Continue)
    }

    /// Removes files that are done with.
    fn forget(&mut self) -> Result<Flow> {
        let Session { assembler, folder, .. } = &mut self.session;
        while let Some((key, len)) = assembler.doomed() {
            folder.remove(key, len)?;
        }
        Ok(Flow::Continue)
    }
}
