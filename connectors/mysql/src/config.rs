//! The settings of a MySQL or MariaDB source.

mod tables;
mod url;

use std::path::{Path, PathBuf};

use rowtide_sdk::{Code, Finding, Secret, Severity};
use rowtide_spool::SpoolConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

pub use rowtide_net::Roots;
pub use tables::TableSelection;
pub(crate) use tables::{NameCase, captures, is_captured, left_out, unmatched};
pub use url::{ConnectOptions, SslMode, Target, TlsOptions};

use crate::error::codes;

/// How a MySQL or MariaDB database is reached and what is captured from it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MysqlConfig {
    /// `mysql://user@host:3306/?ssl-mode=…`, with the parameters of MySQL's own clients; percent-encoded.
    /// Several hosts are tried in order.
    #[schemars(schema_with = "secret")]
    pub url: Secret,
    /// The password, where it is not in `url`. It wins over none, and having both is refused.
    #[serde(default)]
    #[schemars(schema_with = "optional_secret")]
    pub password: Option<Secret>,
    /// The id by which the server knows this connector among its replicas: another one for each program
    /// that reads the binlog, and none of a server. Default: one made of the connector's name.
    #[serde(default)]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub server_id: Option<u32>,
    /// Which tables are captured.
    #[serde(default)]
    pub tables: TableSelection,
    /// Where transactions are set aside until their end is known: XA transactions, those that are rolled
    /// back in part, MariaDB's, and packed ones until they are verified.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// How often an idle server says that it is there, in seconds; three times without a word, and the
    /// connection is made anew.
    #[serde(default = "default_heartbeat")]
    #[schemars(range(min = 1, max = 300))]
    pub heartbeat_seconds: u16,
    /// Warns when the server may throw away log that the saved position needs sooner than this, in seconds
    /// (RT2722). Default: an hour.
    #[serde(default = "default_runway_warning")]
    #[schemars(range(min = 0, max = 4_294_967_295_u32))]
    pub runway_warning_seconds: u32,
    /// Puts the text of the statement on its events (`transaction.statement`), up to so many bytes; 0 is
    /// none of it. The text holds the values. The server must log statements
    /// (`binlog_rows_query_log_events`; MariaDB does by default).
    #[serde(default)]
    pub statement_bytes: u16,
    /// How long one attempt to connect may take, in seconds.
    #[serde(default = "default_connect_timeout")]
    #[schemars(range(min = 1, max = 600))]
    pub connect_timeout_seconds: u16,
}

fn default_heartbeat() -> u16 {
    10
}

fn default_runway_warning() -> u32 {
    3600
}

fn default_connect_timeout() -> u16 {
    10
}

fn secret(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1 })
}

fn optional_secret(_generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"] })
}

/// A finding that the configuration cannot work.
fn problem(code: Code, message: impl Into<String>, remedy: &str) -> Finding {
    Finding::new(Severity::Error, code, message).with_remedy(remedy)
}

impl MysqlConfig {
    /// Every problem of these settings at once; empty where they are fine. `folder` is the folder that
    /// relative paths of files start from.
    pub fn problems(&self, folder: &Path) -> Vec<Finding> {
        let mut problems = match self.connect_options(folder) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        if let Err(tables) = self.tables.filter() {
            problems.extend(tables);
        }
        problems
    }

    /// How to connect, from `url` and the settings beside it.
    ///
    /// # Errors
    /// Every problem of these settings at once.
    pub fn connect_options(&self, folder: &Path) -> Result<ConnectOptions, Vec<Finding>> {
        let mut problems = Vec::new();
        let mut range = |name: &str, value: u16, max: u16| {
            if !(1..=max).contains(&value) {
                let message = format!("`{name}` must be between 1 and {max}");
                problems.push(problem(codes::SETTING, message, ""));
            }
        };
        range("heartbeat_seconds", self.heartbeat_seconds, 300);
        range("connect_timeout_seconds", self.connect_timeout_seconds, 600);
        if self.server_id == Some(0) {
            problems.push(problem(codes::SETTING, "`server_id` must not be 0", ""));
        }
        let mut options = match ConnectOptions::parse(self.url.expose(), folder) {
            Ok(options) if problems.is_empty() => options,
            Ok(_) => return Err(problems),
            Err(found) => {
                problems.extend(found);
                return Err(problems);
            }
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
        Ok(options)
    }

    /// The folder of what is set aside, where the settings name one.
    pub(crate) fn spool_dir(&self, connector: &str) -> Option<PathBuf> {
        self.spool.dir.as_ref().map(|dir| dir.join(connector))
    }

    /// The id among the server's replicas.
    pub(crate) fn server_id_for(&self, connector: &str) -> u32 {
        self.server_id.unwrap_or_else(|| {
            // Above what people number their servers with, and not the same for each connector.
            0x4000_0000 | (crc32fast::hash(connector.as_bytes()) & 0x3fff_ffff)
        })
    }

    /// The id of a command that reads a little of the log beside the streams. Another each time: the server ends
    /// the older of two readers with one id.
    pub(crate) fn passing_id() -> u32 {
        0x4000_0000 | fastrand::u32(..=0x3fff_ffff)
    }
}
