//! Reads recorded events without a server.
//!
//! It is the stream's own assembler; only the connection, the catalog and the spool folder are missing, so
//! tables are what the log says of them, and a defect can be reported as a recording.

use std::sync::Arc;

use rowtide_sdk::{Batch, Error, Limits, Origin, Result};

use crate::codes;
use crate::position::{Altered, History, MyPosition};
use crate::stream::{Assembler, Passed, Progress, Step};
use crate::table::{RowImage, build_table};

/// Where recordings begin.
fn start() -> MyPosition {
    MyPosition {
        file: "binlog.000001".to_owned(),
        pos: 4,
        gtids: None,
        in_tx: None,
        pending: Vec::new(),
        by_gtids: false,
        altered: Altered::default(),
        history: History::of("replay".to_owned()),
        shape: String::new(),
    }
}

/// Turns recorded events, each whole, into batches, as the stream of a server would that has no checksums
/// before its first FORMAT_DESCRIPTION. `batches` gets those that come before an error, too.
///
/// # Errors
/// What the stream gives on the same events; where the log does not describe a table enough.
pub fn replay<'e>(
    events: impl IntoIterator<Item = &'e [u8]>,
    is_mariadb: bool,
    limits: Limits,
    batches: &mut Vec<Batch>,
) -> Result<()> {
    // Never so much that anything would go to disk.
    let limits = Limits { spool_memory: usize::MAX, ..limits };
    let progress = Progress::new(start(), Passed::Files);
    let mut assembler = Assembler::new(progress, Box::new(|_, _| true), limits, is_mariadb);
    let mut taken = events.into_iter().try_for_each(|event| {
        let step = assembler.event(event)?;
        whole(&mut assembler, step, batches)
    });
    if assembler.has_entries() {
        match assembler.take(Batch::default()) {
            Ok(batch) => batches.push(batch),
            Err(error) => taken = taken.and(Err(error)),
        }
    }
    taken
}

/// Follows what an event asks for, up to its end.
fn whole(assembler: &mut Assembler, first: Step, batches: &mut Vec<Batch>) -> Result<()> {
    let mut step = first;
    loop {
        match step {
            Step::Full => batches.push(assembler.take(Batch::default())?),
            Step::Describe(map) => {
                let table = build_table(&map, RowImage::Full, String::new());
                let table = table.map_err(|error| {
                    let message = format!("table {}.{}: {error}", map.schema, map.name);
                    Error::fatal(Origin::Source, codes::TABLE_UNREADABLE, message)
                })?;
                assembler.learn(*map, Arc::new(table))?;
            }
            Step::DescribeNamed(..) => {
                step = assembler.learn_named(None)?;
                continue;
            }
            Step::Engines(tables) => {
                tables.into_iter().for_each(|table| assembler.stays(table, false));
            }
            Step::More | Step::Spill | Step::Fill(_) => {}
        }
        step = if assembler.is_replaying() {
            assembler.replay()?
        } else if assembler.is_unpacking() {
            assembler.unpack()?
        } else {
            return Ok(());
        };
    }
}
