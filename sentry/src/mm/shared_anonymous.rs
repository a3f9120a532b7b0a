//! Shared anonymous memory (`MAP_SHARED | MAP_ANONYMOUS`, System V segments): an object with no name.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use linux_abi::Errno;
use platform::{
    Backing,
    memory::{FileRange, MemoryFile},
};

use crate::{SysResult, err, vfs::Mappable};

/// `st_dev` of the kernel's own tmpfs, as /proc/PID/maps shows it (00:01).
pub(super) const SHMEM_DEV: u64 = 1;

/// A range of the memory file that several address spaces map.
#[derive(Debug)]
pub struct SharedAnonymous {
    memory: Arc<MemoryFile>,
    range: FileRange,
    ino: u64,
}

impl SharedAnonymous {
    /// Zero pages, `len` bytes (whole pages).
    pub fn new(memory: &Arc<MemoryFile>, len: u64) -> Result<Arc<Self>, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let range = memory.allocate(len, None)?;
        Ok(Arc::new(Self {
            memory: memory.clone(),
            range,
            ino: NEXT.fetch_add(1, Ordering::Relaxed),
        }))
    }

    /// The object as what it is, if it is one of these.
    pub(super) fn of(mappable: &Arc<dyn Mappable>) -> Option<&Self> {
        mappable.as_any().and_then(|any| any.downcast_ref())
    }

    /// Gives back `len` bytes from `offset` on, which read as zero from then on (MADV_REMOVE).
    pub(super) fn punch(&self, offset: u64, len: u64) -> Result<(), Errno> {
        let len = len.min(self.range.len().saturating_sub(offset));
        if len == 0 {
            return Ok(());
        }
        self.memory.discard(self.range.sub(offset, len))
    }
}

impl Mappable for SharedAnonymous {
    fn pages(&self, offset: u64, len: u64, _shared: bool) -> SysResult<(Backing, u64)> {
        if offset >= self.range.len() {
            return err!(EFAULT);
        }
        let part = self.range.sub(offset, len.min(self.range.len() - offset));
        self.memory.retain(part);
        Ok((Backing::Memory(part), part.len()))
    }

    fn identity(&self) -> (u64, u64) {
        (SHMEM_DEV, self.ino)
    }

    fn size(&self) -> u64 {
        self.range.len()
    }

    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

impl Drop for SharedAnonymous {
    fn drop(&mut self) {
        self.memory.release(self.range);
    }
}
