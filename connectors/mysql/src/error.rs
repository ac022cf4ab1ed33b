//! What the server's refusals and broken connections mean to the host: one table, by error number.
//!
//! Texts of the server may be translated (`lc_messages`), so a rule looks at the number; where one number
//! stands for many things (1236), at words of the text, which the binlog's sender never translates. Only
//! errors of the login and of statements of our own are read here, and those hold no row's value.

use std::borrow::Cow;

use rowtide_sdk::{Class, Code, Error, Origin};

use crate::reader::Reader;

mod table;

/// The codes of the MySQL connector.
///
/// RT25xx settings, RT26xx connection and the server's refusals.
pub(crate) mod codes {
    use rowtide_sdk::Code;

    /// The URL cannot be read or lacks a part.
    pub(crate) const URL: Code = Code("RT2501");
    /// A parameter of the URL is unknown or has no such value.
    pub(crate) const URL_PARAMETER: Code = Code("RT2502");
    /// The hosts of the URL do not fit together.
    pub(crate) const SEVERAL_HOSTS: Code = Code("RT2503");
    /// A certificate or key file cannot be used.
    pub(crate) const TLS_FILE: Code = Code("RT2504");
    /// Another setting is out of its range or contradicts one beside it.
    pub(crate) const SETTING: Code = Code("RT2505");
    /// A table pattern cannot be read.
    pub(crate) const TABLE_PATTERN: Code = Code("RT2506");

    /// The server cannot be reached.
    pub(crate) const UNREACHABLE: Code = Code("RT2601");
    /// TLS is demanded and the server has none.
    pub(crate) const NO_TLS: Code = Code("RT2602");
    /// The TLS handshake failed: most often the server's certificate is not trusted.
    pub(crate) const TLS: Code = Code("RT2603");
    /// The server refused the login.
    pub(crate) const LOGIN: Code = Code("RT2604");
    /// The server takes no connection from this host.
    pub(crate) const HOST: Code = Code("RT2605");
    /// The way of authentication cannot be used.
    pub(crate) const AUTHENTICATION: Code = Code("RT2606");
    /// The password could be sent only by the server's public key, which is not allowed or not usable.
    pub(crate) const PUBLIC_KEY: Code = Code("RT2607");
    /// The server takes connections with TLS alone.
    pub(crate) const TLS_DEMANDED: Code = Code("RT2608");
    /// The password has expired.
    pub(crate) const PASSWORD_EXPIRED: Code = Code("RT2609");
    /// The database does not exist.
    pub(crate) const DATABASE: Code = Code("RT2610");
    /// The server has no connection free.
    pub(crate) const TOO_MANY_CONNECTIONS: Code = Code("RT2611");
    /// The server is starting, stopping or short of something.
    pub(crate) const UNAVAILABLE: Code = Code("RT2612");
    /// The connection broke.
    pub(crate) const CONNECTION_LOST: Code = Code("RT2613");
    /// The connection or the statement was killed.
    pub(crate) const KILLED: Code = Code("RT2614");
    /// The server sent something that is not the protocol.
    pub(crate) const PROTOCOL: Code = Code("RT2615");
    /// The user lacks REPLICATION SLAVE or REPLICATION CLIENT.
    pub(crate) const REPLICATION_RIGHT: Code = Code("RT2616");
    /// The user lacks another right.
    pub(crate) const PERMISSION: Code = Code("RT2617");
    /// The server writes no binary log.
    pub(crate) const BINLOG_OFF: Code = Code("RT2618");
    /// The server no longer has the log that is asked for.
    pub(crate) const BINLOG_PURGED: Code = Code("RT2619");
    /// Another reader of the log has the same server id.
    pub(crate) const SERVER_ID_TAKEN: Code = Code("RT2620");
    /// The position is none of this server's log.
    pub(crate) const POSITION: Code = Code("RT2621");
    /// The server lacks transactions that were read before: it is another one, or was set back.
    pub(crate) const DIVERGED: Code = Code("RT2622");
    /// `gtid_mode` is not ON.
    pub(crate) const GTID_MODE: Code = Code("RT2623");
    /// An event is larger than the server sends.
    pub(crate) const EVENT_TOO_LARGE: Code = Code("RT2624");
    /// The server cannot read its own log.
    pub(crate) const BINLOG_UNREADABLE: Code = Code("RT2625");
    /// The server knows no such command: a proxy stands before it.
    pub(crate) const PROXY: Code = Code("RT2626");
    /// This server cannot start where it is asked to.
    pub(crate) const NOT_HERE: Code = Code("RT2627");
    /// Any other refusal.
    pub(crate) const REFUSED: Code = Code("RT2649");
}

/// An ERR packet ("ERR_Packet").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// The number.
    pub(crate) number: u16,
    /// The five characters of the SQLSTATE; empty before the login.
    pub(crate) sqlstate: String,
    /// The text.
    pub(crate) message: String,
}

impl ServerError {
    /// Reads an ERR packet; what cannot be read is left empty.
    pub(crate) fn parse(packet: &[u8]) -> Self {
        let mut reader = Reader(packet.get(1..).unwrap_or_default());
        let number = reader.u16().unwrap_or_default();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        // A server that refuses before it knows the client leaves the SQLSTATE out.
        let sqlstate = match reader.0.split_at_checked(6) {
            Some((&[b'#', ref state @ ..], rest)) => {
                reader.0 = rest;
                text(state)
            }
            _ => String::new(),
        };
        Self { number, sqlstate, message: text(reader.0) }
    }

    /// The error for the host. `doing` says what was asked of the server: `starting replication`.
    pub(crate) fn into_error(self, doing: &str) -> Error {
        let verdict = table::classify(self.number, &self.message);
        let Self { number, message, .. } = self;
        let error = Error::new(
            verdict.class,
            Origin::Source,
            verdict.code,
            format!("{doing}: {} [error {number}]", message.trim_end_matches('.')),
        );
        match verdict.remedy {
            "" => error,
            remedy => error.with_remedy(remedy),
        }
    }
}

/// How the host reacts to a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) class: Class,
    pub(crate) code: Code,
    /// What to do; empty where the message says it all.
    pub(crate) remedy: &'static str,
}

/// A connection that broke while `doing` something.
pub(crate) fn lost(doing: &str, error: std::io::Error) -> Error {
    Error::transient(
        Origin::Source,
        codes::CONNECTION_LOST,
        format!("{doing}: the connection to the server broke"),
    )
    .with_source(error)
}

/// The error of an SQL statement sent through mysql_async. `doing` says what was asked.
pub(crate) fn from_sql(error: mysql_async::Error, doing: &str) -> Error {
    match error {
        mysql_async::Error::Server(refused) => {
            let mysql_async::ServerError { code, message, state } = refused;
            ServerError { number: code, sqlstate: state, message }.into_error(doing)
        }
        mysql_async::Error::Io(error) => lost(doing, std::io::Error::other(error)),
        // Parts of the server's answer may stand in it.
        mysql_async::Error::Driver(mysql_async::DriverError::ConnectionClosed) => {
            lost(doing, std::io::ErrorKind::UnexpectedEof.into())
        }
        _ => Error::fatal(
            Origin::Source,
            codes::REFUSED,
            format!("{doing}: the answer could not be read"),
        ),
    }
}

/// Whether the server refused a statement, and goes on.
pub(crate) fn is_refusal(error: &mysql_async::Error) -> bool {
    matches!(error, mysql_async::Error::Server(_))
}

/// Bytes from the server that are not the protocol.
pub(crate) fn protocol(what: impl Into<Cow<'static, str>>) -> Error {
    Error::fatal(Origin::Source, codes::PROTOCOL, what)
        .with_remedy("check that the url names a MySQL or MariaDB server itself")
}

#[cfg(test)]
mod tests;
