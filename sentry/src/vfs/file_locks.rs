//! Advisory locks of one file: record locks (fcntl(2), POSIX and OFD) and flock(2) locks
//! (`fs/locks.c`).
//!
//! A process owns its POSIX locks by its descriptor table, as in Linux; OFD and flock locks are the
//! description's. Nothing here waits: callers try, and wait on [`FileLocks::queue`].

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use ranked_sync::Mutex;

use crate::{Errno, SysResult, err, lock_order, wait::WaitQueue};

/// Record locks on one file; beyond it, `ENOLCK`.
const RECORDS_MAX: usize = 4096;
/// How far a chain of waiting owners is followed (`MAX_DEADLK_ITERATIONS` is 10).
const CHAIN_MAX: usize = 64;

/// Whose lock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockOwner {
    /// The process with this descriptor table.
    Process(usize),
    /// The description of this id.
    Description(u64),
}

/// A lock on the bytes `start..=end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLock {
    pub owner: LockOwner,
    /// For F_GETLK; -1 for OFD locks.
    pub pid: i32,
    pub exclusive: bool,
    pub start: u64,
    pub end: u64,
}

/// What is locked of one file.
#[derive(Debug, Default)]
pub struct FileLocks {
    state: Mutex<lock_order::FileLocks, State>,
    queue: WaitQueue,
}

#[derive(Debug, Default)]
struct State {
    /// Of one owner they do not overlap, and neighbours of one kind are one.
    records: Vec<RecordLock>,
    /// Description and kind.
    flocks: Vec<(u64, bool)>,
}

impl RecordLock {
    fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

impl FileLocks {
    /// Woken whenever something is unlocked.
    pub fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    /// The first lock that stands in the way of `wanted` (F_GETLK).
    pub fn conflict(&self, wanted: &RecordLock) -> Option<RecordLock> {
        self.state.lock().records.iter().find(|lock| lock.conflicts(wanted)).copied()
    }

    /// Takes a record lock, in place of what its owner had there; the lock that is in the way, if one is.
    pub fn lock(&self, wanted: RecordLock) -> SysResult<Result<(), RecordLock>> {
        let shrunk = {
            let mut state = self.state.lock();
            if let Some(other) = state.records.iter().find(|lock| lock.conflicts(&wanted)) {
                return Ok(Err(*other));
            }
            if state.records.len() >= RECORDS_MAX {
                return err!(ENOLCK);
            }
            let before = state.records.clone();
            state.cut(&wanted);
            state.add(wanted);
            before
                .iter()
                .any(|lock| lock.owner == wanted.owner && lock.exclusive && !wanted.exclusive)
        };
        if shrunk {
            self.wake();
        }
        Ok(Ok(()))
    }

    /// Gives up the owner's locks in `start..=end`.
    pub fn unlock(&self, owner: LockOwner, start: u64, end: u64) -> SysResult<()> {
        let range = RecordLock { owner, pid: 0, exclusive: false, start, end };
        {
            let mut state = self.state.lock();
            if state.records.len() >= RECORDS_MAX.saturating_mul(2) {
                return err!(ENOLCK);
            }
            state.cut(&range);
        }
        self.wake();
        Ok(())
    }

    /// Takes (`Some(exclusive)`) or gives up (`None`) a description's flock(2) lock. False: another's is in the
    /// way; the old lock is gone then too, as flock(2) says of conversions.
    pub fn flock(&self, description: u64, kind: Option<bool>) -> bool {
        let (done, freed) = {
            let mut state = self.state.lock();
            let had = state.flocks.iter().position(|(owner, _)| *owner == description);
            if let (Some(at), Some(exclusive)) = (had, kind)
                && state.flocks.get(at).is_some_and(|(_, old)| *old == exclusive)
            {
                return true;
            }
            if let Some(at) = had {
                state.flocks.swap_remove(at);
            }
            let done = match kind {
                None => true,
                Some(exclusive) => {
                    let free = !state.flocks.iter().any(|(_, other)| exclusive || *other);
                    if free {
                        state.flocks.push((description, exclusive));
                    }
                    free
                }
            };
            (done, had.is_some())
        };
        if freed {
            self.wake();
        }
        done
    }

    /// A description is gone, with its OFD and flock locks.
    pub(super) fn release_description(&self, description: u64) {
        let owner = LockOwner::Description(description);
        {
            let mut state = self.state.lock();
            state.records.retain(|lock| lock.owner != owner);
            state.flocks.retain(|(owner, _)| *owner != description);
        }
        self.wake();
    }

    /// All locks, for /proc/locks and fdinfo.
    pub fn list(&self) -> (Vec<RecordLock>, Vec<(u64, bool)>) {
        let state = self.state.lock();
        (state.records.clone(), state.flocks.clone())
    }

    fn wake(&self) {
        self.queue.wake(crate::wait::EventMask::all());
    }
}

impl State {
    /// Takes the range of `by` out of its owner's locks.
    fn cut(&mut self, by: &RecordLock) {
        let old = std::mem::take(&mut self.records);
        for lock in old {
            if lock.owner != by.owner || !lock.overlaps(by) {
                self.records.push(lock);
                continue;
            }
            if let Some(end) = by.start.checked_sub(1).filter(|&end| lock.start <= end) {
                self.records.push(RecordLock { end, ..lock });
            }
            if let Some(start) = by.end.checked_add(1).filter(|&start| start <= lock.end) {
                self.records.push(RecordLock { start, ..lock });
            }
        }
    }

    /// Adds a lock whose range is free of its owner's, as one with its neighbours of the same kind.
    fn add(&mut self, mut new: RecordLock) {
        self.records.retain(|lock| {
            let same = lock.owner == new.owner && lock.exclusive == new.exclusive;
            let touches = lock.end.checked_add(1) == Some(new.start)
                || new.end.checked_add(1) == Some(lock.start);
            if same && touches {
                new.start = new.start.min(lock.start);
                new.end = new.end.max(lock.end);
            }
            !(same && touches)
        });
        self.records.push(new);
        self.records.sort_by_key(|lock| lock.start);
    }
}

/// The locks of the files of one file system.
#[derive(Debug, Default)]
pub(super) struct LockTable {
    files: Mutex<lock_order::Leaf, HashMap<(u64, u64), Weak<FileLocks>>>,
    /// Who waits for whom, for POSIX locks. `EDEADLK` is only found among files of one file system.
    waits: Mutex<lock_order::Leaf, Vec<(LockOwner, LockOwner)>>,
}

/// A wait for a POSIX lock; ends when dropped.
#[derive(Debug)]
pub struct LockWait<'a> {
    table: &'a LockTable,
    pair: (LockOwner, LockOwner),
}

impl LockTable {
    /// Those of the file of that device and inode number; made if `create`.
    pub(super) fn of(&self, file: (u64, u64), create: bool) -> Option<Arc<FileLocks>> {
        let mut files = self.files.lock();
        if let Some(locks) = files.get(&file).and_then(Weak::upgrade) {
            return Some(locks);
        }
        if !create {
            return None;
        }
        if files.len() == files.capacity() {
            files.retain(|_, locks| locks.strong_count() > 0);
        }
        let locks = Arc::new(FileLocks::default());
        files.insert(file, Arc::downgrade(&locks));
        Some(locks)
    }

    /// `owner` is going to wait for `blocker`: `EDEADLK` if that waits, however indirectly, for `owner`.
    pub(super) fn begin_wait(
        &self,
        owner: LockOwner,
        blocker: LockOwner,
    ) -> SysResult<LockWait<'_>> {
        let mut waits = self.waits.lock();
        let mut at = blocker;
        for _ in 0..CHAIN_MAX {
            if at == owner {
                return Err(Errno::EDEADLK.into());
            }
            match waits.iter().find(|(waiter, _)| *waiter == at) {
                Some((_, next)) => at = *next,
                None => break,
            }
        }
        waits.push((owner, blocker));
        Ok(LockWait { table: self, pair: (owner, blocker) })
    }
}

impl Drop for LockWait<'_> {
    fn drop(&mut self) {
        let mut waits = self.table.waits.lock();
        if let Some(at) = waits.iter().position(|pair| *pair == self.pair) {
            waits.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(owner: usize, exclusive: bool, start: u64, end: u64) -> RecordLock {
        RecordLock { owner: LockOwner::Process(owner), pid: 1, exclusive, start, end }
    }

    #[test]
    fn unlocking_the_middle_splits_a_lock() {
        let locks = FileLocks::default();
        locks.lock(lock(1, true, 0, 99)).unwrap().unwrap();
        locks.unlock(LockOwner::Process(1), 10, 19).unwrap();
        assert_eq!(locks.list().0, [lock(1, true, 0, 9), lock(1, true, 20, 99)]);
        assert!(locks.conflict(&lock(2, true, 10, 19)).is_none());
        assert!(locks.conflict(&lock(2, false, 0, 19)).is_some());
    }

    #[test]
    fn neighbours_of_one_kind_become_one() {
        let locks = FileLocks::default();
        locks.lock(lock(1, false, 0, 9)).unwrap().unwrap();
        locks.lock(lock(1, false, 20, 29)).unwrap().unwrap();
        locks.lock(lock(1, false, 10, 19)).unwrap().unwrap();
        assert_eq!(locks.list().0, [lock(1, false, 0, 29)]);
    }

    #[test]
    fn two_owners_that_wait_for_each_other_are_a_deadlock() {
        let table = LockTable::default();
        let _wait = table.begin_wait(LockOwner::Process(1), LockOwner::Process(2)).unwrap();
        let error = table.begin_wait(LockOwner::Process(2), LockOwner::Process(1)).unwrap_err();
        assert_eq!(error.errno(), Errno::EDEADLK);
    }
}
