//! `rowtide check`: everything that blocks or will hurt, in one pass, without side effects.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rowtide_sdk::{Code, Finding, Position, Preflight, Result, Severity};

use crate::catalog::{Catalog, Scene};
use crate::codes;
use crate::config::{MysqlConfig, captures};
use crate::error::from_sql;
use crate::guard::{Kept, kept as retention, view};
use crate::position::MyPosition;
use crate::server::Server;
use crate::source::{MysqlSource, claimed, resumed};
use crate::trial::{check_seen, tried};
use crate::wire::{BinlogConnection, SqlConn, sql_conn};

pub(crate) use tables::cascades;
use tables::{columns, table_findings, versioned};

mod tables;

const SYSTEM: &str = "server";

fn say(severity: Severity, code: Code, message: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(severity, code, message).with_remedy(remedy)
}

/// The preflight of a source: connects, looks, changes nothing.
pub async fn check(source: &MysqlSource, known: Preflight<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shown = source.shown_by_statements(known.hiding.is_some());
    findings.extend(shown.as_ref().map(Finding::from));
    let spool = source.check_spool(known.name, known.scratch);
    findings.extend(spool.err().as_ref().map(|error| Finding::from(error).at("spool")));
    if let Err(error) = look(source, known, &mut findings).await {
        findings.push(Finding::from(&error));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// The tables that would be captured, as the catalog describes them now.
///
/// # Errors
/// Where the server cannot be asked.
pub async fn tables(source: &MysqlSource) -> Result<Vec<std::sync::Arc<rowtide_sdk::Table>>> {
    let (conn, server, source) = connect(source).await?;
    conn.close().await;
    described(&source, &server).await
}

/// [`tables`], at a server that answers.
pub(crate) async fn described(
    source: &MysqlSource,
    server: &Server,
) -> Result<Vec<std::sync::Arc<rowtide_sdk::Table>>> {
    let mut catalog = catalog(source, server);
    let all = catalog.all(&captured(source, server)).await;
    catalog.close().await;
    all
}

fn captured(source: &MysqlSource, server: &Server) -> impl Fn(&str, &str) -> bool + Send + Sync {
    captures(source.filter.clone(), server.name_case())
}

fn catalog(source: &MysqlSource, server: &Server) -> Catalog {
    let scene = Scene {
        options: source.options.clone(),
        image: server.row_image(),
        is_mariadb: server.is_mariadb(),
        server_id: MysqlConfig::passing_id(),
    };
    Catalog::new(scene, &[])
}

/// Connects, and pins the source to the server that took the login.
pub(crate) async fn connect(source: &MysqlSource) -> Result<(SqlConn, Server, MysqlSource)> {
    let connection = BinlogConnection::connect(&source.options).await?;
    let greeting = connection.greeting().clone();
    connection.close().await;
    let mut source = source.clone();
    source.options = source.options.at(&greeting.target, greeting.address);
    let mut conn = sql_conn(&source.options).await?;
    let server = Server::ask(&mut conn, &greeting).await?;
    Ok((conn, server, source))
}

/// Adds findings; an error is what keeps it from looking at anything further.
async fn look(
    source: &MysqlSource,
    known: Preflight<'_>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let (mut conn, server, source) = connect(source).await?;
    let looked = Box::pin(look_at(&mut conn, &server, &source, known, findings)).await;
    conn.close().await;
    looked
}

/// The same, at a server that answers.
async fn look_at(
    conn: &mut Conn,
    server: &Server,
    source: &MysqlSource,
    known: Preflight<'_>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let obstacles = server.obstacles();
    findings.extend(obstacles.iter().map(|error| Finding::from(error).at(SYSTEM)));
    findings.extend(settings(server));
    if source.config.statement_bytes > 0 && server.logs_no_statements() {
        let message = "the server logs no statements beside rows (binlog_rows_query_log_events is off), so that \
            `statement_bytes` has nothing to put on events";
        let remedy =
            "SET GLOBAL binlog_rows_query_log_events = ON, and in the server's configuration";
        findings.push(say(Severity::Info, codes::SERVER_SETTING, message, remedy).at(SYSTEM));
    }
    match grants(conn).await {
        Ok(found) => findings.extend(rights(&found, source)),
        Err(error) => findings.push(Finding::from(&error)),
    }
    // Who may not see the log is told so below.
    findings.extend(holes(conn, server).await.unwrap_or_default());
    findings.extend(kept(retention(conn, server).await?));
    findings.extend(positions(server));
    if obstacles.is_empty() {
        let end = server.log_end(conn).await;
        findings.extend(end.err().as_ref().map(|error| Finding::from(error).at(SYSTEM)));
    }
    let id = source.config.server_id_for(known.name);
    if server.setting("server_id") == id.to_string() {
        let message = format!(
            "`server_id` is {id}, which is the server's own: after a failover, when it replicates from the one \
             that took its place, it and the connector end each other's streams"
        );
        let remedy = "leave `server_id` out, or choose one that no server of the replication has";
        findings
            .push(say(Severity::Warning, codes::SERVER_SETTING, message, remedy).at("server_id"));
    }
    let claimed = known.claims.claim(&claimed(server, id));
    findings.extend(claimed.err().as_ref().map(Finding::from));
    if let Some(position) = known.resume {
        findings.extend(resumes(conn, server, source, position).await);
    }
    if known.is_first_start {
        findings.extend(lost_prepared(conn).await);
    }
    let captures = captured(source, server);
    findings.extend(table_findings(conn, source, server, known.keys).await?);
    findings.extend(cascades(conn, &captures).await?);
    if server.is_mariadb() {
        findings.extend(columns(conn, &captures).await?);
        findings.extend(versioned(conn, &captures).await?);
    }
    Ok(())
}

/// Whether a run could go on from the saved position, and for how long yet.
pub(crate) async fn resumes(
    conn: &mut Conn,
    server: &Server,
    source: &MysqlSource,
    position: &Position,
) -> Vec<Finding> {
    let position = MyPosition::parse(position);
    let fits = position.and_then(|position| resumed(position, server, &source.shape()));
    let (position, passed) = match fits {
        Ok(fits) => fits,
        Err(error) => return vec![Finding::from(&error)],
    };
    let created = position.history.created;
    let read_until = |file: &str| (file == position.file && created > 0).then_some(created);
    // Who may not see the log lacks a right, which is told.
    let Ok(files) = server.files(conn).await else { return Vec::new() };
    let id = MysqlConfig::passing_id();
    if let Err(error) = Box::pin(check_seen(source, id, &files, &position)).await {
        return vec![Finding::from(&error)];
    }
    if let Err(error) = Box::pin(tried(source, server, &files, &position, &passed, false)).await {
        return vec![Finding::from(&error)];
    }
    match view(conn, server, &position, read_until).await {
        // By GTIDs a server that has all transactions does without the file.
        Ok(Some(view)) if view.needed().is_some() => {
            let threshold = Duration::from_secs(source.config.runway_warning_seconds.into());
            view.risk(threshold).map(|finding| finding.at(SYSTEM)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What filters keep out of the log, or off this server (M-8). A session that sets `sql_log_bin=0` leaves no
/// sign.
///
/// # Errors
/// Where the server cannot be asked.
pub(crate) async fn holes(conn: &mut Conn, server: &Server) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut add = |message: String, remedy: &str| {
        findings.push(say(Severity::Warning, codes::SERVER_SETTING, message, remedy).at(SYSTEM));
    };
    let status = server.status(conn).await?;
    for (at, name) in [(2, "binlog_do_db"), (3, "binlog_ignore_db")] {
        let databases: Option<String> = status.as_ref().and_then(|row| row.get(at));
        if let Some(databases) = databases.filter(|databases| !databases.is_empty()) {
            let what = if at == 2 { "only these databases are" } else { "these databases are not" };
            add(
                format!(
                    "{name} is {databases}: {what} in the log, and nothing of the others arrives"
                ),
                "take the setting out of the server's configuration, or exclude what it leaves out from `tables`",
            );
        }
    }
    let replicated = server.replicated(conn).await?;
    if !replicated.is_empty() && !server.logs_what_it_replicates() {
        add(
            "the server is a replica, and log_replica_updates is off: what it replicates is not in its log, and \
             nothing of it arrives"
                .to_owned(),
            "turn it on (log_slave_updates on MariaDB), or point `url` at the primary",
        );
    }
    for row in replicated {
        let filters: Vec<&str> = FILTERS
            .into_iter()
            .filter(|name| text(&row, name).is_some_and(|value| !value.is_empty()))
            .collect();
        if !filters.is_empty() {
            add(
                format!(
                    "the server replicates with {}: what they leave out is not in its log, and does not arrive",
                    filters.join(", ")
                ),
                "point `url` at the server that it replicates from, or exclude what is left out from `tables`",
            );
        }
    }
    Ok(findings)
}

/// The columns of a replica's status that leave something out.
const FILTERS: [&str; 6] = [
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
];

fn text(row: &mysql_async::Row, name: &str) -> Option<String> {
    row.get_opt::<Option<String>, _>(name)?.ok()?
}

/// Settings that work and will surprise.
pub(crate) fn settings(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, message: String, remedy: &str| {
        findings.push(say(severity, codes::SERVER_SETTING, message, remedy).at(SYSTEM));
    };
    let image = server.setting("binlog_row_image");
    if !image.is_empty() && !image.eq_ignore_ascii_case("FULL") {
        add(
            Severity::Warning,
            format!(
                "binlog_row_image is {image}: events lack old values and columns that did not change, and new \
                 rows whose statement left columns out cannot be delivered (RT2802)"
            ),
            "SET GLOBAL binlog_row_image = 'FULL', and in the server's configuration",
        );
    }
    if !server.has_full_metadata() {
        let value = server.setting("binlog_row_metadata");
        add(
            Severity::Warning,
            format!(
                "binlog_row_metadata is {value}: names of columns come from the catalog, and the connector \
                 stops where a table was altered before its rows were read (RT2801)"
            ),
            "SET GLOBAL binlog_row_metadata = 'FULL', and in the server's configuration",
        );
    }
    let rows = server.setting("binlog_row_value_options");
    let is_full = image.is_empty() || image.eq_ignore_ascii_case("FULL");
    if rows.eq_ignore_ascii_case("PARTIAL_JSON") && !is_full {
        add(
            Severity::Warning,
            format!(
                "binlog_row_value_options is PARTIAL_JSON and binlog_row_image is {image}: changes to a document \
                 come without the one before, and cannot be delivered (RT2802)"
            ),
            "SET GLOBAL binlog_row_image = 'FULL', or binlog_row_value_options = '', and in the server's \
             configuration",
        );
    } else if rows.eq_ignore_ascii_case("PARTIAL_JSON") {
        let message = "binlog_row_value_options is PARTIAL_JSON: documents are put together here from the \
             old ones, which costs time";
        add(Severity::Info, message.to_owned(), "");
    }
    if !server.logs_what_it_replicates() {
        add(
            Severity::Info,
            "log_replica_updates is off: where this server becomes a replica, what it replicates is not in its \
             log and nothing of it arrives"
                .to_owned(),
            "",
        );
    }
    let mode = server.setting("lower_case_table_names");
    if mode == "2" {
        add(
            Severity::Warning,
            "lower_case_table_names is 2: names of databases and tables are taken in lower case, in `tables` too"
                .to_owned(),
            "write patterns in lower case; only macOS has this setting, and no server of production should",
        );
    }
    findings.extend(memory(server));
    findings
}

/// What takes memory here beyond the ceiling.
fn memory(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |message: String, remedy: &str| {
        findings.push(say(Severity::Warning, codes::SERVER_SETTING, message, remedy).at(SYSTEM));
    };
    let mib = server.row_event() >> 20;
    if mib > 0 {
        add(
            format!(
                "binlog_row_event_max_size is {mib} MiB: events of so many rows are taken in whole, which takes \
                 that much memory beyond `memory`"
            ),
            "start the server with a smaller binlog_row_event_max_size; 8192 is the default",
        );
    }
    let level = server.setting("binlog_transaction_compression_level_zstd");
    if let Some(window) = zstd_window_mib(level) {
        add(
            format!(
                "binlog_transaction_compression_level_zstd is {level}: unpacking its transactions takes {window} MiB \
                 beyond `memory`"
            ),
            "SET GLOBAL binlog_transaction_compression_level_zstd = 19 or less, and in the server's configuration",
        );
    }
    findings
}

/// How much of what was unpacked last zstd looks back at, where that is much: in MiB, by level.
fn zstd_window_mib(level: &str) -> Option<u32> {
    match level.parse() {
        Ok(20) => Some(32),
        Ok(21) => Some(64),
        Ok(22) => Some(128),
        _ => None,
    }
}

/// How long the log is kept.
fn kept(kept: Kept) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, message: String, remedy: &str| {
        findings.push(say(severity, codes::SERVER_SETTING, message, remedy).at(SYSTEM));
    };
    let day = 86_400;
    match kept {
        Kept::Always => add(
            Severity::Info,
            "the server keeps its log files until somebody purges them (binlog_expire_logs_seconds is 0)"
                .to_owned(),
            "",
        ),
        Kept::For(seconds) if seconds < day => add(
            Severity::Warning,
            format!(
                "the server throws log files away after {seconds} s: a connector that stands still for longer loses its place"
            ),
            "SET GLOBAL binlog_expire_logs_seconds = 604800, and in the server's configuration",
        ),
        Kept::ByRds(seconds) if seconds < day => add(
            Severity::Warning,
            format!(
                "RDS throws log files away after {} hours: a connector that stands still for longer loses its place",
                seconds / 3600
            ),
            "CALL mysql.rds_set_configuration('binlog retention hours', 168)",
        ),
        Kept::For(_) | Kept::ByRds(_) => {}
        Kept::Unknown => add(
            Severity::Warning,
            "how long RDS keeps its log is not known, and no forecast is made".to_owned(),
            "GRANT SELECT ON mysql.rds_configuration TO the user in `url`, and CALL mysql.rds_show_configuration",
        ),
    }
    findings
}

/// What positions are.
fn positions(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !server.is_mariadb() && !server.has_gtids() {
        let mode = server.setting("gtid_mode");
        let message = format!(
            "gtid_mode is {mode}: positions are files and offsets, good on this server alone"
        );
        findings.push(say(Severity::Info, codes::SERVER_SETTING, message, "").at(SYSTEM));
    }
    findings
}

/// What the user may, as the server prints it.
async fn grants(conn: &mut Conn) -> Result<Vec<String>> {
    let rows: std::result::Result<Vec<String>, _> = conn.query("SHOW GRANTS").await;
    rows.map_err(|error| from_sql(error, "asking for the user's rights"))
}

/// Whether a right on everything is among the grants.
fn has(grants: &[String], names: &[&str]) -> bool {
    grants.iter().any(|grant| {
        let upper = grant.to_uppercase();
        let Some((rights, of)) = upper.split_once(" ON ") else { return false };
        of.starts_with("*.*")
            && (rights.contains("ALL PRIVILEGES") || names.iter().any(|name| rights.contains(name)))
    })
}

fn rights(grants: &[String], source: &MysqlSource) -> Vec<Finding> {
    let place = format!("user {}", source.options.user);
    let mut findings = Vec::new();
    // MariaDB has them under new names too.
    let wanted: [(&[&str], &str); 2] = [
        (&["REPLICATION SLAVE", "REPLICATION REPLICA"], "REPLICATION SLAVE"),
        (&["REPLICATION CLIENT", "BINLOG MONITOR", "SUPER"], "REPLICATION CLIENT"),
    ];
    for (names, name) in wanted {
        if !has(grants, names) {
            let message = format!("the user may not read the binlog: it lacks {name}");
            let remedy = "as an administrator: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user \
                 in `url`";
            findings.push(say(Severity::Error, codes::RIGHT, message, remedy).at(place.clone()));
        }
    }
    if has(grants, &["SUPER", "ALL PRIVILEGES"]) {
        let message = "the user may do everything, which is more than is needed";
        let remedy = "`rowtide check --print-sql` prints what is";
        findings.push(say(Severity::Info, codes::RIGHT, message, remedy).at(place));
    }
    findings
}

/// How many XA transactions are prepared; `None` where the user may not see it, which is a right of its own.
pub(crate) async fn prepared(conn: &mut Conn) -> Option<usize> {
    let rows: std::result::Result<Vec<mysql_async::Row>, _> = conn.query("XA RECOVER").await;
    rows.ok().map(|rows| rows.len())
}

/// XA transactions whose changes are in the log already, and would not be delivered (M-31).
async fn lost_prepared(conn: &mut Conn) -> Option<Finding> {
    let count = prepared(conn).await.filter(|count| *count > 0)?;
    let message = format!(
        "{count} XA transactions are prepared: their changes are before a first start and would not be delivered \
         when they commit"
    );
    let remedy = "end them before the first start (XA RECOVER)";
    Some(say(Severity::Warning, codes::XA_UNKNOWN, message, remedy).at(SYSTEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_grants() {
        let grants = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let some = grants(&["GRANT SELECT, REPLICATION SLAVE ON *.* TO `u`@`%`"]);
        assert!(has(&some, &["REPLICATION SLAVE"]) && !has(&some, &["REPLICATION CLIENT"]));
        assert!(has(&grants(&["GRANT ALL PRIVILEGES ON *.* TO `u`@`%`"]), &["REPLICATION SLAVE"]));
        assert!(!has(&grants(&["GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`"]), &["SUPER"]));
    }
}
