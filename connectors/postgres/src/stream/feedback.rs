//! What the server is told of our progress.
//!
//! Status updates go out on a timer and when a newly saved position arrives, whether or not anything
//! is being read: a blocked pipeline must not look dead to the server. Only saved positions are ever
//! told (invariant A5), and never a lower one after a higher.

use std::time::Duration;

use rowtide_sdk::{Error, Origin, Position, Result};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::codes;
use super::pulse::Pulse;
use crate::lsn::Lsn;
use crate::position::PgPosition;
use crate::wire::Writer;

/// Between two updates that nothing but progress or the server's request asks for.
const PROMPT: Duration = Duration::from_millis(100);
/// The longest time between two updates.
const SLOWEST: Duration = Duration::from_secs(10);
/// How long the server may take to accept a status update of a few bytes.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends status updates.
pub(crate) struct Feedback {
    writer: Writer,
    committed: watch::Receiver<Option<Position>>,
    /// Whether `committed` can still change.
    is_open: bool,
    interval: Duration,
    /// When the next update is due at the latest.
    next: Instant,
    /// When one is due because something happened.
    prompt: Option<Instant>,
    last_sent: Instant,
    /// The newest saved position that was read.
    saved: Option<Position>,
    /// The highest confirmed LSN told.
    told: Lsn,
    pulse: Pulse,
}

/// How often the server must hear from us, given its `wal_sender_timeout` (zero: never).
pub(crate) fn interval(wal_sender_timeout: Duration) -> Duration {
    if wal_sender_timeout.is_zero() { SLOWEST } else { (wal_sender_timeout / 3).min(SLOWEST) }
}

impl Feedback {
    /// `confirm` is the saved position that the stream starts from.
    pub(crate) fn new(
        writer: Writer,
        committed: watch::Receiver<Option<Position>>,
        interval: Duration,
        confirm: Lsn,
        pulse: Pulse,
    ) -> Self {
        pulse.told(confirm);
        let now = Instant::now();
        Self {
            writer,
            committed,
            is_open: true,
            interval,
            next: now,
            prompt: None,
            last_sent: now.checked_sub(PROMPT).unwrap_or(now),
            saved: None,
            told: confirm,
            pulse,
        }
    }

    /// The highest LSN that was confirmed to the server.
    pub(crate) fn told(&self) -> Lsn {
        self.told
    }

    /// How long ago the last update went out.
    pub(crate) fn since_last(&self) -> Duration {
        self.last_sent.elapsed()
    }

    /// The server wants an update: at once, unless one has only just gone out.
    pub(crate) fn asked(&mut self) {
        let at = self.last_sent + PROMPT;
        self.prompt = Some(self.prompt.map_or(at, |prompt| prompt.min(at)));
    }

    /// Waits until an update is due; cancel-safe.
    pub(crate) async fn due(&mut self) {
        loop {
            let at = self.prompt.map_or(self.next, |prompt| prompt.min(self.next));
            tokio::select! {
                biased;
                () = sleep_until(at) => return,
                changed = self.committed.changed(), if self.is_open && self.prompt.is_none() => {
                    match changed {
                        Ok(()) => self.prompt = Some(self.last_sent + PROMPT),
                        Err(_) => self.is_open = false,
                    }
                }
            }
        }
    }

    /// Sends an update. `received` is the newest LSN seen; `ask` wants an answer, as proof of life.
    ///
    /// # Errors
    /// Transient where the connection is gone; fatal where the saved position cannot be read.
    pub(crate) async fn send(&mut self, received: Lsn, ask: bool) -> Result<()> {
        self.read_saved()?;
        let now = Instant::now();
        self.last_sent = now;
        self.next = now + self.interval;
        self.prompt = None;
        let written = received.max(self.told).0;
        let sending = self.writer.send_status(written, self.told.0, self.told.0, ask);
        match tokio::time::timeout(SEND_TIMEOUT, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(Error::transient(
                Origin::Source,
                codes::SILENCE,
                "the server does not accept status updates",
            )),
        }
    }

    fn read_saved(&mut self) -> Result<()> {
        let saved = self.committed.borrow_and_update().clone();
        if saved.is_some() && saved != self.saved {
            if let Some(position) = &saved {
                self.told = self.told.max(PgPosition::parse(position)?.confirm);
                self.pulse.told(self.told);
            }
            self.saved = saved;
        }
        Ok(())
    }

    /// The connection's sending half, after the last update.
    pub(crate) fn into_writer(self) -> Writer {
        self.writer
    }
}
