//! What the server is: version, settings, and the history that its LSNs belong to.

use std::time::Duration;

use rowtide_sdk::{Error, Origin, Result};
use serde::Deserialize;

use crate::error::codes as refusals;
use crate::lsn::Lsn;
use crate::position::{History, PgPosition};
use crate::sql::{Sql, json_row};
use crate::stream::codes;
use crate::wire::Identity;

/// The oldest supported major version.
const OLDEST: u32 = 14;

/// Settings and state of a server.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    /// `server_version_num`: 150004.
    pub(crate) version: u32,
    pub(crate) wal_level: String,
    /// Whether it is a standby.
    pub(crate) in_recovery: bool,
    pub(crate) wal_sender_timeout_ms: u64,
    pub(crate) max_replication_slots: u32,
    pub(crate) max_wal_senders: u32,
    /// In megabytes; -1 is without limit.
    pub(crate) max_slot_wal_keep_size_mb: i64,
    /// Whether a standby keeps its primary from removing what its readers need.
    pub(crate) hot_standby_feedback: bool,
    pub(crate) used_slots: u32,
    pub(crate) used_wal_senders: u32,
    pub(crate) database: String,
    pub(crate) database_oid: u32,
}

const SERVER: &str = "SELECT jsonb_build_object(
    'version', current_setting('server_version_num')::int,
    'wal_level', current_setting('wal_level'),
    'in_recovery', pg_is_in_recovery(),
    'wal_sender_timeout_ms', (SELECT setting::bigint FROM pg_settings
        WHERE name = 'wal_sender_timeout'),
    'max_replication_slots', current_setting('max_replication_slots')::int,
    'max_wal_senders', current_setting('max_wal_senders')::int,
    'max_slot_wal_keep_size_mb', (SELECT setting::bigint FROM pg_settings
        WHERE name = 'max_slot_wal_keep_size'),
    'hot_standby_feedback', current_setting('hot_standby_feedback')::bool,
    'used_slots', (SELECT count(*) FROM pg_replication_slots),
    'used_wal_senders', (SELECT count(*) FROM pg_stat_replication),
    'database', current_database(),
    'database_oid', (SELECT oid::bigint FROM pg_database WHERE datname = current_database()))";

/// Why PostgreSQL 14 is not asked to stream.
pub(crate) const NOT_STREAMED_BY_14: &str = "PostgreSQL 14 may send rows of a transaction that it \
    streams without a column that was added meanwhile: transactions are sent after their commit, as \
    with `streaming: off`";

impl Server {
    /// Whether what it sends of a transaction before its end can be relied on. PostgreSQL 14 may send
    /// rows by a description of their table from before another session altered it, where a savepoint
    /// with an ALTER of its own was rolled back.
    pub(crate) fn streams_rightly(&self) -> bool {
        self.major() > 14
    }

    /// Asks the server.
    ///
    /// # Errors
    /// Where it does not answer.
    pub(crate) async fn ask(sql: &mut impl Sql) -> Result<Self> {
        json_row(sql, SERVER, "asking for the server's settings").await
    }

    /// The major version.
    pub(crate) fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// How long the server waits for us before it gives us up; zero is for ever.
    pub(crate) fn wal_sender_timeout(&self) -> Duration {
        Duration::from_millis(self.wal_sender_timeout_ms)
    }

    /// What makes logical replication from this server impossible.
    pub(crate) fn obstacles(&self) -> Vec<Error> {
        let mut obstacles = Vec::new();
        if self.major() < OLDEST {
            obstacles.push(Error::fatal(
                Origin::Source,
                codes::VERSION,
                format!("the server is PostgreSQL {}; {OLDEST} or newer is needed", self.major()),
            ));
        }
        if self.wal_level != "logical" {
            obstacles.push(
                Error::fatal(
                    Origin::Source,
                    refusals::WAL_LEVEL,
                    format!("wal_level is {}, not logical", self.wal_level),
                )
                .with_remedy(
                    "ALTER SYSTEM SET wal_level = 'logical' and restart the server (on Amazon RDS: \
                     rds.logical_replication = 1)",
                ),
            );
        }
        if self.in_recovery && self.major() < 16 {
            obstacles.push(
                Error::fatal(
                    Origin::Source,
                    refusals::READ_ONLY,
                    "the server is a standby, which serves logical replication from version 16 on",
                )
                .with_remedy("connect to the primary"),
            );
        }
        obstacles
    }

    /// Refuses a server on which no slot can be created.
    ///
    /// # Errors
    /// `RT2117`, fatal.
    pub(crate) fn check_slot_room(&self) -> Result<()> {
        if self.used_slots < self.max_replication_slots {
            return Ok(());
        }
        Err(Error::fatal(
            Origin::Source,
            refusals::NO_FREE_SLOT,
            format!("all {} replication slots are taken", self.max_replication_slots),
        )
        .with_remedy(
            "raise max_replication_slots and restart the server, or drop a slot that nobody uses \
             (`rowtide slot list` shows them)",
        ))
    }
}

/// The history that the server's LSNs belong to.
pub(crate) fn history(identity: &Identity, server: &Server) -> History {
    History {
        system: identity.system.clone(),
        timeline: identity.timeline,
        database: identity.database.clone(),
        database_oid: server.database_oid,
    }
}

/// Refuses a position of another history: its LSNs mean nothing here.
///
/// A later timeline of the same system is the same history up to the LSN at which it branched off.
///
/// # Errors
/// `RT2202`, fatal, naming both histories.
pub(crate) async fn check_history(
    sql: &mut impl Sql,
    ours: &PgPosition,
    theirs: &History,
    flushed: &str,
) -> Result<()> {
    let is_same_timeline = History { timeline: theirs.timeline, ..ours.history.clone() } == *theirs;
    if ours.history == *theirs {
        return check_not_ahead(ours.confirm, flushed);
    }
    if is_same_timeline && ours.history.timeline < theirs.timeline {
        let statement = format!("TIMELINE_HISTORY {}", theirs.timeline);
        let rows = sql.rows(&statement, "reading the timeline's history").await?;
        let content = rows.into_iter().flatten().nth(1).flatten().unwrap_or_default();
        let newest = ours.in_tx.map_or(ours.confirm, |in_tx| in_tx.commit.max(ours.confirm));
        if branch_point(&content, ours.history.timeline).is_some_and(|branch| newest <= branch) {
            return check_not_ahead(ours.confirm, flushed);
        }
    }
    Err(Error::fatal(
        Origin::Source,
        codes::FOREIGN_HISTORY,
        format!(
            "the saved position (LSN {}) belongs to {}, but the server is {theirs}",
            ours.confirm, ours.history
        ),
    )
    .with_remedy(
        "connect to the server that the position came from; if this is its restored or promoted \
         successor and missing or repeated changes are acceptable, run `rowtide position adopt \
         --connector NAME`",
    ))
}

/// Refuses a position past the end of the server's log: the server was put back to an earlier state,
/// and what it writes from now on up to that LSN would be taken for what was captured already.
///
/// # Errors
/// `RT2202`, fatal, naming both LSNs.
pub(crate) fn check_not_ahead(position: Lsn, flushed: &str) -> Result<()> {
    let flushed: Lsn = flushed.parse().map_err(|_| {
        crate::error::protocol(format!("IDENTIFY_SYSTEM gave no LSN ({flushed:?})"))
    })?;
    if position <= flushed {
        return Ok(());
    }
    Err(Error::fatal(
        Origin::Source,
        codes::FOREIGN_HISTORY,
        format!(
            "the position is LSN {position}, but the server's log ends at {flushed}: it is in an \
             earlier state than the one the position came from, or the LSN is wrong"
        ),
    )
    .with_remedy(
        "if the server was restored from a backup and missing or repeated changes are acceptable, \
         run `rowtide position adopt --connector NAME`",
    ))
}

/// The LSN at which `timeline` was left, from the text of a timeline history file.
fn branch_point(content: &str, timeline: u32) -> Option<Lsn> {
    content.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_ours = words.next()?.parse() == Ok(timeline);
        is_ours.then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branch_point_is_read_from_the_history_file() {
        let content = "# comment\n1\t0/5000060\tno recovery target specified\n\n2\t0/6000000\tx\n";
        assert_eq!(branch_point(content, 1), Some(Lsn(0x500_0060)));
        assert_eq!(branch_point(content, 2), Some(Lsn(0x600_0000)));
        assert_eq!(branch_point(content, 3), None);
        assert_eq!(branch_point("", 1), None);
    }
}
