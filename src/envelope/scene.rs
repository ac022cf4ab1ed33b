//! What an event says of its place and its transaction.

use rowtide_sdk::{Batch, Change, JsonWriter, Reselected, Tx};

/// The change being encoded and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) batch: &'a Batch,
    pub(super) change: &'a Change,
    pub(super) tx: &'a Tx,
    /// What was read back of its new row.
    pub(super) reselected: Option<&'a Reselected>,
}

impl Scene<'_> {
    /// `commit:index[.part]`.
    pub(super) fn id_tail(&self, part: Option<u32>, out: &mut JsonWriter) {
        out.raw(self.tx.commit.of(&self.batch.text));
        out.byte(b':');
        out.u64(self.change.index);
        if let Some(part) = part {
            out.byte(b'.');
            out.u64(u64::from(part));
        }
    }

    /// Everything behind the position.
    pub(super) fn tail(&self, out: &mut JsonWriter) {
        out.raw(b",\"ts_us\":");
        out.i64(self.tx.commit_ts_us);
        out.raw(b",\"snapshot\":\"false\"");
        self.origin(out);
        out.raw(b"},\"transaction\":");
        self.transaction(out);
        out.raw(b",\"ts_us\":");
        out.i64(self.batch.received_ts_us);
        out.byte(b'}');
    }

    /// `,"origin":"…"` of the source, where the transaction came from another node.
    pub(super) fn origin(&self, out: &mut JsonWriter) {
        let origin = self.tx.origin.of(&self.batch.text);
        if !origin.is_empty() {
            out.raw(b",\"origin\":");
            out.string(&String::from_utf8_lossy(origin));
        }
    }

    /// The object that tells of the transaction.
    pub(super) fn transaction(&self, out: &mut JsonWriter) {
        let Self { batch, change, tx, .. } = self;
        out.raw(b"{\"id\":\"");
        out.raw(tx.id.of(&batch.text));
        out.raw(b"\",\"index\":");
        out.u64(change.index);
        if tx.traceparent.len > 0 {
            out.raw(b",\"traceparent\":");
            out.quoted(tx.traceparent.of(&batch.text));
        }
        if tx.annotation.len > 0 {
            out.raw(b",\"annotation\":");
            out.raw(tx.annotation.of(&batch.text));
        }
        if tx.statement.len > 0 {
            out.raw(b",\"statement\":");
            out.string(&String::from_utf8_lossy(tx.statement.of(&batch.text)));
        }
        out.byte(b'}');
    }
}
