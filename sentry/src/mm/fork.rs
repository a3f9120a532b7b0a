//! fork(2): a copy of an address space.
//!
//! What a small program has written is copied at once: both sides would write most of it soon, and each copy-on-write fault
//! costs as much as copying a hundred pages. Of a larger one, and of one that forks again and again, those pages are copied
//! which earlier faults have shown to be written after each fork; the others are shared, and copied on write. A child's
//! memory lies together, and so in few mappings.

use std::{collections::HashSet, ops::Range, os::fd::OwnedFd, sync::Arc};

use linux_abi::Errno;
use platform::{
    AddressSpace, PAGE_SIZE, Prot,
    memory::{FileRange, MemoryFile},
};
use smallvec::SmallVec;

use super::{
    MemoryManager,
    batch::Batch,
    deferred::Until,
    memory_manager::host_errno,
    pma::{Owner, Place, Pma},
    range_map::{RangeMap, RangeValue},
    state::{MmState, Populate},
    vma::VmaFlags,
};

/// So many bytes that were written are copied at once, of a program whose private mappings are no longer than `SMALL`.
const COPY_MAX: u64 = 768 << 10;
const SMALL: u64 = 4 << 20;

/// Parts of mappings that are so short are copied whole, without asking what of them there is.
const SHORT: u64 = 4 * PAGE_SIZE;

const NO_ROOM: FileRange = FileRange { start: 0, end: 0 };

/// Memory for copies, all of it together: copies of neighbours become one mapping.
struct Copies<'a> {
    memory: &'a MemoryFile,
    /// What is not used yet.
    room: FileRange,
    /// The host holds it already, so that writing to it costs no fault.
    is_present: bool,
    /// Bytes that may still be copied.
    left: u64,
}

impl<'a> Copies<'a> {
    /// Room for `len` bytes; for none when there is no memory.
    fn new(memory: &'a MemoryFile, len: u64) -> Self {
        // Of a longer room much stays unused, and would hold pages for nothing.
        let present = if len <= COPY_MAX { memory.allocate_present(len, None) } else { None };
        let room = present.or_else(|| memory.allocate(len, None).ok());
        let room = room.unwrap_or(NO_ROOM);
        Self { memory, room, is_present: present.is_some(), left: COPY_MAX }
    }

    /// A copy of `place`, and whether most of it has bytes. `None` when that would be too much.
    fn copy(&mut self, place: FileRange) -> Option<(FileRange, bool)> {
        let mut data: SmallVec<[FileRange; 8]> = SmallVec::new();
        if place.len() <= SHORT {
            data.push(place);
        } else {
            self.memory.data_ranges(place, &mut |part| data.push(part));
        }
        let bytes: u64 = data.iter().map(|part| part.len()).sum();
        if bytes > self.left || place.len() > self.room.len() {
            return None;
        }
        let copy = self.room.sub(0, place.len());
        for part in data {
            let (from, to) =
                (self.memory.slice(part), copy.sub(part.start - place.start, part.len()));
            if self.is_present {
                self.memory.slice(to).copy_from_slice(&from);
            } else if self.memory.write(to, from).is_err() {
                // There are bytes in it now that are nobody's.
                self.memory.release(std::mem::replace(&mut self.room, NO_ROOM));
                return None;
            }
        }
        self.left -= bytes;
        self.room.start = copy.end;
        Some((copy, bytes * 2 >= place.len()))
    }
}

impl Drop for Copies<'_> {
    fn drop(&mut self) {
        if !self.room.is_empty() {
            self.memory.release(self.room);
        }
    }
}

impl MmState {
    /// The state of a child after fork(2). `own`: what the host is to be told of the parent's; of the child's it is told
    /// later. `alone`: pages do not change meanwhile, so that what was written may be copied: what is in `hot`, in order, if
    /// that is known.
    fn fork(
        &mut self,
        memory: &MemoryFile,
        hot: Option<&[u64]>,
        alone: bool,
        own: &mut Batch,
    ) -> Result<Self, Errno> {
        let written: u64 =
            self.pmas.iter().filter(|(_, pma)| is_written(pma)).map(|(r, _)| r.end - r.start).sum();
        let is_small = alone && hot.is_none() && written <= SMALL;
        let hot = hot.filter(|_| alone).unwrap_or_default();
        let room = if is_small { written } else { hot.len() as u64 * PAGE_SIZE };
        let mut copies = Copies::new(memory, room);
        let mut child = Self::new(self.mmap_base);
        child.is_building = true;
        child.image = self.image.clone();
        let vmas: Vec<_> = self.vmas.iter().map(|(range, vma)| (range, vma.clone())).collect();
        for (range, mut vma) in vmas {
            if vma.flags.contains(VmaFlags::DONTFORK) {
                continue;
            }
            // Locks are not inherited (mlock(2)).
            vma.flags.remove(VmaFlags::LOCKED | VmaFlags::LOCKONFAULT);
            let wipe = vma.flags.contains(VmaFlags::WIPEONFORK);
            child.insert_vma(range.clone(), vma);
            if wipe {
                child.fill_anonymous(memory, range, &mut Batch::default(), Populate::Little)?;
                continue;
            }
            let parts: Vec<_> = self.pmas.clipped(range).collect();
            for (part, pma) in parts {
                if !is_written(&pma) {
                    self.share(&mut child, memory, &part, part.clone(), &pma, own);
                } else if !(is_small && child.copy(&mut copies, &part, part.clone(), &pma)) {
                    let mut at = part.start;
                    let first = hot.partition_point(|&page| page < part.start);
                    for &page in hot.iter().skip(first).take_while(|&&page| page < part.end) {
                        let page = page..page + PAGE_SIZE;
                        if !child.copy(&mut copies, &part, page.clone(), &pma) {
                            break;
                        }
                        self.share(&mut child, memory, &part, at..page.start, &pma, own);
                        at = page.end;
                    }
                    self.share(&mut child, memory, &part, at..part.end, &pma, own);
                }
            }
        }
        Ok(child)
    }

    /// Gives this state, a child's, a copy of the pages `part` of the page range `all`, which is `pma`.
    fn copy(
        &mut self,
        copies: &mut Copies<'_>,
        all: &Range<u64>,
        part: Range<u64>,
        pma: &Pma,
    ) -> bool {
        let place = pma.memory(all.end - all.start);
        let place = place.map(|place| place.sub(part.start - all.start, part.end - part.start));
        let Some((copy, is_full)) = place.and_then(|place| copies.copy(place)) else {
            return false;
        };
        if is_full {
            self.copied.push(part.clone());
        }
        self.pmas.insert(part, Pma { place: Place::own(copy), ..pma.clone() });
        true
    }

    /// Shares the pages `part` of the page range `all`, which is `pma`, with the child.
    fn share(
        &mut self,
        child: &mut Self,
        memory: &MemoryFile,
        all: &Range<u64>,
        part: Range<u64>,
        pma: &Pma,
        own: &mut Batch,
    ) {
        if part.is_empty() {
            return;
        }
        let mut pma = pma.clone();
        pma.advance(part.start - all.start);
        let before = pma.host_prot();
        if pma.owner != Owner::Shared
            && let Place::Memory { cow, .. } = &mut pma.place
            && !*cow
        {
            *cow = true;
            if pma.host_prot() != before {
                own.protect(part.clone(), pma.host_prot());
            }
            self.pmas.remove(part.clone());
            self.pmas.insert(part.clone(), pma.clone());
        }
        if let Some(place) = pma.memory(part.end - part.start) {
            memory.retain(place);
        }
        child.pmas.insert(part, pma);
    }
}

/// Is it private memory that may be written?
fn is_written(pma: &Pma) -> bool {
    pma.owner == Owner::Own && pma.prot.contains(Prot::WRITE)
}

/// The files of which something is executed.
fn programs(pmas: &RangeMap<Pma>) -> HashSet<*const OwnedFd> {
    let text = pmas.iter().filter(|(_, pma)| pma.prot.contains(Prot::EXEC));
    text.filter_map(|(_, pma)| match &pma.place {
        Place::Host { file, .. } => Some(Arc::as_ptr(file)),
        Place::Memory { .. } => None,
    })
    .collect()
}

impl MemoryManager {
    /// A copy in `space`, for fork(2), whose host mappings [`Self::finish_fork`] makes. `alone`: the
    /// caller is the only thread, so that pages do not change while they are copied.
    pub fn fork(&self, space: Arc<dyn AddressSpace>, alone: bool) -> Result<Arc<Self>, Errno> {
        let hot = self.hot.written();
        let mut state = self.write_state();
        let mut own = Batch::default();
        let child = state.fork(&self.memory, hot.as_deref(), alone, &mut own)?;
        let child = Self::with_state(
            space,
            self.memory.clone(),
            self.user_range.clone(),
            child,
            self.hot.fork(),
        );
        child.limits.copy_from(&self.limits);
        // The parent's pages become read-only before the child can see any.
        self.commit(&mut state, &own, &[])?;
        let rewrites = self.rewrites.lock().fork(&self.memory);
        if !rewrites.is_empty() {
            child.space.inherit_rewrites(&*self.space);
            *child.rewrites.lock() = rewrites;
        }
        let child_state = child.write_nested();
        for (_, vma) in child_state.vmas.iter() {
            child.register(vma);
        }
        drop(child_state);
        Ok(child)
    }

    /// Tells the host of the mappings of a child of fork, but for those it is unlikely to use. By its own thread, while the
    /// parent runs on; pages that fork copied come with it.
    pub(crate) fn finish_fork(&self) -> Result<(), Errno> {
        let mut state = self.write_state();
        state.is_building = false;
        let copied = std::mem::take(&mut state.copied);
        let touched = self.hot.touched();
        let mut batch = Batch::default();
        let MmState { pmas, deferred, .. } = &mut *state;
        let programs = if touched.is_none() { programs(pmas) } else { HashSet::new() };
        for (range, pma) in pmas.iter() {
            let first = copied.partition_point(|part| part.end <= range.start);
            let copied = copied.iter().skip(first).take_while(|part| part.start < range.end);
            let is_used = match &touched {
                Some(touched) => {
                    let first = touched.partition_point(|page| *page < range.start);
                    // Among text are pages of its own: rewritten ones.
                    pma.prot.contains(Prot::EXEC)
                        || copied.clone().next().is_some()
                        || touched.get(first).is_some_and(|page| *page < range.end)
                }
                // Many programs map locales and caches, which a child seldom looks at.
                None => match &pma.place {
                    Place::Host { file, shared, .. } => {
                        *shared || programs.contains(&Arc::as_ptr(file))
                    }
                    Place::Memory { .. } => true,
                },
            };
            if !is_used && deferred.add(range.clone(), Until::Touch) {
                continue;
            }
            let mut at = range.start;
            for part in copied {
                let part = part.start.max(range.start)..part.end.min(range.end);
                batch.map_part(&range, at..part.start, pma, false);
                batch.map_part(&range, part.clone(), pma, true);
                at = part.end;
            }
            batch.map_part(&range, at..range.end, pma, false);
        }
        let rewritten: Vec<_> = self.rewrites.lock().map_ops().collect();
        let ops = [batch.ops(), &rewritten].concat();
        self.space.apply(&ops).map_err(|error| host_errno(&error))
    }
}
