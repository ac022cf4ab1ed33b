//! Encodes batches of raw entries into batches of records.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{
    AllHeaders, Batch, BufferPool, Change, Code, Entry, Error, Image, ImageKind, JsonWriter,
    LogMessage, Op, Origin, Poisoned, PositionWriter, Record, RecordHeaders, SourceInfo, Table,
};

use super::ENVELOPE_SCHEMA_JSON;
use super::dead_letter::{Kept, write_dead_letter};
use super::image::{
    Cells, ImageNotes, at, key_differs, write_image, write_key, write_names, write_reselected,
};
use super::message::{MessagePlan, MessageScene, MessageSettings};
use super::plan::Plan;
use super::scene::Scene;
use super::schema_change::Settings;
use super::violation::{DEFECT, Violation, too_large, unlogged, violation};
use crate::config::{Headers, OnViolation, Validation};
use crate::schema::{
    self, CONTRACT, ENVELOPE_SCHEMA, ROW_SCHEMA, RowView, TextNode, TextValidator,
};

/// RT5010: an internal reference of a batch is broken.
const BROKEN_BATCH: Code = Code("RT5010");

/// One batch, encoded.
#[derive(Debug)]
pub struct Encoded {
    /// The JSON of all records.
    pub data: Vec<u8>,
    /// The topics that records name.
    pub topics: Vec<Arc<str>>,
    /// The records.
    pub records: Vec<Record>,
    /// Change events among them.
    pub events: u64,
    /// Dead letters among them.
    pub dead_letters: u64,
    /// Schema changes among them.
    pub schema_changes: u64,
}

/// One envelope to be written: a change, or one half of a key change.
#[derive(Debug, Clone, Copy)]
struct Emission<'a> {
    op: Op,
    part: Option<u32>,
    key: Option<Cells<'a>>,
    previous_key: Option<Cells<'a>>,
    before: Option<Cells<'a>>,
    after: Option<Cells<'a>>,
}

/// Turns batches into records. One per pipeline; does no I/O.
#[derive(Debug)]
pub struct Encoder {
    core: Core,
    plans: Vec<Plan>,
    /// From a table version's address to its place in `plans`. A plan holds its table, so that an
    /// address stays taken while the plan lives.
    slots: HashMap<usize, usize>,
}

/// The encoder without its plans, so that both can be borrowed at once.
#[derive(Debug)]
struct Core {
    name: Arc<str>,
    settings: Settings,
    validation: Validation,
    dead_letter_topic: Arc<str>,
    envelope: TextValidator,
    /// Where the source hands messages over.
    messages: Option<MessagePlan>,
    notes: ImageNotes,
    seen: u64,
}

impl Encoder {
    /// An encoder without plans.
    ///
    /// # Errors
    /// Fatal where the envelope's schema cannot be compiled.
    pub fn new(
        name: &str,
        write_position: PositionWriter,
        headers: Headers,
        validation: Validation,
        max_event: usize,
        dead_letter_topic: Arc<str>,
    ) -> Result<Self, Error> {
        let schema: serde_json::Value =
            serde_json::from_str(ENVELOPE_SCHEMA_JSON).map_err(|error| {
                Error::fatal(Origin::Host, schema::BAD_SCHEMA, "the envelope's schema is no JSON")
                    .with_source(error)
            })?;
        let core = Core {
            name: name.into(),
            settings: Settings { write_position, headers, max_event },
            validation,
            dead_letter_topic,
            envelope: schema::compile(&schema, "the envelope's schema")?,
            messages: None,
            notes: ImageNotes::default(),
            seen: 0,
        };
        Ok(Self { core, plans: Vec::new(), slots: HashMap::new() })
    }

    /// Makes it ready for messages, which go to `topic`.
    ///
    /// # Errors
    /// Fatal where their schema cannot be compiled.
    pub fn with_messages(mut self, info: SourceInfo, topic: Arc<str>) -> Result<Self, Error> {
        self.core.messages = Some(MessagePlan::new(&self.core.name, info, topic)?);
        Ok(self)
    }

    /// Whether the table version has a plan.
    pub fn knows(&self, table: &Arc<Table>) -> bool {
        self.slots.contains_key(&address(table))
    }

    /// Adds the plan of a table version. Plans whose table nobody else holds any more are let go.
    pub fn learn(&mut self, plan: Plan) {
        self.plans.retain(|old| Arc::strong_count(&old.table) > 1);
        self.plans.push(plan);
        self.slots = self
            .plans
            .iter()
            .enumerate()
            .map(|(slot, plan)| (address(&plan.table), slot))
            .collect();
    }

    /// Encodes a batch whose tables are all known, into a buffer of the pool.
    ///
    /// # Errors
    /// Poison where an event breaks a schema and its table's policy is to stop; fatal where the
    /// batch contradicts itself.
    pub fn encode(&mut self, batch: &Batch, pool: &BufferPool) -> Result<Encoded, Error> {
        let mut out = JsonWriter::new(pool.take());
        // Envelopes are a few times larger than raw rows; one growth is cheaper than many.
        out.reserve(batch.bytes.len());
        let mut encoded = Encoded {
            data: Vec::new(),
            topics: Vec::new(),
            records: Vec::with_capacity(batch.entries.len()),
            events: 0,
            dead_letters: 0,
            schema_changes: 0,
        };
        let slots: Vec<usize> = batch
            .tables
            .iter()
            .map(|table| self.slots.get(&address(table)).copied().ok_or_else(broken_batch))
            .collect::<Result<_, _>>()?;
        let mut reselected = batch.reselected.iter().peekable();
        for (number, entry) in (0_u32..).zip(&batch.entries) {
            let change = match entry {
                Entry::Change(change) => change,
                Entry::Poisoned(poisoned) => &poisoned.change,
                Entry::Message(message) => {
                    self.core.message(batch, message, &mut out, &mut encoded)?;
                    continue;
                }
            };
            let tx = batch.txs.get(change.tx as usize).ok_or_else(broken_batch)?;
            let slot = slots.get(change.table as usize).copied();
            let plan = slot.and_then(|slot| self.plans.get_mut(slot)).ok_or_else(broken_batch)?;
            let reselected = reselected.next_if(|reselected| reselected.entry == number);
            let scene = Scene { batch, change, tx, reselected };
            self.core.entry(plan, &scene, entry, &mut out, &mut encoded)?;
        }
        encoded.data = out.into_inner();
        Ok(encoded)
    }
}

impl Core {
    fn message(
        &mut self,
        batch: &Batch,
        message: &LogMessage,
        out: &mut JsonWriter,
        encoded: &mut Encoded,
    ) -> Result<(), Error> {
        self.seen = self.seen.wrapping_add(1);
        let is_validated = self.is_validated();
        let settings = MessageSettings {
            headers: self.settings.headers,
            max_event: self.settings.max_event,
            is_validated,
        };
        let tx = batch.txs.get(message.change.tx as usize).ok_or_else(broken_batch)?;
        let plan = self.messages.as_mut().ok_or_else(broken_batch)?;
        let record = plan.encode(&MessageScene { batch, message, tx }, settings, out)?;
        let topic = topic_index(&mut encoded.topics, &plan.topic);
        encoded.events = encoded.events.saturating_add(1);
        encoded.records.push(Record { topic, ..record });
        Ok(())
    }

    fn entry(
        &mut self,
        plan: &mut Plan,
        scene: &Scene<'_>,
        entry: &Entry,
        out: &mut JsonWriter,
        encoded: &mut Encoded,
    ) -> Result<(), Error> {
        if let Some(announcement) = plan.announcement.take() {
            let mut record = announcement.write(scene, &self.settings, out)?;
            record.topic = topic_index(&mut encoded.topics, &announcement.topic);
            encoded.records.push(record);
            encoded.schema_changes = encoded.schema_changes.saturating_add(1);
        }
        if let Entry::Poisoned(poisoned) = entry {
            let Poisoned { code, ref reason, remedy, .. } = **poisoned;
            let violation = Violation { code, reason: reason.clone(), remedy };
            let part = scene.change.part;
            return self.violated(plan, scene, part, &violation, &Kept::Nothing, out, encoded);
        }
        if plan.key_is_unlogged && matches!(scene.change.op, Op::Update | Op::Delete) {
            let part = scene.change.part;
            return self.violated(plan, scene, part, &unlogged(), &Kept::Raw, out, encoded);
        }
        let (first, second) = emissions(plan, scene.batch, scene.change);
        self.emission(plan, scene, &first, out, encoded)?;
        match second {
            Some(second) => self.emission(plan, scene, &second, out, encoded),
            None => Ok(()),
        }
    }

    fn emission(
        &mut self,
        plan: &mut Plan,
        scene: &Scene<'_>,
        emission: &Emission<'_>,
        out: &mut JsonWriter,
        encoded: &mut Encoded,
    ) -> Result<(), Error> {
        let start = out.len();
        let written = match self.envelope(plan, scene, emission, out) {
            Ok(written) => written,
            Err(violation) => {
                out.truncate(start);
                let part = emission.part;
                return self.violated(plan, scene, part, &violation, &Kept::Raw, out, encoded);
            }
        };
        let bytes = out.len().saturating_sub(start);
        let checked = if bytes > self.settings.max_event {
            Err((too_large(bytes, self.settings.max_event), Kept::Nothing))
        } else {
            self.check(plan, emission, &written, out).map_err(|violation| {
                let event = out.as_bytes().get(start..).unwrap_or_default();
                (violation, Kept::Event(event.to_vec()))
            })
        };
        match checked {
            Ok(()) => {
                self.push(plan, emission, &written, out, encoded);
                Ok(())
            }
            Err((violation, kept)) => {
                out.truncate(start);
                self.violated(plan, scene, emission.part, &violation, &kept, out, encoded)
            }
        }
    }

    /// Writes one envelope, without the line feed.
    fn envelope(
        &mut self,
        plan: &Plan,
        scene: &Scene<'_>,
        emission: &Emission<'_>,
        out: &mut JsonWriter,
    ) -> Result<Written, Violation> {
        self.seen = self.seen.wrapping_add(1);
        self.notes.force_raw.clear();
        let start = out.len();
        let written = self.envelope_once(plan, scene, emission, out)?;
        // A JSON column stands as text in both images or in neither, so that one list tells.
        if !self.notes.raw_json.is_empty() && emission.before.is_some() && emission.after.is_some()
        {
            out.truncate(start);
            self.notes.force_raw = std::mem::take(&mut self.notes.raw_json);
            return self.envelope_once(plan, scene, emission, out);
        }
        Ok(written)
    }

    fn envelope_once(
        &mut self,
        plan: &Plan,
        scene: &Scene<'_>,
        emission: &Emission<'_>,
        out: &mut JsonWriter,
    ) -> Result<Written, Violation> {
        let Scene { batch, change, tx, .. } = *scene;
        let mut written = Written { start: at(out), ..Written::default() };
        self.notes.unchanged.clear();
        self.notes.raw_json.clear();
        self.notes.spans.clear();
        out.raw(&plan.head);
        written.id_start = at(out)
            .saturating_sub(u32::try_from(plan.head.len()).unwrap_or(0))
            .saturating_add(ID_PREFIX_LEN);
        scene.id_tail(emission.part, out);
        written.id_end = at(out);
        out.raw(b"\",\"op\":\"");
        out.raw(emission.op.letter().as_bytes());
        out.raw(b"\",\"key\":");
        if let Some(key) = &emission.key {
            written.key_start = at(out);
            write_key(plan, key, out)?;
            written.key_end = at(out);
        } else {
            out.null();
        }
        out.raw(b",\"before\":");
        self.image(plan, emission.before.as_ref(), false, &mut written.before, out)?;
        let wants_spans = plan.contract.is_some() || plan.residual.is_some();
        out.raw(b",\"after\":");
        self.image(plan, emission.after.as_ref(), wants_spans, &mut written.after, out)?;
        if let Some(previous) = &emission.previous_key {
            out.raw(b",\"previous_key\":");
            write_key(plan, previous, out)?;
        }
        write_names(plan, "unchanged", &self.notes.unchanged, out);
        write_names(plan, "raw_json", &self.notes.raw_json, out);
        if emission.after.is_some()
            && let Some(reselected) = scene.reselected
        {
            write_reselected(plan, reselected, &batch.text, out);
        }
        out.raw(&plan.source);
        (self.settings.write_position)(out, tx, change, &batch.text);
        scene.tail(out);
        written.end = at(out);
        Ok(written)
    }

    fn image(
        &mut self,
        plan: &Plan,
        cells: Option<&Cells<'_>>,
        wants_spans: bool,
        range: &mut (u32, u32),
        out: &mut JsonWriter,
    ) -> Result<(), Violation> {
        range.0 = at(out);
        match cells {
            Some(cells) => write_image(plan, cells, wants_spans, &mut self.notes, out)?,
            None => out.null(),
        }
        range.1 = at(out);
        Ok(())
    }

    /// Whether this event is one to validate.
    fn is_validated(&self) -> bool {
        match self.validation {
            Validation::Always => true,
            Validation::Off => false,
            Validation::Sample(n) => self.seen.is_multiple_of(n.get()),
        }
    }

    /// Checks what the plan has not proven already: lengths and the contract of every row; the whole
    /// envelope and row schemas for the first event of each shape of a table version.
    fn check(
        &self,
        plan: &mut Plan,
        emission: &Emission<'_>,
        written: &Written,
        out: &JsonWriter,
    ) -> Result<(), Violation> {
        if !self.is_validated() {
            return Ok(());
        }
        let data = out.as_bytes();
        let shape = shape_bit(emission);
        if plan.proven_shapes & shape == 0 {
            self.check_whole(plan, emission, written, data)?;
            plan.proven_shapes |= shape;
        }
        if emission.after.is_none() {
            return Ok(());
        }
        let row = RowView { names: &plan.names, spans: &self.notes.spans, data };
        if let Some((residual, _)) = &plan.residual
            && !residual.is_valid(TextNode::Row(&row))
        {
            return Err(violation(ROW_SCHEMA, "the derived row schema", DEFECT, residual, &row));
        }
        if let Some(contract) = &plan.contract
            && !contract.is_valid(TextNode::Row(&row))
        {
            let remedy = "mend the contract: the event is in the log as it is";
            return Err(violation(CONTRACT, "the contract", remedy, contract, &row));
        }
        Ok(())
    }

    fn check_whole(
        &self,
        plan: &Plan,
        emission: &Emission<'_>,
        written: &Written,
        data: &[u8],
    ) -> Result<(), Violation> {
        let text = |range: (u32, u32)| {
            TextNode::Text(data.get(range.0 as usize..range.1 as usize).unwrap_or_default())
        };
        let whole = text((written.start, written.end));
        if let Err(error) = self.envelope.validate(whole) {
            return Err(Violation {
                code: ENVELOPE_SCHEMA,
                reason: format!(
                    "the envelope's schema: {} at {}",
                    error.masked(),
                    error.instance_path()
                ),
                remedy: DEFECT,
            });
        }
        let images = [(emission.before, written.before), (emission.after, written.after)];
        for (cells, range) in images {
            let Some(cells) = cells else { continue };
            let schema = match cells.kind {
                ImageKind::Row => &plan.row,
                ImageKind::Key => &plan.key_image,
            };
            if let Err(error) = schema.validate(text(range)) {
                return Err(Violation {
                    code: ROW_SCHEMA,
                    reason: format!(
                        "the derived row schema: {} at {}",
                        error.masked(),
                        error.instance_path()
                    ),
                    remedy: DEFECT,
                });
            }
        }
        Ok(())
    }

    fn push(
        &self,
        plan: &Plan,
        emission: &Emission<'_>,
        written: &Written,
        out: &mut JsonWriter,
        encoded: &mut Encoded,
    ) {
        out.byte(b'\n');
        let topic = topic_index(&mut encoded.topics, &plan.topic);
        let key = emission.key.is_some().then_some(written.key_start..written.key_end);
        let headers = self.record_headers(plan, emission.op, written);
        let is_tombstoned = emission.op == Op::Delete && plan.tombstones && key.is_some();
        encoded.events = encoded.events.saturating_add(1);
        encoded.records.push(Record {
            topic,
            key: key.clone(),
            value: Some(written.start..written.end),
            to_all_partitions: emission.op == Op::Truncate,
            headers: headers.clone(),
        });
        if is_tombstoned {
            encoded.records.push(Record {
                topic,
                key,
                value: None,
                to_all_partitions: false,
                headers,
            });
        }
    }

    fn record_headers(&self, plan: &Plan, op: Op, written: &Written) -> Option<Box<RecordHeaders>> {
        let all = match self.settings.headers {
            Headers::None => return None,
            Headers::Id => None,
            Headers::All => Some(AllHeaders {
                op: op.letter(),
                subject: Arc::clone(&plan.subject),
                version: Arc::clone(&plan.version),
            }),
        };
        Some(Box::new(RecordHeaders { id: written.id_start..written.id_end, all }))
    }

    /// Applies the table's policy to an event that cannot pass.
    #[allow(clippy::too_many_arguments, reason = "one event's full context, used once")]
    fn violated(
        &mut self,
        plan: &Plan,
        scene: &Scene<'_>,
        part: Option<u32>,
        violation: &Violation,
        kept: &Kept,
        out: &mut JsonWriter,
        encoded: &mut Encoded,
    ) -> Result<(), Error> {
        let mut id = JsonWriter::default();
        id.raw(self.name.as_bytes());
        id.byte(b':');
        scene.id_tail(part, &mut id);
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        if plan.on_violation == OnViolation::Stop {
            return Err(Error::poison(
                Origin::Host,
                violation.code,
                format!(
                    "event {id} of {} (schema {}) cannot be published: {}",
                    plan.subject, plan.version, violation.reason
                ),
            )
            .with_remedy(format!(
                "{}; or set on_violation: dead_letter for the table",
                violation.remedy
            )));
        }
        tracing::warn!(
            event = %id, subject = %plan.subject, code = %violation.code,
            reason = %violation.reason, "event goes to the dead letters"
        );
        let start = at(out);
        write_dead_letter(self.settings.write_position, plan, scene, &id, violation, kept, out);
        let end = at(out);
        out.byte(b'\n');
        encoded.dead_letters = encoded.dead_letters.saturating_add(1);
        encoded.records.push(Record {
            topic: topic_index(&mut encoded.topics, &self.dead_letter_topic),
            key: None,
            value: Some(start..end),
            to_all_partitions: false,
            headers: None,
        });
        Ok(())
    }
}

/// `{"v":"1.1","id":"`: what stands before the id in [`Plan::head`].
pub(super) const ID_PREFIX_LEN: u32 = 17;

fn address(table: &Arc<Table>) -> usize {
    Arc::as_ptr(table).addr()
}

fn broken_batch() -> Error {
    Error::fatal(
        Origin::Host,
        BROKEN_BATCH,
        "a batch names a table or transaction it does not hold",
    )
}

/// Where one envelope's parts lie in the output.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    start: u32,
    end: u32,
    id_start: u32,
    id_end: u32,
    key_start: u32,
    key_end: u32,
    before: (u32, u32),
    after: (u32, u32),
}

/// The envelopes of one change: one, or a delete and a create where the key changed.
fn emissions<'a>(
    plan: &Plan,
    batch: &'a Batch,
    change: &'a Change,
) -> (Emission<'a>, Option<Emission<'a>>) {
    let columns = plan.columns.len();
    let cells = |image: Image| Cells::new(batch, image, columns);
    let before = change.before.map(cells);
    let mut after = change.after.map(cells);
    if let (Some(before), Some(after)) = (&before, &mut after) {
        after.fill = before.cells;
    }
    let has_key = !plan.key.is_empty();
    if change.op == Op::Update
        && let (Some(old), Some(new)) = (before, after)
        && key_differs(plan, &old, &new)
    {
        let part = change.part.unwrap_or(0).saturating_mul(2);
        let delete = Emission {
            op: Op::Delete,
            part: Some(part),
            key: Some(old),
            previous_key: None,
            before: Some(old),
            after: None,
        };
        let create = Emission {
            op: Op::Create,
            part: Some(part.saturating_add(1)),
            key: Some(new),
            previous_key: Some(old),
            before: None,
            after: Some(new),
        };
        return (delete, Some(create));
    }
    let key = if has_key { after.or(before) } else { None };
    let one = Emission { op: change.op, part: change.part, key, previous_key: None, before, after };
    (one, None)
}

/// One bit for each combination of op and images, so that each shape's first event is checked whole.
fn shape_bit(emission: &Emission<'_>) -> u32 {
    let op = match emission.op {
        Op::Read => 0,
        Op::Create => 1,
        Op::Update => 2,
        Op::Delete => 3,
        Op::Truncate => 4,
        // A message has no plan of a table.
        Op::Message => return 0,
    };
    let before = match emission.before.map(|cells| cells.kind) {
        None => 0,
        Some(ImageKind::Key) => 1,
        Some(ImageKind::Row) => 2,
    };
    let has_previous = u32::from(emission.previous_key.is_some());
    1 << (op * 6 + before * 2 + has_previous)
}

/// Versions of a table may take turns in a batch: each names the topic by itself, and it is one.
fn topic_index(topics: &mut Vec<Arc<str>>, topic: &Arc<str>) -> u32 {
    let known = topics.iter().position(|known| Arc::ptr_eq(known, topic) || known == topic);
    let index = known.unwrap_or_else(|| {
        topics.push(Arc::clone(topic));
        topics.len().saturating_sub(1)
    });
    u32::try_from(index).unwrap_or(u32::MAX)
}
