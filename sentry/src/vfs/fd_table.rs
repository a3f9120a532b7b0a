//! Descriptor tables.

use std::sync::Arc;

use linux_abi::Errno;
use ranked_sync::RwLock;

use super::FileDescription;
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
    slots: RwLock<lock_order::FdTable, Vec<Option<FdEntry>>>,
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
        self.slots.read().get(index).and_then(Clone::clone).ok_or(Errno::EBADF)
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
        let free = slots.iter().skip(min).position(Option::is_none).map(|at| at + min);
        let index = free.unwrap_or(slots.len().max(min));
        if index >= limit {
            return Err(Errno::EMFILE);
        }
        if index >= slots.len() {
            slots.resize(index + 1, None);
        }
        slots[index] = Some(FdEntry { file, cloexec });
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
        let mut slots = self.slots.write();
        if index >= slots.len() {
            slots.resize(index + 1, None);
        }
        Ok(slots[index].replace(FdEntry { file, cloexec }))
    }

    /// Takes `fd` out; the caller closes it (`vfs::close_entry`: record locks, `FileOps::close`).
    pub fn remove(&self, fd: Fd) -> Result<FdEntry, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        self.slots.write().get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)
    }

    /// Sets FD_CLOEXEC.
    pub fn set_cloexec(&self, fd: Fd, cloexec: bool) -> Result<(), Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.write();
        let entry = slots.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        entry.cloexec = cloexec;
        Ok(())
    }

    /// A copy, for fork(2).
    pub fn duplicate(&self) -> Arc<Self> {
        let slots = self.slots.read().clone();
        Arc::new(Self { slots: RwLock::new(slots) })
    }

    /// Takes out those for which `which` holds (execve, close_range, exit); the caller closes them.
    pub fn take_where(&self, mut which: impl FnMut(Fd, &FdEntry) -> bool) -> Vec<FdEntry> {
        let mut taken = Vec::new();
        for (index, slot) in self.slots.write().iter_mut().enumerate() {
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
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.is_some())
            .map(|(at, _)| Fd(at as i32))
            .collect()
    }
}
