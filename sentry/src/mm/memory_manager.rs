//! `mm_struct`: one guest address space.

use std::{
    fmt,
    ops::{Deref, DerefMut, Range},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use linux_abi::Errno;
use platform::{
    AddressSpace, MapOp, PAGE_SIZE, PlatformError,
    memory::{FileRange, MemoryFile},
};
use ranked_sync::{Mutex, RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use super::{
    batch::Batch,
    constants::Constants,
    deferred::{self, Until},
    hot_pages::HotPages,
    pins::Pins,
    rewrites::Rewrites,
    state::{ImageInfo, MmState},
    vma::Vma,
};
use crate::lock_order;

/// Where there is more memory at one place of a new image, faults map it.
const POPULATE_MAX: u64 = 1 << 20;

/// What of a process's limits concerns its memory (getrlimit(2)), in bytes; kept here because faults and
/// other tasks' accesses need them too. `u64::MAX`: no limit.
#[derive(Debug)]
pub struct MmLimits {
    pub address_space: AtomicU64,
    pub data: AtomicU64,
    pub stack: AtomicU64,
    pub memlock: AtomicU64,
    /// CAP_IPC_LOCK: `memlock` does not count.
    pub may_lock: AtomicBool,
}

impl Default for MmLimits {
    fn default() -> Self {
        Self {
            address_space: AtomicU64::new(u64::MAX),
            data: AtomicU64::new(u64::MAX),
            stack: AtomicU64::new(8 << 20),
            memlock: AtomicU64::new(8 << 20),
            may_lock: AtomicBool::new(false),
        }
    }
}

impl MmLimits {
    pub(crate) fn copy_from(&self, other: &Self) {
        self.address_space.store(other.address_space.load(Ordering::Relaxed), Ordering::Relaxed);
        self.data.store(other.data.load(Ordering::Relaxed), Ordering::Relaxed);
        self.stack.store(other.stack.load(Ordering::Relaxed), Ordering::Relaxed);
        self.memlock.store(other.memlock.load(Ordering::Relaxed), Ordering::Relaxed);
        self.may_lock.store(other.may_lock.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The memory of a guest process. Shared by its threads, and by vfork children until they exec.
pub struct MemoryManager {
    /// For the lists of mappings that files keep.
    pub(super) this: Weak<Self>,
    pub(super) space: Arc<dyn AddressSpace>,
    pub(super) memory: Arc<MemoryFile>,
    /// Where guest addresses may lie.
    pub(super) user_range: Range<u64>,
    pub(super) state: RwLock<lock_order::MmVmas, MmState>,
    pub(super) limits: MmLimits,
    pub(super) pins: Pins,
    pub(super) hot: HotPages,
    pub(super) rewrites: Mutex<lock_order::Rewrites, Rewrites>,
    pub(super) constants: Constants,
}

impl MemoryManager {
    /// An empty address space. `user_range`: as the platform says.
    pub fn new(
        space: Arc<dyn AddressSpace>,
        memory: Arc<MemoryFile>,
        user_range: Range<u64>,
    ) -> Arc<Self> {
        let state = MmState::new(user_range.end);
        Self::with_state(space, memory, user_range, state, HotPages::default())
    }

    pub(super) fn with_state(
        space: Arc<dyn AddressSpace>,
        memory: Arc<MemoryFile>,
        user_range: Range<u64>,
        state: MmState,
        hot: HotPages,
    ) -> Arc<Self> {
        // An address space is used again for the next program.
        space.forget_rewrites(0..u64::MAX);
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            space,
            memory,
            user_range,
            state: RwLock::new(state),
            limits: MmLimits::default(),
            pins: Pins::default(),
            hot,
            rewrites: Mutex::default(),
            constants: Constants::default(),
        })
    }

    /// The platform's side.
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Where guest addresses may lie.
    pub fn user_range(&self) -> Range<u64> {
        self.user_range.clone()
    }

    /// Limits that mappings are checked against; setrlimit(2) changes them.
    pub fn limits(&self) -> &MmLimits {
        &self.limits
    }

    /// Does the batch on the host, then gives back `freed` ranges of the memory file, which nothing maps any more.
    /// To be called with the lock held for writing.
    pub(super) fn commit(
        &self,
        state: &mut MmState,
        batch: &Batch,
        freed: &[FileRange],
    ) -> Result<(), Errno> {
        // Of a child of fork that the host has not heard of yet, too.
        let undone = {
            let mut rewrites = self.rewrites.lock();
            (!rewrites.is_empty() && !batch.ops().is_empty()).then(|| rewrites.undo(batch.ops()))
        };
        if !state.is_building && !batch.ops().is_empty() {
            // On failure what was to be freed may still be mapped: it stays allocated.
            self.tell(state, batch.ops())?;
        }
        if let Some(undone) = undone {
            self.restore(state, &undone)?;
        }
        for &range in freed {
            self.pins.release(&self.memory, range);
        }
        Ok(())
    }

    /// Tells the host of changes, and of what waited for one.
    fn tell(&self, state: &mut MmState, ops: &[MapOp]) -> Result<(), Errno> {
        if state.deferred.is_empty() {
            return self.space.apply(ops).map_err(|error| host_errno(&error));
        }
        let told = state.deferred.outside(ops);
        for op in ops {
            if let MapOp::Unmap { addr, len } = *op
                && state.pmas.is_free(addr..addr.saturating_add(len))
            {
                state.deferred.remove(addr..addr.saturating_add(len));
            }
        }
        if told.is_empty() {
            return Ok(());
        }
        let due = state.deferred.take(false);
        let due = deferred::batch_of(&state.pmas, &due);
        let ops = [due.ops(), &told].concat();
        self.space.apply(&ops).map_err(|error| host_errno(&error))
    }

    /// Tells the host of the mapping of `page`, which guest code touched, and of others that will be touched too, if that was
    /// deferred.
    pub(super) fn tell_deferred(&self, page: u64) -> Result<(), Errno> {
        if self.state.read().deferred.is_empty() {
            return Ok(());
        }
        let mut state = self.write_state();
        let Some((range, until)) = state.deferred.find(page) else { return Ok(()) };
        let due = match until {
            Until::Change => state.deferred.take(false),
            Until::Touch if self.hot.note_touch(page) => state.deferred.take(true),
            Until::Touch => {
                let pages = state.pmas.find(page).map_or(range.clone(), |(pages, _)| {
                    pages.start.max(range.start)..pages.end.min(range.end)
                });
                state.deferred.remove(pages.clone());
                vec![pages]
            }
        };
        let batch = deferred::batch_of(&state.pmas, &due);
        self.space.apply(batch.ops()).map_err(|error| host_errno(&error))
    }

    /// The state, to change.
    pub(super) fn write_state(&self) -> Writing<'_> {
        Writing { guard: self.state.write(), removed: Vec::new() }
    }

    /// The same for an address space that no one else can reach yet, while another's lock is held.
    pub(super) fn write_nested(&self) -> Writing<'_> {
        Writing { guard: self.state.write_nested(), removed: Vec::new() }
    }

    /// Top-down placement starts below `base`.
    pub(crate) fn set_mmap_base(&self, base: u64) {
        self.write_state().mmap_base = page_down(base);
    }

    /// Where a mapping of `len` bytes would go.
    pub(crate) fn find_place(&self, len: u64) -> Option<u64> {
        self.state.read().find_place(&self.user_range, 0, len, false)
    }

    /// Says where things are.
    pub(crate) fn set_image(&self, image: ImageInfo) {
        let mut state = self.write_state();
        let before = std::mem::replace(&mut state.image, image);
        drop(state);
        drop(before);
    }

    /// Where things are.
    pub fn image(&self) -> ImageInfo {
        self.state.read().image.clone()
    }

    /// From now on changes go to the host at once; those gathered while the image was built go now, in place of
    /// whatever an earlier program left in the address space.
    ///
    /// Memory that is there already is mapped page by page, too: it was filled because the program will use it.
    pub(crate) fn finish_building(&self) -> Result<(), Errno> {
        let mut state = self.write_state();
        state.is_building = false;
        let mut batch = Batch::default();
        batch.unmap(self.user_range.clone());
        for (range, pma) in state.pmas.iter() {
            let Some(memory) = pma.memory(range.end - range.start) else {
                batch.map(range, pma, false);
                continue;
            };
            let mut at = range.start;
            let mut parts: SmallVec<[FileRange; 4]> = SmallVec::new();
            if memory.len() <= POPULATE_MAX {
                self.memory.data_ranges(memory, &mut |data| parts.push(data));
            }
            for data in parts {
                let start = range.start + (data.start - memory.start);
                let end = range.start + (data.end - memory.start);
                batch.map_part(&range, at..start, pma, false);
                batch.map_part(&range, start..end, pma, true);
                at = end;
            }
            batch.map_part(&range, at..range.end, pma, false);
        }
        self.commit(&mut state, &batch, &[])
    }

    /// Until `finish_building` the host hears of nothing. For an image that no one runs yet.
    pub(crate) fn start_building(&self) {
        self.write_state().is_building = true;
    }
}

/// The state, locked for writing. Fields are dropped in order: the lock first, then the removed mappings.
pub(super) struct Writing<'a> {
    guard: RwLockWriteGuard<'a, lock_order::MmVmas, MmState>,
    removed: Vec<Vma>,
}

impl Deref for Writing<'_> {
    type Target = MmState;
    fn deref(&self) -> &MmState {
        &self.guard
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut MmState {
        &mut self.guard
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.removed = std::mem::take(&mut self.guard.removed);
    }
}

impl Drop for MemoryManager {
    fn drop(&mut self) {
        // No task is left to run in the address space, so its host mappings may outlive the counts.
        self.rewrites.get_mut().release(&self.memory);
        let pages = self.state.get_mut().pmas.take_all();
        let mut ranges: Vec<FileRange> =
            pages.filter_map(|(range, pma)| pma.memory(range.end - range.start)).collect();
        // Much of it was allocated together: fewer, larger pieces cost fewer host calls.
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let joins = last.end == next.start;
            if joins {
                last.end = next.end;
            }
            joins
        });
        // Who waits for the end of a process need not wait for its pages.
        for range in ranges {
            self.memory.release_later(range);
        }
    }
}

impl fmt::Debug for MemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryManager").field("space", &self.space).finish_non_exhaustive()
    }
}

/// What a guest is told when the host refuses.
pub(super) fn host_errno(error: &PlatformError) -> Errno {
    tracing::warn!(%error, "changing an address space failed");
    match error {
        PlatformError::Host { errno, .. } if *errno == Errno::EAGAIN => Errno::EAGAIN,
        _ => Errno::ENOMEM,
    }
}

/// Rounds up to whole pages.
pub(super) fn page_up(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE_SIZE)
}

/// Rounds down to whole pages.
pub(super) fn page_down(bytes: u64) -> u64 {
    bytes & !(PAGE_SIZE - 1)
}

/// `addr..addr + len`, rounded up to whole pages. `None` when it leaves the 64 bits.
pub(super) fn page_range(addr: u64, len: u64) -> Option<Range<u64>> {
    Some(addr..addr.checked_add(page_up(len)?)?)
}
