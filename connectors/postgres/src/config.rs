//! The settings of a PostgreSQL source, as written and as validated. Nothing here does I/O (A1).

mod heartbeat;
mod messages;
mod streaming;
mod tables;
mod time;
mod url;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rowtide_sdk::{Code, Finding, Secret, Severity};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::codes;
use crate::stream::codes::STREAMED_MESSAGES;

pub use heartbeat::{Heartbeat, HeartbeatInterval, Off};
pub use messages::{MessageFilter, MessageSelection};
pub use rowtide_net::Roots;
pub use rowtide_spool::{ByteSize, SpoolConfig};
pub use streaming::Streaming;
pub use tables::TableSelection;
pub(crate) use tables::{captures, regex};
pub use time::Time;
pub(crate) use url::describe;
pub use url::{ChannelBinding, ConnectOptions, SessionAttrs, SslMode, Target, TlsOptions};

/// A PostgreSQL database, read by logical replication.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Where the database is: `postgres://user@host:5432/database?sslmode=verify-full`, or
    /// `postgres://user@/database?host=/var/run/postgresql` for a unix socket folder. Several servers
    /// are tried in order: `postgres://user@a:5432,b:5432/database?target_session_attrs=primary`.
    /// Parameters: host, port, user, password, dbname, target_session_attrs (any, read-write,
    /// primary, standby, prefer-standby), sslmode (disable, prefer, require, verify-ca, verify-full),
    /// sslrootcert, sslcert, sslkey, channel_binding, application_name, connect_timeout. Paths of
    /// files are relative to the config file's folder.
    #[schemars(with = "String")]
    pub url: Secret,
    /// The password, where the URL holds none: best as `${file:/run/secrets/pg}` or `${env:NAME}`.
    #[schemars(with = "Option<String>")]
    pub password: Option<Secret>,
    /// The replication slot. Created if missing.
    #[schemars(
        regex(pattern = r"^[a-z0-9_]{1,63}$"),
        extend("patternErrorMessage" = "must be 1 to 63 of the characters a to z, 0 to 9 and _, such as rowtide_shop")
    )]
    pub slot: String,
    /// The publication.
    #[schemars(length(min = 1, max = 63))]
    pub publication: String,
    /// Who looks after the publication.
    #[serde(default)]
    pub publication_management: PublicationManagement,
    /// The operations that the publication must send. It is created with them, and what it lacks of
    /// them is mended or refused. What it sends beyond them is captured all the same.
    #[serde(default = "Operation::all")]
    #[schemars(length(min = 1))]
    pub publication_operations: BTreeSet<Operation>,
    /// Which tables are captured.
    #[serde(default)]
    pub tables: TableSelection,
    /// How connections name themselves in `pg_stat_activity`.
    #[serde(default = "default_application_name")]
    #[schemars(length(min = 1, max = 63))]
    pub application_name: String,
    /// How long one attempt to connect to one server may take, login included.
    #[serde(default = "default_connect_timeout")]
    #[schemars(range(min = 1, max = 600))]
    pub connect_timeout_seconds: u16,
    /// When the server sends the changes of large transactions.
    #[serde(default)]
    pub streaming: Streaming,
    /// Where open transactions are set aside with `streaming: on`.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// Whether the server may send values in its binary form, which is cheaper for it where rows are
    /// wide or values are bytes. The events are the same.
    #[serde(default)]
    pub binary: BinaryValues,
    /// Memory that the server may use to decode for this connector before it spills to its disk (or,
    /// with `streaming: on`, sends on), such as `512MB`. More of it makes large transactions cheaper
    /// for the server; less of it brings the first event of a streamed one earlier. Where it is not
    /// given, the server's own setting, and where that is PostgreSQL's default of 64MB, 256MB, or 16MB
    /// with `streaming: on`.
    #[serde(default)]
    #[schemars(
        regex(pattern = r"^[1-9][0-9]{0,8}(kB|MB|GB)$"),
        extend("patternErrorMessage" = "must be a whole number and a unit of kB, MB or GB, such as 512MB")
    )]
    pub logical_decoding_work_mem: Option<String>,
    /// Messages that applications write into the log; ignored where the section is not there.
    #[serde(default)]
    pub messages: Option<MessageSelection>,
    /// Whose changes are captured.
    #[serde(default)]
    pub origin: OriginFilter,
    /// Keeps the slot moving while the captured tables are idle: `off`, or how often that is looked
    /// after, as `{ interval: 10s }`, which is the default.
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// Warns when the server would throw away log that the slot needs within this time, at the
    /// present rate. Default 1h.
    #[serde(default = "heartbeat::default_runway_warning")]
    pub runway_warning: Time,
}

/// Whose changes are captured, by where they were made first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OriginFilter {
    /// All, those that replication brought into this database too; events name such an origin.
    #[default]
    Any,
    /// Only those that were made in this database: what replication brought in is left out, so that
    /// nothing goes round in circles. PostgreSQL 16 or newer.
    None,
}

/// Whether the server may send values in its binary form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BinaryValues {
    /// As with `on` where a published column holds `bytea`, which is twice as long as text; else as
    /// text, which costs less in all.
    #[default]
    Auto,
    /// Where every published column's type has a binary form that is understood here.
    On,
    /// Never: as text.
    Off,
}

/// Who looks after the publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PublicationManagement {
    /// It is created if missing and kept in step with `tables` and `publication_operations`. The role
    /// must own it and the tables, or be a superuser.
    #[default]
    Auto,
    /// It is managed elsewhere: nothing is changed. It must exist and send `publication_operations`;
    /// tables that it does not send are warned of.
    External,
}

/// A kind of change, as the publication's `publish` option names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// New rows.
    Insert,
    /// Changed rows.
    Update,
    /// Deleted rows.
    Delete,
    /// Emptied tables.
    Truncate,
}

impl Operation {
    /// All of them.
    pub fn all() -> BTreeSet<Self> {
        [Self::Insert, Self::Update, Self::Delete, Self::Truncate].into()
    }

    /// As `publish` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

fn default_application_name() -> String {
    "rowtide".to_owned()
}

fn default_connect_timeout() -> u16 {
    10
}

/// A finding that the configuration cannot work.
fn problem(code: Code, message: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(Severity::Error, code, message).with_remedy(remedy)
}

impl PostgresConfig {
    /// Every problem of these settings at once; empty where they are fine. `folder` is the folder
    /// that relative paths of files start from.
    pub fn problems(&self, folder: &Path) -> Vec<Finding> {
        let mut problems = match self.connect_options(folder) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        problems.extend(self.name_problems());
        if let Err(tables) = self.tables.filter() {
            problems.extend(tables);
        }
        if let Some(Err(messages)) = self.messages.as_ref().map(MessageSelection::filter) {
            problems.extend(messages);
        }
        problems
    }

    /// How to connect, from `url` and the settings beside it.
    ///
    /// # Errors
    /// Every problem of these settings at once (RT2001 to RT2007).
    pub fn connect_options(&self, folder: &Path) -> Result<ConnectOptions, Vec<Finding>> {
        let mut problems = self.setting_problems();
        let parsed = url::parse(self.url.expose(), folder, &mut problems);
        let (Some(mut options), true) = (parsed, problems.is_empty()) else {
            return Err(problems);
        };
        if let Some(password) = &self.password {
            if options.password.is_some() {
                return Err(vec![problem(
                    codes::SETTING,
                    "`password` is set and `url` holds a password too",
                    "keep one of them",
                )]);
            }
            options.password = Some(password.clone());
        }
        if !options.names_application {
            options.application_name.clone_from(&self.application_name);
        }
        let seconds = Duration::from_secs(u64::from(self.connect_timeout_seconds));
        options.connect_timeout = options.url_connect_timeout.unwrap_or(seconds);
        options.logical_decoding_work_mem.clone_from(&self.logical_decoding_work_mem);
        Ok(options)
    }

    fn name_problems(&self) -> Vec<Finding> {
        let mut problems = Vec::new();
        let slot_byte = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if !(1..=63).contains(&self.slot.len()) || !self.slot.bytes().all(slot_byte) {
            problems.push(problem(
                codes::NAME,
                "`slot` must be 1 to 63 lower-case letters, digits and underscores",
                "",
            ));
        }
        if !(1..=63).contains(&self.publication.len()) || self.publication.contains('\0') {
            problems.push(problem(codes::NAME, "`publication` must have 1 to 63 bytes", ""));
        }
        problems
    }

    fn setting_problems(&self) -> Vec<Finding> {
        let mut problems = Vec::new();
        if !(1..=600).contains(&self.connect_timeout_seconds) {
            problems.push(problem(
                codes::SETTING,
                "`connect_timeout_seconds` must be between 1 and 600",
                "",
            ));
        }
        if !is_application_name(&self.application_name) {
            problems.push(problem(
                codes::SETTING,
                "`application_name` must be 1 to 63 printable ASCII characters",
                "",
            ));
        }
        if !self.heartbeat.is_sound() {
            let message = "`heartbeat.interval` must be between 100ms and 1h";
            problems.push(problem(codes::SETTING, message, ""));
        }
        if self.streaming == Streaming::On && self.messages.is_some() {
            problems.push(problem(
                STREAMED_MESSAGES,
                "`streaming: on` and `messages` exclude each other: the server does not say which \
                 subtransaction a streamed message belongs to, so that messages of a rolled back \
                 savepoint would be delivered",
                "set `streaming: off`, or leave `messages` out",
            ));
        }
        if self.logical_decoding_work_mem.as_deref().is_some_and(|size| !is_memory_size(size)) {
            problems.push(problem(
                codes::SETTING,
                "`logical_decoding_work_mem` must be a size such as 64kB, 256MB or 1GB",
                "",
            ));
        }
        problems
    }
}

/// The server replaces other characters and cuts the rest off.
fn is_application_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_memory_size(size: &str) -> bool {
    let digits = size.trim_end_matches(|unit: char| !unit.is_ascii_digit());
    let unit = size.strip_prefix(digits).unwrap_or_default();
    (1..=9).contains(&digits.len())
        && !digits.starts_with('0')
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!(unit, "kB" | "MB" | "GB")
}

#[cfg(test)]
mod tests;
