//! The stream: reads the replication connection, hands batches over, keeps the server informed.
//!
//! One task owns the connection. Whatever it waits for (bytes, room in the channel, a table's facts)
//! it keeps sending status updates meanwhile.

mod assemble;
pub(crate) mod codes;
mod feedback;
mod pulse;
mod relations;
mod spool;
mod tables;
mod transaction;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::poll_immediate;
use rowtide_sdk::{Batch, BatchSender, Error, Origin, Result, SourceContext};
use rowtide_spool::Folder;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::feedback::Feedback;
use crate::family::Family;
use crate::lsn::Lsn;
use crate::message::MessageRules;
use crate::position::{InTx, Renderer};
use crate::relation::RelationMessage;
use crate::reselect::{Cut, Needs, Reselector};
use crate::wire::{Reader, Writer, stop};

pub(crate) use self::assemble::{Assembler, Fill, Filter, Step};
pub(crate) use self::pulse::Pulse;
pub(crate) use self::spool::Spool;
pub(crate) use self::tables::Tables;
pub(crate) use self::transaction::{Progress, span};

/// After a read of this many bytes the socket is asked again at once: there is a backlog.
const LARGE_READ: usize = 8 * 1024;
/// So long the thread sleeps between two reads of a busy stream.
const PAUSE: Duration = Duration::from_micros(250);
/// How often progress alone is handed over.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// The same when the server asks for a status: it may be waiting for us to shut down.
const PROGRESS_WHEN_ASKED: Duration = Duration::from_millis(100);
/// The same where a batch left in the middle of a transaction whose end alone came since: what a
/// restart repeats is then nothing, and a busy stream brings entries sooner than this.
const PROGRESS_AFTER_CUT: Duration = Duration::from_millis(2);
/// Silence that is never too long, whatever wal_sender_timeout says.
const SHORTEST_SILENCE: Duration = Duration::from_secs(4);
/// The same where the server has no timeout.
const SILENCE_WITHOUT_TIMEOUT: Duration = Duration::from_secs(60);
/// So long the server may keep asking, with changes in flight, before we let it stop.
const STOPPING_AFTER: Duration = Duration::from_secs(2);

/// A started stream.
pub(crate) struct Session {
    /// The receiving half of the connection.
    pub(crate) reader: Reader,
    /// The sending half.
    pub(crate) writer: Writer,
    /// Where the stream starts.
    pub(crate) progress: Progress,
    /// Renders its positions.
    pub(crate) renderer: Renderer,
    /// The wanted tables.
    pub(crate) filter: Filter,
    /// What to do with messages, where they were asked for.
    pub(crate) messages: Option<MessageRules>,
    /// Reads values back that the log did not carry.
    pub(crate) reselector: Reselector,
    /// Makes tables of descriptions.
    pub(crate) tables: Tables,
    /// The server's timeout for us; zero where it has none.
    pub(crate) wal_sender_timeout: Duration,
    /// Where the stream shows how it stands.
    pub(crate) pulse: Pulse,
    /// Another renderer, once the server went on on another timeline.
    pub(crate) renamed: watch::Receiver<Option<Renderer>>,
    /// Where streamed transactions are set aside, where they were asked for.
    pub(crate) folder: Option<Folder>,
}

/// A server that shuts down asks again within this time of an answer.
const ASKING_PAUSE: Duration = Duration::from_secs(1);
/// How long the server may take to end the stream.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What follows a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    /// The host asked to stop.
    Stop,
}

struct Driver {
    /// First, so that it is unlocked before the slot is.
    folder: Option<Folder>,
    reader: Reader,
    feedback: Feedback,
    assembler: Assembler,
    tables: Tables,
    pulse: Pulse,
    renamed: watch::Receiver<Option<Renderer>>,
    reselector: Reselector,
    out: BatchSender,
    shutdown: CancellationToken,
    linger: Duration,
    /// How often the server hears from us at least.
    interval: Duration,
    wal_sender_timeout: Duration,
    last_flush: Instant,
    last_read: usize,
    last_progress: Instant,
    /// The last place handed over.
    handed_over: (Lsn, Option<InTx>),
    /// Whether the server waits for progress.
    is_asked: bool,
    /// Since when the server keeps asking right after each answer, and when it last did.
    asking: Option<(Instant, Instant)>,
}

/// Streams until the host asks to stop.
///
/// # Errors
/// Whatever ends the stream otherwise.
pub(crate) async fn run(session: Session, cx: SourceContext) -> Result<()> {
    let Session {
        reader,
        writer,
        progress,
        renderer,
        filter,
        messages,
        reselector,
        tables,
        wal_sender_timeout,
        pulse,
        renamed,
        folder,
    } = session;
    let spool = folder.as_ref().map(|_| Spool::new(cx.limits.spool_memory));
    let assembler = Assembler::new(progress, renderer, filter, cx.limits, spool);
    let mut assembler = assembler.with_messages(messages);
    if let Some(family) = Family::new(&cx) {
        assembler.watch(family);
    }
    let handed_over = assembler.place();
    let interval = feedback::interval(wal_sender_timeout);
    let now = Instant::now();
    let mut driver = Driver {
        reader,
        feedback: Feedback::new(writer, cx.committed, interval, handed_over.0, pulse.clone()),
        assembler,
        tables,
        pulse,
        renamed,
        folder,
        reselector,
        out: cx.out,
        shutdown: cx.shutdown,
        linger: cx.limits.linger,
        interval,
        wal_sender_timeout,
        last_flush: now.checked_sub(cx.limits.linger).unwrap_or(now),
        last_read: 0,
        last_progress: now,
        handed_over,
        is_asked: false,
        asking: None,
    };
    while driver.step().await? == Flow::Continue {}
    driver.wind_down(&cx.drained).await
}

fn now_us() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX)
}

/// The host ended without saying so.
pub(crate) fn host_gone() -> Error {
    Error::transient(Origin::Host, codes::HOST_GONE, "the pipeline behind the source is gone")
}

/// Streamed transactions came that were not asked for.
fn no_folder() -> Error {
    let message = "a transaction is streamed although that was not asked for";
    Error::fatal(Origin::Source, codes::NOT_UNDERSTOOD, message)
}

impl Driver {
    async fn step(&mut self) -> Result<Flow> {
        match self.assembler.advance()? {
            Step::More if self.assembler.has_entries() => self.coalesce().await,
            Step::More if self.assembler.segment().is_some() => self.gather().await,
            Step::More => self.read().await,
            Step::Full => self.flush().await,
            Step::Describe(message) => self.describe(message).await,
            Step::Reply => self.reply(),
            Step::Spill => self.spill(),
            Step::Fill(fill) => self.fill(fill).await,
            Step::Forget(xid, len) => self.forget(xid, len),
            Step::Ended => Err(Error::transient(
                Origin::Source,
                codes::STREAM_ENDED,
                "the server ended the stream",
            )),
        }
    }

    /// Entries are held and everything received is parsed. Under backlog more is read at once; else
    /// the batch leaves, but not sooner than the linger time after the last one.
    ///
    /// Until then the thread sleeps between reads. A timer of the runtime would be too coarse (the
    /// buffer of a unix socket holds a millisecond's worth of small messages, and while it is full
    /// the server waits) and would not sleep: the poller wakes for every message that arrives.
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

    /// A streamed transaction is being set aside, of which nothing leaves before its commit: as in
    /// [`Driver::coalesce`], the thread sleeps rather than wake for every message.
    async fn gather(&mut self) -> Result<Flow> {
        if self.last_read < LARGE_READ {
            std::thread::sleep(PAUSE);
            tokio::task::yield_now().await;
        }
        self.read().await
    }

    /// Reads what is there, without waiting; whether anything was.
    async fn read_now(&mut self) -> Result<bool> {
        match poll_immediate(self.reader.read_into(self.assembler.buffer())).await {
            Some(read) => self.received(read?).map(|()| true),
            None => {
                self.last_read = 0;
                Ok(false)
            }
        }
    }

    fn received(&mut self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Err(Error::transient(
                Origin::Source,
                codes::STREAM_ENDED,
                "the server closed the connection",
            ));
        }
        self.last_read = bytes;
        self.assembler.received_at(now_us());
        Ok(())
    }

    /// Waits for bytes with nothing held, handing progress over when it is time.
    async fn read(&mut self) -> Result<Flow> {
        let silence = self.longest_silence();
        let started = Instant::now();
        loop {
            let progress_at = self.progress_due();
            let Self { feedback, reader, assembler, shutdown, .. } = self;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Flow::Stop),
                () = feedback.due() => {
                    // An idle server says nothing unless asked.
                    let ask = started.elapsed() >= self.interval / 2;
                    feedback.send(assembler.received(), ask).await?;
                }
                () = until(progress_at) => {
                    if self.hand_over_progress().await? == Flow::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                read = reader.read_into(assembler.buffer()) => {
                    self.received(read?)?;
                    return Ok(Flow::Continue);
                }
                () = sleep_until(started + silence) => return Err(self.silent(silence)),
            }
        }
    }

    fn longest_silence(&self) -> Duration {
        if self.wal_sender_timeout.is_zero() {
            SILENCE_WITHOUT_TIMEOUT
        } else {
            (self.wal_sender_timeout * 2).max(SHORTEST_SILENCE)
        }
    }

    fn silent(&self, silence: Duration) -> Error {
        Error::transient(
            Origin::Source,
            codes::SILENCE,
            format!("the server said nothing for {} s, although asked", silence.as_secs()),
        )
    }

    /// When progress alone is to be handed over, where there is any.
    fn progress_due(&self) -> Option<Instant> {
        let (confirm, in_tx) = self.assembler.place();
        let (handed_over, cut) = self.handed_over;
        let every = match cut {
            Some(_) if in_tx.is_none() => PROGRESS_AFTER_CUT,
            _ if self.is_asked => PROGRESS_WHEN_ASKED,
            _ => PROGRESS_EVERY,
        };
        (confirm > handed_over).then(|| self.last_progress + every)
    }

    /// Hands the batch over.
    async fn flush(&mut self) -> Result<Flow> {
        let next = self.out.empty_batch();
        let flow = self.hand_over(|assembler| assembler.take(next)).await?;
        self.last_flush = Instant::now();
        Ok(flow)
    }

    /// Hands over a position without entries; only where none are held.
    async fn hand_over_progress(&mut self) -> Result<Flow> {
        self.hand_over(|assembler| assembler.progress()).await
    }

    /// Hands a batch over once the channel has room. It is taken only then, so that a stop while
    /// waiting leaves everything as it was.
    async fn hand_over(&mut self, take: impl FnOnce(&mut Assembler) -> Batch) -> Result<Flow> {
        let Self { feedback, assembler, shutdown, pulse, out, .. } = self;
        let Some(permit) = room(out, feedback, assembler.received(), (shutdown, pulse)).await?
        else {
            return Ok(Flow::Stop);
        };
        if self.renamed.has_changed().unwrap_or_default()
            && let Some(renderer) = self.renamed.borrow_and_update().clone()
        {
            assembler.render_by(renderer);
        }
        let batch = take(assembler);
        match self.reselector.needs(&batch) {
            None => permit.send(batch),
            Some(needs) => {
                drop(permit);
                if self.complete(batch, needs).await? == Flow::Stop {
                    return Ok(Flow::Stop);
                }
            }
        }
        self.handed_over = self.assembler.place();
        self.pulse.handed_over(self.handed_over.0, self.handed_over.1.is_some());
        self.last_progress = Instant::now();
        self.is_asked = false;
        Ok(Flow::Continue)
    }

    /// Reads back what a batch needs and hands it over, in pieces where it gets too large. A stop
    /// meanwhile leaves the rest out, which is then sent again.
    async fn complete(&mut self, batch: Batch, needs: Needs) -> Result<Flow> {
        let mut left = Some((batch, Some(needs)));
        while let Some((batch, needs)) = left.take() {
            let from = self.handed_over;
            let Self { feedback, assembler, shutdown, pulse, out, reselector, .. } = self;
            let (mut batch, cut) = match needs {
                Some(needs) => {
                    let mut reading = Box::pin(reselector.read(batch, &needs, from));
                    loop {
                        tokio::select! {
                            biased;
                            () = shutdown.cancelled() => return Ok(Flow::Stop),
                            () = feedback.due() => {
                                feedback.send(assembler.received(), false).await?;
                            }
                            read = &mut reading => break read?,
                        }
                    }
                }
                None => (batch, None),
            };
            if let Some(cut) = &cut {
                batch.resume = Some(assembler.position(cut.place));
            }
            let Some(permit) = room(out, feedback, assembler.received(), (shutdown, pulse)).await?
            else {
                return Ok(Flow::Stop);
            };
            permit.send(batch);
            left = cut.map(|Cut { place, rest }| {
                self.handed_over = place;
                let needs = self.reselector.needs(&rest);
                (rest, needs)
            });
        }
        Ok(Flow::Continue)
    }

    /// Makes the table that a Relation message describes. Where it is another version than the one in
    /// force, what came before leaves first: the host may refuse a version, and must then be able to
    /// save a position right before its first change.
    async fn describe(&mut self, message: RelationMessage) -> Result<Flow> {
        let Self { feedback, assembler, shutdown, tables, .. } = self;
        let made = {
            let making = tables.table(&message);
            tokio::pin!(making);
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return Ok(Flow::Stop),
                    () = feedback.due() => feedback.send(assembler.received(), false).await?,
                    table = &mut making => break table?,
                }
            }
        };
        let is_new = !self.assembler.is_in_force(message.oid, &made.table);
        if is_new && self.assembler.has_entries() && self.flush().await? == Flow::Stop {
            return Ok(Flow::Stop);
        }
        self.assembler.learn(message, made);
        Ok(Flow::Continue)
    }

    /// Moves what memory has no room for to disk.
    fn spill(&mut self) -> Result<Flow> {
        while let Some((xid, blocks)) = self.assembler.largest() {
            self.folder()?.append(u64::from(xid), &blocks)?;
            self.assembler.spilled(blocks);
        }
        Ok(Flow::Continue)
    }

    /// Brings more of a transaction that is being replayed. A resumed one may be long before any of
    /// its changes is handed over, so the server is kept informed here too.
    async fn fill(&mut self, fill: Fill) -> Result<Flow> {
        if self.shutdown.is_cancelled() {
            return Ok(Flow::Stop);
        }
        if poll_immediate(self.feedback.due()).await.is_some() {
            self.feedback.send(self.assembler.received(), false).await?;
        }
        self.assembler.received_at(now_us());
        let Fill { xid, at, max } = fill;
        let Self { assembler, folder, .. } = self;
        let buffer = assembler.buffer();
        let before = buffer.len();
        folder.as_mut().ok_or_else(no_folder)?.read(u64::from(xid), at, buffer, max)?;
        let bytes = buffer.len().saturating_sub(before);
        assembler.filled(bytes);
        // Lets the runtime learn what time it is.
        tokio::task::yield_now().await;
        Ok(Flow::Continue)
    }

    /// Removes the file of a transaction that is over.
    fn forget(&mut self, xid: u32, len: u64) -> Result<Flow> {
        self.folder()?.remove(u64::from(xid), len)?;
        Ok(Flow::Continue)
    }

    fn folder(&mut self) -> Result<&mut Folder> {
        self.folder.as_mut().ok_or_else(no_folder)
    }

    /// The server asks for a status. It does so when it has not heard from us for long, and again
    /// and again while it shuts down and waits for our confirmation. Changes in flight would hold
    /// the shutdown up, so then we leave; nothing is lost, they are sent again.
    fn reply(&mut self) -> Result<Flow> {
        self.is_asked = true;
        let is_usual = self.feedback.since_last() >= self.interval / 2;
        self.feedback.asked();
        if is_usual || self.feedback.told() >= self.assembler.received() {
            self.asking = None;
            return Ok(Flow::Continue);
        }
        let now = Instant::now();
        let since = match self.asking {
            Some((since, last)) if now - last < ASKING_PAUSE => since,
            _ => now,
        };
        self.asking = Some((since, now));
        if now - since < STOPPING_AFTER {
            return Ok(Flow::Continue);
        }
        Err(stopping())
    }

    /// After the host asked to stop: keeps confirming what is saved until nothing is in flight.
    async fn wind_down(mut self, drained: &CancellationToken) -> Result<()> {
        let received = self.assembler.received();
        loop {
            tokio::select! {
                biased;
                () = drained.cancelled() => break,
                () = self.feedback.due() => {
                    if let Err(error) = self.feedback.send(received, false).await {
                        // What is saved is safe; the server will learn it at the next start.
                        tracing::debug!(%error, "the connection ended while stopping");
                        return Ok(());
                    }
                }
            }
        }
        if let Err(error) = self.feedback.send(received, false).await {
            tracing::debug!(%error, "the connection ended while stopping");
            return Ok(());
        }
        if let Some(unread) = self.assembler.into_unread() {
            stop(self.reader, self.feedback.into_writer(), unread, STOP_TIMEOUT).await;
        }
        Ok(())
    }
}

fn stopping() -> Error {
    Error::transient(
        Origin::Source,
        codes::SERVER_STOPPING,
        "the server shuts down and waits for changes that are still in flight",
    )
}

/// Waits for room in the channel, keeping the server informed; `None` where the host asked to stop.
/// Nothing is read meanwhile, and a server that stops waits until all was read: so then we leave.
async fn room<'a>(
    out: &'a BatchSender,
    feedback: &mut Feedback,
    received: Lsn,
    (shutdown, pulse): (&CancellationToken, &Pulse),
) -> Result<Option<mpsc::Permit<'a, Batch>>> {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            () = feedback.due() => feedback.send(received, false).await?,
            permit = out.reserve() => return permit.map(Some).ok_or_else(host_gone),
            () = pulse.stopping() => return Err(stopping()),
        }
    }
}

/// Waits until `at`, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
