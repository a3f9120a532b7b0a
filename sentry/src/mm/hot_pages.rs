//! Pages that are written right after fork(2), again and again: the stack, the thread's own data, the allocator's.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use ranked_sync::Mutex;

use crate::lock_order;

/// So many are remembered; each costs a copied page at fork.
const PAGES_MAX: usize = 24;
/// Only the first faults after a fork tell what is written between fork and exec, or between two forks.
const NOTED_AFTER_FORK: u32 = 16;

/// What a process and those forked from it (until they exec) have learnt.
///
/// fork copies these pages at once, and leaves the parent's as they are: that saves both sides the copy-on-write
/// fault, which costs several times as much as copying the page.
#[derive(Debug, Default)]
pub(super) struct HotPages {
    family: Arc<Mutex<lock_order::Leaf, Vec<u64>>>,
    /// Faults that may still be noted.
    left: AtomicU32,
}

impl HotPages {
    /// A copy-on-write fault of `page`.
    pub(super) fn note(&self, page: u64) {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        let mut pages = self.family.lock();
        if pages.contains(&page) {
            return;
        }
        if pages.len() >= PAGES_MAX {
            pages.remove(0);
        }
        pages.push(page);
    }

    /// The pages, in order.
    pub(super) fn sorted(&self) -> Vec<u64> {
        let mut pages = self.family.lock().clone();
        pages.sort_unstable();
        pages
    }

    /// A fork happens: for the child, which shares what is learnt.
    pub(super) fn fork(&self) -> Self {
        self.left.store(NOTED_AFTER_FORK, Ordering::Relaxed);
        Self { family: self.family.clone(), left: AtomicU32::new(NOTED_AFTER_FORK) }
    }
}
