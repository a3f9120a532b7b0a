//! Memory that a host call is using, which must not be given back under it.

use std::sync::atomic::{AtomicUsize, Ordering};

use platform::memory::{FileRange, MemoryFile};
use ranked_sync::Mutex;
use smallvec::SmallVec;

use crate::lock_order;

/// The pinned ranges of one address space.
///
/// A range is pinned while the VMA lock is held for reading, and given back while it is held for writing, so
/// the two never race; an unmapped range that is still pinned is given back by the last unpin.
#[derive(Debug, Default)]
pub(super) struct Pins {
    count: AtomicUsize,
    table: Mutex<lock_order::Leaf, Table>,
}

#[derive(Debug, Default)]
struct Table {
    pinned: Vec<FileRange>,
    /// Unmapped meanwhile.
    deferred: Vec<FileRange>,
}

impl Pins {
    /// The caller holds the VMA lock for reading.
    pub(super) fn pin(&self, ranges: &[FileRange]) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.table.lock().pinned.extend_from_slice(ranges);
    }

    pub(super) fn unpin(&self, memory: &MemoryFile, ranges: &[FileRange]) {
        let mut free: SmallVec<[FileRange; 4]> = SmallVec::new();
        {
            let mut guard = self.table.lock();
            let table = &mut *guard;
            for range in ranges {
                if let Some(at) = table.pinned.iter().position(|pinned| pinned == range) {
                    table.pinned.swap_remove(at);
                }
            }
            let pinned = &table.pinned;
            table.deferred.retain(|&range| {
                let stays = pinned.iter().any(|&pin| overlap(pin, range));
                if !stays {
                    free.push(range);
                }
                stays
            });
            self.count.fetch_sub(1, Ordering::SeqCst);
        }
        for range in free {
            memory.release(range);
        }
    }

    /// Gives a range back, now or when it is no longer pinned. The caller holds the VMA lock for writing.
    pub(super) fn release(&self, memory: &MemoryFile, range: FileRange) {
        if self.count.load(Ordering::SeqCst) != 0 {
            let mut table = self.table.lock();
            if table.pinned.iter().any(|&pin| overlap(pin, range)) {
                table.deferred.push(range);
                return;
            }
        }
        memory.release(range);
    }
}

fn overlap(a: FileRange, b: FileRange) -> bool {
    a.start < b.end && b.start < a.end
}
