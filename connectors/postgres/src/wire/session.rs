//! A session up to the point where it streams: start-up, messages one by one, session settings.

use std::collections::HashMap;
use std::io;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rowtide_sdk::{Error, Origin, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth;
use super::cancel::Key;
use super::frame::{Body, Frame, frame_at, tag};
use super::hosts::Role;
use super::tls::connect_error;
use super::transport::{Transport, connect_stream};
use crate::config::ConnectOptions;
use crate::error::{ServerError, codes, lost, naming_role, protocol};

/// A message before the login is complete is small; what is larger is not PostgreSQL.
const LOGIN_MESSAGE_MAX: usize = 64 * 1024;
/// A message of a command's answer: our own commands return a few short rows.
const ANSWER_MESSAGE_MAX: usize = 16 * 1024 * 1024;
/// Room for one read.
const READ_SIZE: usize = 8 * 1024;

/// The settings that decide how values look as text (hazard: roles and databases may change them
/// under us). `search_path` decides whether reg* types print a schema; `row_security` makes a read
/// that would silently be given a part of the rows an error; the timeouts are for the application's
/// sessions.
const PINNED: &[(&str, &str)] = &[
    ("datestyle", "ISO,MDY"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", "pg_catalog"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // It would quote the names of types and the values of reg* types.
    ("quote_all_identifiers", "off"),
    // A warning of the server may mean that it leaves changes out.
    ("client_min_messages", "warning"),
];

/// Takes off `transaction_timeout`, which would end the decoding of a large transaction; an expression
/// that does nothing before PostgreSQL 17, which refuses a start-up option that it does not know.
pub(super) const NO_TRANSACTION_TIMEOUT: &str = "CASE WHEN pg_catalog.current_setting('transaction_timeout', true) <> '0' \
    THEN pg_catalog.set_config('transaction_timeout', '0', false) END";

/// The pinned settings that the server reports by itself, and what it must report.
const REPORTED: &[(&str, &str)] = &[
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("client_encoding", "UTF8"),
];

/// The `options` start-up parameter: `-c name=value`, white space and backslashes escaped.
pub(super) fn session_options(options: &ConnectOptions) -> String {
    let work_mem = options.logical_decoding_work_mem.as_deref();
    let own = work_mem.map(|size| ("logical_decoding_work_mem", size));
    let mut text = String::new();
    for (name, value) in PINNED.iter().copied().chain(own) {
        text.push_str(if text.is_empty() { "-c " } else { " -c " });
        text.push_str(name);
        text.push('=');
        for char in value.chars() {
            if char == '\\' || char.is_ascii_whitespace() {
                text.push('\\');
            }
            text.push(char);
        }
    }
    text
}

/// Refuses a session whose settings are not the ones asked for.
pub(super) fn check_reported<'a>(reported: impl Fn(&str) -> Option<&'a str>) -> Result<()> {
    for (name, expected) in REPORTED {
        let found = reported(name).unwrap_or("nothing");
        if found != *expected {
            return Err(setting_error(name, expected, found));
        }
    }
    Ok(())
}

/// A session setting that is not in force.
pub(super) fn setting_error(name: &str, expected: &str, found: &str) -> Error {
    Error::fatal(
        Origin::Source,
        codes::SESSION,
        format!("the session's {name} is {found} although {expected} was asked for at start"),
    )
    .with_remedy(
        "a pooler or proxy dropped the start-up options: put the server's own host and port into \
         `url`",
    )
}

/// What BackendKeyData says. The secret has four bytes in the version of the protocol that is asked for.
fn key(body: &[u8]) -> Option<Key> {
    let mut body = Body(body);
    Some(Key { process: body.i32()?, secret: body.i32()? })
}

/// One message of the server.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
}

/// An open session that reads message by message.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) transport: Transport,
    /// Bytes read and not yet handed out.
    pub(super) input: Vec<u8>,
    parameters: HashMap<String, String>,
    message_max: usize,
    /// Whether the login is complete; it decides what a broken connection means.
    is_ready: bool,
    /// The server process, as whoever answered the login announced it.
    pub(super) announced: Option<Key>,
}

impl Session {
    /// Connects, logs in and waits until the server is ready for a command. `replication` is the
    /// start-up parameter of that name.
    pub(super) async fn open(options: &ConnectOptions, replication: &str) -> Result<Self> {
        let mut session = Self {
            transport: connect_stream(options).await?,
            input: Vec::with_capacity(READ_SIZE),
            parameters: HashMap::new(),
            message_max: LOGIN_MESSAGE_MAX,
            is_ready: false,
            announced: None,
        };
        let settings = session_options(options);
        let mut out = BytesMut::new();
        let parameters = [
            ("user", options.user.as_str()),
            ("database", options.database.as_str()),
            ("replication", replication),
            ("application_name", options.application_name.as_str()),
            ("client_encoding", "UTF8"),
            ("options", settings.as_str()),
        ];
        frontend::startup_message(parameters, &mut out).map_err(|error| {
            protocol("the start-up message cannot be written").with_source(error)
        })?;
        session.send(&out, options).await?;
        auth::authenticate(&mut session, options).await?;
        loop {
            let message = session.next_in_login(options).await?;
            match message.tag {
                tag::READY => break,
                tag::BACKEND_KEY_DATA => session.announced = key(&message.body),
                tag::NEGOTIATE_VERSION => {}
                other => return Err(unexpected(other, "while starting the session")),
            }
        }
        check_reported(|name| session.parameters.get(name).map(String::as_str))?;
        if session.parameters.get("server_encoding").is_some_and(|name| name == "SQL_ASCII") {
            session.take_bytes(options).await?;
        }
        session.message_max = ANSWER_MESSAGE_MAX;
        session.is_ready = true;
        Ok(session)
    }

    /// Has texts of a database without an encoding sent as they are (H-63). Asked for UTF-8, the
    /// server ends the stream at the first that is not, for ever; this way it is one event's trouble.
    async fn take_bytes(&mut self, options: &ConnectOptions) -> Result<()> {
        self.query("SET client_encoding = 'SQL_ASCII'", "starting the session").await?;
        loop {
            match self.next_in_login(options).await?.tag {
                tag::READY => return Ok(()),
                tag::COMMAND_COMPLETE => {}
                other => return Err(unexpected(other, "while starting the session")),
            }
        }
    }

    /// The next message during the login; a refusal is an error.
    pub(super) async fn next_in_login(&mut self, options: &ConnectOptions) -> Result<Message> {
        let message = match self.next().await {
            Ok(message) => message?,
            Err(error) => return Err(connect_error(options, error)),
        };
        if message.tag == tag::ERROR {
            let doing = format!("logging in to {}", crate::config::describe(options));
            let refusal = ServerError::parse(&message.body).into_error(&doing);
            return Err(naming_role(refusal, &options.user));
        }
        Ok(message)
    }

    /// The next message, with notices logged and parameters kept. The outer error is the
    /// connection's, the inner one the protocol's.
    pub(super) async fn next(&mut self) -> io::Result<Result<Message>> {
        loop {
            let (tag, body, next) = match frame_at(&self.input, 0) {
                Ok(Frame::Complete { tag, body, next }) => (tag, body, next),
                Ok(Frame::Incomplete { size }) if size > self.message_max => {
                    return Ok(Err(protocol(format!(
                        "the server announces a message of {size} bytes, which is no answer of \
                         PostgreSQL"
                    ))));
                }
                Ok(Frame::Incomplete { .. }) => {
                    self.input.reserve(READ_SIZE);
                    if self.transport.read_buf(&mut self.input).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    continue;
                }
                Err(error) => return Ok(Err(error)),
            };
            let body = self.input.get(body).unwrap_or_default().to_vec();
            self.input.drain(..next);
            match tag {
                tag::NOTICE => super::replication::log_notice(&body),
                tag::PARAMETER_STATUS => self.keep_parameter(&body),
                tag => return Ok(Ok(Message { tag, body })),
            }
        }
    }

    /// What the server reported of itself at the login.
    pub(super) fn role(&self) -> Role {
        Role::reported(|name| self.parameters.get(name).map(String::as_str))
    }

    fn keep_parameter(&mut self, body: &[u8]) {
        let mut body = Body(body);
        if let (Some(name), Some(value)) = (body.cstr(), body.cstr()) {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            self.parameters.insert(text(name), text(value));
        }
    }

    /// Sends bytes during the login.
    pub(super) async fn send(&mut self, bytes: &[u8], options: &ConnectOptions) -> Result<()> {
        self.write(bytes).await.map_err(|error| connect_error(options, error))
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.transport.write_all(bytes).await?;
        self.transport.flush().await
    }

    /// Sends one command as a simple query.
    pub(super) async fn query(&mut self, sql: &str, doing: &str) -> Result<()> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out)
            .map_err(|error| protocol("the command cannot be written").with_source(error))?;
        self.write(&out).await.map_err(|error| lost(doing, error))
    }
}

/// A message that does not belong where it came.
pub(super) fn unexpected(tag: u8, place: &str) -> Error {
    protocol(format!("the server sent a message of type {:?} {place}", char::from(tag)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::PostgresConfig;

    #[test]
    fn options_are_escaped_as_the_server_splits_them() {
        let config: PostgresConfig = serde_json::from_value(serde_json::json!({
            "url": "postgres://u@h/db", "slot": "s", "publication": "p",
            "logical_decoding_work_mem": "1GB"
        }))
        .unwrap();
        let mut options = config.connect_options(Path::new(".")).unwrap();
        let text = session_options(&options);
        assert!(text.starts_with("-c datestyle=ISO,MDY -c intervalstyle=postgres"), "{text}");
        assert!(text.ends_with("-c logical_decoding_work_mem=1GB"), "{text}");
        options.logical_decoding_work_mem = Some("1 G\\B".to_owned());
        assert!(session_options(&options).ends_with("=1\\ G\\\\B"));
    }

    #[test]
    fn a_setting_not_in_force_is_refused_by_name() {
        let reported = |name: &str| match name {
            "DateStyle" => Some("ISO, MDY"),
            "IntervalStyle" => Some("sql_standard"),
            _ => None,
        };
        let error = check_reported(reported).unwrap_err();
        assert_eq!(error.code().0, "RT2112");
        assert!(error.message().contains("IntervalStyle is sql_standard"), "{error}");
    }
}
