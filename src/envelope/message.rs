//! Messages of applications as events: `schemas/message/v1`.
//!
//! They have a format of their own rather than an op of the envelope: they are of no table, and the
//! envelope's promise names its ops.

use std::sync::Arc;

use rowtide_sdk::{
    AllHeaders, Batch, ContentEncoding, Error, JsonWriter, LogMessage, Origin, PositionWriter,
    Record, RecordHeaders, SourceInfo, Tx,
};

use super::image::at;
use super::scene::Scene;
use super::violation::{DEFECT, too_large};
use crate::config::Headers;
use crate::schema::{self, ENVELOPE_SCHEMA, TextNode, TextValidator};

/// The version of the message format.
const MESSAGE_VERSION: &str = "1.0";

/// The committed JSON Schema of a message's event.
pub const MESSAGE_SCHEMA_JSON: &str = include_str!("../../schemas/message/v1/message.schema.json");

/// Everything about a connector's messages that can be decided once.
#[derive(Debug)]
pub(super) struct MessagePlan {
    /// `{"v":"1.0","id":"shop:`.
    head: Box<[u8]>,
    /// `,"source":{"connector":"postgres","name":"shop","db":`.
    source: Box<[u8]>,
    /// The topic.
    pub(super) topic: Arc<str>,
    write_position: PositionWriter,
    schema: TextValidator,
    /// The shapes of which an event passed the schema, one bit each.
    proven_shapes: u8,
    subject: Arc<str>,
    version: Arc<str>,
}

/// Where one event's parts lie in the output.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    start: u32,
    end: u32,
    id: (u32, u32),
    key: (u32, u32),
}

impl MessagePlan {
    /// Prepares the events of the connector `name`, which go to `topic`.
    ///
    /// # Errors
    /// Fatal where the schema cannot be compiled.
    pub(super) fn new(name: &str, info: SourceInfo, topic: Arc<str>) -> Result<Self, Error> {
        let what = "the schema of messages";
        let schema: serde_json::Value =
            serde_json::from_str(MESSAGE_SCHEMA_JSON).map_err(|error| {
                let message = "the schema of messages is no JSON";
                Error::fatal(Origin::Host, schema::BAD_SCHEMA, message).with_source(error)
            })?;
        let mut head = JsonWriter::default();
        head.raw(b"{\"v\":");
        head.string(MESSAGE_VERSION);
        head.raw(b",\"id\":\"");
        head.string_part(name);
        head.byte(b':');
        let mut source = JsonWriter::default();
        source.raw(b",\"source\":{\"connector\":");
        source.string(info.connector);
        source.raw(b",\"name\":");
        source.string(name);
        source.raw(b",\"db\":");
        Ok(Self {
            head: head.into_inner().into_boxed_slice(),
            source: source.into_inner().into_boxed_slice(),
            topic,
            write_position: info.write_position,
            schema: schema::compile(&schema, what)?,
            proven_shapes: 0,
            subject: "rowtide.message".into(),
            version: MESSAGE_VERSION.into(),
        })
    }

    /// Appends one message's event; its record, but for the topic's number.
    ///
    /// # Errors
    /// Poison where the event is too large, or breaks its own schema.
    pub(super) fn encode(
        &mut self,
        scene: &MessageScene<'_>,
        settings: MessageSettings,
        out: &mut JsonWriter,
    ) -> Result<Record, Error> {
        let parts = self.write(scene, out);
        let bytes = usize::try_from(parts.end.saturating_sub(parts.start)).unwrap_or(usize::MAX);
        let event = out.as_bytes().get(parts.start as usize..parts.end as usize);
        let id = out.as_bytes().get(parts.id.0 as usize..parts.id.1 as usize).unwrap_or_default();
        let refused = |code, reason: String, remedy: String| {
            let id = String::from_utf8_lossy(id);
            let message = format!("message {id} cannot be published: {reason}");
            Error::poison(Origin::Host, code, message).with_remedy(remedy)
        };
        if bytes > settings.max_event {
            let violation = too_large(bytes, settings.max_event);
            let remedy = "raise `max_event` (and the sink's own limits), or leave its prefix out by \
                          `messages.exclude`";
            return Err(refused(violation.code, violation.reason, remedy.to_owned()));
        }
        let shape = shape_bit(scene.message);
        if settings.is_validated && self.proven_shapes & shape == 0 {
            if let Err(error) = self.schema.validate(TextNode::Text(event.unwrap_or_default())) {
                let reason = format!(
                    "the schema of messages: {} at {}",
                    error.masked(),
                    error.instance_path()
                );
                return Err(refused(ENVELOPE_SCHEMA, reason, DEFECT.to_owned()));
            }
            self.proven_shapes |= shape;
        }
        out.byte(b'\n');
        Ok(Record {
            topic: 0,
            key: Some(parts.key.0..parts.key.1),
            value: Some(parts.start..parts.end),
            to_all_partitions: false,
            headers: self.headers(settings.headers, parts.id),
        })
    }

    fn headers(&self, wanted: Headers, id: (u32, u32)) -> Option<Box<RecordHeaders>> {
        let all = match wanted {
            Headers::None => return None,
            Headers::Id => None,
            Headers::All => Some(AllHeaders {
                op: rowtide_sdk::Op::Message.letter(),
                subject: Arc::clone(&self.subject),
                version: Arc::clone(&self.version),
            }),
        };
        Some(Box::new(RecordHeaders { id: id.0..id.1, all }))
    }

    fn write(&self, scene: &MessageScene<'_>, out: &mut JsonWriter) -> Parts {
        let MessageScene { batch, message, tx } = *scene;
        let change = Scene { batch, change: &message.change, tx, reselected: None };
        let prefix = String::from_utf8_lossy(message.prefix.of(&batch.text));
        let mut parts = Parts { start: at(out), ..Parts::default() };
        out.raw(&self.head);
        // The connector's name, a colon and the place: `{"v":"1.0","id":"` stands before it.
        parts.id.0 = parts.start.saturating_add(super::encode::ID_PREFIX_LEN);
        if message.is_transactional {
            change.id_tail(None, out);
        } else {
            // A transaction's commit record may begin where the message ends: no number, then.
            out.raw(tx.commit.of(&batch.text));
            out.raw(b":m");
        }
        parts.id.1 = at(out);
        out.raw(b"\",\"op\":\"m\",\"key\":");
        parts.key.0 = at(out);
        out.raw(b"{\"prefix\":");
        out.string(&prefix);
        out.byte(b'}');
        parts.key.1 = at(out);
        out.raw(b",\"message\":{\"prefix\":");
        out.string(&prefix);
        out.raw(b",\"transactional\":");
        out.bool(message.is_transactional);
        out.raw(b",\"encoding\":");
        out.string(message.encoding.name());
        out.raw(b",\"content\":");
        out.raw(message.content.of(&batch.text));
        out.byte(b'}');
        out.raw(&self.source);
        out.string(&message.db);
        out.raw(b",\"position\":");
        (self.write_position)(out, tx, &message.change, &batch.text);
        out.raw(b",\"ts_us\":");
        if message.is_transactional {
            out.i64(tx.commit_ts_us);
        } else {
            out.null();
        }
        change.origin(out);
        out.raw(b"},\"transaction\":");
        if message.is_transactional {
            change.transaction(out);
        } else {
            out.null();
        }
        out.raw(b",\"ts_us\":");
        out.i64(batch.received_ts_us);
        out.byte(b'}');
        parts.end = at(out);
        parts
    }
}

/// A message being encoded and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageScene<'a> {
    pub(super) batch: &'a Batch,
    pub(super) message: &'a LogMessage,
    pub(super) tx: &'a Tx,
}

/// The connector's settings that matter to a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageSettings {
    pub(super) headers: Headers,
    pub(super) max_event: usize,
    pub(super) is_validated: bool,
}

/// One bit for each shape of event.
fn shape_bit(message: &LogMessage) -> u8 {
    let encoding = match message.encoding {
        ContentEncoding::Json => 0,
        ContentEncoding::Text => 1,
        ContentEncoding::Base64 => 2,
    };
    1 << (encoding * 2 + u8::from(message.is_transactional))
}
