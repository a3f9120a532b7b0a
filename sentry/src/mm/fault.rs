//! Page faults: growing the stack, first touches, copy-on-write.

use std::{ops::Range, sync::Arc, sync::atomic::Ordering};

use linux_abi::Errno;
use platform::{AccessKind, PAGE_SIZE, Prot, memory::FileRange};

use super::{
    MemoryManager,
    batch::Batch,
    fetch::{Want, copy_pages},
    memory_manager::{page_down, page_up},
    place::STACK_GUARD_GAP,
    pma::{Owner, Place, Pma},
    range_map::RangeValue,
    state::{EAGER_MAX, Freed, LAZY_CHUNK, MmState, Populate},
    vma::{MappedFile, Source, VmaFlags},
};

/// A write to a copy-on-write page copies the aligned block of so many bytes around it: its neighbours are likely to be
/// written too, and a fault costs as much as copying a few pages.
pub(super) const COPY_BLOCK: u64 = 8 * PAGE_SIZE;
/// The same, where much was written already.
const COPY_BLOCK_LARGE: u64 = 4 * COPY_BLOCK;

/// When a page turns out to have no other user any more, so many other page ranges are looked at, too: usually a forked
/// child has gone, and each would take a fault of its own.
const SOLE_RANGES_MAX: usize = 64;

/// Stacks grow by at least so much at a time.
const STACK_STEP: u64 = 128 << 10;

/// Pages of a file are looked up for so much around a fault at most.
const FAULT_AROUND_MAX: u64 = 64 << 20;

/// A fault that becomes a signal (sigaction(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultError {
    /// SIGSEGV or SIGBUS.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    pub addr: u64,
}

/// `si_code` for SIGSEGV: nothing is mapped there (`include/uapi/asm-generic/siginfo.h`).
const SEGV_MAPERR: i32 = 1;
/// `si_code` for SIGSEGV: the mapping does not allow it.
const SEGV_ACCERR: i32 = 2;
/// `si_code` for SIGBUS: behind the end of the mapped file.
const BUS_ADRERR: i32 = 2;

/// How far one attempt got.
enum Step {
    Done,
    /// Pages of an object are needed, for the range; to be fetched without the lock.
    Fetch {
        want: Want,
        range: Range<u64>,
    },
    /// Pages of a host file are to be copied, without the lock.
    Copy {
        range: Range<u64>,
        pma: Pma,
    },
}

impl MemoryManager {
    /// Makes the page at `addr` accessible in this way, or says which signal it is. For faults of guest code.
    pub fn handle_fault(&self, addr: u64, access: AccessKind) -> Result<(), FaultError> {
        self.resolve(addr, access, true)?;
        let bus = FaultError { signal: libc::SIGBUS, code: BUS_ADRERR, addr };
        self.tell_deferred(page_down(addr)).map_err(|_| bus)
    }

    /// Makes the page at `addr` accessible to the sentry on the guest's behalf.
    pub(super) fn fault_in(&self, addr: u64, access: AccessKind) -> Result<(), Errno> {
        self.resolve(addr, access, false).map_err(|_| Errno::EFAULT)
    }

    /// `from_guest`: guest code faulted, so that its host mapping is in doubt when all looks well here.
    fn resolve(&self, addr: u64, access: AccessKind, from_guest: bool) -> Result<(), FaultError> {
        let fault = |signal, code| FaultError { signal, code, addr };
        // Each round is undone only by another thread that changes the same mapping meanwhile.
        loop {
            let step = self.fault_step(addr, access, from_guest)?;
            match step {
                Step::Done => return Ok(()),
                Step::Fetch { want, range } => match self.fetch(&want) {
                    Ok(fetched) if !fetched.is_empty() => {
                        let mut state = self.write_state();
                        let mut batch = Batch::default();
                        let Some((part, prot)) = still_wanted(&state, &want, &range) else {
                            continue;
                        };
                        if !fetched.is_current() {
                            continue;
                        }
                        fetched.install(&mut state, range.start, part, prot, &mut batch, false);
                        self.commit(&mut state, &batch, &[])
                            .map_err(|_| fault(libc::SIGBUS, BUS_ADRERR))?;
                        if access != AccessKind::Write || want.shared {
                            return Ok(());
                        }
                    }
                    _ => return Err(fault(libc::SIGBUS, BUS_ADRERR)),
                },
                Step::Copy { range, pma } => {
                    let len = range.end - range.start;
                    let copy = copy_pages(&self.memory, &pma.place, len)
                        .map_err(|_| fault(libc::SIGBUS, BUS_ADRERR))?;
                    self.install_copy(range, &pma, copy)
                        .map_err(|_| fault(libc::SIGBUS, BUS_ADRERR))?;
                }
            }
        }
    }

    fn fault_step(
        &self,
        addr: u64,
        access: AccessKind,
        from_guest: bool,
    ) -> Result<Step, FaultError> {
        let fault = |code| FaultError { signal: libc::SIGSEGV, code, addr };
        let mut state = self.write_state();
        let page = page_down(addr);
        if state.vmas.find(page).is_none() && !self.grow_stack(&mut state, page) {
            return Err(fault(SEGV_MAPERR));
        }
        let Some((vma_range, vma)) = state.vmas.find(page) else {
            return Err(fault(SEGV_MAPERR));
        };
        if !vma.allows(access) {
            return Err(fault(SEGV_ACCERR));
        }
        let prot = vma.prot;
        let bus = FaultError { signal: libc::SIGBUS, code: BUS_ADRERR, addr };
        if let Some((range, pma)) = state.pmas.find(page) {
            if access == AccessKind::Write && pma.copies_on_write() {
                let block = match &vma.source {
                    Source::File { file, offset } if pma.owner == Owner::Borrowed => {
                        written_block(file, offset.saturating_add(page - vma_range.start))
                    }
                    _ => COPY_BLOCK,
                };
                let pma = pma.clone();
                return self.break_cow(&mut state, page, block, range, &pma).map_err(|_| bus);
            }
            if !from_guest {
                return Ok(Step::Done);
            }
            // Another thread was faster, or the host does not have what we believe it has: say it again.
            if let (Source::File { file, offset }, Place::Host { .. }) = (&vma.source, &pma.place)
                && offset.saturating_add(page - vma_range.start) >= file.mappable.size()
            {
                return Err(bus);
            }
            let mut pma = pma.clone();
            pma.advance(page - range.start);
            let mut batch = Batch::default();
            batch.map(page..page + PAGE_SIZE, &pma, false);
            self.commit(&mut state, &batch, &[]).map_err(|_| bus)?;
            return Ok(Step::Done);
        }
        let Some(gap) =
            state.pmas.gaps(vma_range.clone()).into_iter().find(|gap| gap.contains(&page))
        else {
            return Ok(Step::Done);
        };
        if let Source::File { file, offset } = &vma.source {
            let end = gap.end.min(page.saturating_add(FAULT_AROUND_MAX));
            let want = Want {
                object: file.clone(),
                offset: offset.saturating_add(page - vma_range.start),
                len: end - page,
                shared: vma.is_shared(),
                copy: false,
            };
            return Ok(Step::Fetch { want, range: page..end });
        }
        let gap = if vma_range.end - vma_range.start > EAGER_MAX {
            let chunk = page & !(LAZY_CHUNK - 1);
            gap.start.max(chunk)..gap.end.min(chunk.saturating_add(LAZY_CHUNK))
        } else {
            gap
        };
        let mut batch = Batch::default();
        state
            .fill_gap(&self.memory, gap, prot, &mut batch, Populate::Little)
            .and_then(|()| self.commit(&mut state, &batch, &[]))
            .map_err(|_| bus)?;
        Ok(Step::Done)
    }

    /// Makes the page writable: by itself when no one else has it, else as a copy, with what is in the aligned
    /// `block` of bytes around it.
    fn break_cow(
        &self,
        state: &mut MmState,
        page: u64,
        block: u64,
        range: Range<u64>,
        pma: &Pma,
    ) -> Result<Step, Errno> {
        let first = page & !(block - 1);
        let part = range.start.max(first)..range.end.min(first.saturating_add(block));
        let mut part_pma = pma.clone();
        part_pma.advance(part.start - range.start);
        let Place::Memory { .. } = pma.place else {
            return Ok(Step::Copy { range: part, pma: part_pma });
        };
        if pma.owner == Owner::Own {
            self.hot.note(page);
            let whole = pma.memory(range.end - range.start);
            if whole.is_some_and(|whole| self.memory.is_sole(whole)) {
                self.own_all(state, range)?;
                return Ok(Step::Done);
            }
            let mine = part_pma.memory(part.end - part.start);
            if mine.is_some_and(|mine| self.memory.is_sole(mine)) {
                let mut batch = Batch::default();
                make_own(state, part, &mut batch);
                self.commit(state, &batch, &[])?;
                return Ok(Step::Done);
            }
        }
        let copy = copy_pages(&self.memory, &part_pma.place, part.end - part.start)?;
        self.replace(state, part, pma, copy)?;
        Ok(Step::Done)
    }

    /// Makes the pages of `first`, and of other page ranges which no one else uses any more, writable again.
    fn own_all(&self, state: &mut MmState, first: Range<u64>) -> Result<(), Errno> {
        let mut batch = Batch::default();
        let others: Vec<_> = state
            .pmas
            .iter()
            .filter(|(range, pma)| {
                *range != first
                    && pma.owner == Owner::Own
                    && pma.prot.contains(Prot::WRITE)
                    && matches!(pma.place, Place::Memory { cow: true, .. })
            })
            .take(SOLE_RANGES_MAX)
            .filter(|(range, pma)| {
                pma.memory(range.end - range.start).is_some_and(|all| self.memory.is_sole(all))
            })
            .map(|(range, _)| range)
            .collect();
        for range in std::iter::once(first).chain(others) {
            make_own(state, range, &mut batch);
        }
        self.commit(state, &batch, &[])
    }

    /// Puts `copy` in place of the pages of `range`.
    fn replace(
        &self,
        state: &mut MmState,
        range: Range<u64>,
        old: &Pma,
        copy: FileRange,
    ) -> Result<(), Errno> {
        let (mut batch, mut freed) = (Batch::default(), Freed::new());
        state.remove_pmas(range.clone(), &mut freed);
        let new = Pma { prot: old.prot, owner: Owner::Own, place: Place::own(copy) };
        // The pages are there: mapping them at once saves a host fault for each.
        batch.map(range.clone(), &new, true);
        state.pmas.insert(range, new);
        self.commit(state, &batch, &freed)
    }

    /// Puts a copy that was made without the lock in place, if what it is a copy of is still there.
    fn install_copy(&self, range: Range<u64>, old: &Pma, copy: FileRange) -> Result<(), Errno> {
        let mut state = self.write_state();
        let same = state.pmas.find(range.start).is_some_and(|(found, now)| {
            let mut now = now.clone();
            now.advance(range.start - found.start);
            found.end >= range.end && now.prot == old.prot && same_place(&now.place, &old.place)
        });
        if same {
            return self.replace(&mut state, range, old, copy);
        }
        self.memory.release(copy);
        Ok(())
    }

    /// Grows the mapping above `page` down to it, if it may (`expand_downwards` in `mm/mmap.c`).
    fn grow_stack(&self, state: &mut MmState, page: u64) -> bool {
        let Some((range, vma)) = state.vmas.find_or_next(page) else { return false };
        if !vma.flags.contains(VmaFlags::GROWSDOWN) || page < self.user_range.start {
            return false;
        }
        let vma = vma.clone();
        let limit = self.limits.stack.load(Ordering::Relaxed);
        if range.end - page > limit {
            return false;
        }
        let below = state.vmas.last_below(page).map(|(below, vma)| {
            let keeps_distance = !vma.prot.is_empty() && !vma.flags.contains(VmaFlags::GROWSDOWN);
            if keeps_distance { below.end.saturating_add(STACK_GUARD_GAP) } else { below.end }
        });
        let lowest = below.unwrap_or(0).max(self.user_range.start);
        if page < lowest {
            return false;
        }
        let lowest = lowest.max(page_up(range.end.saturating_sub(limit)).unwrap_or(u64::MAX));
        let start = page.min(range.start.saturating_sub(STACK_STEP).max(lowest));
        let grown = start..range.start;
        if self.check_growth(state, grown.end - grown.start, 0, &vma).is_err() {
            return false;
        }
        state.insert_vma(grown.clone(), vma);
        let mut batch = Batch::default();
        state
            .fill_anonymous(&self.memory, grown, &mut batch, Populate::Little)
            .and_then(|()| self.commit(state, &batch, &[]))
            .is_ok()
    }
}

/// How much to copy for a write to the page at `offset` of a privately mapped file.
fn written_block(file: &MappedFile, offset: u64) -> u64 {
    if !file.may_copy_early() {
        return PAGE_SIZE;
    }
    let Some(parts) = file.mappable.written_parts() else { return COPY_BLOCK };
    parts.note(offset);
    if parts.are_many() { COPY_BLOCK_LARGE } else { COPY_BLOCK }
}

/// Ends copy-on-write of `range`, whose pages have no other user.
fn make_own(state: &mut MmState, range: Range<u64>, batch: &mut Batch) {
    state.pmas.update(range, |part, pma| {
        if let Place::Memory { cow, .. } = &mut pma.place {
            *cow = false;
        }
        batch.protect(part, pma.host_prot());
    });
}

pub(super) fn same_place(a: &Place, b: &Place) -> bool {
    match (a, b) {
        (Place::Host { file: a, offset: at, .. }, Place::Host { file: b, offset: bt, .. }) => {
            Arc::ptr_eq(a, b) && at == bt
        }
        _ => false,
    }
}

/// The part of `range` that still maps what was fetched, and its protection.
fn still_wanted(state: &MmState, want: &Want, range: &Range<u64>) -> Option<(Range<u64>, Prot)> {
    let (found, vma) = state.vmas.find(range.start)?;
    let Source::File { file, offset } = &vma.source else { return None };
    let same = |file: &Arc<MappedFile>| Arc::ptr_eq(file, &want.object);
    let here = offset.saturating_add(range.start - found.start);
    (same(file) && here == want.offset && vma.is_shared() == want.shared && !vma.prot.is_empty())
        .then(|| (range.start..range.end.min(found.end), vma.prot))
}
