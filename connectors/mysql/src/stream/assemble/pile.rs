//! Bytes that are set aside, in the order in which they came: the first of them in a file, the rest in
//! memory.

use rowtide_spool::{Blocks, Pool};

/// So much is brought back at once.
const FILL: usize = 64 * 1024;

/// What of a file is wanted next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The file's key.
    pub(crate) key: u64,
    /// The offset in it.
    pub(crate) at: u64,
    /// So many bytes at most.
    pub(crate) max: u64,
}

/// The bytes.
#[derive(Debug, Default)]
pub(super) struct Pile {
    key: u64,
    memory: Blocks,
    on_disk: u64,
    /// So many bytes of the file were brought back.
    read: u64,
}

/// Where more of them come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    /// They were in memory, and are there.
    Here,
    /// They are in the file.
    OnDisk(Fill),
    /// There are none.
    Nothing,
}

impl Pile {
    /// Nothing yet; `key` is that of its file.
    pub(super) fn new(key: u64) -> Self {
        Self { key, ..Self::default() }
    }

    pub(super) fn write(&mut self, bytes: &[u8], pool: &mut Pool) {
        self.memory.write(bytes, pool);
    }

    /// How much memory it takes, in blocks.
    pub(super) fn blocks(&self) -> usize {
        self.memory.count()
    }

    /// What is in memory, and the key of the file that it goes to. It counts as being there.
    pub(super) fn spill(&mut self) -> Option<(u64, Blocks)> {
        if self.memory.is_empty() {
            return None;
        }
        let memory = std::mem::take(&mut self.memory);
        self.on_disk = self.on_disk.saturating_add(u64::try_from(memory.len()).unwrap_or(u64::MAX));
        Some((self.key, memory))
    }

    /// Moves some more of the bytes to the end of `out`, or says where they are.
    pub(super) fn more(&mut self, out: &mut Vec<u8>, pool: &mut Pool) -> More {
        let left = self.on_disk.saturating_sub(self.read);
        let max = u64::try_from(FILL).unwrap_or_default().min(left);
        if max > 0 {
            return More::OnDisk(Fill { key: self.key, at: self.read, max });
        }
        if self.memory.is_empty() {
            return More::Nothing;
        }
        self.memory.read(out, FILL, pool);
        More::Here
    }

    /// So many bytes of the file were brought back.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// It is done with: its memory, and its file's key and length where there is one.
    pub(super) fn done(self) -> (Blocks, Option<(u64, u64)>) {
        (self.memory, (self.on_disk > 0).then_some((self.key, self.on_disk)))
    }
}
