//! The guard: watches the slot and the publication beside the running stream, over one SQL connection
//! of its own.
//!
//! At every look it reports how much log the server keeps for the slot and how long that can go on,
//! warns where it cannot, and writes a heartbeat where the log grows and nothing confirms it: a
//! transactional logical message under [`HEARTBEAT_PREFIX`]. Whether or not messages are asked of the
//! server, what confirms the log is the end of the transaction that holds it, which reaches the stream
//! as an empty transaction or a keepalive. Now and then it brings the publication in step with the
//! tables.
//!
//! The stream is whole without it: what goes wrong here is logged and tried again.

mod facts;
mod runway;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rowtide_sdk::{Code, Error, Finding, Note, Origin, Reporter, Result, Severity};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::facts::VIEW;
pub(crate) use self::facts::View;
use self::runway::{Forecast, Runway};
use crate::config::Heartbeat;
use crate::error::codes as refusals;
use crate::family::{Family, note_all};
use crate::lsn::Lsn;
use crate::position::{History, Renderer};
use crate::publication::{self, Imprint};
use crate::server::{self, Server};
use crate::source::PostgresSource;
use crate::sql::{Sql, json_rows, literal};
use crate::stream::{Pulse, codes};
use crate::wire::{ReplicationConnection, SqlClient, sql_client};

/// The prefix of heartbeats; logical messages under it are never events.
pub(crate) const HEARTBEAT_PREFIX: &str = "rowtide.heartbeat";

/// How often the slot is looked at where no heartbeat is wanted.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long the server may take to answer before the connection is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a danger that lasts is named again.
const WARN_EVERY: Duration = Duration::from_secs(300);
/// Log kept for the slot up to this is nobody's concern: a segment.
const KEPT_MIN: u64 = 16 << 20;
/// Log that the server writes by itself after a heartbeat does not call for the next one.
const GROWTH_MIN: u64 = 64 << 10;

/// What outlives a run of the source.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    runway: Runway,
    heartbeats: u64,
    /// Whether it was said that the role may not write heartbeats.
    has_refused: bool,
    /// Whether a value came in binary that could not be put into text.
    is_text_only: bool,
    /// Whether the server could not decode a transaction before its end.
    is_unstreamed: bool,
}

impl Memory {
    fn with<T>(&self, with: impl FnOnce(&mut Remembered) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on values are sent as text.
    pub(crate) fn set_text_only(&self) {
        self.with(|memory| memory.is_text_only = true);
    }

    /// From now on transactions are sent after their end.
    pub(crate) fn set_unstreamed(&self) {
        self.with(|memory| memory.is_unstreamed = true);
    }

    /// Whether transactions are to be sent after their end.
    pub(crate) fn is_unstreamed(&self) -> bool {
        self.with(|memory| memory.is_unstreamed)
    }

    /// Whether values are to be sent as text.
    pub(crate) fn is_text_only(&self) -> bool {
        self.with(|memory| memory.is_text_only)
    }
}

/// Selects a [`View`] of every slot.
pub(crate) fn select_views() -> String {
    format!("SELECT {VIEW} FROM pg_replication_slots s")
}

/// The slot and the end of the log now.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn view(sql: &mut impl Sql, slot: &str) -> Result<Option<View>> {
    let statement = format!("{} WHERE slot_name = {}", select_views(), literal(slot));
    Ok(json_rows(sql, &statement, "looking at the slot").await?.pop())
}

/// What there is to say about the slot of a source before a run, as far as one look tells.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn advice(
    sql: &mut impl Sql,
    source: &PostgresSource,
    server: &Server,
) -> Result<Vec<Finding>> {
    let mut advice = Vec::new();
    if server.in_recovery && !server.hot_standby_feedback {
        let message = "hot_standby_feedback is off: the primary may remove rows of the catalog that the slot on \
             this standby needs, which invalidates it";
        let finding = Finding::new(Severity::Warning, codes::SERVER_SETTING, message);
        advice.push(finding.at("setting hot_standby_feedback").with_remedy(
            "on the standby: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf()",
        ));
    }
    let name = &source.config.slot;
    let Some(view) = view(sql, name).await? else { return Ok(advice) };
    advice.extend(view.risk(Forecast::default(), source.config.runway_warning.0));
    if view.slot.failover == Some(false) && !server.in_recovery {
        let message = format!(
            "the slot \"{name}\" was created without failover: after a failover to a standby it is gone"
        );
        let finding = Finding::new(Severity::Info, codes::SERVER_SETTING, message);
        advice.push(finding.at(format!("slot {name}")).with_remedy(format!(
            "where standbys synchronize slots, in a replication connection while nothing reads it: \
             ALTER_REPLICATION_SLOT {name} (FAILOVER true)"
        )));
    }
    Ok(advice)
}

/// What the decision about a heartbeat needs of a look.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    wal_end: Lsn,
    confirmed: Lsn,
    retained: u64,
}

/// Whether a heartbeat would let the slot move. `base` is what was kept for the slot when the last
/// heartbeat was written.
fn is_needed(now: Seen, before: Seen, base: u64) -> bool {
    let is_stuck = now.confirmed == before.confirmed && now.wal_end > now.confirmed;
    let is_growing = now.retained > KEPT_MIN && now.retained > base.saturating_add(GROWTH_MIN);
    now.wal_end > before.wal_end && (is_stuck || is_growing)
}

/// What is wrong with the publication that makes changes go missing.
const ENDS: [Code; 2] = [refusals::PUBLICATION_MISSING, codes::OPERATIONS_MISSING];

/// Watches one run of a source.
pub(crate) struct Guard {
    /// With the options of the server that the stream reads from.
    pub(crate) source: PostgresSource,
    /// How the publication stood at the last look.
    pub(crate) imprint: Option<Imprint>,
    /// Where the next run finds that.
    pub(crate) note: Note,
    /// What the start found about the publication, and reported.
    pub(crate) found: Vec<Finding>,
    /// How the stream stands.
    pub(crate) pulse: Pulse,
    /// Where to report.
    pub(crate) report: Reporter,
    /// The history that the stream's positions name.
    pub(crate) history: History,
    /// Whether the server is a standby.
    pub(crate) in_recovery: bool,
    /// Renders positions of another timeline, when the server goes on on one.
    pub(crate) renderer: watch::Sender<Option<Renderer>>,
    /// Looks after hidden columns, where settings hide any.
    pub(crate) hidden: Option<Family>,
}

impl Guard {
    /// Watches until something ends the stream: the publication is gone or leaves out operations, so
    /// that changes are being lost.
    pub(crate) async fn run(self) -> Error {
        let mut watch = Watch::new(self);
        let mut looks = interval(watch.look_every());
        let mut reconciles = interval(watch.guard.source.reconcile_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        reconciles.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The start has just done it.
        reconciles.tick().await;
        loop {
            let ended = tokio::select! {
                _ = looks.tick() => watch.looked().await,
                _ = reconciles.tick() => watch.reconciled().await,
            };
            if let Err(error) = ended {
                return error;
            }
        }
    }
}

/// The guard at work.
struct Watch {
    guard: Guard,
    client: Option<SqlClient>,
    before: Option<Seen>,
    /// What was kept for the slot when the last heartbeat was written.
    base: u64,
    warned: Option<(Code, Instant)>,
    /// What was said last about looking, and about a publication that could not be looked at or
    /// changed, to be said once.
    look_error: Option<String>,
    reconciled: Option<String>,
}

impl Watch {
    fn new(guard: Guard) -> Self {
        Self {
            guard,
            client: None,
            before: None,
            base: 0,
            warned: None,
            look_error: None,
            reconciled: None,
        }
    }

    fn look_every(&self) -> Duration {
        match self.guard.source.config.heartbeat {
            Heartbeat::Every(every) => every.interval.0,
            Heartbeat::Off(_) => LOOK_EVERY,
        }
    }

    /// An SQL connection to the server of the stream: the one at hand, or a new one.
    async fn client(&mut self) -> Result<SqlClient> {
        if let Some(client) = self.client.take().filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        let client = sql_client(&self.guard.source.options).await?;
        // No heartbeat waits for a synchronous standby.
        let mut sql = &*client;
        sql.rows("SET synchronous_commit = local", "preparing to watch the slot").await?;
        Ok(client)
    }

    async fn looked(&mut self) -> Result<()> {
        let outcome = in_time(self.look()).await;
        let said = match outcome {
            Ok(()) => None,
            Err(error) => {
                if error.code() == refusals::NO_CONNECTIONS {
                    self.guard.pulse.server_stops();
                }
                let text = error.to_string();
                if self.look_error.as_ref() != Some(&text) {
                    tracing::warn!(code = %error.code(), %error, "the slot cannot be watched");
                }
                Some(text)
            }
        };
        self.look_error = said;
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        let client = self.client().await?;
        let mut sql = &*client;
        let Some(view) = view(&mut sql, &self.guard.source.config.slot).await? else {
            self.client = Some(client);
            return Ok(());
        };
        let forecast = self.remember(|memory| {
            let safe = view.slot.safe_wal_size;
            memory.runway.note(std::time::Instant::now(), view.wal_end, safe);
            memory.runway.forecast()
        });
        self.warn(&view, forecast);
        let now = Seen {
            wal_end: view.wal_end,
            confirmed: self.guard.pulse.confirmed(),
            retained: view.retained().unwrap_or_default(),
        };
        let before = self.before.replace(now);
        if let Some(before) = before
            && is_needed(now, before, self.base)
        {
            self.heartbeat(&client, &view, now).await?;
        }
        if view.in_recovery || self.guard.in_recovery {
            self.follow_timeline(&view).await?;
        }
        let heartbeats = self.remember(|memory| memory.heartbeats);
        self.guard.report.facts(view.facts(forecast, heartbeats));
        self.client = Some(client);
        Ok(())
    }

    fn remember<T>(&self, with: impl FnOnce(&mut Remembered) -> T) -> T {
        self.guard.source.memory.with(with)
    }

    /// Names a danger when it comes, when it becomes another one, and now and then while it lasts.
    fn warn(&mut self, view: &View, forecast: Forecast) {
        let threshold = self.guard.source.config.runway_warning.0;
        let Some(finding) = view.risk(forecast, threshold) else {
            if self.warned.take().is_some() {
                tracing::info!(slot = view.slot.slot_name, "the slot is out of danger");
            }
            return;
        };
        let is_due =
            |(code, at): (Code, Instant)| code != finding.code || at.elapsed() >= WARN_EVERY;
        if self.warned.is_none_or(is_due) {
            self.warned = Some((finding.code, Instant::now()));
            tracing::warn!(
                code = finding.code.0,
                retained_bytes = view.retained(),
                safe_bytes = view.slot.safe_wal_size,
                runway_s = forecast.left.map(f64::round),
                remedy = finding.remedy.as_deref().unwrap_or_default(),
                "{}",
                finding.message
            );
        }
    }

    /// Writes a heartbeat where that is possible and nothing is in flight: what is in flight will
    /// confirm the log by itself, or cannot be helped by this.
    async fn heartbeat(&mut self, client: &SqlClient, view: &View, now: Seen) -> Result<()> {
        let is_wanted = matches!(self.guard.source.config.heartbeat, Heartbeat::Every(_));
        let may = !view.in_recovery && !self.remember(|memory| memory.has_refused);
        if !is_wanted || !may || !self.guard.pulse.is_idle() {
            return Ok(());
        }
        let mut sql = client as &tokio_postgres::Client;
        let statement = format!("SELECT pg_logical_emit_message(true, '{HEARTBEAT_PREFIX}', '')");
        match sql.rows(&statement, "writing a heartbeat").await {
            Ok(_) => {
                self.base = now.retained;
                self.remember(|memory| memory.heartbeats = memory.heartbeats.saturating_add(1));
                tracing::debug!(confirmed = %now.confirmed, log_end = %now.wal_end, "heartbeat");
                Ok(())
            }
            Err(error) if error.code() == refusals::PERMISSION => {
                self.remember(|memory| memory.has_refused = true);
                tracing::warn!(
                    code = codes::NO_HEARTBEAT.0,
                    remedy = "GRANT EXECUTE ON FUNCTION pg_logical_emit_message to the role, or set \
                              `heartbeat: off`",
                    "the role may not write heartbeats: the slot moves by keepalives alone"
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// A standby may be promoted, or follow a primary that was. What it has sent is what it has
    /// replayed, which the new timeline begins with: the stream goes on, and positions name the new
    /// timeline from here on.
    async fn follow_timeline(&mut self, view: &View) -> Result<()> {
        let mut connection = ReplicationConnection::connect(&self.guard.source.options).await?;
        let server = Server::ask(&mut connection).await?;
        let history = server::history(connection.identity(), &server);
        // What the server was before it was identified: one that was promoted in between is asked again.
        self.guard.in_recovery = view.in_recovery;
        if history == self.guard.history {
            return Ok(());
        }
        tracing::warn!(
            code = codes::TIMELINE_FOLLOWED.0,
            is_standby = server.in_recovery,
            "the server went on from timeline {} to {}; positions name the new one from here on",
            self.guard.history.timeline,
            history.timeline
        );
        let source = &self.guard.source;
        let renderer = Renderer::new(&history, &source.config.slot, &source.fingerprint())?;
        self.guard.renderer.send_replace(Some(renderer));
        self.guard.history = history;
        Ok(())
    }

    async fn reconciled(&mut self) -> Result<()> {
        let outcome = match in_time(self.reconcile()).await {
            Ok(findings) => {
                let is_new = |finding: &&Finding| !self.guard.found.contains(finding);
                let new: Vec<Finding> = findings.iter().filter(is_new).cloned().collect();
                // Errors that end the stream came out as such.
                let _ = publication::report(&new);
                self.guard.found = findings;
                None
            }
            Err(error) if ENDS.contains(&error.code()) => {
                return Err(error);
            }
            Err(error) => {
                let text = error.to_string();
                if self.reconciled.as_ref() != Some(&text) {
                    tracing::warn!(%error, "the publication could not be brought in step");
                }
                Some(text)
            }
        };
        self.reconciled = outcome;
        Ok(())
    }

    async fn reconcile(&mut self) -> Result<Vec<Finding>> {
        let client = self.client().await?;
        let mut sql = &*client;
        let server = Server::ask(&mut sql).await?;
        let Guard { source, imprint, note, hidden, .. } = &mut self.guard;
        note_all(hidden.as_ref(), &mut sql, &source.filter).await?;
        let wish = source.wish(&server, true);
        let mut review = publication::look(&mut sql, wish).await?;
        let is_lacking =
            |found: &&Finding| ENDS.contains(&found.code) && found.severity == Severity::Error;
        if let Some(lacking) = review.findings.iter().find(is_lacking) {
            publication::report(std::slice::from_ref(lacking))?;
        }
        if let Some(before) = imprint.as_ref() {
            publication::tell_gaps(&mut sql, before, &review).await?;
        }
        let applied = publication::apply(&mut sql, wish, &mut review, false).await;
        if let Some(now) = review.imprint.take() {
            note.set(now.to_json());
            *imprint = Some(now);
        }
        applied?;
        self.client = Some(client);
        Ok(review.findings)
    }
}

/// Gives a piece of work its time. One that is cut off loses its connection.
async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout(ANSWER_TIMEOUT, Box::pin(work)).await {
        Ok(result) => result,
        Err(_) => Err(Error::transient(
            Origin::Source,
            refusals::CONNECTION_LOST,
            format!("the server gave no answer within {} s", ANSWER_TIMEOUT.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(wal_end: u64, confirmed: u64, retained: u64) -> Seen {
        Seen { wal_end: Lsn(wal_end), confirmed: Lsn(confirmed), retained }
    }

    #[test]
    fn a_heartbeat_needs_a_log_that_grows_and_a_slot_that_does_not_follow() {
        // An idle server is left alone, whatever is kept.
        assert!(!is_needed(seen(100, 90, KEPT_MIN * 9), seen(100, 90, KEPT_MIN * 9), 0));
        // The log is confirmed as it grows.
        assert!(!is_needed(seen(200, 200, 10), seen(100, 100, 10), 0));
        assert!(is_needed(seen(200, 100, 10), seen(150, 100, 10), 0));
        // It is confirmed and kept all the same: more of it each time.
        let (before, now) = (seen(100, 100, KEPT_MIN), seen(200, 200, 2 * KEPT_MIN));
        assert!(is_needed(now, before, 0));
        assert!(!is_needed(now, before, now.retained));
    }
}
