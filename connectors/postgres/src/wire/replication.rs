//! Replication connections in command mode.

use rowtide_sdk::{Error, Origin, Result};

use super::cancel::Cancel;
use super::frame::{Body, tag};
use super::hosts::Search;
use super::session::{Message, NO_TRANSACTION_TIMEOUT, Session, setting_error, unexpected};
use super::stream::{Reader, Writer};
use super::transport::within;
use crate::config::{ConnectOptions, describe};
use crate::error::{ServerError, codes, lost, protocol};

/// What a server says of itself (IDENTIFY_SYSTEM), read when the connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's system identifier: another one is another history.
    pub system: String,
    /// The current timeline.
    pub timeline: u32,
    /// The end of the flushed log, as text: `0/16B3800`.
    pub flushed: String,
    /// The database connected to.
    pub database: String,
    /// `server_version_num`: 150018, 180001.
    pub server_version: u32,
}

/// A connection with `replication=database`, in command mode: it takes replication commands and
/// plain SQL, one at a time, as simple queries.
///
/// A future of its methods that is dropped half-way leaves the session in the middle of an answer:
/// drop the connection then.
#[derive(Debug)]
pub struct ReplicationConnection {
    session: Session,
    identity: Identity,
    options: ConnectOptions,
    is_relayed: bool,
}

/// The rows of a simple query as text; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// Settings that the server does not report by itself. The value pinned for `extra_float_digits` is
/// nobody's default, so it proves that the start-up options arrived.
const SETTINGS: &str = "SELECT current_setting('server_version_num'), \
    current_setting('extra_float_digits'), current_setting('bytea_output'), \
    current_setting('lc_monetary'), pg_backend_pid()";

impl ReplicationConnection {
    /// Connects to the first server that is what `options` ask for, logs in, checks the session's
    /// settings and reads the server's identity, all within the configured time for each server.
    ///
    /// # Errors
    /// RT21xx, classified: see `error.rs`; transient RT2343 where no server is as wanted.
    pub async fn connect(options: &ConnectOptions) -> Result<Self> {
        let mut search = Search::begin(options).await;
        while let Some((at, wanted)) = search.next() {
            match within(&at, Box::pin(Self::open(&at))).await {
                Ok(connection) => {
                    if search.accepts(&at, wanted, connection.session.role()) {
                        return Ok(connection);
                    }
                }
                Err(error) => search.failed(error),
            }
        }
        Err(search.error())
    }

    /// How to connect to the same server again.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    async fn open(options: &ConnectOptions) -> Result<Self> {
        let session = Session::open(options, "database").await?;
        let empty = Identity {
            system: String::new(),
            timeline: 0,
            flushed: String::new(),
            database: String::new(),
            server_version: 0,
        };
        let mut connection =
            Self { session, identity: empty, options: options.clone(), is_relayed: false };
        let identified = connection.query("IDENTIFY_SYSTEM").await?.map_err(|refusal| {
            // Where the parameter `replication` was dropped on the way, this is ordinary SQL.
            if refusal.sqlstate == "42601" { pooled(options) } else { identifying(refusal) }
        })?;
        let settings = connection
            .query(&format!("{SETTINGS}, {NO_TRANSACTION_TIMEOUT}"))
            .await?
            .map_err(identifying)?;
        connection.identity = identity(&identified, &settings)?;
        let pid = settings.first().and_then(|row| row.get(4)?.as_deref()?.parse::<i32>().ok());
        let announced = connection.session.announced;
        connection.is_relayed =
            pid.zip(announced).is_some_and(|(pid, announced)| pid != announced.process);
        Ok(connection)
    }

    /// How to call off a command of this connection; `None` where the server announced no process.
    pub(crate) fn cancel(&self) -> Option<Cancel> {
        let key = self.session.announced?;
        Some(Cancel { options: self.options.clone(), key })
    }

    /// Whether somebody answers the login in the server's place: a pooler announces a process of its
    /// own for cancel requests, not the one that runs the commands.
    pub fn is_relayed(&self) -> bool {
        self.is_relayed
    }

    /// What the server is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Gives decoding memory where nobody chose how much it may take (PostgreSQL's own 64MB is in
    /// force). Transactions that are sent after their end get four times as much: those that fit are
    /// never written to the server's disk, which made updates under REPLICA IDENTITY FULL and rows of
    /// 100 kB a third to a half cheaper for it. Those that are sent while they run get a quarter: what
    /// the memory holds at the commit is sent only then, before their first event.
    ///
    /// # Errors
    /// As for [`ReplicationConnection::simple_query`].
    pub async fn size_decoding(&mut self, streams: bool) -> Result<()> {
        let size = if streams { "16MB" } else { "256MB" };
        let sql = format!(
            "SELECT set_config('logical_decoding_work_mem', '{size}', false) \
             WHERE current_setting('logical_decoding_work_mem') = '64MB'"
        );
        self.simple_query(&sql).await.map(|_| ())
    }

    /// Sends one command and returns the rows of its answer.
    ///
    /// # Errors
    /// The server's refusal, classified; the connection stays usable after an `ERROR`. Transient
    /// RT2111 where the connection broke.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Rows> {
        let refused = |refusal: ServerError| refusal.into_error(&format!("running {}", verb(sql)));
        self.query(sql).await?.map_err(refused)
    }

    /// As [`ReplicationConnection::simple_query`], with the refusal as the server put it.
    async fn query(&mut self, sql: &str) -> Result<std::result::Result<Rows, ServerError>> {
        let doing = format!("running {}", verb(sql));
        self.session.query(sql, &doing).await?;
        let mut rows = Rows::new();
        let mut refusal = None;
        loop {
            let message = match self.session.next().await {
                Ok(message) => message?,
                // After a FATAL the server closes the connection.
                Err(error) => match refusal {
                    Some(refusal) => return Ok(Err(refusal)),
                    None => return Err(lost(&doing, error)),
                },
            };
            match message.tag {
                tag::READY => return Ok(refusal.map_or(Ok(rows), Err)),
                tag::ERROR => refusal = Some(ServerError::parse(&message.body)),
                tag::DATA_ROW => rows.push(row(&message)?),
                tag::ROW_DESCRIPTION | tag::COMMAND_COMPLETE | tag::EMPTY_QUERY => {}
                other => return Err(unexpected(other, "in the answer to a command")),
            }
        }
    }

    /// Sends START_REPLICATION and waits until the server streams.
    ///
    /// # Errors
    /// The server's refusal, classified.
    pub async fn start_replication(mut self, sql: &str) -> Result<(Reader, Writer)> {
        let doing = "starting replication";
        self.session.query(sql, doing).await?;
        let message = self.session.next().await.map_err(|error| lost(doing, error))??;
        match message.tag {
            tag::COPY_BOTH => {}
            tag::ERROR => return Err(ServerError::parse(&message.body).into_error(doing)),
            other => return Err(unexpected(other, "instead of starting to stream")),
        }
        let (reading, writing) = tokio::io::split(self.session.transport);
        Ok((Reader::new(reading, self.session.input), Writer::new(writing)))
    }
}

/// The first words of a command: what it does, without names or values.
fn verb(sql: &str) -> String {
    let is_keyword = |word: &&str| word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    let words: Vec<&str> = sql.split_whitespace().take_while(is_keyword).take(3).collect();
    if words.is_empty() { "a command".to_owned() } else { words.join(" ") }
}

fn pooled(options: &ConnectOptions) -> Error {
    Error::fatal(
        Origin::Source,
        codes::POOLER,
        format!("{} takes no replication commands: a pooler stands before it", describe(options)),
    )
    .with_remedy("put the server's own host and port into `url`, not the pooler's")
}

fn identifying(refusal: ServerError) -> Error {
    refusal.into_error("identifying the server")
}

fn identity(identified: &Rows, settings: &Rows) -> Result<Identity> {
    let field = |rows: &Rows, at: usize| {
        rows.first().and_then(|row| row.get(at)).cloned().flatten().unwrap_or_default()
    };
    for (at, name, expected) in
        [(1, "extra_float_digits", "3"), (2, "bytea_output", "hex"), (3, "lc_monetary", "C")]
    {
        let found = field(settings, at);
        if found != expected {
            return Err(setting_error(name, expected, &found));
        }
    }
    let incomplete = || protocol("the server's answer to IDENTIFY_SYSTEM is incomplete");
    let (system, flushed, database) =
        (field(identified, 0), field(identified, 2), field(identified, 3));
    if system.is_empty() || database.is_empty() {
        return Err(incomplete());
    }
    Ok(Identity {
        system,
        timeline: field(identified, 1).parse().map_err(|_| incomplete())?,
        flushed,
        database,
        server_version: field(settings, 0).parse().map_err(|_| incomplete())?,
    })
}

fn row(message: &Message) -> Result<Vec<Option<String>>> {
    let torn = || protocol("the server sent a row that is torn");
    let mut body = Body(&message.body);
    let count = body.i16().ok_or_else(torn)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = body.i32().ok_or_else(torn)?;
        values.push(match usize::try_from(length) {
            // A negative length is NULL.
            Err(_) => None,
            Ok(length) => {
                let bytes = body.bytes(length).ok_or_else(torn)?;
                Some(String::from_utf8_lossy(bytes).into_owned())
            }
        });
    }
    Ok(values)
}

/// The error that the body of an ErrorResponse in the stream stands for.
pub fn server_error(body: &[u8], doing: &str) -> Error {
    ServerError::parse(body).into_error(doing)
}

/// Logs a NoticeResponse at debug level, without its text, which may quote values.
pub fn log_notice(body: &[u8]) {
    ServerError::parse(body).log_as_notice();
}

/// Takes in a NoticeResponse of the stream: logged, unless it says that changes are left out.
///
/// # Errors
/// RT2121 where the publication does not exist at the place in the log that is being decoded:
/// PostgreSQL 18 warns, and goes on without the changes there.
pub fn stream_notice(body: &[u8]) -> Result<()> {
    let notice = ServerError::parse(body);
    if notice.routine == "LoadPublications" {
        return Err(notice.into_error("streaming changes"));
    }
    notice.log_as_notice();
    Ok(())
}

impl ServerError {
    fn log_as_notice(&self) {
        let Self { severity, sqlstate, routine, .. } = self;
        tracing::debug!(severity, sqlstate, routine, "notice from the server");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_command_is_named_by_its_keywords_alone() {
        assert_eq!(verb("CREATE_REPLICATION_SLOT x LOGICAL"), "CREATE_REPLICATION_SLOT");
        assert_eq!(verb("ALTER PUBLICATION x"), "ALTER PUBLICATION");
        assert_eq!(verb("select 'geheim'"), "a command");
    }

    #[test]
    fn a_row_with_a_null_is_read() {
        let body = b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff".to_vec();
        let read = row(&Message { tag: tag::DATA_ROW, body }).unwrap();
        assert_eq!(read, [Some("ab".to_owned()), None]);
    }

    proptest! {
        #[test]
        fn any_row_is_read_without_a_panic(body: Vec<u8>) {
            let _row = row(&Message { tag: tag::DATA_ROW, body });
        }
    }
}
