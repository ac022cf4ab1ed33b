//! The committing thread: makes written lines durable, then replaces the manifest, then answers.
//!
//! The order is what makes the files exactly-once. Lines and the names of new files are durable
//! before the manifest that counts them can be, whatever the order in which a disk writes; and no
//! batch is answered before that manifest is durable.

use std::sync::Arc;

use rowtide_sdk::{Class, Error, Origin, Result};

use super::disk::{Disk, MANIFEST, read_manifest};
use super::ledger::{Ledger, Pending, Touched};
use super::manifest::Manifest;
use super::recover::Recovered;
use crate::error::{DATA_LOST, MANIFEST_REPLACED};
use crate::handoff::Handoff;

pub(crate) struct Committer {
    disk: Arc<Disk>,
    handoff: Arc<Handoff>,
    ledger: Arc<Ledger>,
    manifest: Manifest,
    /// Of the manifest that is on disk.
    checksum: String,
}

impl Committer {
    pub(crate) fn new(
        disk: Arc<Disk>,
        handoff: Arc<Handoff>,
        ledger: Arc<Ledger>,
        recovered: Recovered,
    ) -> Self {
        let Recovered { manifest, checksum } = recovered;
        Self { disk, handoff, ledger, manifest, checksum }
    }

    /// Commits until the ledger ends or something fails.
    pub(crate) fn run(mut self) {
        while let Some(pending) = self.ledger.take() {
            match self.commit(&pending) {
                Ok(()) => self.handoff.durable(pending.written),
                Err(error) => {
                    // After a failed sync nobody knows which bytes are on disk. Nothing is tried
                    // again here: the next start goes back to the last commit.
                    self.handoff.fail(&error);
                    self.ledger.abandon();
                }
            }
        }
    }

    fn commit(&mut self, pending: &Pending) -> Result<()> {
        for (topic, touched) in &pending.topics {
            self.sync(topic, touched)?;
        }
        if pending.has_new_folder {
            self.disk.sync_root()?;
        }
        for (topic, touched) in &pending.topics {
            match self.manifest.topics.get_mut(&**topic) {
                Some(mark) => *mark = touched.mark,
                None => {
                    self.manifest.topics.insert(topic.to_string(), touched.mark);
                }
            }
        }
        if let Some(checkpoint) = &pending.checkpoint {
            self.manifest.set_checkpoint(checkpoint)?;
        }
        self.manifest.advance();
        self.check_owner()?;
        let encoded = self.manifest.encode()?;
        self.disk.replace_manifest(&encoded.bytes)?;
        self.checksum = encoded.checksum;
        #[cfg(test)]
        self.disk.journal.committed(pending.written);
        Ok(())
    }

    fn sync(&self, topic: &str, touched: &Touched) -> Result<()> {
        for segment in &touched.segments {
            self.disk.sync_segment(segment)?;
        }
        if touched.has_new_segment {
            self.disk.sync_topic(topic)?;
        }
        // The writer may be further by now, but never less far.
        let Some(newest) = touched.segments.last() else { return Ok(()) };
        let length = newest.length()?;
        if length >= touched.mark.length {
            return Ok(());
        }
        Err(Error::fatal(
            Origin::Sink,
            DATA_LOST,
            format!(
                "{} has {length} bytes where {} were written: something else changed it",
                newest.path().display(),
                touched.mark.length
            ),
        )
        .with_remedy("keep other programs from writing to the folder, then start again"))
    }

    /// The manifest on disk must be the one that this writer put there. The lock rules a second
    /// writer out; this catches a folder whose lock does not work or was deleted.
    fn check_owner(&self) -> Result<()> {
        let found = read_manifest(self.disk.root())?;
        let end = found.as_deref().map(|bytes| bytes.trim_ascii_end()).unwrap_or_default();
        let is_ours =
            end.strip_suffix(b"\"}").is_some_and(|bytes| bytes.ends_with(self.checksum.as_bytes()));
        if is_ours {
            return Ok(());
        }
        Err(Error::new(
            Class::Fenced,
            Origin::Sink,
            MANIFEST_REPLACED,
            format!(
                "{} was replaced by another program while this one was writing",
                self.disk.root().join(MANIFEST).display()
            ),
        )
        .with_remedy(
            "make sure that one process alone writes to the folder and that nothing deletes its \
             `lock` file, then start again",
        ))
    }
}
