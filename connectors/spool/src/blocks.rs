//! Memory in blocks, so that what is held grows and shrinks without being copied.

use std::collections::VecDeque;

/// The size of a block.
const BLOCK: usize = 32 * 1024;

/// A queue of bytes: written at the end, read from the front.
#[derive(Debug, Default)]
pub struct Blocks {
    blocks: VecDeque<Vec<u8>>,
    /// What was read of the first block.
    read: usize,
}

/// Spent blocks that can be used again, and the number of all that are in use.
#[derive(Debug, Default)]
pub struct Pool {
    spent: Vec<Vec<u8>>,
    used: usize,
}

impl Pool {
    /// The bytes of all blocks in use.
    #[inline]
    pub fn used(&self) -> usize {
        self.used.saturating_mul(BLOCK)
    }

    fn give(&mut self) -> Vec<u8> {
        self.used += 1;
        self.spent.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK))
    }

    /// Takes blocks back.
    pub fn take(&mut self, blocks: Blocks) {
        for block in blocks.blocks {
            self.take_one(block);
        }
    }

    fn take_one(&mut self, mut block: Vec<u8>) {
        self.used = self.used.saturating_sub(1);
        block.clear();
        self.spent.push(block);
    }

    /// Lets go of spent blocks.
    pub fn shrink(&mut self) {
        self.spent = Vec::new();
    }
}

impl Blocks {
    /// The number of blocks.
    pub fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The bytes held and not read.
    pub fn len(&self) -> usize {
        self.blocks.iter().map(Vec::len).sum::<usize>().saturating_sub(self.read)
    }

    /// Appends bytes.
    #[inline]
    pub fn write(&mut self, mut bytes: &[u8], pool: &mut Pool) {
        while !bytes.is_empty() {
            let has_room = self.blocks.back().is_some_and(|last| last.len() < BLOCK);
            if !has_room {
                self.blocks.push_back(pool.give());
            }
            let Some(last) = self.blocks.back_mut() else { return };
            let room = BLOCK.saturating_sub(last.len());
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            last.extend_from_slice(now);
            bytes = later;
        }
    }

    /// The bytes held, in pieces; only before anything was read.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.blocks.iter().map(Vec::as_slice)
    }

    /// Forgets what is behind the first `len` bytes; only before anything was read.
    pub fn truncate(&mut self, len: usize, pool: &mut Pool) {
        while let Some(mut block) = self.blocks.pop_back() {
            // All but the last are full.
            let kept = len.saturating_sub(self.blocks.len().saturating_mul(BLOCK));
            if kept == 0 {
                pool.take_one(block);
                continue;
            }
            block.truncate(kept);
            self.blocks.push_back(block);
            return;
        }
    }

    /// Moves at most `max` bytes from the front to the end of `out`.
    pub fn read(&mut self, out: &mut Vec<u8>, max: usize, pool: &mut Pool) {
        let mut left = max;
        while let Some(first) = self.blocks.front().filter(|_| left > 0) {
            let rest = first.get(self.read..).unwrap_or_default();
            let now = rest.get(..left).unwrap_or(rest);
            out.extend_from_slice(now);
            left -= now.len();
            self.read += now.len();
            if self.read >= first.len()
                && let Some(block) = self.blocks.pop_front()
            {
                pool.take_one(block);
                self.read = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            writes in proptest::collection::vec(0..3 * BLOCK, 0..8),
            reads in proptest::collection::vec(1..2 * BLOCK, 1..4),
            kept in prop_oneof![Just(usize::MAX), Just(BLOCK), 0..12 * BLOCK],
        ) {
            let (mut blocks, mut pool, mut all) = (Blocks::default(), Pool::default(), Vec::new());
            for (number, len) in (0_u8..).zip(writes) {
                let bytes = vec![number; len];
                blocks.write(&bytes, &mut pool);
                all.extend(bytes);
            }
            prop_assert_eq!(blocks.len(), all.len());
            prop_assert_eq!(blocks.count(), all.len().div_ceil(BLOCK));
            prop_assert_eq!(pool.used(), blocks.count() * BLOCK);
            prop_assert_eq!(blocks.pieces().collect::<Vec<_>>().concat(), all.clone());
            blocks.truncate(kept, &mut pool);
            all.truncate(kept);
            prop_assert_eq!(blocks.len(), all.len());
            prop_assert_eq!(pool.used(), all.len().div_ceil(BLOCK) * BLOCK);
            blocks.write(b"more", &mut pool);
            all.extend(b"more");
            let mut out = Vec::new();
            for &max in reads.iter().cycle() {
                let before = out.len();
                blocks.read(&mut out, max, &mut pool);
                prop_assert_eq!(out.len() - before, max.min(all.len() - before));
                if blocks.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(out, all);
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
