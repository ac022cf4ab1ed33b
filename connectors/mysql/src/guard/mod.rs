//! Beside the stream: how long the server keeps the log that is needed, and what of the server keeps
//! changes out of the log. What cannot be seen is said, and the stream goes on; only a log that was begun anew
//! ends a run: the server goes on waiting for the place where its log was, and sends nothing.

mod retention;
mod runway;
mod times;

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rowtide_sdk::{Code, Error, Finding, Position, Reporter, Result, TableFilter};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

pub(crate) use self::retention::kept;
pub(crate) use self::runway::{Kept, View};
pub(crate) use self::times::FileTimes;
use crate::codes;
use crate::config::{ConnectOptions, captures};
use crate::error::from_sql;
use crate::position::MyPosition;
use crate::preflight::{cascades, holes};
use crate::server::Server;
use crate::wire::{SqlConn, sql_conn};

/// How often the server's log is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// So long a look may take.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// How often a danger that lasts is named.
const WARN_EVERY: Duration = Duration::from_secs(3600);

/// Looks at a server while a stream runs.
pub(crate) struct Guard {
    pub(crate) options: ConnectOptions,
    pub(crate) server: Server,
    pub(crate) filter: TableFilter,
    /// The newest saved position.
    pub(crate) committed: watch::Receiver<Option<Position>>,
    pub(crate) times: FileTimes,
    pub(crate) report: Reporter,
    /// The shortest runway that is fine.
    pub(crate) threshold: Duration,
    /// Whether an earlier run said what keeps changes out of the log.
    pub(crate) has_advised: bool,
}

/// A guard at work.
pub(crate) struct Watch {
    guard: Guard,
    conn: Option<SqlConn>,
    /// Whether the stream had time to read on from where it began.
    has_read: bool,
    warned: Option<(Code, Instant)>,
    /// What kept it from looking last.
    look_error: Option<String>,
}

impl Guard {
    pub(crate) fn watch(self) -> Watch {
        Watch { guard: self, conn: None, has_read: false, warned: None, look_error: None }
    }
}

impl Watch {
    /// Looks, for as long as it is asked to. Gives `RT2702` once the log ends before the saved position.
    pub(crate) async fn run(&mut self) -> Error {
        loop {
            if let Err(anew) = self.looked().await {
                return anew;
            }
            sleep(LOOK_EVERY).await;
            self.has_read = true;
        }
    }

    /// Ends its connection.
    pub(crate) async fn close(self) {
        if let Some(conn) = self.conn {
            conn.close().await;
        }
    }

    async fn looked(&mut self) -> Result<()> {
        let error = match timeout(LOOK_MAX, Box::pin(self.look())).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) if error.code() == codes::FOREIGN_HISTORY => return Err(error),
            Ok(Err(error)) => Some((error.code(), error.to_string())),
            Err(_) => Some((codes::SILENCE, "the server does not answer in time".to_owned())),
        };
        let text = error.as_ref().map(|(_, text)| text.clone());
        if let Some((code, error)) = error
            && self.look_error != text
        {
            tracing::warn!(%code, error, "the server's log cannot be watched");
        }
        self.look_error = text;
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        // A look that fails or is cut short leaves the connection behind.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => sql_conn(&self.guard.options).await?,
        };
        self.guard.server.renew(&mut conn).await?;
        if !std::mem::replace(&mut self.guard.has_advised, true) {
            self.advise(&mut conn).await?;
        }
        let view = self.view(&mut conn).await?;
        if let Some(view) = view {
            self.warn(&view);
            self.guard.report.facts(view.facts());
        }
        self.conn = Some(conn);
        Ok(())
    }

    /// Says once what keeps changes out of the log.
    async fn advise(&self, conn: &mut Conn) -> Result<()> {
        let captures = captures(self.guard.filter.clone(), self.guard.server.name_case());
        let mut findings = holes(conn, &self.guard.server).await?;
        findings.extend(cascades(conn, &captures).await?);
        for finding in findings {
            said(&finding);
        }
        Ok(())
    }

    async fn view(&self, conn: &mut Conn) -> Result<Option<View>> {
        let Guard { server, committed, times, .. } = &self.guard;
        let position = committed.borrow().clone();
        let Some(position) = position else { return Ok(None) };
        let position = MyPosition::parse(&position)?;
        let read_until = |file: &str| {
            // A file may have been made long before its end.
            let knows_made = self.has_read && file == position.file && position.history.created > 0;
            times.of(file).max(knows_made.then_some(position.history.created))
        };
        view(conn, server, &position, read_until).await
    }

    /// Names a danger when it comes, and now and then while it lasts.
    fn warn(&mut self, view: &View) {
        let Some(finding) = view.risk(self.guard.threshold) else {
            if self.warned.take().is_some() {
                tracing::info!(file = view.file, "the log that is needed is out of danger");
            }
            return;
        };
        let is_due =
            |(code, at): (Code, Instant)| code != finding.code || at.elapsed() >= WARN_EVERY;
        if self.warned.is_none_or(is_due) {
            self.warned = Some((finding.code, Instant::now()));
            said(&finding);
        }
    }
}

/// The server's log as it is for a position; `None` where that names no file of it: one of the server
/// that this one took the place of, one that is gone and not needed, or none yet. `read_until` tells when
/// the newest event that was read of a file was written.
///
/// # Errors
/// `RT2702` where the log ends before the position; where the server cannot be asked.
pub(crate) async fn view(
    conn: &mut Conn,
    server: &Server,
    position: &MyPosition,
    read_until: impl Fn(&str) -> Option<u32>,
) -> Result<Option<View>> {
    if position.history.server != server.identity() || position.file.is_empty() {
        return Ok(None);
    }
    let doing = "asking for the time";
    let now: std::result::Result<Option<u64>, _> =
        conn.query_first("SELECT UNIX_TIMESTAMP()").await;
    let now = now.map_err(|error| from_sql(error, doing))?.unwrap_or_default();
    let (file, pos) = position.needed();
    let files = server.files(conn).await?;
    server.has_place(&files, position)?;
    if !files.iter().any(|(name, _)| name == file) && server.does_without(position)? {
        return Ok(None);
    }
    Ok(Some(View {
        files,
        file: file.to_owned(),
        pos,
        read_until: read_until(file).map(u64::from),
        now,
        kept: kept(conn, server).await?,
        limit: server.log_limit(),
    }))
}

fn said(finding: &Finding) {
    let remedy = finding.remedy.as_deref().unwrap_or_default();
    let place = finding.place.as_deref().unwrap_or_default();
    tracing::warn!(code = finding.code.0, place, remedy, "{}", finding.message);
}
