//! `mm_struct`: one guest address space.

use std::sync::Arc;

use linux_abi::Errno;
use platform::{
    AddressSpace,
    memory::{MemoryFile, VolatileSlice},
};

use crate::{
    user::{UserAddr, UserMemory},
    vfs::UserIovecs,
};

/// The memory of a guest process. Shared by its threads, and by vfork children until they exec.
#[derive(Debug)]
pub struct MemoryManager {
    space: Arc<dyn AddressSpace>,
    memory: Arc<MemoryFile>,
}

/// Guest pages that stay where they are, for a host call to read or write.
#[derive(Debug)]
pub struct PinnedSlices<'a> {
    mm: &'a MemoryManager,
}

impl PinnedSlices<'_> {
    /// The pieces, in order.
    pub fn slices(&self) -> Vec<VolatileSlice<'_>> {
        Vec::new()
    }
}

impl MemoryManager {
    /// An empty address space.
    pub fn new(space: Arc<dyn AddressSpace>, memory: Arc<MemoryFile>) -> Arc<Self> {
        Arc::new(Self { space, memory })
    }

    /// The platform's side.
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Pins the pages of `iovecs` (up to the first that is not accessible; `EFAULT` when that is the first
    /// of all) so that a host call may use them without any lock. `write`: the host call will write to
    /// them. `None`: some of it is not in the memory file; use a bounce buffer.
    pub fn pin_for_io(
        &self,
        _iovecs: &UserIovecs,
        _write: bool,
    ) -> Result<Option<PinnedSlices<'_>>, Errno> {
        Ok(None)
    }
}

impl UserMemory for MemoryManager {
    fn copy_in_partial(&self, _addr: UserAddr, _dst: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::EFAULT)
    }
    fn copy_out_partial(&self, _addr: UserAddr, _src: &[u8]) -> Result<usize, Errno> {
        Err(Errno::EFAULT)
    }
    fn load_u32(&self, _addr: UserAddr) -> Result<u32, Errno> {
        Err(Errno::EFAULT)
    }
    fn cmpxchg_u32(&self, _addr: UserAddr, _old: u32, _new: u32) -> Result<u32, Errno> {
        Err(Errno::EFAULT)
    }
}
