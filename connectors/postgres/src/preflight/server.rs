//! What the preflight says of the server as a whole: settings, encoding, slots and WAL senders.

use rowtide_sdk::{Finding, Result, Severity};
use serde::Deserialize;

use super::{codes, say};
use crate::error::codes as refusals;
use crate::server::Server;
use crate::sql::{Sql, ident, json_row, literal};
use crate::stream::codes as stream;

/// Retained log from which on a slot that nobody reads is worth a warning: 1 GiB.
const MUCH_LOG: i64 = 1 << 30;

/// What else the server says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Surroundings {
    /// The database's encoding.
    encoding: String,
    /// `idle_replication_slot_timeout`, as the server prints it; absent before version 18.
    idle_slot_timeout: Option<String>,
    slots: Vec<OtherSlot>,
}

/// A slot of the server.
#[derive(Debug, Clone, Deserialize)]
struct OtherSlot {
    name: String,
    active: bool,
    /// Bytes of log that it holds back.
    retained: Option<i64>,
}

const SURROUNDINGS: &str = "SELECT jsonb_build_object(
    'encoding', current_setting('server_encoding'),
    'idle_slot_timeout', current_setting('idle_replication_slot_timeout', true),
    'slots', coalesce((SELECT jsonb_agg(jsonb_build_object('name', slot_name, 'active', active,
        'retained', pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_lsn() END, restart_lsn)::int8) ORDER BY slot_name)
        FROM pg_replication_slots), '[]'))";

impl Surroundings {
    /// Asks the server.
    pub(super) async fn ask(sql: &mut impl Sql) -> Result<Self> {
        json_row(sql, SURROUNDINGS, "asking for the server's slots").await
    }

    /// The other slots, in words.
    fn others(&self, ours: &str) -> String {
        let words = |slot: &OtherSlot| {
            let state = if slot.active { "read" } else { "idle" };
            match slot.retained {
                Some(bytes) => format!("{} ({state}, holds back {})", slot.name, megabytes(bytes)),
                None => format!("{} ({state})", slot.name),
            }
        };
        let others: Vec<String> =
            self.slots.iter().filter(|slot| slot.name != ours).map(words).collect();
        others.join(", ")
    }
}

/// Bytes in whole megabytes, as people compare them.
fn megabytes(bytes: i64) -> String {
    format!("{} MB", bytes.max(0) >> 20)
}

/// Slots and WAL senders that are left, with what others hold. `is_there` tells whether the slot
/// exists already.
pub(super) fn slots(
    server: &Server,
    around: &Surroundings,
    ours: &str,
    is_there: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (used, max) = (server.used_slots, server.max_replication_slots);
    let others = around.others(ours);
    if used >= max && !is_there {
        findings.push(
            say(
                Severity::Error,
                refusals::NO_FREE_SLOT,
                format!("all {max} replication slots are taken: {others}"),
                "raise max_replication_slots and restart the server, or drop a slot that nobody \
                 uses: SELECT pg_drop_replication_slot('…')",
            )
            .at("server"),
        );
    } else {
        let held = if others.is_empty() { String::new() } else { format!(": {others}") };
        findings.push(
            say(
                Severity::Info,
                codes::SLOTS,
                format!(
                    "{used} of {max} replication slots exist{held}; {} of {} WAL senders are in use",
                    server.used_wal_senders, server.max_wal_senders
                ),
                "",
            )
            .at("server"),
        );
    }
    if server.used_wal_senders >= server.max_wal_senders {
        findings.push(
            say(
                Severity::Warning,
                refusals::TOO_MANY_CONNECTIONS,
                format!("all {} WAL senders are in use", server.max_wal_senders),
                "raise max_wal_senders and restart the server",
            )
            .at("setting max_wal_senders"),
        );
    }
    let idle = |slot: &&OtherSlot| {
        slot.name != ours && !slot.active && slot.retained.is_some_and(|bytes| bytes >= MUCH_LOG)
    };
    findings.extend(around.slots.iter().filter(idle).map(|slot| {
        let held = megabytes(slot.retained.unwrap_or_default());
        say(
            Severity::Warning,
            codes::SLOTS,
            format!("nobody reads the slot \"{}\", which holds back {held} of log", slot.name),
            &format!(
                "start its reader, or, if nobody needs it: SELECT pg_drop_replication_slot({})",
                literal(&slot.name)
            ),
        )
        .at(format!("slot {}", slot.name))
    }));
    findings
}

/// The server's settings.
pub(super) fn settings(server: &Server, around: &Surroundings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |severity, setting: &str, message: String, remedy: &str| {
        let found = say(severity, stream::SERVER_SETTING, message, remedy);
        findings.push(found.at(format!("setting {setting}")));
    };
    let timeout = server.wal_sender_timeout();
    let mend = "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf()";
    if timeout.is_zero() {
        let message =
            "wal_sender_timeout is 0: the server keeps a slot busy for a client that has died";
        note(Severity::Info, "wal_sender_timeout", message.to_owned(), mend);
    } else if timeout.as_secs() < 2 {
        let message =
            format!("wal_sender_timeout is {} ms, which any pause may exceed", timeout.as_millis());
        note(Severity::Warning, "wal_sender_timeout", message, mend);
    }
    match server.max_slot_wal_keep_size_mb {
        ..0 => note(
            Severity::Info,
            "max_slot_wal_keep_size",
            "max_slot_wal_keep_size is -1: while this connector is stopped or its sink is down, the \
             server keeps log without limit and its disk can fill up"
                .to_owned(),
            "watch the slot's lag, or set max_slot_wal_keep_size, knowing that a slot that exceeds \
             it is lost",
        ),
        limit => note(
            Severity::Info,
            "max_slot_wal_keep_size",
            format!(
                "max_slot_wal_keep_size is {limit} MB: a connector that falls further behind loses \
                 its slot, and with it its place"
            ),
            "make it larger than the log written in the longest stop you expect",
        ),
    }
    if let Some(time) = around.idle_slot_timeout.as_deref().filter(|time| *time != "0") {
        note(
            Severity::Warning,
            "idle_replication_slot_timeout",
            format!(
                "idle_replication_slot_timeout is {time}: a connector that is stopped for longer \
                 loses its slot, and with it its place"
            ),
            "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf(); or make it \
             longer than the longest stop you expect",
        );
    }
    findings
}

/// A database whose text is not UTF-8 (H-63).
pub(super) fn encoding(server: &Server, around: &Surroundings) -> Option<Finding> {
    let (severity, message, remedy) = match around.encoding.as_str() {
        "UTF8" => return None,
        "SQL_ASCII" => (
            Severity::Warning,
            "the database's encoding is SQL_ASCII: the server takes any bytes for text and converts \
             none; a value that is not valid UTF-8 is refused by the event's policy"
                .to_owned(),
            "store UTF-8 alone, or move the data to a database with ENCODING 'UTF8'; see \
             `on_violation` for what happens to a row that cannot be told",
        ),
        other => (
            Severity::Info,
            format!(
                "the database's encoding is {other}: the server converts every text to UTF-8, and \
                 stops the stream at one that has no form in it"
            ),
            "move the data to a database with ENCODING 'UTF8' where such texts may exist",
        ),
    };
    let place = format!("database {}", ident(&server.database));
    Some(say(severity, codes::ENCODING, message, remedy).at(place))
}
