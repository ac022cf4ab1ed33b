//! Messages that applications write into the log (`pg_logical_emit_message`): which become events,
//! which describe the transaction they stand in, and how their content is written. Nothing here does
//! I/O.

use std::sync::Arc;

use rowtide_sdk::{ContentEncoding, JsonWriter, Written};

use crate::config::MessageFilter;
use crate::decode::write_json;
use crate::lsn::Lsn;
use crate::stream::codes;

/// Prefixes that begin so are Rowtide's own and never become events.
const RESERVED: &str = "rowtide.";
/// The prefix of a W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// The prefix of a JSON object to be put on the events that follow.
const ANNOTATION: &str = "rowtide.annotation";
/// The bytes of an annotation at most: every event of its transaction carries it.
pub(crate) const ANNOTATION_MAX: usize = 4096;
/// The length of a trace context of version 00.
const TRACEPARENT_LEN: usize = 55;
/// A later version may be longer.
const TRACEPARENT_MAX: usize = 256;

/// What is done with messages, where the server was asked for them.
#[derive(Debug)]
pub(crate) struct MessageRules {
    filter: MessageFilter,
    annotates: bool,
    /// The database, for the events.
    pub(crate) db: Arc<str>,
    /// Whether a note that cannot be used was reported in this session.
    has_warned: bool,
}

/// What one message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An event of its own.
    Event,
    /// Something about its transaction.
    Note(NoteKind),
    /// Not wanted: counted, and nothing else.
    Passed,
}

/// What a message says about its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoteKind {
    /// The trace it belongs to.
    Traceparent,
    /// Anything, as a JSON object.
    Annotation,
}

/// Where a note stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotePlace {
    /// The end of its record.
    pub(crate) lsn: Lsn,
    /// Its transaction.
    pub(crate) xid: u32,
    /// Where that transaction commits.
    pub(crate) commit: Lsn,
}

/// A note, ready to be put on events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// ASCII without quotes and backslashes.
    Traceparent(String),
    /// A JSON object.
    Annotation(Vec<u8>),
}

impl MessageRules {
    /// `annotates` says whether notes are taken.
    pub(crate) fn new(filter: MessageFilter, annotates: bool, db: &str) -> Self {
        Self { filter, annotates, db: db.into(), has_warned: false }
    }

    /// What a message with this prefix is.
    pub(crate) fn role(&self, prefix: &str, is_transactional: bool) -> Role {
        let note = match prefix {
            TRACEPARENT => Some(NoteKind::Traceparent),
            ANNOTATION => Some(NoteKind::Annotation),
            _ => None,
        };
        match note.filter(|_| self.annotates) {
            Some(kind) if is_transactional => Role::Note(kind),
            Some(_) => Role::Passed,
            None if prefix.starts_with(RESERVED) || !self.filter.matches(prefix) => Role::Passed,
            None => Role::Event,
        }
    }

    /// Reads a note. One that cannot be used is reported, the first time in a session.
    pub(crate) fn note(
        &mut self,
        kind: NoteKind,
        content: &[u8],
        place: NotePlace,
    ) -> Option<Note> {
        let note = match kind {
            NoteKind::Traceparent => traceparent(content).map(Note::Traceparent),
            NoteKind::Annotation => annotation(content).map(Note::Annotation),
        };
        if note.is_none() {
            self.unusable(kind, place);
        }
        note
    }

    /// Reports a note that cannot be used.
    pub(crate) fn unusable(&mut self, kind: NoteKind, place: NotePlace) {
        if std::mem::replace(&mut self.has_warned, true) {
            return;
        }
        let (prefix, wanted) = match kind {
            NoteKind::Traceparent => {
                (TRACEPARENT, "a W3C trace context in lower case: 00-<32 hex digits>-<16>-<2>")
            }
            NoteKind::Annotation => {
                (ANNOTATION, "a JSON object of at most 4096 bytes, without repeated keys")
            }
        };
        tracing::warn!(
            code = codes::NOTE_UNUSABLE.0,
            prefix,
            wanted,
            lsn = %place.lsn,
            transaction = place.xid,
            commit_lsn = %place.commit,
            "an application's message (pg_logical_emit_message) under this prefix does not hold what is wanted \
             there: the events of its transaction are published without it; mend the application, or set \
             `messages.annotations: false`; further ones are not reported until the next start"
        );
    }
}

/// A trace context by its form: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, lower case; a
/// later version may have more parts.
fn traceparent(content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?;
    let (head, rest) = text.split_at_checked(TRACEPARENT_LEN)?;
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = [2, 32, 16, 2];
    let mut parts = head.split('-');
    let is_formed = lengths
        .iter()
        .all(|&len| parts.next().is_some_and(|part| part.len() == len && is_hex(part)));
    let rest_fits = match head.get(..2)? {
        "ff" => false,
        "00" => rest.is_empty(),
        _ => {
            let is_plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
            (rest.is_empty() || rest.starts_with('-')) && rest.bytes().all(is_plain)
        }
    };
    let is_whole = is_formed && parts.next().is_none() && rest_fits;
    (is_whole && text.len() <= TRACEPARENT_MAX).then(|| text.to_owned())
}

/// A JSON object, without white space between its tokens.
fn annotation(content: &[u8]) -> Option<Vec<u8>> {
    // Escapes and white space can only make the text longer than what is written of it.
    if content.len() > 4 * ANNOTATION_MAX || first_token(content) != Some(b'{') {
        return None;
    }
    let mut out = JsonWriter::default();
    let written = write_json(content, &mut out).ok()?;
    (written == Written::Form && out.len() <= ANNOTATION_MAX).then(|| out.into_inner())
}

/// Appends a message's content as one JSON value. What it becomes depends on the content alone.
pub(crate) fn write_content(content: &[u8], out: &mut JsonWriter) -> ContentEncoding {
    if matches!(first_token(content), Some(b'{' | b'[')) {
        match write_json(content, out) {
            Ok(Written::Form) => return ContentEncoding::Json,
            // Written as a string of the text.
            Ok(Written::RawJson) => return ContentEncoding::Text,
            Err(_) => {}
        }
    }
    if out.utf8_string(content).is_ok() {
        return ContentEncoding::Text;
    }
    out.base64(content);
    ContentEncoding::Base64
}

/// The first byte that is no white space of JSON.
fn first_token(content: &[u8]) -> Option<u8> {
    content.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::config::MessageSelection;

    fn rules(selection: Value) -> MessageRules {
        let selection: MessageSelection = serde_json::from_value(selection).unwrap();
        MessageRules::new(selection.filter().unwrap(), selection.annotations, "shop")
    }

    #[test]
    fn prefixes_decide_what_a_message_is() {
        let all = rules(serde_json::json!({}));
        let event = |prefix: &str| all.role(prefix, true) == Role::Event;
        assert!(event("outbox") && event("") && event("rowtide") && event("a.b/c"));
        assert_eq!(all.role("rowtide.heartbeat", false), Role::Passed);
        assert_eq!(all.role("rowtide.annotation", true), Role::Note(NoteKind::Annotation));
        assert_eq!(all.role("rowtide.annotation", false), Role::Passed);
        assert_eq!(all.role("traceparent", true), Role::Note(NoteKind::Traceparent));
        assert_eq!(all.role("traceparent", false), Role::Passed);

        let some = rules(serde_json::json!({
            "include": ["out*", "traceparent"], "exclude": ["outer"], "annotations": false
        }));
        assert_eq!(some.role("outbox", false), Role::Event);
        assert_eq!(some.role("outer", true), Role::Passed);
        assert_eq!(some.role("other", true), Role::Passed);
        assert_eq!(some.role("traceparent", true), Role::Event);
        assert_eq!(some.role("rowtide.annotation", true), Role::Passed);

        let none = rules(serde_json::json!({ "include": [] }));
        assert_eq!(none.role("outbox", true), Role::Passed);
        assert_eq!(none.role("traceparent", true), Role::Note(NoteKind::Traceparent));
    }

    #[test]
    fn content_is_json_text_or_base64() {
        let cases: [(&[u8], &str, &str); 12] = [
            (b"{\"a\" : 1e400}", "json", "{\"a\":1e400}"),
            (b" [1, 2]\n", "json", "[1,2]"),
            (b"{\"a\":1,\"a\":2}", "text", r#""{\"a\":1,\"a\":2}""#),
            (b"{not json", "text", "\"{not json\""),
            (b"5", "text", "\"5\""),
            (b"null", "text", "\"null\""),
            (b"", "text", "\"\""),
            ("é\n".as_bytes(), "text", "\"é\\n\""),
            (b"\x00", "text", "\"\\u0000\""),
            (b"\xff", "base64", "\"/w==\""),
            (b"\xff\x00", "base64", "\"/wA=\""),
            (b"{\"a\":\"\xff\"}\x00", "base64", "\"eyJhIjoi/yJ9AA==\""),
        ];
        for (content, encoding, written) in cases {
            let mut out = JsonWriter::default();
            assert_eq!(write_content(content, &mut out).name(), encoding, "{written}");
            assert_eq!(String::from_utf8(out.into_inner()).unwrap(), written);
        }
    }

    #[test]
    fn a_trace_context_has_its_form() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(traceparent(good.as_bytes()).as_deref(), Some(good));
        let rest = good.strip_prefix("00").unwrap();
        let later = format!("cc{rest}-what-the.future_brings");
        assert_eq!(traceparent(later.as_bytes()).as_deref(), Some(later.as_str()));
        let bad = [
            String::new(),
            format!("{good}-00"),
            format!("ff{rest}"),
            good.to_uppercase(),
            good.replace("-b7", "\"b7"),
            good.replace("b7ad", "b7-d"),
            format!("cc{rest}-{}", "x".repeat(300)),
            format!("cc{rest}-\""),
            format!("cc{rest}x"),
        ];
        for bad in bad {
            assert_eq!(traceparent(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(traceparent(b"\xff"), None);
    }

    #[test]
    fn an_annotation_is_a_small_object() {
        assert_eq!(annotation(b" {\"by\": \"me\"} ").unwrap(), b"{\"by\":\"me\"}");
        let padded = format!("{{{}}}", " ".repeat(3 * ANNOTATION_MAX));
        assert_eq!(annotation(padded.as_bytes()).unwrap(), b"{}");
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(ANNOTATION_MAX));
        let bad: [&[u8]; 6] =
            [b"", b"[]", b"1", b"{\"a\":1,\"a\":1}", b"{\"a\":\xff}", large.as_bytes()];
        for bad in bad {
            assert_eq!(annotation(bad), None);
        }
    }

    proptest! {
        #[test]
        fn any_content_is_one_json_value_and_reads_back(content: Vec<u8>) {
            let mut out = JsonWriter::default();
            let encoding = write_content(&content, &mut out);
            let value: Value = serde_json::from_slice(out.as_bytes()).unwrap();
            match encoding {
                ContentEncoding::Text => prop_assert_eq!(value.as_str().unwrap().as_bytes(), content),
                ContentEncoding::Base64 => {
                    use base64::Engine as _;
                    let engine = base64::engine::general_purpose::STANDARD;
                    prop_assert_eq!(engine.decode(value.as_str().unwrap()).unwrap(), content);
                }
                ContentEncoding::Json => {
                    let direct: Value = serde_json::from_slice(&content).unwrap();
                    prop_assert_eq!(value, direct);
                }
            }
        }

        #[test]
        fn any_note_is_read_without_a_panic(content: Vec<u8>, text in "[0-9a-f-]{50,60}") {
            for content in [content.as_slice(), text.as_bytes()] {
                let _ = (traceparent(content), annotation(content));
            }
        }
    }
}
