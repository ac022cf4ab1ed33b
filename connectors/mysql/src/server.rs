//! What the server says of itself: its settings, and where its log stands.

use std::collections::HashMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use rowtide_sdk::{Error, Origin, Result};

use crate::codes;
use crate::config::NameCase;
use crate::error::{from_sql, is_refusal};
use crate::gtid::mariadb::{GtidPosition, GtidState};
use crate::gtid::mysql::GtidSet;
use crate::position::{MyPosition, another_log};
use crate::stream::{Passed, Place};
use crate::table::RowImage;
use crate::wire::{Flavor, Greeting};

/// The settings that are asked for; each server has some of them.
const VARIABLES: [&str; 24] = [
    "basedir",
    "binlog_checksum",
    "binlog_expire_logs_auto_purge",
    "binlog_expire_logs_seconds",
    "binlog_format",
    "binlog_row_event_max_size",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "binlog_rows_query_log_events",
    "binlog_transaction_compression_level_zstd",
    "binlog_space_limit",
    "expire_logs_days",
    "gtid_mode",
    "log_bin",
    "log_bin_compress",
    "log_replica_updates",
    "log_slave_updates",
    "lower_case_table_names",
    "max_allowed_packet",
    "max_binlog_total_size",
    "server_id",
    "server_uuid",
    "read_only",
];

/// Sets of GTIDs, of which SHOW VARIABLES gives the beginning alone: MySQL's, and MariaDB's.
const GTID_SETS: [&str; 2] = ["gtid_executed", "gtid_purged"];
const GTID_STATES: [&str; 2] = ["gtid_binlog_state", "gtid_binlog_pos"];

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
        let mut server = Self {
            flavor: greeting.flavor,
            version: greeting.version.clone(),
            numbers: greeting.numbers,
            variables: HashMap::new(),
        };
        server.renew(conn).await?;
        Ok(server)
    }

    /// Asks for the settings again.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn renew(&mut self, conn: &mut Conn) -> Result<()> {
        let names = VARIABLES.map(|name| format!("'{name}'")).join(",");
        let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
        let rows: Vec<(String, String)> =
            conn.query(sql).await.map_err(|error| from_sql(error, "asking for settings"))?;
        self.variables =
            rows.into_iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        let sets = if self.is_mariadb() { GTID_STATES.as_slice() } else { GTID_SETS.as_slice() };
        for name in sets {
            let value: Option<Option<String>> = conn
                .query_first(format!("SELECT @@GLOBAL.{name}"))
                .await
                .map_err(|error| from_sql(error, "asking for GTIDs"))?;
            self.variables.insert((*name).to_owned(), value.flatten().unwrap_or_default());
        }
        Ok(())
    }

    /// A MySQL with these settings.
    #[cfg(test)]
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            flavor: Flavor::MySql,
            version: "9.7.0".to_owned(),
            numbers: (9, 7, 0),
            variables: settings.iter().map(own).collect(),
        }
    }

    /// Whether it is Amazon's, which keeps its log by a setting of its own.
    pub(crate) fn is_rds(&self) -> bool {
        self.setting("basedir").contains("rdsdbbin")
    }

    /// The bytes of log that are kept at most: MariaDB from 11.4 on and Percona's server.
    pub(crate) fn log_limit(&self) -> Option<u64> {
        let limits = ["max_binlog_total_size", "binlog_space_limit"];
        let limit = limits.iter().find_map(|name| self.setting(name).parse().ok());
        limit.filter(|limit| *limit > 0)
    }

    /// The files of the log, the oldest first, with their lengths.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn files(&self, conn: &mut Conn) -> Result<Vec<(String, u64)>> {
        let rows: Vec<Row> = conn
            .query("SHOW BINARY LOGS")
            .await
            .map_err(|error| from_sql(error, "asking for the binlog files"))?;
        let files: Option<Vec<(String, u64)>> =
            rows.iter().map(|row| Some((row.get(0)?, row.get(1)?))).collect();
        files.ok_or_else(|| unexpected("its binlog files"))
    }

    /// A setting; empty where the server does not have it.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    fn is_on(&self, name: &str) -> bool {
        matches!(self.setting(name).to_ascii_uppercase().as_str(), "ON" | "1")
    }

    /// Whether the log has no statements beside rows, unless a session asks for it. MariaDB has a setting
    /// of its own, which is on.
    pub(crate) fn logs_no_statements(&self) -> bool {
        !self.is_mariadb() && !self.is_on("binlog_rows_query_log_events")
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

    /// What it does with the case of names.
    pub(crate) fn name_case(&self) -> NameCase {
        match self.setting("lower_case_table_names") {
            "1" => NameCase::Lower,
            "2" => NameCase::Compared,
            _ => NameCase::Kept,
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

    /// MariaDB: the transactions that its log has held.
    ///
    /// # Errors
    /// Where its answer is not understood.
    pub(crate) fn state(&self) -> Result<GtidState> {
        self.setting("gtid_binlog_state").parse().map_err(|_| unexpected("gtid_binlog_state"))
    }

    /// Whether its log lacks nothing that a position by GTIDs needs, although the position's file is gone. It
    /// is said of MariaDB only where the position is the log's end.
    ///
    /// # Errors
    /// Where its answer is not understood.
    pub(crate) fn does_without(&self, position: &MyPosition) -> Result<bool> {
        let Some(passed) = position.gtids.as_deref().filter(|_| position.pending.is_empty()) else {
            return Ok(false);
        };
        if self.is_mariadb() {
            let end = self.setting("gtid_binlog_pos").parse::<GtidPosition>();
            return Ok(end.is_ok() && end == passed.parse());
        }
        let purged = self.purged()?;
        Ok(passed.parse::<GtidSet>().is_ok_and(|passed| passed.holds_all(&purged)))
    }

    /// Whether what it replicates is in its own log.
    pub(crate) fn logs_what_it_replicates(&self) -> bool {
        let settings = ["log_replica_updates", "log_slave_updates"];
        !settings.iter().any(|name| self.setting(name).eq_ignore_ascii_case("OFF"))
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
    /// Fatal `RT2702` where the log ends before the position: it was reset.
    pub(crate) fn has_place(&self, files: &[(String, u64)], position: &MyPosition) -> Result<bool> {
        if position.history.created == 0 {
            return Ok(false);
        }
        let place = Place { file: position.file.clone(), pos: position.pos };
        let Some((file, size)) = files.last() else { return Ok(false) };
        let end = Place { file: file.clone(), pos: *size };
        let own = files.iter().find(|(file, _)| *file == place.file);
        if !place.is_at_most(&end) || own.is_some_and(|(_, size)| *size < place.pos) {
            let Place { file, pos } = place;
            return Err(another_log(format!(
                "the server's log ends before {file}:{pos}, where the saved position is: it was reset, or it \
                 is another server's"
            )));
        }
        Ok(own.is_some() && self.can_start(place.pos))
    }

    /// Whether the server can send its log from an offset on: MariaDB is asked with 32 bits.
    pub(crate) fn can_start(&self, pos: u64) -> bool {
        !self.is_mariadb() || u32::try_from(pos).is_ok()
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

    /// What asks for the state of the log (M-12).
    fn status_statement(&self) -> &'static str {
        let is_new = !self.is_mariadb() && self.numbers >= (8, 2, 0);
        if is_new { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
    }

    /// What asks what the server replicates itself, and from where.
    fn replica_statement(&self) -> &'static str {
        match (self.is_mariadb(), self.numbers >= (8, 0, 22)) {
            (true, _) => "SHOW ALL SLAVES STATUS",
            (false, true) => "SHOW REPLICA STATUS",
            (false, false) => "SHOW SLAVE STATUS",
        }
    }

    /// The state of the log, as the server shows it.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn status(&self, conn: &mut Conn) -> Result<Option<Row>> {
        let doing = "asking where the binlog ends";
        conn.query_first(self.status_statement()).await.map_err(|error| from_sql(error, doing))
    }

    /// What the server replicates itself, as it shows it; nothing where the user may not see it.
    ///
    /// # Errors
    /// Where the server cannot be asked.
    pub(crate) async fn replicated(&self, conn: &mut Conn) -> Result<Vec<Row>> {
        match conn.query(self.replica_statement()).await {
            Ok(rows) => Ok(rows),
            Err(error) if is_refusal(&error) => Ok(Vec::new()),
            Err(error) => Err(from_sql(error, "asking what the server replicates")),
        }
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// Where the server cannot be asked or writes no log.
    pub(crate) async fn log_end(&self, conn: &mut Conn) -> Result<LogEnd> {
        let row = self.status(conn).await?.ok_or_else(|| unexpected("its binlog"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m10_a_file_that_is_gone_may_not_be_needed() {
        let position = |gtids: &str| {
            let text = format!(
                r#"{{"file":"b.1","pos":4,"gtids":"{gtids}","history":{{"server":"1","created":7}},"shape":""}}"#
            );
            MyPosition::parse(&rowtide_sdk::Position::new(text)).unwrap()
        };
        let source = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mysql = Server::with(&[("gtid_purged", &format!("{source}:1-7"))]);
        assert!(mysql.does_without(&position(&format!("{source}:1-9"))).unwrap());
        assert!(!mysql.does_without(&position(&format!("{source}:1-6"))).unwrap());
        let without = MyPosition { gtids: None, ..position("") };
        assert!(!mysql.does_without(&without).unwrap());
        let server = Server::with(&[("gtid_binlog_pos", "5-1-3,0-1-7")]);
        let mariadb = Server { flavor: Flavor::MariaDb, ..server };
        assert!(mariadb.does_without(&position("0-1-7,5-1-3")).unwrap());
        assert!(!mariadb.does_without(&position("0-1-6,5-1-3")).unwrap());
    }

    #[test]
    fn m12_statements_are_those_that_the_server_has() {
        let of = |flavor, numbers| {
            let server = Server { flavor, numbers, ..Server::with(&[]) };
            [server.status_statement(), server.replica_statement()]
        };
        let old = ["SHOW MASTER STATUS", "SHOW SLAVE STATUS"];
        let between = ["SHOW MASTER STATUS", "SHOW REPLICA STATUS"];
        let new = ["SHOW BINARY LOG STATUS", "SHOW REPLICA STATUS"];
        assert_eq!(of(Flavor::MySql, (8, 0, 21)), old);
        assert_eq!(of(Flavor::MySql, (8, 0, 45)), between);
        for numbers in [(8, 2, 0), (8, 4, 6), (9, 7, 4)] {
            assert_eq!(of(Flavor::MySql, numbers), new);
        }
        let mariadb = ["SHOW MASTER STATUS", "SHOW ALL SLAVES STATUS"];
        for numbers in [(10, 5, 0), (12, 3, 1)] {
            assert_eq!(of(Flavor::MariaDb, numbers), mariadb);
        }
    }
}
