//! Whether the server's log can be read from a position on: it is asked for as a run asks, and given up after
//! its first events.

use std::time::Duration;

use rowtide_sdk::{Limits, Result};
use tokio::time::timeout;

use crate::binlog::event::{Header, kind};
use crate::config::MysqlConfig;
use crate::position::{MyPosition, another_file};
use crate::server::Server;
use crate::source::{MysqlSource, is_there, leaps, start};
use crate::stream::{Assembler, Passed, Place, Progress, Step};
use crate::wire::{BinlogConnection, Dump, Packet, Start};

/// So many events tell: what describes the file, and the first that stands in it.
const EVENTS: usize = 16;
/// How long a server may look for the position.
const WAIT: Duration = Duration::from_secs(10);
/// The bit by which the id of who tries differs from the stream's, which the server would end otherwise.
const TRIES: u32 = 1 << 30;

/// What the beginning tells.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    /// When the position's file was made, as far as that was read (0: not).
    pub(crate) created: u32,
    /// Whether the position is inside a transaction.
    pub(crate) is_within: bool,
}

/// When a file of the log was made, in seconds since 1970; 0 where the server does not send its beginning
/// in time.
///
/// # Errors
/// Where it cannot be read.
pub(crate) async fn made(source: &MysqlSource, id: u32, file: &str) -> Result<u32> {
    let start = Start::File { name: file.to_owned(), position: 4 };
    let dump = Dump { ends: true, ..Dump::new(id ^ TRIES, start) };
    let connection = BinlogConnection::connect(&source.options).await?;
    let mut stream = connection.dump(&dump).await?;
    loop {
        match stream.next()? {
            Some(Packet::Event(event)) => {
                if let Ok(header) = Header::parse(event)
                    && header.kind == kind::FORMAT_DESCRIPTION
                {
                    return Ok(header.timestamp);
                }
            }
            Some(Packet::Part(_) | Packet::Oversized { .. } | Packet::End) => return Ok(0),
            None => {
                if timeout(WAIT, stream.read()).await.unwrap_or(Ok(0))? == 0 {
                    return Ok(0);
                }
            }
        }
    }
}

/// Verifies that the log has not begun anew since a position that knows its place by GTIDs, which name other
/// transactions then: the file that was seen last is looked at, as long as the server has it.
///
/// # Errors
/// `RT2702` where it is another; where it cannot be read.
pub(crate) async fn check_seen(
    source: &MysqlSource,
    id: u32,
    files: &[(String, u64)],
    position: &MyPosition,
) -> Result<()> {
    let Some((file, seen)) = &position.history.seen else { return Ok(()) };
    let is_before = |(last, size): &(String, u64)| {
        let end = Place { file: last.clone(), pos: *size };
        !Place { file: file.clone(), pos: 4 }.is_at_most(&end)
    };
    let is_another = match files.iter().any(|(name, _)| name == file) {
        true => {
            let made = made(source, id, file).await?;
            made != 0 && made != *seen
        }
        false => files.last().is_some_and(is_before),
    };
    if is_another { Err(another_file(file)) } else { Ok(()) }
}

/// Reads the beginning of what a run would read. `is_place` is where a place in one of the `files` is meant,
/// also where nothing else is known of it yet.
///
/// # Errors
/// What a run would end with.
pub(crate) async fn tried(
    source: &MysqlSource,
    server: &Server,
    files: &[(String, u64)],
    position: &MyPosition,
    passed: &Passed,
    is_place: bool,
) -> Result<Tried> {
    let is_there =
        is_there(position, passed, server, files)? || is_place && server.can_start(position.pos);
    let start = start(position, passed, is_there)?;
    let progress = Progress::new(position.clone(), passed.clone());
    // What no table is wanted of needs no catalog.
    let mut assembler =
        Assembler::new(progress, Box::new(|_, _| false), Limits::default(), server.is_mariadb())
            .with_leaps(leaps(&start, files));
    let id = MysqlConfig::passing_id() ^ TRIES;
    let dump = Dump { ends: true, max_event: 1 << 20, ..Dump::new(id, start) };
    let connection = BinlogConnection::connect(&source.options).await?;
    let mut stream = connection.dump(&dump).await?;
    let mut tried = Tried::default();
    let mut is_first = true;
    let mut left = EVENTS;
    while left > 0 {
        match stream.next()? {
            Some(Packet::Event(event)) => {
                if let Ok(header) = Header::parse(event)
                    && !header.is_of_the_file()
                {
                    tried.is_within |= is_first && header.is_within_group();
                    is_first = false;
                }
                match assembler.event(event)? {
                    Step::More => {
                        left -= 1;
                        let here = assembler.position();
                        if here.file == position.file {
                            tried.created = here.history.created;
                        }
                    }
                    _ => break,
                }
            }
            Some(Packet::Part(_) | Packet::Oversized { .. } | Packet::End) => break,
            None => {
                let read = timeout(WAIT, stream.read()).await;
                // It ended, or it finds nothing wrong and has nothing to send.
                if read.unwrap_or(Ok(0))? == 0 {
                    break;
                }
            }
        }
    }
    Ok(tried)
}
