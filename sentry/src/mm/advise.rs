//! madvise(2).

use std::{ops::Range, sync::Arc};

use linux_abi::Errno;
use platform::{AccessKind, PAGE_SIZE, Prot};

use super::{
    MemoryManager,
    batch::Batch,
    memory_manager::page_range,
    pma::{Owner, Place},
    shared_anonymous::SharedAnonymous,
    state::{Freed, MmState, Populate},
    vma::{MappedFile, Source, Vma, VmaFlags},
};

/// What madvise(2) can do that has an effect here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Allowed, and nothing to do.
    Nothing,
    /// Sets some flags and clears others.
    Flags { set: VmaFlags, clear: VmaFlags },
    /// MADV_WIPEONFORK: as `Flags`, for private anonymous memory only.
    WipeOnFork,
    /// MADV_DONTNEED; `locked`: also of locked mappings.
    DontNeed { locked: bool },
    /// MADV_FREE.
    Free,
    /// MADV_REMOVE.
    Remove,
    /// MADV_POPULATE_READ and _WRITE.
    Populate { write: bool },
}

impl MemoryManager {
    /// madvise(2). Goes on behind holes, and reports them as `ENOMEM` at the end.
    pub fn advise(&self, addr: u64, len: u64, advice: Advice) -> Result<(), Errno> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let range = page_range(addr, len).ok_or(Errno::EINVAL)?;
        if range.is_empty() {
            return Ok(());
        }
        if let Advice::Populate { write } = advice {
            return self.populate(range, write);
        }
        if advice == Advice::Remove {
            return self.remove(range);
        }
        let mut state = self.write_state();
        let parts: Vec<_> = state.vmas.clipped(range.clone()).collect();
        let mut covered = 0;
        for (part, vma) in parts {
            covered += part.end - part.start;
            self.advise_one(&mut state, part, &vma, advice)?;
        }
        if covered < range.end - range.start { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn advise_one(
        &self,
        state: &mut MmState,
        part: Range<u64>,
        vma: &Vma,
        advice: Advice,
    ) -> Result<(), Errno> {
        let private_anonymous = vma.is_anonymous() && !vma.is_shared();
        match advice {
            Advice::Nothing | Advice::Populate { .. } | Advice::Remove => Ok(()),
            Advice::WipeOnFork if !private_anonymous => Err(Errno::EINVAL),
            Advice::WipeOnFork => {
                state.update_vmas(part, |vma| vma.flags |= VmaFlags::WIPEONFORK);
                Ok(())
            }
            Advice::Flags { set, clear } => {
                state.update_vmas(part, |vma| vma.flags = (vma.flags - clear) | set);
                Ok(())
            }
            Advice::Free if !private_anonymous => Err(Errno::EINVAL),
            Advice::DontNeed { locked: false } | Advice::Free
                if vma.flags.contains(VmaFlags::LOCKED) =>
            {
                Err(Errno::EINVAL)
            }
            Advice::DontNeed { .. } | Advice::Free
                if vma.flags.contains(VmaFlags::SEALED) && !vma.prot.contains(Prot::WRITE) =>
            {
                Err(Errno::EPERM)
            }
            Advice::DontNeed { .. } | Advice::Free => self.drop_pages(state, part),
        }
    }

    /// Drops private copies, so that the pages are zero, or the file's, again.
    fn drop_pages(&self, state: &mut MmState, part: Range<u64>) -> Result<(), Errno> {
        let (mut batch, mut freed) = (Batch::default(), Freed::new());
        let pages: Vec<_> = state.pmas.clipped(part.clone()).collect();
        for (range, pma) in pages {
            let Some(memory) = pma.memory(range.end - range.start) else { continue };
            match pma.owner {
                Owner::Shared | Owner::Borrowed => continue,
                Owner::Own => {}
            }
            let anonymous = state.vmas.find(range.start).is_some_and(|(_, vma)| vma.is_anonymous());
            let cow = matches!(pma.place, Place::Memory { cow: true, .. });
            if anonymous && !cow {
                // Still mapped, and zero at the next touch.
                self.memory.discard(memory)?;
                continue;
            }
            state.remove_pmas(range.clone(), &mut freed);
            batch.unmap(range);
        }
        // What was shared with a forked process gets pages of its own; a file's come back by faults.
        state.fill_anonymous(&self.memory, part, &mut batch, Populate::Little)?;
        self.commit(state, &batch, &freed)
    }

    /// Touches each page (`madvise_populate`).
    pub(super) fn populate(&self, range: Range<u64>, write: bool) -> Result<(), Errno> {
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        let mut at = range.start;
        while at < range.end {
            {
                let state = self.state.read();
                let (_, vma) = state.vmas.find(at).ok_or(Errno::ENOMEM)?;
                if !vma.allows(access) {
                    return Err(Errno::EINVAL);
                }
                // Pages that are there need nothing.
                if let Some((found, pma)) = state.pmas.find(at)
                    && !(write && pma.copies_on_write())
                {
                    at = found.end;
                    continue;
                }
            }
            self.fault_in(at, access)?;
        }
        Ok(())
    }

    /// MADV_REMOVE: makes a hole in the mapped object (`madvise_remove`).
    fn remove(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut at = range.start;
        while at < range.end {
            let (end, object, offset) = {
                let state = self.state.read();
                let (found, vma) = state.vmas.find(at).ok_or(Errno::ENOMEM)?;
                if vma.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EINVAL);
                }
                let Source::File { file, offset } = &vma.source else { return Err(Errno::EINVAL) };
                if !vma.is_shared() || !vma.max_prot.contains(Prot::WRITE) {
                    return Err(Errno::EACCES);
                }
                let offset = offset.checked_add(at - found.start).ok_or(Errno::EINVAL)?;
                (found.end.min(range.end), file.clone(), offset)
            };
            punch_hole(&object, offset, end - at)?;
            at = end;
        }
        Ok(())
    }
}

/// Without any lock: a file system does this as for fallocate(2).
fn punch_hole(object: &Arc<MappedFile>, offset: u64, len: u64) -> Result<(), Errno> {
    const KEEP_SIZE_AND_PUNCH: u32 = 3;
    match &object.file {
        Some(file) => file
            .ops()
            .allocate(file, KEEP_SIZE_AND_PUNCH, offset, len)
            .map_err(crate::SysError::errno),
        None => match SharedAnonymous::of(&object.mappable) {
            Some(shared) => shared.punch(offset, len),
            None => Err(Errno::EOPNOTSUPP),
        },
    }
}
