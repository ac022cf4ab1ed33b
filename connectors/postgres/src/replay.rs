//! Decodes recorded pgoutput messages without a server.
//!
//! The golden transcripts run through this, and a defect can be reported as a recording. It is the
//! stream's own assembler; only the socket and the catalog are missing, so tables of user-defined
//! types show those as opaque text.

use std::sync::Arc;

use rowtide_sdk::{Batch, Error, Limits, Origin, Result};

use crate::config::MessageSelection;
use crate::lsn::Lsn;
use crate::message::MessageRules;
use crate::position::{History, Renderer};
use crate::relation::{TableFacts, build_table};
use crate::stream::codes;
use crate::stream::{Assembler, Progress, Spool, Step};

/// One recorded message: where it stands in the log and the message itself, without the streaming
/// protocol's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The LSN that came with it.
    pub lsn: Lsn,
    /// The pgoutput message, from its tag byte.
    pub message: Vec<u8>,
}

/// Turns recorded messages into batches, as the stream of a database named `database` would.
/// `logical` says what is done with messages of applications; without, they are passed over.
///
/// # Errors
/// What the stream gives on the same messages; where the selection's patterns cannot be read.
pub fn replay(
    database: &str,
    messages: &[Recorded],
    logical: Option<&MessageSelection>,
    limits: Limits,
    received_ts_us: i64,
) -> Result<Vec<Batch>> {
    let history = History {
        system: "0".to_owned(),
        timeline: 1,
        database: database.to_owned(),
        database_oid: 0,
    };
    let renderer = Renderer::new(&history, "replay", "replay")?;
    let progress = Progress::new(Lsn(0), None);
    let rules = match logical.map(|selection| (selection, selection.filter())) {
        Some((selection, Ok(filter))) => {
            Some(MessageRules::new(filter, selection.annotations, database))
        }
        Some((_, Err(_))) => {
            let message = "the patterns of messages cannot be read";
            return Err(Error::fatal(Origin::Config, codes::HOST_GONE, message));
        }
        None => None,
    };
    // Never so much that anything would go to disk.
    let spool = Some(Spool::new(usize::MAX));
    let mut assembler = Assembler::new(progress, renderer, Box::new(|_, _| true), limits, spool)
        .with_messages(rules);
    let mut batches = Vec::new();
    for recorded in messages {
        write_frame(recorded, assembler.buffer())?;
        assembler.received_at(received_ts_us);
        loop {
            match assembler.advance()? {
                Step::More => break,
                Step::Full => batches.push(assembler.take(Batch::default())),
                Step::Describe(message) => {
                    let facts = TableFacts::from_relation(&message);
                    let table = Arc::new(build_table(database, &message, &facts));
                    assembler.learn(message, table);
                }
                Step::Reply | Step::Ended | Step::Spill | Step::Fill(_) | Step::Forget(..) => {}
            }
        }
    }
    if assembler.has_entries() {
        batches.push(assembler.take(Batch::default()));
    }
    Ok(batches)
}

/// Wraps a message into the CopyData frame of an XLogData message.
fn write_frame(recorded: &Recorded, buffer: &mut Vec<u8>) -> Result<()> {
    // Length field, the tag `w`, two LSNs and a time.
    let len = recorded.message.len().saturating_add(4 + 1 + 3 * 8);
    let len = u32::try_from(len).map_err(|_| {
        Error::fatal(Origin::Source, codes::HOST_GONE, "a recorded message is too large")
    })?;
    buffer.push(b'd');
    buffer.extend_from_slice(&len.to_be_bytes());
    buffer.push(b'w');
    buffer.extend_from_slice(&recorded.lsn.0.to_be_bytes());
    buffer.extend_from_slice(&recorded.lsn.0.to_be_bytes());
    buffer.extend_from_slice(&[0; 8]);
    buffer.extend_from_slice(&recorded.message);
    Ok(())
}
