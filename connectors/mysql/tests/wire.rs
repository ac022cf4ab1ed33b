//! The connection against real servers: every way to log in, every kind of TLS, the refusals, and the
//! stream of the log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail as the test does"
)]

#[path = "wire/certificates.rs"]
mod certificates;
#[path = "wire/login.rs"]
mod login;
#[path = "wire/refusals.rs"]
mod refusals;
#[path = "wire/stream.rs"]
mod stream;

use std::path::Path;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use rowtide_mysql::binlog::event::{Format, Header, kind};
use rowtide_mysql::config::ConnectOptions;
use rowtide_mysql::wire::{BinlogConnection, Dump, Packet, PacketStream, Start, sql_conn};
use rowtide_sdk::{Class, Error, Result};
use rowtide_testkit::{Flavor, Mysql};

fn options(url: &str) -> ConnectOptions {
    ConnectOptions::parse(url, Path::new("/")).unwrap()
}

/// Logs in both ways, which must agree; the error is the binlog connection's.
async fn login(url: &str) -> Result<BinlogConnection> {
    let options = options(url);
    let connection = BinlogConnection::connect(&options).await;
    let sql = sql_conn(&options).await;
    match (&connection, sql) {
        (Ok(_), Ok(mut conn)) => {
            let row: Option<(String, String)> =
                conn.query_first("SELECT @@time_zone, @@sql_mode").await.unwrap();
            assert_eq!(row, Some(("+00:00".to_owned(), String::new())));
        }
        (Err(error), Err(sql)) => assert_eq!(error.code(), sql.code(), "{error} / {sql}"),
        (connection, sql) => panic!("{url}: {connection:?} but {sql:?}"),
    }
    connection
}

async fn refused(url: &str, code: &str, class: Class) -> Error {
    let error = login(url).await.unwrap_err();
    assert_eq!((error.code().0, error.class()), (code, class), "{url}: {error}");
    assert!(!error.to_string().contains("geheim"), "{error}");
    error
}

/// A stream, and how its events are read.
struct Log {
    stream: PacketStream,
    format: Format,
}

/// What a log holds next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Event(Header, Vec<u8>),
    Oversized(u8, u64),
    End,
}

impl Next {
    fn kind(&self) -> u8 {
        match self {
            Self::Event(header, _) => header.kind,
            Self::Oversized(kind, _) => *kind,
            Self::End => 0,
        }
    }
}

impl Log {
    async fn open(server: &Mysql, dump: &Dump) -> Result<Self> {
        let connection = BinlogConnection::connect(&options(server.url())).await?;
        let stream = connection.dump(dump).await?;
        let format = Format::initial(true);
        Ok(Self { stream, format })
    }

    /// The next event, its checksum verified.
    async fn next(&mut self) -> Result<Next> {
        loop {
            match self.stream.next()? {
                Some(Packet::Event(event)) => {
                    let header = Header::parse(event).unwrap();
                    if header.kind == kind::FORMAT_DESCRIPTION {
                        self.format = Format::parse(event).unwrap();
                        return Ok(Next::Event(header, Vec::new()));
                    }
                    let body = match header.kind {
                        kind::ROTATE => self.format.rotate_body(&header, event),
                        _ => self.format.body(&header, event),
                    };
                    let body = body.unwrap();
                    return Ok(Next::Event(header, body.to_vec()));
                }
                Some(Packet::Oversized { head, size }) => {
                    return Ok(Next::Oversized(Header::parse(head).unwrap().kind, size));
                }
                Some(Packet::Part(_)) => panic!("nothing is packed here"),
                Some(Packet::End) => return Ok(Next::End),
                None => {}
            }
            tokio::time::timeout(Duration::from_secs(30), self.stream.read()).await.unwrap()?;
        }
    }

    /// Everything up to the first of a kind, that one included.
    async fn until(&mut self, wanted: impl Fn(&Next) -> bool) -> Result<Vec<Next>> {
        let mut all = Vec::new();
        loop {
            let next = self.next().await?;
            let is_last = wanted(&next);
            all.push(next);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// How the stream ends.
    async fn error(mut self) -> Error {
        let ending = async {
            loop {
                match self.next().await {
                    Ok(Next::End) => panic!("an end that is no error"),
                    Ok(_) => {}
                    Err(error) => return error,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ending).await.expect("it goes on")
    }
}

fn is(wanted: u8) -> impl Fn(&Next) -> bool {
    move |next| next.kind() == wanted
}

fn kinds(all: &[Next]) -> Vec<u8> {
    all.iter().map(Next::kind).collect()
}

/// The end of the log now: file and position.
fn end_of_log(server: &Mysql, flavor: Flavor) -> Start {
    let statement = match flavor {
        Flavor::Mysql => "SHOW BINARY LOG STATUS",
        Flavor::Mariadb => "SHOW MASTER STATUS",
    };
    let shown = server.sql(statement);
    let mut fields = shown.split('\t');
    let name = fields.next().unwrap().to_owned();
    Start::File { name, position: fields.next().unwrap().trim().parse().unwrap() }
}
