//! Who may look at whom, and forced access to memory.

use platform::{PAGE_SIZE, Prot};

use crate::{
    Errno,
    kernel::{Capability, CurrentTask, Task},
    mm::MemoryManager,
    user::{UserAddr, UserMemory},
};

impl CurrentTask {
    /// May it look at the memory and state of `target` (`ptrace_may_access`)?
    pub fn may_ptrace(&self, target: &Task) -> bool {
        if std::ptr::eq(&**target.thread_group(), &**self.thread_group()) {
            return true;
        }
        let (own, other) = (self.cred(), target.cred());
        if own.has(Capability::SYS_PTRACE) {
            return true;
        }
        let same = [other.uid, other.euid, other.suid].iter().all(|&uid| uid == own.uid)
            && [other.gid, other.egid, other.sgid].iter().all(|&gid| gid == own.gid);
        same && own.permitted.contains(other.permitted) && target.thread_group().dumpable() == 1
    }
}

/// Writes where the tracee itself could not: breakpoints in code (`FOLL_FORCE`). Not into shared mappings.
pub(crate) fn poke(mm: &MemoryManager, addr: UserAddr, bytes: &[u8]) -> Result<(), Errno> {
    if mm.copy_out(addr, bytes).is_ok() {
        return Ok(());
    }
    let first = addr.page_start().0;
    let last = addr.offset((bytes.len() as u64).saturating_sub(1))?.page_start().0;
    let range = first..last.checked_add(PAGE_SIZE).ok_or(Errno::EIO)?;
    let maps = mm.maps(false);
    let covering = |at: u64| maps.iter().find(|map| map.range.contains(&at));
    let mut before: Vec<(u64, Prot)> = Vec::new();
    for page in (range.start..range.end).step_by(PAGE_SIZE as usize) {
        let map = covering(page).ok_or(Errno::EIO)?;
        if map.is_shared {
            return Err(Errno::EIO);
        }
        before.push((page, map.prot));
    }
    for (page, prot) in &before {
        mm.protect(*page, PAGE_SIZE, *prot | Prot::READ | Prot::WRITE, false)?;
    }
    let done = mm.copy_out(addr, bytes);
    for (page, prot) in &before {
        mm.protect(*page, PAGE_SIZE, *prot, false)?;
    }
    done.map_err(|_| Errno::EIO)
}
