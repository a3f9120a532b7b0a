//! mprotect(2).

use std::{ops::Range, sync::atomic::Ordering};

use linux_abi::Errno;
use platform::{PAGE_SIZE, Prot};

use super::{
    MemoryManager,
    batch::Batch,
    memory_manager::page_range,
    state::{MAX_MAP_COUNT, MmState, Populate},
    vma::VmaFlags,
};

impl MemoryManager {
    /// mprotect(2). `grows_down`: PROT_GROWSDOWN, from the start of the mapping that grows down.
    pub fn protect(&self, addr: u64, len: u64, prot: Prot, grows_down: bool) -> Result<(), Errno> {
        if !addr.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let mut range = page_range(addr, len).ok_or(Errno::ENOMEM)?;
        let mut state = self.write_state();
        if grows_down {
            let (found, vma) = state.vmas.find(addr).ok_or(Errno::ENOMEM)?;
            if !vma.flags.contains(VmaFlags::GROWSDOWN) {
                return Err(Errno::EINVAL);
            }
            range.start = found.start;
        }
        // What comes before the first mapping that refuses is changed, as in Linux.
        let (until, result) = self.protectable(&state, &range, prot);
        self.protect_locked(&mut state, range.start..until, prot)?;
        result
    }

    /// How far `range` may get `prot`, and why not further.
    fn protectable(
        &self,
        state: &MmState,
        range: &Range<u64>,
        prot: Prot,
    ) -> (u64, Result<(), Errno>) {
        let covered = state.covered_until(range);
        let mut new_data = 0_u64;
        for (part, vma) in state.vmas.overlapping(range.start..covered) {
            let start = part.start.max(range.start);
            if vma.flags.contains(VmaFlags::SEALED) {
                return (start, Err(Errno::EPERM));
            }
            if !vma.max_prot.contains(prot) {
                return (start, Err(Errno::EACCES));
            }
            let mut changed = vma.clone();
            changed.prot = prot;
            if changed.is_data() && !vma.is_data() {
                new_data = new_data.saturating_add(part.end.min(range.end) - start);
                if state.data.saturating_add(new_data) > self.limits.data.load(Ordering::Relaxed) {
                    return (start, Err(Errno::ENOMEM));
                }
            }
            if vma.prot != prot
                && (part.start < range.start || part.end > range.end)
                && state.vmas.len() >= MAX_MAP_COUNT
            {
                return (start, Err(Errno::ENOMEM));
            }
        }
        (covered, if covered < range.end { Err(Errno::ENOMEM) } else { Ok(()) })
    }

    pub(super) fn protect_locked(
        &self,
        state: &mut MmState,
        range: Range<u64>,
        prot: Prot,
    ) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        state.update_vmas(range.clone(), |vma| vma.prot = prot);
        let mut batch = Batch::default();
        state.pmas.update(range.clone(), |part, pma| {
            let before = pma.host_prot();
            pma.prot = prot;
            if pma.host_prot() != before {
                batch.protect(part, pma.host_prot());
            }
        });
        state.fill_anonymous(&self.memory, range, &mut batch, Populate::Little)?;
        self.commit(state, &batch, &[])
    }
}
