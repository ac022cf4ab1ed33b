//! What the server says of itself: its settings, and where its log stands.

use std::collections::HashMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use rowtide_sdk::{Error, Origin, Result};

use crate::codes;
use crate::error::from_sql;
use crate::gtid::mariadb::GtidPosition;
use crate::gtid::mysql::GtidSet;
use crate::position::MyPosition;
use crate::stream::{Passed, Place};
use crate::table::RowImage;
use crate::wire::{Flavor, Greeting};

/// The settings that are asked for; each server has some of them.
const VARIABLES: [&str; 21] = [
    "binlog_checksum",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_event_max_size",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_transaction_compression_level_zstd",
    "expire_logs_days",
    "gtid_executed",
    "gtid_mode",
    "gtid_purged",
    "log_bin",
    "log_bin_compress",
    "log_replica_updates",
    "log_slave_updates",
    "lower_case_table_names",
    "max_allowed_packet",
    "server_id",
    "server_uuid",
    "read_only",
];

/// A server's settings.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) flavor: Flavor,
    pub(crate) version: String,
    pub(crate) numbers: (u16, u16, u16),
    variables: HashMap<String, String>,
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEnd {
    pub(crate) file: String,
    pub(crate) pos: u64,
    /// The transactions before it.
    pub(crate) passed: Passed,
}

fn unexpected(what: &str) -> Error {
    let message = format!("the server's answer about {what} is not understood");
    Error::fatal(Origin::Source, codes::SERVER_SETTING, message).with_remedy(
        "check that `url` names a MySQL or MariaDB server itself; report it with its version",
    )
}

impl Server {
    /// Asks for the settings.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn ask(conn: &mut Conn, greeting: &Greeting) -> Result<Self> {
        let names = VARIABLES.map(|name| format!("'{name}'")).join(",");
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
        let rows: Vec<(String, String)> =
            conn.query(sql).await.map_err(|error| from_sql(error, "asking for settings"))?;
        Ok(Self {
            flavor: greeting.flavor,
            version: greeting.version.clone(),
            numbers: greeting.numbers,
            variables: rows.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect(),
        })
    }

    /// A setting; empty where the server does not have it.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.setting(name).to_ascii_uppercase().as_str(), "ON" | "1")
    }

    pub(crate) fn is_mariadb(&self) -> bool {
        self.flavor == Flavor::MariaDb
    }

    /// What tells this server's files from another's.
    pub(crate) fn identity(&self) -> String {
        let uuid = self.setting("server_uuid");
        if uuid.is_empty() { self.setting("server_id").to_owned() } else { uuid.to_owned() }
    }

    /// Whether every transaction has a GTID.
    pub(crate) fn has_gtids(&self) -> bool {
        self.is_mariadb() || self.setting("gtid_mode").eq_ignore_ascii_case("ON")
    }

    /// What is logged of rows.
    pub(crate) fn row_image(&self) -> RowImage {
        match self.setting("binlog_row_image").to_ascii_uppercase().as_str() {
            "MINIMAL" | "NOBLOB" => RowImage::Partial,
            _ => RowImage::Full,
        }
    }

    /// Up to so many bytes the server puts several rows into one event.
    pub(crate) fn row_event(&self) -> usize {
        self.setting("binlog_row_event_max_size").parse().unwrap_or_default()
    }

    /// Whether the log describes tables whole.
    pub(crate) fn has_full_metadata(&self) -> bool {
        self.setting("binlog_row_metadata").eq_ignore_ascii_case("FULL")
    }

    /// MySQL: the transactions that it has.
    ///
    /// # Errors
    /// Where its answer is not understood.
    pub(crate) fn executed(&self) -> Result<GtidSet> {
        self.setting("gtid_executed").parse().map_err(|_| unexpected("gtid_executed"))
    }

    /// MySQL: the transactions that its log does not have any more.
    ///
    /// # Errors
    /// Where its answer is not understood.
    pub(crate) fn purged(&self) -> Result<GtidSet> {
        self.setting("gtid_purged").parse().map_err(|_| unexpected("gtid_purged"))
    }

    /// What keeps the source from working with this server, the worst first.
    pub(crate) fn obstacles(&self) -> Vec<Error> {
        let refused = |message: &str, remedy: &str| {
            Error::fatal(Origin::Source, codes::SERVER_SETTING, message.to_owned())
                .with_remedy(remedy.to_owned())
        };
        let mut obstacles = Vec::new();
        if !self.is_on("log_bin") {
            obstacles.push(refused(
                "the server writes no binlog (log_bin is off)",
                "start it with log_bin and a server_id; on managed services, turn automated backups on",
            ));
        }
        let format = self.setting("binlog_format");
        if !format.is_empty() && !format.eq_ignore_ascii_case("ROW") {
            obstacles.push(refused(
                &format!("binlog_format is {format}: changes are logged as statements, without the rows"),
                "SET GLOBAL binlog_format = 'ROW' (and in the server's configuration), then end the sessions that are open",
            ));
        }
        obstacles
    }

    /// Whether the server has the file of a position of its own, which is known by more than its name and
    /// where it can start; not where it was thrown away since.
    ///
    /// # Errors
    /// Fatal `RT2702` where the log ends before the position: it was reset. And where the server cannot be
    /// asked.
    pub(crate) async fn has_place(&self, conn: &mut Conn, position: &MyPosition) -> Result<bool> {
        if position.history.created == 0 {
            return Ok(false);
        }
        let rows: Vec<Row> = conn
            .query("SHOW BINARY LOGS")
            .await
            .map_err(|error| from_sql(error, "asking for the binlog files"))?;
        let files: Option<Vec<(String, u64)>> =
            rows.iter().map(|row| Some((row.get(0)?, row.get(1)?))).collect();
        let files = files.ok_or_else(|| unexpected("its binlog files"))?;
        let place = Place { file: position.file.clone(), pos: position.pos };
        let Some((file, size)) = files.last() else { return Ok(false) };
        let end = Place { file: file.clone(), pos: *size };
        let own = files.iter().find(|(file, _)| *file == place.file);
        if !place.is_at_most(&end) || own.is_some_and(|(_, size)| *size < place.pos) {
            let Place { file, pos } = place;
            let message = format!(
                "the server's log ends before {file}:{pos}, where the saved position is: it was reset, or it \
                 is another server's"
            );
            return Err(Error::fatal(Origin::Source, codes::FOREIGN_HISTORY, message).with_remedy(
                "point `url` at the server that the position is of; or bring the target in step with the \
                 tables, and set a position in the new log with `rowtide position set --connector NAME --at PLACE`",
            ));
        }
        let can_start = !self.is_mariadb() || u32::try_from(place.pos).is_ok();
        Ok(own.is_some() && can_start)
    }

    /// MariaDB: the transactions before a place in its log.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn gtids_at(&self, conn: &mut Conn, file: &str, pos: u64) -> Result<Passed> {
        let doing = "asking for the GTIDs before a place in the binlog";
        let text: Option<Option<String>> = conn
            .exec_first("SELECT BINLOG_GTID_POS(?, ?)", (file, pos))
            .await
            .map_err(|error| from_sql(error, doing))?;
        let text = text.flatten().ok_or_else(|| unexpected("BINLOG_GTID_POS"))?;
        let position: GtidPosition = text.parse().map_err(|_| unexpected("BINLOG_GTID_POS"))?;
        Ok(Passed::Mariadb(position))
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// Where the server cannot be asked or writes no log.
    pub(crate) async fn log_end(&self, conn: &mut Conn) -> Result<LogEnd> {
        let is_new = !self.is_mariadb() && self.numbers >= (8, 2, 0);
        let sql = if is_new { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" };
        let doing = "asking where the binlog ends";
        let row: Option<Row> =
            conn.query_first(sql).await.map_err(|error| from_sql(error, doing))?;
        let row = row.ok_or_else(|| unexpected("its binlog"))?;
        let file: String = row.get(0).ok_or_else(|| unexpected("its binlog's file"))?;
        let pos: u64 = row.get(1).ok_or_else(|| unexpected("its binlog's position"))?;
        let passed = if self.is_mariadb() {
            self.gtids_at(conn, &file, pos).await?
        } else if self.has_gtids() {
            let text: String = row.get(4).ok_or_else(|| unexpected("its executed GTIDs"))?;
            Passed::Mysql(text.parse().map_err(|_| unexpected("its executed GTIDs"))?)
        } else {
            Passed::Files
        };
        Ok(LogEnd { file, pos, passed })
    }
}
