//! Dead letters: what could not be published, why, and where it stands in the log.

use rowtide_sdk::{Cell, JsonWriter, PositionWriter};

use super::image::Cells;
use super::plan::Plan;
use super::scene::Scene;
use super::violation::Violation;

/// What a dead letter keeps of its event.
#[derive(Debug)]
pub(super) enum Kept {
    /// The envelope.
    Event(Vec<u8>),
    /// The database's own text of the images, as no envelope could be written.
    Raw,
    /// Neither: the event is too large for any record.
    Nothing,
}

/// Writes a dead letter: `schemas/dead-letter/v1`.
pub(super) fn write_dead_letter(
    write_position: PositionWriter,
    plan: &Plan,
    scene: &Scene<'_>,
    id: &str,
    violation: &Violation,
    kept: &Kept,
    out: &mut JsonWriter,
) {
    out.raw(b"{\"v\":\"1.0\",\"id\":");
    out.string(id);
    out.raw(b",\"reason\":{\"code\":");
    out.string(violation.code.0);
    out.raw(b",\"message\":");
    out.string(&violation.reason);
    out.byte(b'}');
    out.raw(&plan.source);
    write_position(out, scene.tx, scene.change, &scene.batch.text);
    out.raw(b",\"ts_us\":");
    out.i64(scene.tx.commit_ts_us);
    out.raw(b",\"snapshot\":\"false\"");
    scene.origin(out);
    out.raw(b"},\"op\":");
    out.string(scene.change.op.letter());
    match kept {
        Kept::Event(event) => {
            out.raw(b",\"event\":");
            out.raw(event);
        }
        Kept::Raw => {
            out.raw(b",\"event\":null,\"raw\":");
            write_raw_images(plan, scene, out);
        }
        Kept::Nothing => out.raw(b",\"event\":null"),
    }
    out.raw(b",\"ts_us\":");
    out.i64(scene.batch.received_ts_us);
    out.byte(b'}');
}

/// The images of an event that cannot be encoded: each visible column's text, or null; a value that
/// is no UTF-8 as an object with its hexadecimal bytes. Masked columns are left out.
fn write_raw_images(plan: &Plan, scene: &Scene<'_>, out: &mut JsonWriter) {
    out.byte(b'{');
    let images = [("before", scene.change.before), ("after", scene.change.after)];
    for (position, (name, image)) in images.into_iter().enumerate() {
        if position > 0 {
            out.byte(b',');
        }
        out.string(name);
        out.byte(b':');
        match image {
            None => out.null(),
            Some(image) => {
                let cells = Cells::new(scene.batch, image, plan.columns.len());
                write_raw_image(plan, &cells, out);
            }
        }
    }
    out.byte(b'}');
}

fn write_raw_image(plan: &Plan, cells: &Cells<'_>, out: &mut JsonWriter) {
    out.byte(b'{');
    let mut is_first = true;
    for (index, column) in plan.columns.iter().enumerate() {
        if !column.visible || column.mask.is_some() {
            continue;
        }
        let raw = match cells.cell(index) {
            Cell::Value(span) => Some(column.decode.text(cells.bytes(span))),
            Cell::Null => None,
            Cell::Absent | Cell::Unchanged => continue,
        };
        out.raw(column.prefix.get(usize::from(is_first)..).unwrap_or_default());
        is_first = false;
        match raw {
            None => out.null(),
            Some(raw) => {
                if out.utf8_string(&raw).is_err() {
                    out.raw(b"{\"hex\":\"");
                    for byte in raw.iter() {
                        out.hex_byte(*byte);
                    }
                    out.raw(b"\"}");
                }
            }
        }
    }
    out.byte(b'}');
}
