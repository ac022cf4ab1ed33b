//! Whether the server's log can be read from a position on: it is asked for as a run asks, and given up after
//! its first events.

use std::time::Duration;

use rowtide_sdk::{Limits, Result};
use tokio::time::timeout;

use crate::position::MyPosition;
use crate::server::Server;
use crate::source::{MysqlSource, is_there, leaps, start};
use crate::stream::{Assembler, Passed, Progress, Step};
use crate::wire::{BinlogConnection, Dump, Packet};

/// So many events tell: what describes the file, and the first that stands in it.
const EVENTS: usize = 16;
/// How long a server may look for the position.
const WAIT: Duration = Duration::from_secs(10);
/// The bit by which the id of who tries differs from the stream's, which the server would end otherwise.
const TRIES: u32 = 1 << 30;

/// Reads the beginning of what a run would read; answers when the position's file was made, as far as that
/// was read (0: not).
///
/// # Errors
/// What a run would end with.
pub(crate) async fn tried(
    source: &MysqlSource,
    server: &Server,
    files: &[(String, u64)],
    position: &MyPosition,
    passed: &Passed,
) -> Result<u32> {
    let is_there = is_there(position, passed, server, files)?;
    let start = start(position, passed, is_there)?;
    let progress = Progress::new(position.clone(), passed.clone());
    // What no table is wanted of needs no catalog.
    let assembler =
        Assembler::new(progress, Box::new(|_, _| false), Limits::default(), server.is_mariadb())
            .with_leaps(leaps(&start, files));
    let id = source.config.server_id_for("check") ^ TRIES;
    let dump = Dump { ends: true, max_event: 1 << 20, ..Dump::new(id, start) };
    let connection = BinlogConnection::connect(&source.options).await?;
    let mut stream = connection.dump(&dump).await?;
    let mut assembler = assembler.with_checksum(stream.has_checksum());
    let mut created = 0;
    let mut left = EVENTS;
    while left > 0 {
        match stream.next()? {
            Some(Packet::Event(event)) => match assembler.event(event)? {
                Step::More => {
                    left -= 1;
                    let here = assembler.position();
                    if here.file == position.file {
                        created = here.history.created;
                    }
                }
                _ => break,
            },
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
    Ok(created)
}
