//! What the assembler does with messages of applications.

use rowtide_sdk::{Change, Entry, Error, JsonWriter, LogMessage, Op, Origin, Result, Tx};

use super::{Assembler, CHANGE_HEAD, FRAME_HEADER, XLOG_HEADER, not_understood};
use crate::lsn::Lsn;
use crate::message::{MessageRules, NoteKind, NotePlace, Role, write_content};
use crate::pgoutput::{Logical, parse_logical_head};
use crate::stream::codes;
use crate::stream::transaction::{append, span};

/// What must be held of a message above the limit to know its prefix, unless that is very long.
const LOGICAL_HEAD: usize = FRAME_HEADER + XLOG_HEADER + 10 + 512;

/// Where a message stands and whether it is to be handed over.
struct Place {
    index: u64,
    due: bool,
}

impl Assembler {
    /// Has messages taken as `rules` say. Without, those that come are passed over uncounted.
    pub(crate) fn with_messages(self, rules: Option<MessageRules>) -> Self {
        Self { messages: rules, ..self }
    }

    /// One message: counted, and then an event, a note on its transaction, or nothing.
    pub(super) fn logical(&mut self, message: &Logical<'_>, at: Lsn) -> Result<()> {
        let Some(role) = self.role(message) else { return Ok(()) };
        let place = self.count_logical(message, at)?;
        match role {
            Role::Event if place.due => self.message_event(message, place.index, at),
            Role::Note(kind) => self.note(kind, message, at),
            Role::Event | Role::Passed => Ok(()),
        }
    }

    /// What a message is; `None` where none were asked for.
    fn role(&self, message: &Logical<'_>) -> Option<Role> {
        let rules = self.messages.as_ref()?;
        Some(rules.role(message.prefix, message.is_transactional))
    }

    /// One inside a transaction counts among its changes; one outside is a place of its own.
    fn count_logical(&mut self, message: &Logical<'_>, at: Lsn) -> Result<Place> {
        let counted = if message.is_transactional {
            self.progress.count_change()
        } else {
            self.progress.outside(message.lsn).map(|due| (0, due))
        };
        let (index, due) = counted.map_err(|what| not_understood(what, at))?;
        Ok(Place { index, due })
    }

    fn note_place(&self, message: &Logical<'_>) -> NotePlace {
        let (xid, commit) = self.progress.open_transaction().unwrap_or_default();
        NotePlace { lsn: message.lsn, xid, commit }
    }

    fn note(&mut self, kind: NoteKind, message: &Logical<'_>, at: Lsn) -> Result<()> {
        let place = self.note_place(message);
        let note =
            self.messages.as_mut().and_then(|rules| rules.note(kind, message.content, place));
        match note {
            Some(note) => self.progress.note(note).map_err(|what| not_understood(what, at)),
            None => Ok(()),
        }
    }

    fn message_event(&mut self, message: &Logical<'_>, index: u64, at: Lsn) -> Result<()> {
        let Some(db) = self.messages.as_ref().map(|rules| rules.db.clone()) else { return Ok(()) };
        let refused = |what| not_understood(what, at);
        let (txs, text) = (&mut self.batch.txs, &mut self.batch.text);
        let tx = if message.is_transactional {
            self.progress.transaction(txs, text).map_err(refused)?
        } else {
            let full = |_| refused("too many transactions in a batch");
            let slot = u32::try_from(txs.len()).map_err(full)?;
            let commit = append(text, message.lsn.text().as_bytes()).map_err(refused)?;
            txs.push(Tx { commit, ..Tx::default() });
            slot
        };
        let prefix = append(text, message.prefix.as_bytes()).map_err(refused)?;
        let start = text.len();
        let mut out = JsonWriter::new(std::mem::take(text));
        let encoding = write_content(message.content, &mut out);
        *text = out.into_inner();
        let content = span(start, text.len()).map_err(refused)?;
        let offset = message.lsn.0;
        self.batch.entries.push(Entry::Message(Box::new(LogMessage {
            change: Change {
                op: Op::Message,
                table: u32::MAX,
                tx,
                offset,
                index,
                part: None,
                before: None,
                after: None,
            },
            db,
            is_transactional: message.is_transactional,
            prefix,
            encoding,
            content,
        })));
        Ok(())
    }

    /// How much of a frame above the limit must be held, of which `rest` is there.
    pub(super) fn head_len(&self, rest: &[u8]) -> usize {
        let is_message = rest.get(FRAME_HEADER + XLOG_HEADER) == Some(&b'M');
        let len = if is_message && self.messages.is_some() { LOGICAL_HEAD } else { CHANGE_HEAD };
        len + self.segment_overhead()
    }

    /// A message above the limit, of which the beginning is there.
    ///
    /// # Errors
    /// Poison where it is wanted as an event.
    pub(super) fn oversized_logical(&mut self, held: &[u8], frame: usize, at: Lsn) -> Result<()> {
        if self.messages.is_none() {
            return Ok(());
        }
        let head = parse_logical_head(held).map_err(|error| not_understood(error, at))?;
        let Some(message) = head else { return Err(self.message_too_large(frame, at)) };
        let Some(role) = self.role(&message) else { return Ok(()) };
        let place = self.count_logical(&message, at)?;
        match role {
            Role::Event if place.due => return Err(self.message_too_large(frame, at)),
            Role::Note(kind) => {
                let place = self.note_place(&message);
                if let Some(rules) = &mut self.messages {
                    rules.unusable(kind, place);
                }
            }
            Role::Event | Role::Passed => {}
        }
        Ok(())
    }

    fn message_too_large(&self, frame: usize, at: Lsn) -> Error {
        Error::poison(
            Origin::Source,
            codes::MESSAGE_TOO_LARGE,
            format!(
                "the message at LSN {at} is {frame} bytes in the log, above max_event ({} bytes)",
                self.limits.max_event
            ),
        )
        .with_remedy(
            "raise `max_event` (and before it the sink's own limits, such as max.message.bytes of an \
             existing Kafka topic), or leave its prefix out by `messages.exclude`",
        )
    }
}
