//! Descriptor tables.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use linux_abi::Errno;
use ranked_sync::RwLock;

use super::{FileDescription, LockOwner, dnotify::end_notice};
use crate::{lock_order, user::Fd};

/// A descriptor.
#[derive(Clone, Debug)]
pub struct FdEntry {
    pub file: Arc<FileDescription>,
    pub cloexec: bool,
}

/// The descriptors of a process, or of several that share them (CLONE_FILES).
#[derive(Debug, Default)]
pub struct FdTable {
    slots: RwLock<lock_order::FdTable, Slots>,
    /// A POSIX record lock or a directory notice was taken through it: closing has to look for them.
    is_lock_owner: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Slots {
    entries: Vec<Option<FdEntry>>,
    /// None below it is free.
    first_free: usize,
}

impl FdTable {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The file behind `fd`, or `EBADF`. Includes O_PATH descriptors.
    pub fn get_any(&self, fd: Fd) -> Result<Arc<FileDescription>, Errno> {
        self.entry(fd).map(|entry| entry.file)
    }

    /// The file behind `fd`; `EBADF` also for O_PATH descriptors. What most calls use.
    pub fn get(&self, fd: Fd) -> Result<Arc<FileDescription>, Errno> {
        let file = self.get_any(fd)?;
        if file.is_path() { Err(Errno::EBADF) } else { Ok(file) }
    }

    /// The descriptor itself.
    pub fn entry(&self, fd: Fd) -> Result<FdEntry, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.slots.read().entries.get(index).and_then(Clone::clone).ok_or(Errno::EBADF)
    }

    /// The lowest free descriptor ≥ `min`; `EMFILE` at `limit` (RLIMIT_NOFILE).
    pub fn insert(
        &self,
        file: Arc<FileDescription>,
        cloexec: bool,
        min: i32,
        limit: u64,
    ) -> Result<Fd, Errno> {
        let min = usize::try_from(min).map_err(|_| Errno::EINVAL)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(i32::MAX as usize);
        let mut slots = self.slots.write();
        let from = slots.first_free.max(min);
        let free = slots.entries.iter().skip(from).position(Option::is_none);
        let index = free.map_or(slots.entries.len().max(from), |at| at + from);
        if index >= limit {
            return Err(Errno::EMFILE);
        }
        slots.put(index, FdEntry { file, cloexec });
        if min <= slots.first_free {
            slots.first_free = index + 1;
        }
        Ok(Fd(index as i32))
    }

    /// Puts `file` at `fd` (dup2(2)); what was there is returned, for the caller to close.
    /// The caller has checked `fd` against RLIMIT_NOFILE.
    pub fn replace(
        &self,
        fd: Fd,
        file: Arc<FileDescription>,
        cloexec: bool,
    ) -> Result<Option<FdEntry>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        Ok(self.slots.write().put(index, FdEntry { file, cloexec }))
    }

    /// Takes `fd` out; the caller closes it (`vfs::close_entry`: record locks, `FileOps::close`).
    pub fn remove(&self, fd: Fd) -> Result<FdEntry, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.slots.write().take(index).ok_or(Errno::EBADF)
    }

    /// Sets FD_CLOEXEC.
    pub fn set_cloexec(&self, fd: Fd, cloexec: bool) -> Result<(), Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        let entry = slots.entries.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        entry.cloexec = cloexec;
        Ok(())
    }

    /// Sets FD_CLOEXEC on all for which `which` holds.
    pub fn set_cloexec_where(&self, mut which: impl FnMut(Fd) -> bool) {
        for (index, slot) in self.slots.write().entries.iter_mut().enumerate() {
            if let Some(entry) = slot
                && which(Fd(index as i32))
            {
                entry.cloexec = true;
            }
        }
    }

    /// Whose POSIX record locks and directory notices are taken through it.
    pub fn lock_owner(self: &Arc<Self>) -> LockOwner {
        self.is_lock_owner.store(true, Ordering::Relaxed);
        self.owner()
    }

    fn owner(&self) -> LockOwner {
        LockOwner::Process(std::ptr::from_ref(self).addr())
    }

    /// A copy, for fork(2).
    pub fn duplicate(&self) -> Arc<Self> {
        let slots = self.slots.read().clone();
        Arc::new(Self { slots: RwLock::new(slots), is_lock_owner: AtomicBool::new(false) })
    }

    /// Takes out those for which `which` holds (execve, close_range, exit); the caller closes them.
    pub fn take_where(&self, mut which: impl FnMut(Fd, &FdEntry) -> bool) -> Vec<FdEntry> {
        let mut taken = Vec::new();
        let mut slots = self.slots.write();
        slots.first_free = 0;
        for (index, slot) in slots.entries.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(|entry| which(Fd(index as i32), entry)) {
                taken.extend(slot.take());
            }
        }
        taken
    }

    /// The open descriptors, in order.
    pub fn list(&self) -> Vec<Fd> {
        let slots = self.slots.read();
        slots
            .entries
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_some())
            .map(|(at, _)| Fd(at as i32))
            .collect()
    }
}

impl Slots {
    fn put(&mut self, index: usize, entry: FdEntry) -> Option<FdEntry> {
        if index >= self.entries.len() {
            self.entries.resize(index.saturating_add(1), None);
        }
        self.entries.get_mut(index).and_then(|slot| slot.replace(entry))
    }

    fn take(&mut self, index: usize) -> Option<FdEntry> {
        let entry = self.entries.get_mut(index).and_then(Option::take)?;
        self.first_free = self.first_free.min(index);
        Some(entry)
    }
}

/// Closes a descriptor that was taken out of `fds`: the process's record locks and notices on the file
/// go, and the file hears of it (`filp_close`).
pub fn close_entry(fds: &FdTable, entry: FdEntry) {
    if fds.is_lock_owner.load(Ordering::Relaxed) {
        entry.file.release_process_locks(fds.owner());
        end_notice(&entry.file, fds.owner());
    }
    entry.file.ops().close(&entry.file);
}

impl Drop for FdTable {
    fn drop(&mut self) {
        for entry in std::mem::take(&mut self.slots.get_mut().entries).into_iter().flatten() {
            close_entry(self, entry);
        }
    }
}
