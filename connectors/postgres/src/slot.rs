//! The replication slot: found, verified against the saved position, created.

use std::time::{Duration, Instant};

use rowtide_sdk::{Error, Origin, Result};
use serde::Deserialize;
use tokio::time::sleep;

use crate::config::ConnectOptions;
use crate::error::codes as refusals;
use crate::lsn::Lsn;
use crate::position::PgPosition;
use crate::server::Server;
use crate::sql::{Sql, json_rows, literal, unexpected};
use crate::stream::codes;
use crate::wire::sql_client;

/// How long a slot's creation may take without a word.
const TOLD_AFTER: Duration = Duration::from_secs(5);

const END_THEM: &str = "end these transactions, or wait; creation is tried again";
const MARK_IT: &str = "on the primary: SELECT pg_log_standby_snapshot(); creation is tried again";

/// A row of `pg_replication_slots`; columns that the server's version lacks are absent.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Slot {
    pub(crate) slot_name: String,
    pub(crate) plugin: Option<String>,
    pub(crate) database: Option<String>,
    #[serde(default)]
    pub(crate) temporary: bool,
    #[serde(default)]
    pub(crate) two_phase: bool,
    pub(crate) active_pid: Option<i64>,
    pub(crate) restart_lsn: Option<Lsn>,
    pub(crate) confirmed_flush_lsn: Option<Lsn>,
    pub(crate) wal_status: Option<String>,
    pub(crate) safe_wal_size: Option<i64>,
    pub(crate) invalidation_reason: Option<String>,
    pub(crate) conflicting: Option<bool>,
    pub(crate) failover: Option<bool>,
    pub(crate) synced: Option<bool>,
}

/// The slot of this name.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn find(sql: &mut impl Sql, name: &str) -> Result<Option<Slot>> {
    let statement = format!(
        "SELECT to_jsonb(s) FROM pg_replication_slots s WHERE slot_name = {}",
        literal(name)
    );
    Ok(json_rows(sql, &statement, "looking for the replication slot").await?.pop())
}

impl Slot {
    /// What makes the slot useless for us, whatever the position.
    ///
    /// # Errors
    /// Fatal: `RT2205` for another plugin, database or kind, `RT2120` for an invalidated slot.
    pub(crate) fn check_kind(&self, server: &Server) -> Result<()> {
        let name = &self.slot_name;
        let mut wrong = Vec::from_iter(self.foreign_to(&server.database));
        if self.temporary {
            wrong.push("it is temporary".to_owned());
        }
        if self.two_phase {
            wrong.push("it has two_phase, which changes what is sent".to_owned());
        }
        // On a primary the mark is only what a promoted standby has left of it.
        if self.synced == Some(true) && server.in_recovery {
            wrong.push(
                "it is synchronized from the primary, and can be read here once this standby is \
                 promoted"
                    .to_owned(),
            );
        }
        if !wrong.is_empty() {
            let message = format!("the slot \"{name}\" cannot be used: {}", wrong.join("; "));
            return Err(Error::fatal(Origin::Source, codes::SLOT_UNSUITABLE, message)
                .with_remedy("choose another `slot`, or drop this one if nothing needs it"));
        }
        self.check_valid(server.in_recovery)
    }

    /// Why it cannot be one of ours in this database.
    fn foreign_to(&self, database: &str) -> Option<String> {
        match (&self.plugin, &self.database) {
            (None, _) => Some("it is a physical slot".to_owned()),
            (Some(plugin), _) if plugin != "pgoutput" => {
                Some(format!("its plugin is {plugin}, not pgoutput"))
            }
            (_, Some(other)) if other != database => {
                Some(format!("it belongs to database \"{other}\", not \"{database}\""))
            }
            _ => None,
        }
    }

    /// Refuses to drop one that cannot be ours without being told its name.
    ///
    /// # Errors
    /// `RT2205`, fatal.
    pub(crate) fn check_ours(&self, database: &str) -> Result<()> {
        let Some(why) = self.foreign_to(database) else { return Ok(()) };
        let name = &self.slot_name;
        let message =
            format!("the slot \"{name}\" is not this connector's, and was not dropped: {why}");
        Err(Error::fatal(Origin::Source, codes::SLOT_UNSUITABLE, message).with_remedy(format!(
            "choose another `slot` for this connector; to drop this one all the same, name it: `rowtide \
             slot drop --connector NAME --slot {name}`"
        )))
    }

    fn check_valid(&self, in_recovery: bool) -> Result<()> {
        let reason = match (&self.invalidation_reason, self.conflicting) {
            (Some(reason), _) => Some(reason.as_str()),
            // Version 16 marks every invalidated slot so and gives no reason.
            (None, Some(true)) if in_recovery => Some("conflicting"),
            (None, Some(true)) => Some("wal_removed"),
            _ if self.wal_status.as_deref() == Some("lost") => Some("wal_removed"),
            _ => None,
        };
        let Some(reason) = reason else { return Ok(()) };
        let (words, prevention) = invalidation(reason);
        let message = format!(
            "the slot \"{}\" was invalidated by the server: {words} ({reason})",
            self.slot_name
        );
        let remedy = format!(
            "what it still needed is gone: drop it (`rowtide slot drop --connector NAME`) and start \
             over from a new one, knowing that changes in between are lost; so that it does not happen again: \
             {prevention}"
        );
        Err(Error::fatal(Origin::Source, refusals::SLOT_INVALIDATED, message).with_remedy(remedy))
    }

    /// The LSN up to which the slot was confirmed.
    ///
    /// # Errors
    /// Fatal where the slot has none.
    pub(crate) fn confirmed(&self) -> Result<Lsn> {
        self.confirmed_flush_lsn.ok_or_else(|| unexpected("reading the slot's confirmed LSN"))
    }

    /// Refuses a slot that was advanced past our position.
    ///
    /// # Errors
    /// `RT2203`, fatal, naming both LSNs.
    pub(crate) fn check_position(&self, position: &PgPosition) -> Result<()> {
        let confirmed = self.confirmed()?;
        if confirmed <= position.confirm {
            return Ok(());
        }
        let message = format!(
            "the slot \"{}\" is confirmed up to LSN {confirmed}, past the saved position at LSN {}: \
             changes between them cannot be read any more",
            self.slot_name, position.confirm
        );
        Err(Error::fatal(Origin::Source, codes::SLOT_AHEAD, message).with_remedy(
            "something else read from the slot, advanced it or created it again; if the gap is \
             acceptable, run `rowtide position adopt --connector NAME`",
        ))
    }

    /// Reports a slot that somebody reads from. The server gives a slot to one connection at a time
    /// and takes it back when that ends, so whoever waits takes over.
    ///
    /// # Errors
    /// `RT2118`, transient, naming the process and, where they can be asked for, its application,
    /// address and age; `RT2206` where the process is still creating the slot.
    pub(crate) async fn check_free(&self, sql: &mut impl Sql) -> Result<()> {
        let Some(pid) = self.active_pid else { return Ok(()) };
        if self.confirmed_flush_lsn.is_none() {
            let blockers = blockers(sql).await.unwrap_or_default();
            return Err(under_way(&self.slot_name, pid, &named(&blockers)));
        }
        let statement = format!(
            "SELECT format('application \"%s\", from %s, since %s', application_name, \
                 coalesce(host(client_addr), 'a unix socket'), \
                 date_trunc('second', backend_start)) \
             FROM pg_stat_activity WHERE pid = {pid} AND backend_start IS NOT NULL"
        );
        // Not every role may see another's sessions; the number alone says enough then.
        let rows = sql.rows(&statement, "looking for the slot's reader").await.unwrap_or_default();
        Err(in_use(&self.slot_name, pid, rows.into_iter().flatten().flatten().next().as_deref()))
    }
}

/// Why a slot is useless, in words, and what prevents it; by `invalidation_reason`.
fn invalidation(reason: &str) -> (&'static str, &'static str) {
    match reason {
        "wal_removed" => (
            "it fell behind further than max_slot_wal_keep_size",
            "raise max_slot_wal_keep_size, or set it to -1",
        ),
        "idle_timeout" => (
            "nobody read it for longer than idle_replication_slot_timeout",
            "raise idle_replication_slot_timeout above the longest stop of this connector",
        ),
        "rows_removed" => (
            "the primary has removed rows of the catalog that it needs",
            "set hot_standby_feedback = on at the standby, and let it stream from the primary by a \
             physical slot",
        ),
        "wal_level_insufficient" => {
            ("the primary's wal_level was below logical", "keep wal_level = logical at the primary")
        }
        _ => ("it conflicts with recovery", "set hot_standby_feedback = on at the standby"),
    }
}

fn in_use(name: &str, pid: i64, who: Option<&str>) -> Error {
    let who = who.map(|who| format!(" ({who})")).unwrap_or_default();
    Error::transient(
        Origin::Source,
        refusals::SLOT_IN_USE,
        format!(
            "the slot \"{name}\" is read by server process {pid}{who}, and serves one at a time"
        ),
    )
    .with_remedy(
        "if that process is a connection of ours that died, the server ends it within \
         wal_sender_timeout; if it is another Rowtide or another program, stop one of the two or \
         give this one its own `slot`",
    )
}

/// Whether a slot is created so that a standby may take it over: where the server knows such.
pub(crate) fn is_for_failover(server: &Server) -> bool {
    server.major() >= 17 && !server.in_recovery
}

/// The SQL by which an operator creates the slot as [`create`] does.
pub(crate) fn creation(name: &str, is_for_failover: bool) -> String {
    let failover = if is_for_failover { ", false, false, true" } else { "" };
    format!("SELECT pg_create_logical_replication_slot({}, 'pgoutput'{failover})", literal(name))
}

/// A saved position without its slot.
pub(crate) fn gone(name: &str, position: &PgPosition, server: &Server) -> Error {
    let PgPosition { confirm, slot, .. } = position;
    let message = format!(
        "there is a saved position at LSN {confirm}, but the slot \"{name}\" does not exist"
    );
    if slot != name {
        let message = format!("{message}; the position is of the slot \"{slot}\"");
        let remedy = format!(
            "change `slot` back to {slot}: nothing is lost then; a slot of another name that is left \
             keeps log without end (`rowtide slot list`)"
        );
        return Error::fatal(Origin::Source, codes::SLOT_GONE, message).with_remedy(remedy);
    }
    Error::fatal(Origin::Source, codes::SLOT_GONE, message).with_remedy(format!(
        "a new slot would silently miss every change since then; if that is acceptable, create it \
         ({}) and run `rowtide position adopt --connector NAME`",
        creation(name, is_for_failover(server))
    ))
}

/// Creates the slot; the LSN from which it has every change. `patience` is how long it may wait for
/// transactions that were open before.
///
/// # Errors
/// `RT2206`, transient, naming the transactions that it would have to wait for; whatever the server
/// refuses.
pub(crate) async fn create(
    sql: &mut impl Sql,
    name: &str,
    server: &Server,
    patience: Duration,
) -> Result<Lsn> {
    const DOING: &str = "creating the replication slot";
    let timeout = format!("SET statement_timeout = {}", patience.as_millis());
    sql.rows(&timeout, DOING).await?;
    let failover = if is_for_failover(server) { ", false, true" } else { "" };
    let statement = format!(
        "SELECT lsn FROM pg_create_logical_replication_slot({}, 'pgoutput', false{failover})",
        literal(name)
    );
    let started = Instant::now();
    let created = sql.rows(&statement, DOING).await;
    let timed_out = started.elapsed() >= patience;
    sql.rows("SET statement_timeout = 0", DOING).await?;
    match created {
        Ok(mut rows) => rows
            .pop()
            .and_then(|row| row.into_iter().next().flatten()?.parse().ok())
            .ok_or_else(|| unexpected(DOING)),
        Err(error) => match blockers(sql).await {
            _ if timed_out && server.in_recovery => {
                Err(unmarked(name, patience).with_source(error))
            }
            Ok(blockers) if timed_out => {
                Err(blocked(name, patience, &named(&blockers)).with_source(error))
            }
            _ => Err(error),
        },
    }
}

/// Says once, after a while, what the creation of a slot waits for.
pub(crate) async fn tell_of_wait(
    options: &ConnectOptions,
    name: &str,
    server: &Server,
    patience: Duration,
) {
    sleep(TOLD_AFTER).await;
    let what = match server.in_recovery {
        true => {
            "the primary to log its running transactions, and the transactions among them to end"
                .to_owned()
        }
        false => {
            // Only tells: where the server cannot be asked, the creation itself says why.
            let blockers = match sql_client(options).await {
                Ok(client) => blockers(&mut &*client).await.unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            format!(
                "every transaction that was open before to end, the oldest first: {}",
                named(&blockers)
            )
        }
    };
    tracing::warn!(
        code = codes::SLOT_BLOCKED.0,
        slot = name,
        waits_for = what,
        given_up_after_s = patience.as_secs(),
        remedy = if server.in_recovery { MARK_IT } else { END_THEM },
        "the server is still creating the replication slot"
    );
}

fn named(blockers: &[Blocker]) -> String {
    match blockers.is_empty() {
        true => "none are visible any more".to_owned(),
        false => blockers.iter().map(|one| one.words.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// A slot that a process has begun to create, for another connector or for one of ours that died.
fn under_way(name: &str, pid: i64, blockers: &str) -> Error {
    Error::transient(
        Origin::Source,
        codes::SLOT_BLOCKED,
        format!(
            "server process {pid} is still creating the slot \"{name}\": it waits for every \
             transaction that was open before, in any database of the server: {blockers}"
        ),
    )
    .with_remedy(format!(
        "{END_THEM}; where nobody waits for that process any more, SELECT pg_cancel_backend({pid})"
    ))
}

fn blocked(name: &str, patience: Duration, blockers: &str) -> Error {
    Error::transient(
        Origin::Source,
        codes::SLOT_BLOCKED,
        format!(
            "the slot \"{name}\" could not be created in {} s: it waits for every transaction that \
             was open before, in any database of the server: {blockers}",
            patience.as_secs()
        ),
    )
    .with_remedy(END_THEM)
}

/// On a standby a slot begins at a record of the primary's running transactions, which an idle
/// primary does not write.
fn unmarked(name: &str, patience: Duration) -> Error {
    Error::transient(
        Origin::Source,
        codes::SLOT_BLOCKED,
        format!(
            "the slot \"{name}\" could not be created on this standby in {} s: it waits for the \
             primary to log its running transactions, and for the transactions among them to end",
            patience.as_secs()
        ),
    )
    .with_remedy(MARK_IT)
}

/// A transaction that holds up a slot's creation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Blocker {
    /// Its number.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) words: String,
}

/// The open transactions that hold up a slot's creation, the oldest first, ten at most. How long they are open is not
/// told to every role.
///
/// # Errors
/// Where the server does not answer.
pub(crate) async fn blockers(sql: &mut impl Sql) -> Result<Vec<Blocker>> {
    let statement = "SELECT jsonb_build_object('id', id::text, 'words', words) FROM (
            SELECT backend_xid AS id,
                format('pid %s (%s%s)', pid, coalesce(application_name, ''), ', open for '
                    || extract(epoch FROM now() - xact_start)::bigint || ' s') AS words
            FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
            UNION ALL
            SELECT transaction, format('prepared transaction in database %s', database)
            FROM pg_prepared_xacts) open
        ORDER BY age(id) DESC LIMIT 10";
    json_rows(sql, statement, "looking for open transactions").await
}

#[cfg(test)]
mod tests {
    use rowtide_sdk::Class;

    use super::*;

    fn server(in_recovery: bool) -> Server {
        serde_json::from_value(serde_json::json!({
            "version": 180_000, "wal_level": "logical", "in_recovery": in_recovery,
            "wal_sender_timeout_ms": 60_000, "max_replication_slots": 10, "max_wal_senders": 10,
            "max_slot_wal_keep_size_mb": -1, "used_slots": 0, "used_wal_senders": 0,
            "hot_standby_feedback": true, "database": "shop", "database_oid": 5
        }))
        .unwrap()
    }

    fn slot() -> Slot {
        Slot {
            slot_name: "s".to_owned(),
            plugin: Some("pgoutput".to_owned()),
            database: Some("shop".to_owned()),
            confirmed_flush_lsn: Some(Lsn(100)),
            ..Slot::default()
        }
    }

    #[test]
    fn a_slot_of_another_kind_is_refused() {
        assert!(slot().check_kind(&server(false)).is_ok());
        let wrong = [
            Slot { plugin: None, ..slot() },
            Slot { plugin: Some("wal2json".to_owned()), ..slot() },
            Slot { database: Some("other".to_owned()), ..slot() },
            Slot { temporary: true, ..slot() },
            Slot { two_phase: true, ..slot() },
        ];
        for slot in wrong {
            let error = slot.check_kind(&server(false)).unwrap_err();
            assert_eq!(error.code(), codes::SLOT_UNSUITABLE);
        }
    }

    /// Hazard 15: what a promoted standby has left of the synchronization does not matter.
    #[test]
    fn a_synchronized_slot_is_read_once_its_standby_is_promoted() {
        let synced = Slot { synced: Some(true), ..slot() };
        let error = synced.check_kind(&server(true)).unwrap_err();
        assert_eq!(error.code(), codes::SLOT_UNSUITABLE);
        assert!(synced.check_kind(&server(false)).is_ok());
    }

    #[test]
    fn an_invalidated_slot_is_refused() {
        let lost = [
            Slot { wal_status: Some("lost".to_owned()), ..slot() },
            Slot { invalidation_reason: Some("idle_timeout".to_owned()), ..slot() },
            Slot { conflicting: Some(true), ..slot() },
        ];
        for slot in lost {
            let error = slot.check_kind(&server(false)).unwrap_err();
            assert_eq!(error.code(), refusals::SLOT_INVALIDATED);
            assert!(!error.remedy().unwrap_or_default().is_empty());
        }
        let extended = Slot { wal_status: Some("extended".to_owned()), ..slot() };
        assert!(extended.check_kind(&server(false)).is_ok());
    }

    #[test]
    fn rows_of_every_version_are_read() {
        let old = r#"{"slot_name":"s","plugin":"pgoutput","slot_type":"logical","datoid":5,
            "database":"shop","temporary":false,"active":true,"active_pid":77,"xmin":null,
            "catalog_xmin":"740","restart_lsn":"0/1","confirmed_flush_lsn":"0/2",
            "wal_status":"reserved","safe_wal_size":null,"two_phase":false}"#;
        let slot: Slot = serde_json::from_str(old).unwrap();
        assert_eq!((slot.confirmed().unwrap(), slot.active_pid), (Lsn(2), Some(77)));
        let error = in_use("s", 77, Some("application \"x\""));
        assert_eq!((error.code(), error.class()), (refusals::SLOT_IN_USE, Class::Transient));
        assert!(error.message().contains("process 77 (application \"x\")"), "{error}");
        // Commands that do not wait say the same.
        assert!(!error.to_string().contains("waiting"), "{error}");
    }
}
