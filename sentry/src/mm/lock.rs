//! mlock(2) and its relatives, msync(2), mincore(2), mseal(2).
//!
//! Guest memory is never swapped here as such, so locking is bookkeeping and making pages present.

use std::{ops::Range, sync::Arc};

use linux_abi::Errno;
use platform::PAGE_SIZE;

use super::{
    MemoryManager,
    memory_manager::{page_down, page_range},
    state::MmState,
    vma::{MappedFile, Source, VmaFlags},
};

const LOCK_FLAGS: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCKONFAULT);

/// How mappings are locked: LOCKED, perhaps with LOCKONFAULT, or nothing to unlock.
fn lock_flags(lock: bool, on_fault: bool) -> VmaFlags {
    match (lock, on_fault) {
        (false, _) => VmaFlags::empty(),
        (true, false) => VmaFlags::LOCKED,
        (true, true) => LOCK_FLAGS,
    }
}

impl MemoryManager {
    /// mlock(2), mlock2(2), munlock(2).
    pub fn lock(&self, addr: u64, len: u64, lock: bool, on_fault: bool) -> Result<(), Errno> {
        if lock {
            self.may_lock()?;
        }
        let start = page_down(addr);
        let len = len.checked_add(addr - start).ok_or(Errno::EINVAL)?;
        // A length that wraps when rounded up is 0 to Linux.
        let Some(range) = page_range(start, len) else { return Err(Errno::EINVAL) };
        if range.is_empty() {
            return Ok(());
        }
        let covered = {
            let mut state = self.write_state();
            let covered = state.covered_until(&range);
            if lock {
                let already: u64 = state
                    .vmas
                    .clipped(range.clone())
                    .filter(|(_, vma)| vma.flags.contains(VmaFlags::LOCKED))
                    .map(|(part, _)| part.end - part.start)
                    .sum();
                let more = (range.end - range.start).saturating_sub(already);
                self.check_lock(state.locked.saturating_add(more)).map_err(|_| Errno::ENOMEM)?;
            }
            let flags = lock_flags(lock, on_fault);
            set_lock_flags(&mut state, range.start..covered, flags);
            covered
        };
        if covered < range.end {
            return Err(Errno::ENOMEM);
        }
        if lock && !on_fault {
            self.make_present(range);
        }
        Ok(())
    }

    /// mlockall(2) and munlockall(2): for what is mapped now (`current`), and what comes (`future`).
    pub fn lock_all(&self, current: bool, future: bool, on_fault: bool) -> Result<(), Errno> {
        if current || future {
            self.may_lock()?;
        }
        let mut state = self.write_state();
        if current {
            self.check_lock(state.total).map_err(|_| Errno::ENOMEM)?;
        }
        state.default_flags = lock_flags(future, on_fault);
        // MCL_FUTURE alone leaves existing locks as they are; munlockall takes all away.
        if current || !future {
            set_lock_flags(&mut state, 0..u64::MAX, lock_flags(current, on_fault));
        }
        let ranges: Vec<_> = state.vmas.iter().map(|(range, _)| range).collect();
        drop(state);
        if current && !on_fault {
            ranges.into_iter().for_each(|range| self.make_present(range));
        }
        Ok(())
    }

    /// Makes pages present as far as that goes; what cannot be had is no error (`mm_populate`).
    fn make_present(&self, range: Range<u64>) {
        let parts: Vec<_> = {
            let state = self.state.read();
            state
                .vmas
                .clipped(range)
                .filter(|(_, vma)| !vma.prot.is_empty())
                .map(|(part, vma)| {
                    (part, vma.prot.contains(platform::Prot::WRITE) && !vma.is_shared())
                })
                .collect()
        };
        for (part, write) in parts {
            let _ = self.populate(part.clone(), write);
            let state = self.state.read();
            for (range, pma) in state.pmas.clipped(part) {
                if let Some(memory) = pma.memory(range.end - range.start) {
                    // Memory that is locked is there; the limit on memory may refuse.
                    let _ = self.memory.commit(memory);
                    let slice = self.memory.slice(memory);
                    for page in (0..slice.len()).step_by(PAGE_SIZE as usize) {
                        // A touch makes committed memory present.
                        slice.sub(page, 1).copy_to(&mut [0]);
                    }
                }
            }
        }
    }

    /// msync(2). `sync`: write back, and wait; `invalidate`: refuse locked memory.
    pub fn sync(&self, addr: u64, len: u64, sync: bool, invalidate: bool) -> Result<(), Errno> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let range = page_range(addr, len).ok_or(Errno::ENOMEM)?;
        let mut objects: Vec<(Arc<MappedFile>, u64, u64)> = Vec::new();
        let mut covered = 0;
        for (part, vma) in self.state.read().vmas.clipped(range.clone()) {
            covered += part.end - part.start;
            if invalidate && vma.flags.contains(VmaFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            if let Source::File { file, offset } = &vma.source
                && sync
                && vma.is_shared()
            {
                objects.push((file.clone(), *offset, part.end - part.start));
            }
        }
        for (object, offset, len) in objects {
            object.mappable.sync_pages(offset, len).map_err(crate::SysError::errno)?;
        }
        if covered < range.end - range.start { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// mincore(2): for each page, is it in memory? `ENOMEM` when some is not mapped.
    pub fn in_core(&self, range: Range<u64>) -> Result<Vec<u8>, Errno> {
        let state = self.state.read();
        if state.covered_until(&range) < range.end {
            return Err(Errno::ENOMEM);
        }
        let mut present = vec![0; ((range.end - range.start) / PAGE_SIZE) as usize];
        for (part, pma) in state.pmas.clipped(range.clone()) {
            let first = (part.start - range.start) / PAGE_SIZE;
            let mut mark = |from: u64, to: u64| {
                let (from, to) =
                    ((first + from / PAGE_SIZE) as usize, (first + to / PAGE_SIZE) as usize);
                if let Some(pages) = present.get_mut(from..to) {
                    pages.fill(1);
                }
            };
            match pma.memory(part.end - part.start) {
                Some(memory) => self.memory.data_ranges(memory, &mut |data| {
                    mark(data.start - memory.start, data.end - memory.start);
                }),
                None => mark(0, part.end - part.start),
            }
        }
        Ok(present)
    }

    /// mseal(2): the mappings of the range can no longer be changed.
    pub fn seal(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let range = page_range(addr, len).ok_or(Errno::EINVAL)?;
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.write_state();
        if state.covered_until(&range) < range.end {
            return Err(Errno::ENOMEM);
        }
        state.update_vmas(range, |vma| vma.flags |= VmaFlags::SEALED);
        Ok(())
    }

    /// PR_SET_VMA_ANON_NAME: names anonymous mappings for /proc/PID/maps.
    pub fn set_anonymous_name(
        &self,
        addr: u64,
        len: u64,
        name: Option<Arc<[u8]>>,
    ) -> Result<(), Errno> {
        let range = page_range(addr, len).ok_or(Errno::EINVAL)?;
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.write_state();
        let covered = state.covered_until(&range);
        for (part, vma) in state.vmas.clipped(range.start..covered).collect::<Vec<_>>() {
            let nameless = matches!(&vma.source, Source::File { file, .. } if file.file.is_some());
            if nameless {
                return Err(Errno::EBADF);
            }
            state.update_vmas(part, |vma| vma.name.clone_from(&name));
        }
        if covered < range.end { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

fn set_lock_flags(state: &mut MmState, range: Range<u64>, flags: VmaFlags) {
    state.update_vmas(range, |vma| {
        if !vma.flags.contains(VmaFlags::VDSO) {
            vma.flags = (vma.flags - LOCK_FLAGS) | flags;
        }
    });
}
