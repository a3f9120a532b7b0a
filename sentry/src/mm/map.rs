//! mmap(2), munmap(2) and brk(2).

use std::{ops::Range, sync::Arc, sync::atomic::Ordering};

use linux_abi::Errno;
use platform::{Prot, host};

use super::{
    MemoryManager,
    batch::Batch,
    fetch::Want,
    memory_manager::{page_range, page_up},
    place::{MMAP_MIN_ADDR, STACK_GUARD_GAP},
    shared_anonymous::SharedAnonymous,
    state::{Freed, MAX_MAP_COUNT, MmState, Populate},
    vma::{MappedFile, Source, Vma, VmaFlags},
};

/// Smaller mappings are never refused for the host's size, so that it need not be asked.
const OVERCOMMIT_CHECK_MIN: u64 = 256 << 20;

/// Where a mapping is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// At the hint if that is free, else anywhere.
    Anywhere,
    /// The same, in the first two gigabytes (MAP_32BIT).
    Low,
    /// Exactly there, in place of what is there.
    Fixed,
    /// Exactly there, or `EEXIST`.
    FixedNoReplace,
}

/// A mapping to be made; decoded and checked against the file's access mode.
#[derive(Clone, Debug)]
pub struct MapRequest {
    pub addr: u64,
    /// In bytes; rounded up to whole pages.
    pub len: u64,
    pub placement: Placement,
    pub prot: Prot,
    pub max_prot: Prot,
    pub flags: VmaFlags,
    pub source: Source,
    /// MAP_POPULATE.
    pub populate: bool,
    /// More mappings are about to be made before any of them is used.
    pub is_part: bool,
}

impl MapRequest {
    /// Private zero pages.
    pub fn anonymous(addr: u64, len: u64, prot: Prot, placement: Placement) -> Self {
        Self {
            addr,
            len,
            placement,
            prot,
            max_prot: Prot::all(),
            flags: VmaFlags::empty(),
            source: Source::Anonymous,
            populate: false,
            is_part: false,
        }
    }
}

impl MemoryManager {
    /// mmap(2): the address.
    pub fn map(&self, mut request: MapRequest) -> Result<u64, Errno> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(request.len).ok_or(Errno::ENOMEM)?;
        if len > self.user_range.end - self.user_range.start {
            return Err(Errno::ENOMEM);
        }
        if request.flags.contains(VmaFlags::SHARED) && matches!(request.source, Source::Anonymous) {
            let object = SharedAnonymous::new(&self.memory, len)?;
            let file = MappedFile { mappable: object, file: None };
            request.source = Source::File { file: Arc::new(file), offset: 0 };
        }
        loop {
            let fetched = match &request.source {
                Source::File { file, offset } if !request.prot.is_empty() => {
                    Some(self.fetch(&Want {
                        object: file.clone(),
                        offset: *offset,
                        len,
                        shared: request.flags.contains(VmaFlags::SHARED),
                        // As the dynamic linker maps data segments.
                        copy: request.prot.contains(Prot::WRITE)
                            && matches!(
                                request.placement,
                                Placement::Fixed | Placement::FixedNoReplace
                            )
                            && file.may_copy_early(),
                    }))
                }
                _ => None,
            };
            let mut state = self.write_state();
            // What cannot be had now is asked for again by the fault that touches it.
            let fetched = fetched.and_then(Result::ok).filter(|fetched| !fetched.is_empty());
            if fetched.as_ref().is_some_and(|fetched| !fetched.is_current()) {
                continue;
            }
            let start = self.choose(&state, &request, len)?;
            let range = start..start + len;
            let vma = self.new_vma(&state, &request, &range)?;
            let (mut batch, mut freed) = (Batch::default(), Freed::new());
            state.discard_vmas(range.clone());
            let unseen = state.deferred.covers(&range);
            let replaces = state.remove_pmas(range.clone(), &mut freed);
            if replaces {
                batch.unmap(range.clone());
            }
            self.register(&vma);
            let populate =
                request.populate || vma.flags.contains(VmaFlags::LOCKED) && !vma.prot.is_empty();
            state.defer(&range, unseen, request.is_part && !replaces && !populate);
            let (prot, anonymous) = (vma.prot, vma.is_anonymous());
            state.insert_vma(range.clone(), vma);
            let filled = if anonymous {
                let populate = Populate::asked_for(populate);
                state.fill_anonymous(&self.memory, range.clone(), &mut batch, populate)
            } else {
                if let Some(fetched) = fetched {
                    fetched.install(&mut state, start, range.clone(), prot, &mut batch, populate);
                }
                Ok(())
            };
            return match filled.and_then(|()| self.commit(&mut state, &batch, &freed)) {
                Ok(()) => Ok(start),
                Err(errno) => {
                    self.undo(&mut state, range);
                    Err(errno)
                }
            };
        }
    }

    /// Leaves nothing at `range`, where a change failed half-way.
    pub(super) fn undo(&self, state: &mut MmState, range: Range<u64>) {
        let (mut batch, mut freed) = (Batch::default(), Freed::new());
        state.discard_vmas(range.clone());
        state.remove_pmas(range.clone(), &mut freed);
        batch.unmap(range);
        let _ = self.commit(state, &batch, &freed);
    }

    /// The address of a new mapping of `len` bytes.
    fn choose(&self, state: &MmState, request: &MapRequest, len: u64) -> Result<u64, Errno> {
        let low = match request.placement {
            Placement::Anywhere => false,
            Placement::Low => true,
            Placement::Fixed | Placement::FixedNoReplace => {
                let range = self.check_fixed(request.addr, len)?;
                if request.placement == Placement::FixedNoReplace
                    && !state.vmas.is_free(range.clone())
                {
                    return Err(Errno::EEXIST);
                }
                return Ok(range.start);
            }
        };
        state.find_place(&self.user_range, request.addr, len, low).ok_or(Errno::ENOMEM)
    }

    /// May something be put exactly there?
    pub(super) fn check_fixed(&self, addr: u64, len: u64) -> Result<Range<u64>, Errno> {
        let range = page_range(addr, len).ok_or(Errno::ENOMEM)?;
        if !addr.is_multiple_of(platform::PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if range.end > self.user_range.end {
            return Err(Errno::ENOMEM);
        }
        if addr < self.user_range.start.max(MMAP_MIN_ADDR) {
            return Err(Errno::EPERM);
        }
        Ok(range)
    }

    /// The VMA for a request that is to replace what is at `range`, checked against the limits.
    fn new_vma(
        &self,
        state: &MmState,
        request: &MapRequest,
        range: &Range<u64>,
    ) -> Result<Vma, Errno> {
        let vma = Vma {
            prot: request.prot,
            max_prot: request.max_prot,
            flags: request.flags | state.default_flags,
            source: request.source.clone(),
            name: None,
        };
        let mut replaced = 0_u64;
        for (part, old) in state.vmas.clipped(range.clone()) {
            if old.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            replaced = replaced.saturating_add(part.end - part.start);
        }
        self.check_growth(state, range.end - range.start, replaced, &vma)?;
        Ok(vma)
    }

    /// The limits on `len` more bytes of mappings like `vma`, of which `replaced` are there already.
    pub(super) fn check_growth(
        &self,
        state: &MmState,
        len: u64,
        replaced: u64,
        vma: &Vma,
    ) -> Result<(), Errno> {
        let total = state.total.saturating_sub(replaced).saturating_add(len);
        if total > self.limits.address_space.load(Ordering::Relaxed)
            || state.vmas.len() >= MAX_MAP_COUNT
        {
            return Err(Errno::ENOMEM);
        }
        if vma.is_data()
            && state.data.saturating_add(len) > self.limits.data.load(Ordering::Relaxed)
        {
            return Err(Errno::ENOMEM);
        }
        if vma.flags.contains(VmaFlags::LOCKED) {
            self.check_lock(state.locked.saturating_add(len)).map_err(|_| Errno::EAGAIN)?;
        }
        // The overcommit heuristic refuses only what could never be there at once.
        if vma.is_data()
            && !vma.flags.contains(VmaFlags::NORESERVE)
            && len > OVERCOMMIT_CHECK_MIN
            && len > self.memory.total().saturating_add(host::total_swap())
        {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// `EPERM` when this process may lock nothing at all (`can_do_mlock`).
    pub fn may_lock(&self) -> Result<(), Errno> {
        let can = self.limits.may_lock.load(Ordering::Relaxed)
            || self.limits.memlock.load(Ordering::Relaxed) != 0;
        if can { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// May `locked` bytes be locked in all?
    pub(super) fn check_lock(&self, locked: u64) -> Result<(), Errno> {
        let limit = self.limits.memlock.load(Ordering::Relaxed);
        if self.limits.may_lock.load(Ordering::Relaxed) || locked <= limit {
            return Ok(());
        }
        Err(if limit == 0 { Errno::EPERM } else { Errno::ENOMEM })
    }

    /// munmap(2).
    pub fn unmap(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let range = page_range(addr, len).ok_or(Errno::EINVAL)?;
        if !addr.is_multiple_of(platform::PAGE_SIZE)
            || range.is_empty()
            || range.end > self.user_range.end
        {
            return Err(Errno::EINVAL);
        }
        self.unmap_locked(&mut self.write_state(), range)
    }

    pub(super) fn unmap_locked(&self, state: &mut MmState, range: Range<u64>) -> Result<(), Errno> {
        self.check_unmap(state, &range)?;
        let (mut batch, mut freed) = (Batch::default(), Freed::new());
        state.discard_vmas(range.clone());
        if state.remove_pmas(range.clone(), &mut freed) {
            batch.unmap(range);
        }
        self.commit(state, &batch, &freed)
    }

    /// Refuses sealed mappings, and a split in the middle when there are too many mappings already.
    pub(super) fn check_unmap(&self, state: &MmState, range: &Range<u64>) -> Result<(), Errno> {
        let mut splits = false;
        for (part, vma) in state.vmas.overlapping(range.clone()) {
            if vma.flags.contains(VmaFlags::SEALED) {
                return Err(Errno::EPERM);
            }
            splits |= part.start < range.start && part.end > range.end;
        }
        if splits && state.vmas.len() >= MAX_MAP_COUNT {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// brk(2): the new end of the heap, or the old one when `wanted` cannot be had.
    pub fn brk(&self, wanted: u64) -> u64 {
        let mut state = self.write_state();
        let current = state.image.brk;
        // Like Linux, fails by not moving.
        if self.try_brk(&mut state, wanted).is_ok() { state.image.brk } else { current }
    }

    fn try_brk(&self, state: &mut MmState, wanted: u64) -> Result<(), Errno> {
        let (start, current) = (state.image.brk_start, state.image.brk);
        if wanted < start {
            return Err(Errno::EINVAL);
        }
        let (old_end, new_end) =
            (page_up(current).ok_or(Errno::ENOMEM)?, page_up(wanted).ok_or(Errno::ENOMEM)?);
        let static_data = state.image.data.end.saturating_sub(state.image.data.start);
        if (wanted - start).saturating_add(static_data) > self.limits.data.load(Ordering::Relaxed) {
            return Err(Errno::ENOMEM);
        }
        if new_end < old_end {
            self.unmap_locked(state, new_end..old_end)?;
        } else if new_end > old_end {
            let range = old_end..new_end;
            let guarded = new_end.checked_add(STACK_GUARD_GAP).ok_or(Errno::ENOMEM)?;
            let blocked = state
                .vmas
                .overlapping(old_end..guarded)
                .any(|(part, vma)| part.start < new_end || vma.flags.contains(VmaFlags::GROWSDOWN));
            if blocked || new_end > self.user_range.end {
                return Err(Errno::ENOMEM);
            }
            let request = MapRequest::anonymous(
                old_end,
                new_end - old_end,
                Prot::READ | Prot::WRITE,
                Placement::Fixed,
            );
            let vma = self.new_vma(state, &request, &range)?;
            let populate = Populate::asked_for(vma.flags.contains(VmaFlags::LOCKED));
            state.insert_vma(range.clone(), vma);
            let mut batch = Batch::default();
            let done = state
                .fill_anonymous(&self.memory, range.clone(), &mut batch, populate)
                .and_then(|()| self.commit(state, &batch, &[]));
            if let Err(errno) = done {
                self.undo(state, range);
                return Err(errno);
            }
        }
        state.image.brk = wanted;
        Ok(())
    }
}
