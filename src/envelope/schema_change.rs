//! The record that tells of a new schema version: `schemas/schema-change/v1`.
//!
//! All but its place in the log is written when the table version is learned. It goes out right
//! before the first event of that version, in the same batch, and so becomes durable with it.

use std::ops::Range;
use std::sync::Arc;

use rowtide_sdk::{
    AllHeaders, Code, Error, JsonWriter, Origin, PositionWriter, Record, RecordHeaders, Table,
};
use serde_json::{Value, json};

use super::encode::ID_PREFIX_LEN;
use super::image::at;
use super::plan::{PlanContext, write_reference, write_source};
use super::scene::Scene;
use crate::config::Headers;
use crate::schema::{
    Assigned, Projection, VersionChange, identity_name, is_always_logged, is_never_null, key_names,
    mask_name,
};

/// The version of the record's format.
pub const SCHEMA_CHANGE_VERSION: &str = "1.0";

/// RT5032: the record of a schema change is larger than an event may be.
const TOO_LARGE: Code = Code("RT5032");

/// A new version that is still to be told.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) topic: Arc<str>,
    subject: Arc<str>,
    version: Arc<str>,
    /// `{"v":"1.0","id":"shop:`.
    head: Box<[u8]>,
    /// `{"subject":…,"version":…}`: the record's key, too.
    reference: Box<[u8]>,
    /// From `,"previous_version":` to `"position":`.
    body: Box<[u8]>,
}

impl Announcement {
    pub(super) fn new(
        cx: &PlanContext<'_>,
        table: &Table,
        projection: &Projection,
        assigned: &Assigned,
        change: &VersionChange,
        (topic, subject): (Arc<str>, &str),
    ) -> Self {
        let version = assigned.version.to_string();
        let mut head = JsonWriter::default();
        head.raw(b"{\"v\":");
        head.string(SCHEMA_CHANGE_VERSION);
        head.raw(b",\"id\":\"");
        head.string_part(cx.name);
        head.byte(b':');
        let mut reference = JsonWriter::default();
        write_reference(subject, &version, &mut reference);
        Self {
            topic,
            subject: subject.into(),
            head: head.into_inner().into_boxed_slice(),
            reference: reference.into_inner().into_boxed_slice(),
            body: body(cx, table, projection, assigned, change),
            version: version.into(),
        }
    }

    /// Writes the record of the version's first event, with its line feed.
    ///
    /// # Errors
    /// `RT5032`, fatal, where it is larger than an event may be.
    pub(super) fn write(
        &self,
        scene: &Scene<'_>,
        settings: &Settings,
        out: &mut JsonWriter,
    ) -> Result<Record, Error> {
        let start = at(out);
        out.raw(&self.head);
        let id_start = start.saturating_add(ID_PREFIX_LEN);
        scene.id_tail(scene.change.part, out);
        out.raw(b".schema");
        let id = id_start..at(out);
        out.raw(b"\",\"schema\":");
        let key = self.written(&self.reference, out);
        out.raw(&self.body);
        (settings.write_position)(out, scene.tx, scene.change, &scene.batch.text);
        scene.tail(out);
        let end = at(out);
        let bytes = end.saturating_sub(start) as usize;
        if bytes > settings.max_event {
            return Err(self.too_large(bytes, settings.max_event));
        }
        out.byte(b'\n');
        Ok(Record {
            topic: 0,
            key: Some(key),
            value: Some(start..end),
            to_all_partitions: false,
            headers: self.headers(settings.headers, id),
        })
    }

    fn written(&self, json: &[u8], out: &mut JsonWriter) -> Range<u32> {
        let start = at(out);
        out.raw(json);
        start..at(out)
    }

    fn headers(&self, headers: Headers, id: Range<u32>) -> Option<Box<RecordHeaders>> {
        let all = match headers {
            Headers::None => return None,
            Headers::Id => None,
            Headers::All => Some(AllHeaders {
                op: "schema",
                subject: Arc::clone(&self.subject),
                version: Arc::clone(&self.version),
            }),
        };
        Some(Box::new(RecordHeaders { id, all }))
    }

    fn too_large(&self, bytes: usize, max: usize) -> Error {
        Error::fatal(
            Origin::Config,
            TOO_LARGE,
            format!(
                "the record of schema {} {} has {bytes} bytes, more than max_event ({max})",
                self.subject, self.version
            ),
        )
        .with_remedy("raise `max_event` (and the sink's own limits), or set schema_changes.enabled: false and read the schemas from schema_changes.dir")
    }
}

/// What the writing of a record needs of the encoder.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) write_position: PositionWriter,
    pub(super) headers: Headers,
    pub(super) max_event: usize,
}

fn body(
    cx: &PlanContext<'_>,
    table: &Table,
    projection: &Projection,
    assigned: &Assigned,
    change: &VersionChange,
) -> Box<[u8]> {
    let previous = change.previous.map(|version| version.to_string());
    let fields = [
        ("previous_version", json!(previous)),
        ("compatibility", json!(change.compatibility)),
        ("reasons", json!(change.reasons)),
        ("identity", json!(identity_name(table.identity))),
        ("key", json!(key_names(table, projection))),
        ("columns", columns(table, projection)),
        ("row", assigned.schema.row.clone()),
        ("key_image", assigned.schema.key_image.clone()),
    ];
    let mut out = JsonWriter::default();
    for (name, value) in &fields {
        out.byte(b',');
        out.string(name);
        out.byte(b':');
        out.raw(value.to_string().as_bytes());
    }
    write_source(cx, table, &mut out);
    out.into_inner().into_boxed_slice()
}

/// The columns that leave the host, in the order of the log.
fn columns(table: &Table, projection: &Projection) -> Value {
    let visible = table.columns.iter().zip(&projection.columns).filter(|(_, view)| view.visible);
    let describe = |(column, view): (&rowtide_sdk::Column, &crate::schema::ColumnView)| {
        let mut described = json!({
            "name": column.name,
            "type": column.type_name,
            "identity": column.is_identity,
            "nullable": !is_never_null(table, column),
            "may_be_unchanged": !is_always_logged(table, column),
        });
        if let (Some(mask), Some(object)) = (view.mask, described.as_object_mut()) {
            object.insert("mask".to_owned(), Value::from(mask_name(mask)));
        }
        described
    };
    visible.map(describe).collect()
}
