//! Which parts of a program's or library's data are written by those who run it.
//!
//! A private mapping that looks like an ELF data segment takes copies of these parts when it is made: a copy-on-write fault
//! costs 60 µs, a copied page less than one. What was written once is likely to be written in the next run.

use std::ops::Range;

use ranked_sync::Mutex;

use super::fault::COPY_BLOCK;
use crate::lock_order;

/// So many blocks of a file are remembered.
const BLOCKS_MAX: usize = 64;
/// A gap of so many blocks between two parts is copied with them: not to copy it takes two mappings more.
const GAP_MAX: u64 = 2;
/// Who wrote so many blocks is likely to write much more.
const MANY: usize = 4;

/// What is known of a file, by blocks of [`COPY_BLOCK`] bytes.
#[derive(Debug, Default)]
pub struct WrittenParts {
    blocks: Mutex<lock_order::Leaf, Vec<u64>>,
}

impl WrittenParts {
    /// The first write through a private mapping to what is at `offset`.
    pub(super) fn note(&self, offset: u64) {
        let mut blocks = self.blocks.lock();
        let block = offset / COPY_BLOCK;
        if blocks.len() < BLOCKS_MAX
            && let Err(at) = blocks.binary_search(&block)
        {
            blocks.insert(at, block);
        }
    }

    /// Are there many already?
    pub(super) fn are_many(&self) -> bool {
        self.blocks.lock().len() >= MANY
    }

    /// The parts of `bytes` that had better be copied at once, in order.
    pub(super) fn within(&self, bytes: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> = Vec::new();
        for &block in self.blocks.lock().iter() {
            let start = block.saturating_mul(COPY_BLOCK);
            let part = start.max(bytes.start)..start.saturating_add(COPY_BLOCK).min(bytes.end);
            if part.is_empty() {
                continue;
            }
            match parts.last_mut() {
                Some(last) if part.start - last.end <= GAP_MAX * COPY_BLOCK => last.end = part.end,
                _ => parts.push(part),
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_clipped_and_joined_over_small_gaps() {
        let parts = WrittenParts::default();
        for block in [9, 1, 2, 5] {
            parts.note(block * COPY_BLOCK + 4096);
        }
        let all = parts.within(&(0..u64::MAX));
        assert_eq!(all, [COPY_BLOCK..6 * COPY_BLOCK, 9 * COPY_BLOCK..10 * COPY_BLOCK]);
        let some = parts.within(&(2 * COPY_BLOCK + 4096..9 * COPY_BLOCK + 4096));
        let joined = 2 * COPY_BLOCK + 4096..6 * COPY_BLOCK;
        assert_eq!(some, [joined, 9 * COPY_BLOCK..9 * COPY_BLOCK + 4096]);
    }

    #[test]
    fn no_more_than_so_many_blocks_are_remembered() {
        let parts = WrittenParts::default();
        (0..=BLOCKS_MAX as u64).for_each(|block| parts.note(block * COPY_BLOCK));
        let all = parts.within(&(0..u64::MAX));
        assert_eq!((all.len(), all[0].end), (1, BLOCKS_MAX as u64 * COPY_BLOCK));
    }
}
