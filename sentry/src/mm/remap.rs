//! mremap(2).

use std::ops::Range;

use linux_abi::Errno;
use platform::PAGE_SIZE;

use super::{
    MemoryManager,
    batch::Batch,
    memory_manager::page_up,
    place::MMAP_MIN_ADDR,
    state::{Freed, MAX_MAP_COUNT, MmState, Populate},
    vma::{Source, Vma, VmaFlags},
};

/// What mremap(2) is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemapRequest {
    pub addr: u64,
    pub old_len: u64,
    pub new_len: u64,
    pub may_move: bool,
    /// MREMAP_FIXED: there, in place of what is there.
    pub fixed: Option<u64>,
    /// MREMAP_DONTUNMAP: the old mapping stays, empty; a hint for the new place.
    pub keep_old: Option<u64>,
}

impl MemoryManager {
    /// mremap(2): the new address. Errors in the order of `mremap` in `mm/mremap.c`.
    pub fn remap(&self, request: RemapRequest) -> Result<u64, Errno> {
        let old_len = page_up(request.old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_up(request.new_len).ok_or(Errno::EINVAL)?;
        let moves = request.fixed.is_some() || request.keep_old.is_some();
        if (moves && !request.may_move)
            || (request.keep_old.is_some() && request.old_len != request.new_len)
            || !request.addr.is_multiple_of(PAGE_SIZE)
            || new_len == 0
        {
            return Err(Errno::EINVAL);
        }
        let mut state = self.write_state();
        let (_, vma) = state.vmas.find(request.addr).ok_or(Errno::EFAULT)?;
        if vma.flags.contains(VmaFlags::SEALED) {
            return Err(Errno::EPERM);
        }
        if moves {
            return self.remap_to(&mut state, request, old_len, new_len);
        }
        let old_end = request.addr.checked_add(old_len).ok_or(Errno::EINVAL)?;
        if old_len >= new_len {
            if old_len > new_len {
                self.unmap_locked(&mut state, request.addr + new_len..old_end)?;
            }
            return Ok(request.addr);
        }
        let (range, vma) = self.check_resize(&state, request.addr, old_len, new_len)?;
        let grown = old_end..request.addr.checked_add(new_len).ok_or(Errno::ENOMEM)?;
        if old_len > 0
            && range.end == old_end
            && grown.end <= self.user_range.end
            && state.vmas.is_free(grown.clone())
        {
            return self.grow_in_place(&mut state, range, &vma, grown).map(|()| request.addr);
        }
        if !request.may_move {
            return Err(Errno::ENOMEM);
        }
        let to = state.find_place(&self.user_range, 0, new_len, false).ok_or(Errno::ENOMEM)?;
        self.move_pages(&mut state, request.addr..old_end, to, new_len, &vma, false)
    }

    /// The mapping at `addr`, if `old_len` bytes of it may become `new_len` (`vma_to_resize`).
    fn check_resize(
        &self,
        state: &MmState,
        addr: u64,
        old_len: u64,
        new_len: u64,
    ) -> Result<(Range<u64>, Vma), Errno> {
        let (range, vma) = state.vmas.find(addr).ok_or(Errno::EFAULT)?;
        if old_len == 0 && !vma.is_shared() {
            return Err(Errno::EINVAL);
        }
        if old_len > range.end - addr {
            return Err(Errno::EFAULT);
        }
        if let Source::File { offset, .. } = &vma.source {
            let within = offset.saturating_add(addr - range.start);
            within.checked_add(new_len).ok_or(Errno::EINVAL)?;
        }
        if vma.flags.contains(VmaFlags::VDSO) && new_len > old_len {
            return Err(Errno::EFAULT);
        }
        if new_len > old_len {
            self.check_growth(state, new_len - old_len, 0, vma)?;
        }
        let mut vma = vma.clone();
        super::range_map::RangeValue::advance(&mut vma, addr - range.start);
        Ok((range, vma))
    }

    fn grow_in_place(
        &self,
        state: &mut MmState,
        range: Range<u64>,
        vma: &Vma,
        grown: Range<u64>,
    ) -> Result<(), Errno> {
        // `vma` is that of the address resized, which may lie inside the mapping.
        let mut tail = state.vmas.find(range.start).map_or_else(|| vma.clone(), |(_, v)| v.clone());
        super::range_map::RangeValue::advance(&mut tail, grown.start - range.start);
        let populate = Populate::asked_for(tail.flags.contains(VmaFlags::LOCKED));
        state.insert_vma(grown.clone(), tail);
        let mut batch = Batch::default();
        let done = state
            .fill_anonymous(&self.memory, grown.clone(), &mut batch, populate)
            .and_then(|()| self.commit(state, &batch, &[]));
        if done.is_err() {
            self.undo(state, grown);
        }
        done
    }

    /// MREMAP_FIXED and MREMAP_DONTUNMAP (`mremap_to`).
    fn remap_to(
        &self,
        state: &mut MmState,
        request: RemapRequest,
        old_len: u64,
        new_len: u64,
    ) -> Result<u64, Errno> {
        let mut old = request.addr..request.addr.checked_add(old_len).ok_or(Errno::EINVAL)?;
        if let Some(to) = request.fixed {
            let end = to.checked_add(new_len).ok_or(Errno::EINVAL)?;
            if to % PAGE_SIZE != 0 || end > self.user_range.end || (to < old.end && old.start < end)
            {
                return Err(Errno::EINVAL);
            }
            if to < MMAP_MIN_ADDR.max(self.user_range.start) {
                return Err(Errno::EPERM);
            }
            if state.vmas.len() + 2 >= MAX_MAP_COUNT {
                return Err(Errno::ENOMEM);
            }
            self.unmap_locked(state, to..end)?;
        }
        if old_len > new_len {
            self.unmap_locked(state, old.start + new_len..old.end)?;
            old.end = old.start + new_len;
        }
        let (_, vma) = self.check_resize(state, old.start, old.end - old.start, new_len)?;
        let keep = request.keep_old.is_some();
        if keep {
            self.check_growth(state, new_len, 0, &vma)?;
        }
        let to = match request.fixed {
            Some(to) => to,
            None => state
                .find_place(&self.user_range, request.keep_old.unwrap_or(0), new_len, false)
                .ok_or(Errno::ENOMEM)?,
        };
        self.move_pages(state, old, to, new_len, &vma, keep)
    }

    /// Moves the mapping of `old`, which is in one VMA, to `to`, which is free, with `new_len` bytes there. An empty
    /// `old` makes a second mapping of the same object. `vma` is that of the start of `old`.
    fn move_pages(
        &self,
        state: &mut MmState,
        old: Range<u64>,
        to: u64,
        new_len: u64,
        vma: &Vma,
        keep_old: bool,
    ) -> Result<u64, Errno> {
        let new = to..to.checked_add(new_len).ok_or(Errno::ENOMEM)?;
        let (mut batch, mut freed) = (Batch::default(), Freed::new());
        let pages = state.pmas.remove(old.clone());
        if !keep_old {
            state.discard_vmas(old.clone());
        }
        let moved_vma = vma.clone();
        if keep_old {
            // The old mapping stays as it was; locking goes with the pages.
            state.update_vmas(old.clone(), |vma| {
                vma.flags.remove(VmaFlags::LOCKED | VmaFlags::LOCKONFAULT);
            });
        }
        state.insert_vma(new.clone(), moved_vma);
        for (range, pma) in pages {
            let at = to + (range.start - old.start);
            let place = at..at + (range.end - range.start);
            batch.map(place.clone(), &pma, false);
            state.pmas.insert(place, pma);
        }
        let filled = state.fill_anonymous(&self.memory, new.clone(), &mut batch, Populate::Little);
        batch.unmap(old.clone());
        if keep_old && filled.is_ok() {
            state.fill_anonymous(&self.memory, old, &mut batch, Populate::Little)?;
        }
        if let Err(errno) = filled {
            state.remove_pmas(new.clone(), &mut freed);
            state.discard_vmas(new);
            let _ = self.commit(state, &batch, &[]);
            return Err(errno);
        }
        self.commit(state, &batch, &freed)?;
        Ok(to)
    }
}
