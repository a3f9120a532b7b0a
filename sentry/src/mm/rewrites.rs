//! Rewritten system-call sites: pages of program text which the host maps in place of the file's own, with
//! jumps where hot system calls are.
//!
//! VMAs and page ranges know nothing of it: the sentry and other processes read the file's own bytes, and whatever
//! changes a mapping puts the file's own page back. The host maps a rewritten page for execution only, so that on
//! processors with protection keys guest code which reads its own text faults, and gets the original for good.
//!
//! # Lock order
//! `MmVmas`, then `Rewrites`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    os::fd::AsFd,
};

use linux_abi::Errno;
use platform::{
    Backing, MapOp, PAGE_SIZE, Prot, Rewrite, host,
    memory::{Bounce, FileRange, MemoryFile},
};

use super::{
    MapRequest, MemoryManager, Placement,
    batch::{Batch, op_range},
    fault::same_place,
    memory_manager::page_down,
    place::MMAP_MIN_ADDR,
    pma::{Owner, Place, Pma},
    range_map::RangeValue,
    state::MmState,
    vma::Source,
};

/// Bytes for the detours of the sites near by.
const ROOM_LEN: u64 = 64 << 10;
/// A process has so many at most; each fork may begin a new one.
const ROOMS_MAX: usize = 24;
/// Pages of text that may be rewritten.
const PAGES_MAX: usize = 1024;
/// A process that has so many pages put back is better left alone.
const REFUSED_MAX: usize = 4096;
/// No instruction is longer (Intel SDM vol. 2, section 2.3.11).
const INSTRUCTION_MAX: u64 = 15;
/// A jump reaches two gigabytes; the rest is for the site's own distance.
const REACH: u64 = (2 << 30) - (64 << 20);

/// Memory for detours.
#[derive(Clone, Debug)]
struct Room {
    range: Range<u64>,
    /// Shared with another process since a fork: what is there stays, and nothing is added.
    is_full: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    /// Rewritten pages by address, and where in the memory file they are; one count is ours.
    pages: BTreeMap<u64, FileRange>,
    rooms: Vec<Room>,
    /// Pages that were put back once.
    refused: BTreeSet<u64>,
    is_off: bool,
}

/// What is to be undone for a change of the address space.
#[derive(Debug, Default)]
pub(super) struct Undone {
    /// Pages which the change does not map anew by itself.
    restore: Vec<u64>,
    freed: Vec<FileRange>,
}

impl Rewrites {
    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.rooms.is_empty()
    }

    /// Forgets what these changes touch.
    pub(super) fn undo(&mut self, ops: &[MapOp]) -> Undone {
        let mut undone = Undone::default();
        for op in ops {
            let range = op_range(op);
            let rooms = self.rooms.len();
            let overlaps =
                |room: &Room| room.range.start < range.end && range.start < room.range.end;
            // fork makes them read-only, which they are.
            let is_protect = matches!(op, MapOp::Protect { prot, .. } if prot.contains(Prot::EXEC));
            if !is_protect {
                self.rooms.retain(|room| !overlaps(room));
            }
            let lost_detours = self.rooms.len() != rooms;
            let hit: Vec<u64> = if lost_detours {
                self.pages.keys().copied().collect()
            } else {
                self.pages.range(page_down(range.start)..range.end).map(|(at, _)| *at).collect()
            };
            for page in hit {
                undone.freed.extend(self.pages.remove(&page));
                self.refused.insert(page);
                self.is_off |= self.refused.len() > REFUSED_MAX;
                if !range.contains(&page) || matches!(op, MapOp::Protect { .. }) {
                    undone.restore.push(page);
                }
            }
        }
        undone
    }

    /// Gives back all memory.
    pub(super) fn release(&mut self, memory: &MemoryFile) {
        for (_, range) in std::mem::take(&mut self.pages) {
            memory.release(range);
        }
    }

    /// For a child of fork(2).
    pub(super) fn fork(&mut self, memory: &MemoryFile) -> Self {
        for room in &mut self.rooms {
            room.is_full = true;
        }
        for range in self.pages.values() {
            memory.retain(*range);
        }
        Self {
            pages: self.pages.clone(),
            rooms: self.rooms.clone(),
            refused: self.refused.clone(),
            is_off: self.is_off,
        }
    }

    /// The changes that put the rewritten pages in place, in order.
    pub(super) fn map_ops(&self) -> impl Iterator<Item = MapOp> {
        self.pages.iter().map(|(page, range)| map_op(*page, *range))
    }
}

fn map_op(page: u64, range: FileRange) -> MapOp {
    let backing = Backing::Memory(range);
    MapOp::Map { addr: page, len: PAGE_SIZE, prot: Prot::EXEC, backing, populate: true }
}

/// The private text at `page`, if nothing has been written there: its page range, from the page on.
fn text_at(state: &MmState, page: u64) -> Option<(Range<u64>, Pma)> {
    if state.deferred.find(page).is_some() {
        return None;
    }
    let (vma_range, vma) = state.vmas.find(page)?;
    let plain = matches!(vma.source, Source::File { .. })
        && !vma.is_shared()
        && vma.prot == Prot::READ | Prot::EXEC;
    let (range, pma) = state.pmas.find(page)?;
    let borrowed = pma.owner == Owner::Borrowed && matches!(pma.place, Place::Host { .. });
    if !plain || !borrowed || pma.prot != Prot::READ | Prot::EXEC {
        return None;
    }
    let mut pma = pma.clone();
    pma.advance(page - range.start);
    Some((vma_range, pma))
}

impl MemoryManager {
    /// Makes the system-call instruction at `site` call the platform instead of trapping, if that can be done without
    /// anybody noticing.
    pub fn rewrite_call_site(&self, site: u64) {
        // What fails leaves things as they are.
        let _ = self.try_rewrite(site);
    }

    /// Puts all original code back, and rewrites none from now on: somebody steps through it.
    pub fn stop_rewriting(&self) -> Result<(), Errno> {
        let is_done = {
            let rewrites = self.rewrites.lock();
            rewrites.is_off && rewrites.pages.is_empty()
        };
        if is_done {
            return Ok(());
        }
        let state = self.write_state();
        let (pages, freed) = {
            let mut rewrites = self.rewrites.lock();
            rewrites.is_off = true;
            let pages = std::mem::take(&mut rewrites.pages);
            (pages.keys().copied().collect::<Vec<_>>(), pages.into_values().collect::<Vec<_>>())
        };
        self.space.forget_rewrites(0..u64::MAX >> 1);
        self.restore(&state, &Undone { restore: pages, freed })
    }

    /// Maps what VMAs and page ranges say in place of rewritten pages.
    pub(super) fn restore(&self, state: &MmState, undone: &Undone) -> Result<(), Errno> {
        let mut batch = Batch::default();
        for &page in &undone.restore {
            match state.pmas.find(page) {
                Some((range, pma)) => {
                    let mut pma = pma.clone();
                    pma.advance(page - range.start);
                    batch.map(page..page + PAGE_SIZE, &pma, false);
                }
                None => batch.unmap(page..page + PAGE_SIZE),
            }
            self.space.forget_rewrites(page..page + PAGE_SIZE);
        }
        if !state.is_building && !batch.ops().is_empty() {
            self.space.apply(batch.ops()).map_err(|_| Errno::ENOMEM)?;
        }
        for &range in &undone.freed {
            self.memory.release(range);
        }
        Ok(())
    }

    fn try_rewrite(&self, site: u64) -> Option<()> {
        let page = page_down(site);
        let present = {
            let rewrites = self.rewrites.lock();
            if rewrites.is_off
                || rewrites.refused.contains(&page)
                || rewrites.pages.len() >= PAGES_MAX
            {
                return None;
            }
            rewrites.pages.get(&page).copied()
        };
        let (vma_range, pma) = text_at(&self.state.read(), page)?;
        let original = self.original(&pma, vma_range.end - page)?;
        let mut code = original.get(..PAGE_SIZE as usize)?.to_vec();
        let (room, plan) = self.plan(site, page, &original, &vma_range, present)?;
        let state = self.write_state();
        let (_, now) = text_at(&state, page)?;
        let mut rewrites = self.rewrites.lock();
        let unchanged = same_place(&now.place, &pma.place)
            && rewrites.pages.get(&page).copied() == present
            && rewrites.rooms.iter().any(|known| known.range == room && !known.is_full);
        if !unchanged {
            return None;
        }
        // The detour first: nobody jumps there yet.
        let (range, detours) = state.pmas.find(plan.detour_at)?;
        let Place::Memory { offset, cow: false } = detours.place else { return None };
        let start = offset.checked_add(plan.detour_at.checked_sub(range.start)?)?;
        let len = plan.detour.len() as u64;
        self.memory
            .slice(FileRange { start, end: start.checked_add(len)? })
            .copy_from(&plan.detour);
        if let Some(present) = present {
            self.memory.slice(present).copy_to(&mut code);
        }
        let at = usize::try_from(plan.patch_at.checked_sub(page)?).ok()?;
        code.get_mut(at..at.checked_add(plan.patch.len())?)?.copy_from_slice(&plan.patch);
        // A new page each time: threads see the old one or the new one, never half of a change.
        let new = self.memory.allocate(PAGE_SIZE, None).ok()?;
        self.memory.slice(new).copy_from(&code);
        self.space.note_rewrite(&plan);
        if self.space.apply(&[map_op(page, new)]).is_err() {
            self.memory.release(new);
            return None;
        }
        if let Some(old) = rewrites.pages.insert(page, new) {
            self.memory.release(old);
        }
        Some(())
    }

    /// The file's own bytes of a page, and of an instruction that may go on behind it; of `max` bytes at most.
    fn original(&self, pma: &Pma, max: u64) -> Option<Vec<u8>> {
        let Place::Host { file, offset, .. } = &pma.place else { return None };
        let len = usize::try_from(max.min(PAGE_SIZE + INSTRUCTION_MAX)).ok()?;
        let mut bounce = Bounce::new(len);
        let read = host::preadv(file.as_fd(), &[bounce.slice()], *offset).ok()?;
        let mut code = bounce.bytes_mut().to_vec();
        code.get_mut(read..)?.fill(0);
        Some(code)
    }

    /// How to rewrite `site`, and with a detour in which room.
    fn plan(
        &self,
        site: u64,
        page: u64,
        original: &[u8],
        vma: &Range<u64>,
        present: Option<FileRange>,
    ) -> Option<(Range<u64>, Rewrite)> {
        let mut code = original.to_vec();
        if let Some(present) = present {
            self.memory.slice(present).copy_to(code.get_mut(..PAGE_SIZE as usize)?);
        }
        let plan = |room: &Range<u64>| self.space.plan_rewrite(site, page, &code, room.clone());
        let rooms: Vec<Range<u64>> = {
            let rewrites = self.rewrites.lock();
            let free = rewrites.rooms.iter().filter(|room| !room.is_full);
            free.map(|room| room.range.clone()).collect()
        };
        for room in rooms {
            if let Some(plan) = plan(&room) {
                return Some((room, plan));
            }
        }
        if self.rewrites.lock().rooms.len() >= ROOMS_MAX {
            return None;
        }
        // Is there a way at all?
        let trial = page.checked_sub(1 << 20)?;
        plan(&(trial..trial.checked_add(ROOM_LEN)?))?;
        let room = self.new_room(vma)?;
        Some((room.clone(), plan(&room)?))
    }

    /// Memory for detours near the program or library mapped at `near`. Below it: above, a heap may want to grow.
    fn new_room(&self, near: &Range<u64>) -> Option<Range<u64>> {
        let lowest = near.end.saturating_sub(REACH).max(self.user_range.start).max(MMAP_MIN_ADDR);
        let start = {
            let state = self.state.read();
            state.highest_gap(lowest..near.start, ROOM_LEN)?
        };
        let prot = Prot::READ | Prot::EXEC;
        let request = MapRequest::anonymous(start, ROOM_LEN, prot, Placement::FixedNoReplace);
        let start = self.map(request).ok()?;
        let range = start..start.checked_add(ROOM_LEN)?;
        self.rewrites.lock().rooms.push(Room { range: range.clone(), is_full: false });
        Some(range)
    }
}
