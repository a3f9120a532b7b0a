//! What is used right after fork(2), again and again: pages that are written (the stack, the thread's own data, the
//! allocator's), and mappings that are touched at all.

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

/// Before so many forks nothing is learnt: most programs that fork do it a few times.
const FORKS_BEFORE_LEARNING: u32 = 6;
/// A child is told of its inherited mappings one by one so many times; then of all that are left. So many touches are
/// remembered.
const TOUCHES_BEFORE_ALL: u32 = 8;
const TOUCHES_MAX: usize = 64;

/// What a process and those forked from it (until they exec) have learnt.
///
/// fork copies the pages that are written at once, and leaves the parent's as they are: that saves both sides the copy-on-write
/// fault, which costs several times as much as copying the page. Mappings that no child touched before it executed
/// something are not made on the host (`deferred`).
#[derive(Debug, Default)]
pub(super) struct HotPages {
    family: Arc<Mutex<lock_order::Leaf, Family>>,
    /// Faults that may still be noted.
    left: AtomicU32,
    /// Touches of deferred mappings of this process.
    touches: AtomicU32,
}

#[derive(Debug, Default)]
struct Family {
    /// Written pages.
    written: Vec<u64>,
    /// Touched pages of deferred mappings, in order.
    touched: Vec<u64>,
    forks: u32,
}

impl HotPages {
    /// A copy-on-write fault of `page`.
    pub(super) fn note(&self, page: u64) {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        let pages = &mut self.family.lock().written;
        if pages.contains(&page) {
            return;
        }
        if pages.len() >= PAGES_MAX {
            pages.remove(0);
        }
        pages.push(page);
    }

    /// The written pages, in order; `None` while there are too few forks to learn from.
    pub(super) fn written(&self) -> Option<Vec<u64>> {
        let mut pages = {
            let family = self.family.lock();
            (family.forks >= FORKS_BEFORE_LEARNING).then(|| family.written.clone())?
        };
        pages.sort_unstable();
        Some(pages)
    }

    /// A mapping that the host had not been told of was touched at `page`. True when it had better be told of all.
    pub(super) fn note_touch(&self, page: u64) -> bool {
        {
            let touched = &mut self.family.lock().touched;
            if touched.len() < TOUCHES_MAX
                && let Err(at) = touched.binary_search(&page)
            {
                touched.insert(at, page);
            }
        }
        self.touches.fetch_add(1, Ordering::Relaxed) >= TOUCHES_BEFORE_ALL
    }

    /// The pages of mappings that children touched which had not been told of them, in order; `None` while there are too few
    /// forks to learn from.
    pub(super) fn touched(&self) -> Option<Vec<u64>> {
        let family = self.family.lock();
        (family.forks > FORKS_BEFORE_LEARNING).then(|| family.touched.clone())
    }

    /// A fork happens: for the child, which shares what is learnt.
    pub(super) fn fork(&self) -> Self {
        self.left.store(NOTED_AFTER_FORK, Ordering::Relaxed);
        {
            let mut family = self.family.lock();
            family.forks = family.forks.saturating_add(1);
        }
        Self {
            family: self.family.clone(),
            left: AtomicU32::new(NOTED_AFTER_FORK),
            touches: AtomicU32::new(0),
        }
    }
}
