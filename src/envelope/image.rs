//! Row images and keys as JSON objects.

use rowtide_sdk::{Batch, Cell, Image, ImageKind, JsonWriter, Reselected, Span, Written};
use sha2::{Digest, Sha256};

use super::plan::{Plan, PlanColumn};
use super::violation::{KEY_MISSING, Violation};
use crate::config::Mask;

/// The cells of an image, with the image that fills what the log left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells<'a> {
    pub(super) batch: &'a Batch,
    pub(super) cells: &'a [Cell],
    pub(super) kind: ImageKind,
    /// The old row: its values stand in for unchanged ones, where it holds them.
    pub(super) fill: &'a [Cell],
}

impl<'a> Cells<'a> {
    pub(super) fn new(batch: &'a Batch, image: Image, columns: usize) -> Self {
        Self { batch, cells: batch.image(image, columns), kind: image.kind, fill: &[] }
    }

    pub(super) fn cell(&self, index: usize) -> Cell {
        match self.cells.get(index).copied().unwrap_or(Cell::Absent) {
            Cell::Unchanged => match self.fill.get(index).copied() {
                Some(filled @ (Cell::Value(_) | Cell::Null)) => filled,
                _ => Cell::Unchanged,
            },
            cell => cell,
        }
    }

    pub(super) fn bytes(&self, span: Span) -> &'a [u8] {
        span.of(&self.batch.bytes)
    }
}

/// What writing an image noted. Reused from event to event.
#[derive(Debug, Default)]
pub(super) struct ImageNotes {
    /// Columns the log left out.
    pub(super) unchanged: Vec<usize>,
    /// Columns written as text although their form is JSON.
    pub(super) raw_json: Vec<usize>,
    /// Columns to write as text because the event's other image does.
    pub(super) force_raw: Vec<usize>,
    /// Column, start and end of each value, where a check needs them.
    pub(super) spans: Vec<(u32, u32, u32)>,
}

/// A position in the output as the ranges of records have it.
pub(super) fn at(out: &JsonWriter) -> u32 {
    u32::try_from(out.len()).unwrap_or(u32::MAX)
}

/// Writes an image as an object of its visible columns.
pub(super) fn write_image(
    plan: &Plan,
    cells: &Cells<'_>,
    wants_spans: bool,
    notes: &mut ImageNotes,
    out: &mut JsonWriter,
) -> Result<(), Violation> {
    out.byte(b'{');
    let mut is_first = true;
    for (index, column) in plan.columns.iter().enumerate() {
        // A partition may log more of an old row than the table it belongs to.
        let is_beyond = cells.kind == ImageKind::Key && !column.is_identity;
        if !column.visible || is_beyond {
            continue;
        }
        let cell = cells.cell(index);
        let placeholder = match cell {
            Cell::Absent => continue,
            Cell::Unchanged => {
                notes.unchanged.push(index);
                let Some(placeholder) = &column.placeholder else { continue };
                Some(placeholder)
            }
            Cell::Null | Cell::Value(_) => None,
        };
        out.raw(column.prefix.get(usize::from(is_first)..).unwrap_or_default());
        is_first = false;
        let start = at(out);
        match (cell, placeholder) {
            (_, Some(placeholder)) => out.raw(placeholder),
            (Cell::Value(span), None) => {
                write_value(plan, index, column, cells.bytes(span), notes, out)?;
            }
            (_, None) => out.null(),
        }
        if wants_spans {
            notes.spans.push((u32::try_from(index).unwrap_or(u32::MAX), start, at(out)));
        }
    }
    out.byte(b'}');
    Ok(())
}

#[inline]
fn write_value(
    plan: &Plan,
    index: usize,
    column: &PlanColumn,
    raw: &[u8],
    notes: &mut ImageNotes,
    out: &mut JsonWriter,
) -> Result<(), Violation> {
    let malformed = |error| Violation::malformed(plan, index, error);
    if let Some(mask) = column.mask {
        write_masked(mask, &column.decode.text(raw), out);
        return Ok(());
    }
    if !notes.force_raw.is_empty() && notes.force_raw.contains(&index) {
        notes.raw_json.push(index);
        return column.decode.write_text(raw, out).map_err(malformed);
    }
    if column.decode.write(raw, out).map_err(malformed)? == Written::RawJson {
        notes.raw_json.push(index);
    }
    Ok(())
}

/// Writes a masked value. The hash is of the text as PostgreSQL prints it, so that it can be
/// computed and joined there: `encode(sha256(email::bytea), 'hex')`.
fn write_masked(mask: Mask, raw: &[u8], out: &mut JsonWriter) {
    match mask {
        Mask::Redact => out.string("***"),
        Mask::Sha256 => {
            out.byte(b'"');
            for byte in Sha256::digest(raw) {
                out.hex_byte(byte);
            }
            out.byte(b'"');
        }
    }
}

/// Writes the key object of an image.
pub(super) fn write_key(
    plan: &Plan,
    cells: &Cells<'_>,
    out: &mut JsonWriter,
) -> Result<(), Violation> {
    out.byte(b'{');
    let mut is_first = true;
    for &index in &plan.key {
        let Some(column) = plan.columns.get(index) else { continue };
        out.raw(column.prefix.get(usize::from(is_first)..).unwrap_or_default());
        is_first = false;
        match cells.cell(index) {
            Cell::Null => out.null(),
            Cell::Value(span) => {
                let raw = cells.bytes(span);
                match column.mask {
                    Some(mask) => write_masked(mask, &column.decode.text(raw), out),
                    None => {
                        column
                            .decode
                            .write(raw, out)
                            .map_err(|error| Violation::malformed(plan, index, error))?;
                    }
                }
            }
            Cell::Absent | Cell::Unchanged => {
                let name = plan.names.get(index).map_or("?", |name| name);
                return Err(Violation {
                    code: KEY_MISSING,
                    reason: format!("the log does not carry key column {name}"),
                    remedy: "take the column out of the table's `key`",
                });
            }
        }
    }
    out.byte(b'}');
    Ok(())
}

/// Whether two images hold different keys, as far as both hold them.
pub(super) fn key_differs(plan: &Plan, before: &Cells<'_>, after: &Cells<'_>) -> bool {
    plan.key.iter().any(|&index| match (before.cell(index), after.cell(index)) {
        (Cell::Value(old), Cell::Value(new)) => before.bytes(old) != after.bytes(new),
        (Cell::Null, Cell::Value(_)) | (Cell::Value(_), Cell::Null) => true,
        _ => false,
    })
}

/// Writes `,"field":["a","b"]` where there are names to list.
pub(super) fn write_names(plan: &Plan, field: &str, indexes: &[usize], out: &mut JsonWriter) {
    if indexes.is_empty() {
        return;
    }
    out.byte(b',');
    out.string(field);
    out.raw(b":[");
    let mut is_first = true;
    for (position, &index) in indexes.iter().enumerate() {
        // Before and after may both have noted the column.
        if indexes.get(..position).is_some_and(|earlier| earlier.contains(&index)) {
            continue;
        }
        if !is_first {
            out.byte(b',');
        }
        is_first = false;
        out.string(plan.names.get(index).map_or("", |name| name));
    }
    out.byte(b']');
}

/// Writes `,"reselected":{…}`: what was read back and as of when, or why nothing was.
pub(super) fn write_reselected(
    plan: &Plan,
    reselected: &Reselected,
    text: &[u8],
    out: &mut JsonWriter,
) {
    out.raw(b",\"reselected\":{\"columns\":[");
    for (position, &index) in reselected.columns.iter().enumerate() {
        if position > 0 {
            out.byte(b',');
        }
        let name = usize::try_from(index).ok().and_then(|index| plan.names.get(index));
        out.string(name.map_or("", |name| name));
    }
    out.byte(b']');
    let place = reselected.position.of(text);
    if !place.is_empty() {
        out.raw(b",\"position\":");
        out.raw(place);
    }
    if let Some(reason) = reselected.reason {
        out.raw(b",\"reason\":");
        out.string(reason.name());
    }
    out.byte(b'}');
}
