//! What a file of the log begins with: the transactions before it, by their GTIDs.

use rowtide_sdk::Result;

use super::Assembler;
use crate::binlog::group;
use crate::gtid::mysql::GtidSet;

impl Assembler {
    /// What comes before a file, in GTIDs; the server says nothing where it gives none.
    pub(super) fn previous_gtids(&mut self, body: &[u8]) -> Result<()> {
        let set = GtidSet::from_bytes(body);
        let mut set = set.ok_or_else(|| self.not_understood("a malformed set of GTIDs"))?;
        if self.is_new_file && !set.is_empty() {
            set.insert_all(&self.purged);
            self.progress.name_by_gtids(set);
        }
        Ok(())
    }

    /// MariaDB: the last GTIDs before a file.
    pub(super) fn gtid_list(&mut self, body: &[u8]) -> Result<()> {
        let last = self.parsed(group::gtid_list(body))?;
        // What begins a connection may be followed by what is left out.
        if self.is_new_file {
            self.progress.file_begins(&last);
        }
        Ok(())
    }
}
