//! Keys, buckets and waiters.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use ranked_sync::{Mutex, MutexGuard};

use crate::{kernel::TaskWaker, lock_order};

const BUCKETS: usize = 256;

/// What makes two futex words the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FutexKey {
    /// An address in one address space. `shared`: named by an operation without FUTEX_PRIVATE_FLAG,
    /// which is another futex than a private one at the same address, as in Linux.
    Private { mm: u64, addr: u64, shared: bool },
    /// An offset in what is mapped shared there.
    Shared { object: (u64, u64), offset: u64 },
}

/// One wait. Reused by its task.
#[derive(Debug)]
pub(in crate::kernel) struct Waiter {
    pub(super) waker: Arc<TaskWaker>,
    /// Taken out of its bucket by a waker.
    pub(super) woken: AtomicBool,
    /// Which bucket it is in; changes when it is requeued.
    pub(super) bucket: AtomicUsize,
    /// Thread id, for priority-inheritance futexes.
    pub(super) tid: i32,
    /// For FUTEX_WAIT_REQUEUE_PI: it was moved to the PI futex and owns it, or waits for it there.
    pub(super) requeued_pi: AtomicBool,
}

/// A waiter in its bucket.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: FutexKey,
    pub(super) bitset: u32,
    pub(super) waiter: Arc<Waiter>,
    /// Waits for a priority-inheritance futex: FUTEX_WAKE may not touch it.
    pub(super) pi: bool,
    /// FUTEX_WAIT_REQUEUE_PI: the futex it may be requeued to.
    pub(super) requeue_pi: Option<FutexKey>,
}

#[derive(Default)]
pub(super) struct Bucket {
    /// Waiters in it or about to be: read without the lock.
    pub(super) count: AtomicUsize,
    pub(super) entries: Mutex<lock_order::Futex, Vec<Entry>>,
}

/// All futexes of a sandbox.
pub(crate) struct FutexTable {
    buckets: Box<[Bucket]>,
    hasher: RandomState,
}

impl Default for FutexTable {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl FutexTable {
    pub(super) fn index(&self, key: &FutexKey) -> usize {
        (self.hasher.hash_one(key) as usize) % BUCKETS
    }

    pub(super) fn bucket(&self, index: usize) -> &Bucket {
        &self.buckets[index % BUCKETS]
    }

    pub(super) fn bucket_of(&self, key: &FutexKey) -> &Bucket {
        self.bucket(self.index(key))
    }

    /// Wakes up to `count` waiters for `key` whose bitset has a bit of `bitset`; how many.
    pub(crate) fn wake(
        &self,
        key: &FutexKey,
        count: usize,
        bitset: u32,
    ) -> Result<usize, crate::Errno> {
        let bucket = self.bucket_of(key);
        if bucket.is_empty() || count == 0 {
            return Ok(0);
        }
        let mut entries = bucket.entries.lock();
        let mut woken = 0;
        let mut at = 0;
        while let Some(entry) = entries.get(at) {
            if entry.key != *key || entry.bitset & bitset == 0 {
                at += 1;
                continue;
            }
            if entry.pi || entry.requeue_pi.is_some() {
                return Err(crate::Errno::EINVAL);
            }
            let entry = bucket.remove(&mut entries, at);
            entry.waiter.wake();
            woken += 1;
            if woken >= count {
                break;
            }
        }
        Ok(woken)
    }

    /// Takes a waiter out wherever it was requeued to. False: a waker has already done so.
    pub(super) fn cancel(&self, waiter: &Arc<Waiter>) -> bool {
        loop {
            let index = waiter.bucket.load(Ordering::SeqCst);
            let bucket = self.bucket(index);
            let mut entries = bucket.entries.lock();
            if waiter.woken.load(Ordering::SeqCst) {
                return false;
            }
            if waiter.bucket.load(Ordering::SeqCst) != index {
                continue;
            }
            let found = entries.iter().position(|entry| Arc::ptr_eq(&entry.waiter, waiter));
            if let Some(at) = found {
                drop(bucket.remove(&mut entries, at));
            }
            return true;
        }
    }
}

impl Bucket {
    pub(super) fn is_empty(&self) -> bool {
        // Pairs with the increment before the waiter reads the word.
        std::sync::atomic::fence(Ordering::SeqCst);
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Queues behind the others.
    pub(super) fn insert(&self, entries: &mut Vec<Entry>, entry: Entry) {
        entries.push(entry);
    }

    pub(super) fn remove(&self, entries: &mut Vec<Entry>, at: usize) -> Entry {
        self.count.fetch_sub(1, Ordering::SeqCst);
        // The order is kept: first come, first woken.
        entries.remove(at)
    }

    /// Announces a waiter, then takes the lock.
    pub(super) fn announce(&self) -> MutexGuard<'_, lock_order::Futex, Vec<Entry>> {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.entries.lock()
    }

    /// The announced waiter does not wait after all.
    pub(super) fn retract(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Waiter {
    pub(super) fn new(waker: Arc<TaskWaker>, tid: i32) -> Arc<Self> {
        Arc::new(Self {
            waker,
            woken: AtomicBool::new(false),
            bucket: AtomicUsize::new(0),
            tid,
            requeued_pi: AtomicBool::new(false),
        })
    }

    /// It is out of its bucket; its lock is held, so that `cancel` sees it.
    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl fmt::Debug for FutexTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FutexTable")
    }
}
