//! A connection that can become a replica's stream.

use rowtide_sdk::{Class, Error, Origin, Result};

use super::dump::{self, Dump};
use super::greeting::{Greeting, Handshake};
use super::session::{Session, command, query};
use super::stream::PacketStream;
use super::transport::{unreachable, within};
use crate::config::{ConnectOptions, Target};

/// A connection before its stream.
#[derive(Debug)]
pub struct BinlogConnection {
    pub(super) session: Session,
    pub(super) greeting: Greeting,
    pub(super) handshake: Handshake,
}

impl BinlogConnection {
    /// Connects to the first of the places, and of their addresses, that takes the login.
    ///
    /// # Errors
    /// RT26xx, classified: the one place's own error; of several, what became of each, transient where
    /// one of them may pass.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let mut failures = Vec::new();
        for target in &options.targets {
            for at in places(options, target, &mut failures).await {
                match within(&at, Box::pin(Session::open(&at))).await {
                    Ok((session, greeting, handshake)) => {
                        return Ok(Self { session, greeting, handshake });
                    }
                    Err(error) => failures.push(error),
                }
            }
        }
        Err(no_place(options.targets.len() > 1, failures))
    }

    /// The server, and the connection to it.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Runs a statement that gives no rows.
    ///
    /// # Errors
    /// The server's refusal, classified; transient RT2613 where the connection broke.
    pub async fn execute(&mut self, sql: &str) -> Result<()> {
        self.session.acknowledged(&query(sql), &verb(sql)).await
    }

    /// Runs a query whose few rows are given as text; `None` is NULL.
    ///
    /// # Errors
    /// As [`BinlogConnection::execute`].
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.session.rows(sql, &verb(sql)).await
    }

    /// Becomes a replica's stream.
    ///
    /// # Errors
    /// The server's refusal, classified. What is wrong with the start is told by the stream's first
    /// packet.
    pub async fn dump(self, dump: &Dump) -> Result<PacketStream> {
        dump::begin(self, dump).await
    }

    /// Tells the server that the connection ends ("COM_QUIT").
    pub async fn close(mut self) {
        let said = self.session.command(&[command::QUIT], "closing").await;
        if let Err(error) = said {
            tracing::debug!(%error, "the connection ended before it was closed");
        }
    }
}

/// A place's addresses, each as options of its own.
async fn places(
    options: &ConnectOptions,
    target: &Target,
    failures: &mut Vec<Error>,
) -> Vec<ConnectOptions> {
    let (None, Target::Tcp { host, port }) = (options.address, target) else {
        return vec![options.at(target, options.address)];
    };
    match rowtide_net::resolve(host, *port, options.connect_timeout).await {
        Ok(found) => found.into_iter().map(|address| options.at(target, Some(address))).collect(),
        Err(error) => {
            failures.push(unreachable(&options.at(target, None), error));
            Vec::new()
        }
    }
}

/// Why no place was found.
fn no_place(has_several: bool, mut failures: Vec<Error>) -> Error {
    let transient = failures.iter().find(|error| error.class() == Class::Transient);
    let fatal = failures.iter().position(|error| error.class() != Class::Transient);
    if !has_several || failures.len() == 1 {
        // Of one name's addresses the one that was reached tells most, else the last.
        let telling = fatal.unwrap_or_else(|| failures.len().saturating_sub(1));
        if telling < failures.len() {
            return failures.swap_remove(telling);
        }
    }
    let first = transient.or_else(|| failures.first());
    let (class, code) = first
        .map_or((Class::Transient, crate::error::codes::UNREACHABLE), |error| {
            (error.class(), error.code())
        });
    let mut words: Vec<String> = failures.iter().map(Error::message_with_causes).collect();
    words.dedup();
    let message = format!("none of the servers can be used: {}", words.join("; "));
    Error::new(class, Origin::Source, code, message).with_remedy("check the hosts in `url`")
}

/// The first words of a statement: what it does, without names or values.
fn verb(sql: &str) -> String {
    let is_keyword = |word: &&str| word.bytes().all(|byte| byte.is_ascii_uppercase());
    let words: Vec<&str> = sql.split_whitespace().take_while(is_keyword).take(3).collect();
    if words.is_empty() { "a statement".to_owned() } else { words.join(" ") }
}
