//! A guest address space: what is mapped where, and the page tables made of it.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{
    context::KvmContext,
    layout::*,
    machine::Machine,
    regions::{Regions, Source},
    tables::{Batch, Clearing, Tables},
    vcpu::Target,
};
use crate::{
    AccessKind, AddressSpace, Backing, Context, MapOp, PlatformError, Prot, lock_order,
    memory::{Bounce, FileRange},
    stub::layout::USER_END,
};

/// So much of a new mapping is put into the page tables at once.
const EAGER: u64 = 64 * PAGE;
/// So much round a page that was touched: a page table has that on one or two lines of cache. And so much where
/// the pages before are there already.
const AROUND: u64 = 16 * PAGE;
const AROUND_MORE: u64 = 64 * PAGE;

/// See the module.
#[derive(Debug)]
pub(super) struct KvmSpace {
    pub(super) machine: Arc<Machine>,
    id: u64,
    root: u64,
    /// Counts clearings: what a TLB holds of an older generation may be wrong.
    generation: AtomicU64,
    /// Its tables are in an unknown state: nothing may run in it.
    broken: AtomicBool,
    state: Mutex<lock_order::KvmSpace, State>,
}

#[derive(Debug)]
struct State {
    regions: Regions,
    tables: Tables,
}

/// What comes of a page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The page is there now.
    Filled,
    /// It was there already, with those rights.
    WasThere,
    /// It is not mapped, or not for this.
    Refused,
    /// It is mapped, beyond the end of its file.
    NoMemory,
}

fn inside(addr: u64, len: u64) -> Result<Range<u64>, PlatformError> {
    let end = addr.checked_add(len).filter(|end| *end <= USER_END);
    match end {
        Some(end) if (addr | len).is_multiple_of(PAGE) => Ok(addr..end),
        _ => Err(PlatformError::Host { what: "a guest mapping", errno: Errno::EINVAL }),
    }
}

fn rights(prot: Prot) -> u64 {
    let mut rights = 0;
    if prot.contains(Prot::WRITE) {
        rights |= WRITABLE;
    }
    if !prot.contains(Prot::EXEC) {
        rights |= NO_EXECUTE;
    }
    rights
}

impl KvmSpace {
    pub(super) fn new(machine: Arc<Machine>) -> Result<Self, PlatformError> {
        let tables = Tables::new(&machine)?;
        Ok(Self {
            id: machine.next_space.fetch_add(1, Ordering::Relaxed),
            root: tables.root(),
            generation: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            state: Mutex::new(State { regions: Regions::default(), tables }),
            machine,
        })
    }

    /// For a vCPU to enter.
    pub(super) fn target(&self) -> Target<'_> {
        Target { id: self.id, root: self.root, generation: &self.generation }
    }

    pub(super) fn check(&self) -> Result<(), PlatformError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(PlatformError::StubDied("its page tables are broken".into()));
        }
        Ok(())
    }

    /// Clears what is mapped in these ranges, in the tables and in every vCPU.
    fn clear_ranges(
        &self,
        state: &mut State,
        ranges: Vec<Range<u64>>,
    ) -> Result<(), PlatformError> {
        let mut clearing = Clearing::default();
        for range in join(ranges) {
            state.tables.clear(&self.machine, range, &mut clearing);
        }
        let batches = clearing.batches();
        if batches.is_empty() {
            return Ok(());
        }
        let cleared = batches.iter().try_for_each(|batch| self.machine.clear(&batch.commands));
        if cleared.is_err() {
            self.broken.store(true, Ordering::Release);
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.machine.pool.drive_out(self.id);
        if cleared.is_ok() {
            batches.iter().for_each(|batch| self.machine.give_back(batch));
        }
        cleared
    }

    /// Makes one change to what is mapped; says what must be cleared, and what may be filled in.
    fn change(
        &self,
        regions: &mut Regions,
        op: &MapOp,
        stale: &mut Vec<Range<u64>>,
        fresh: &mut Vec<Range<u64>>,
    ) -> Result<(), PlatformError> {
        match op {
            MapOp::Map { addr, len, prot, backing, populate } => {
                let range = inside(*addr, *len)?;
                if range.is_empty() {
                    return Ok(());
                }
                let source = match backing {
                    Backing::Memory(range) => Source::Memory(range.start),
                    Backing::Host { file, offset, shared } => {
                        let writable = prot.contains(Prot::WRITE);
                        let part = (*offset, *len);
                        let files = &self.machine.files;
                        let window = files.window(&self.machine, file, part, *shared, writable)?;
                        Source::File(window, 0)
                    }
                };
                stale.push(range.clone());
                let eager = if *populate { range.end } else { range.end.min(addr + EAGER) };
                fresh.push(range.start..eager);
                regions.insert(range, *prot, source);
            }
            MapOp::Unmap { addr, len } => {
                let range = inside(*addr, *len)?;
                stale.push(range.clone());
                regions.remove(range);
            }
            MapOp::Protect { addr, len, prot } => {
                let range = inside(*addr, *len)?;
                if !regions.covers(range.clone()) {
                    return Err(PlatformError::Host {
                        what: "changing guest memory",
                        errno: Errno::ENOMEM,
                    });
                }
                for (part, old, source) in regions.parts(range) {
                    if let (Source::File(window, _), true) = (&source, prot.contains(Prot::WRITE)) {
                        window.make_writable()?;
                    }
                    // Only the right to write can be added to an entry in use.
                    if !prot.contains(old) || (*prot - old).contains(Prot::EXEC) {
                        stale.push(part.clone());
                    }
                    regions.insert(part, *prot, source);
                }
            }
        }
        Ok(())
    }

    /// Puts into the tables what is mapped in the range.
    fn fill(&self, state: &mut State, range: Range<u64>) -> Result<(), PlatformError> {
        for (part, prot, source) in state.regions.parts(range) {
            if prot.is_empty() {
                continue;
            }
            match source {
                Source::Memory(offset) => {
                    let mut at = part.start;
                    while at < part.end {
                        let from = offset + (at - part.start);
                        let piece = (CHUNK - from % CHUNK).min(part.end - at);
                        let gpa = self.machine.memory_gpa(from)?;
                        let range = at..at + piece;
                        state.tables.fill(&self.machine, range, gpa, rights(prot))?;
                        at += piece;
                    }
                }
                Source::File(window, offset) => {
                    let len = window.present().saturating_sub(offset).min(part.end - part.start);
                    let gpa = window.gpa() + offset;
                    let range = part.start..part.start + len;
                    state.tables.fill(&self.machine, range, gpa, rights(prot))?;
                }
            }
        }
        Ok(())
    }

    /// After a page fault in guest code.
    pub(super) fn resolve(&self, addr: u64, access: AccessKind) -> Result<Resolved, PlatformError> {
        if addr >= USER_END {
            return Ok(Resolved::Refused);
        }
        let page = addr & !(PAGE - 1);
        let mut state = self.state.lock();
        let Some((start, region)) = state.regions.at(page) else { return Ok(Resolved::Refused) };
        let allowed = match access {
            AccessKind::Read => !region.prot.is_empty(),
            AccessKind::Write => region.prot.contains(Prot::WRITE),
            AccessKind::Execute => region.prot.contains(Prot::EXEC),
        };
        if !allowed {
            return Ok(Resolved::Refused);
        }
        let needed = if access == AccessKind::Write { PRESENT | WRITABLE } else { PRESENT };
        let has = |state: &State| {
            let entry = state.tables.find(&self.machine, page);
            entry.is_some_and(|entry| entry.load(Ordering::Relaxed) & needed == needed)
        };
        if has(&state) {
            return Ok(Resolved::WasThere);
        }
        let block = page & !(AROUND - 1);
        let goes_on = block.checked_sub(PAGE).is_some_and(|before| {
            let entry = state.tables.find(&self.machine, before);
            entry.is_some_and(|entry| entry.load(Ordering::Relaxed) & PRESENT != 0)
        });
        let first = block.max(start);
        let end = (block + if goes_on { AROUND_MORE } else { AROUND }).min(region.end);
        self.fill(&mut state, first..end)?;
        Ok(if has(&state) { Resolved::Filled } else { Resolved::NoMemory })
    }

    /// Makes the tables anew: after a file became shorter, or an entry did not take effect.
    pub(super) fn forget(&self, range: Range<u64>) -> Result<(), PlatformError> {
        let mut state = self.state.lock();
        self.clear_ranges(&mut state, vec![range])
    }

    /// Stores a value into the entry of a mapped page, for a trial of what comes of that.
    pub(super) fn store(&self, va: u64, value: u64) {
        let state = self.state.lock();
        if let Some(entry) = state.tables.find(&self.machine, va) {
            entry.store(value, Ordering::SeqCst);
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Its tables are never to be used again: KVM may have seen something else in them.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// Copies out what is at `addr`; returns how many bytes could be.
    pub(super) fn peek(&self, addr: u64, to: &mut [u8]) -> usize {
        let end = addr.saturating_add(to.len() as u64).min(USER_END);
        if addr >= end {
            return 0;
        }
        let parts = self.state.lock().regions.parts(addr..end);
        let mut done = 0;
        for (part, _, source) in parts {
            if part.start != addr + done as u64 {
                break;
            }
            let len = part.end - part.start;
            let rest = to.get_mut(done..).unwrap_or_default();
            done += match source {
                Source::Memory(start) => {
                    let range = FileRange { start, end: start + len };
                    self.machine.memory.slice(range).copy_to(rest)
                }
                Source::File(window, offset) => {
                    let mut bounce = Bounce::new(len as usize);
                    let read = window.read(offset, bounce.slice());
                    let bytes = bounce.bytes().get(..read).unwrap_or_default();
                    let count = bytes.len().min(rest.len());
                    for (to, from) in rest.iter_mut().zip(bytes) {
                        *to = *from;
                    }
                    count
                }
            };
        }
        done
    }
}

/// Sorted, and without overlaps: no entry is to be cleared twice.
fn join(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, last| {
        let touches = next.start <= last.end;
        if touches {
            last.end = last.end.max(next.end);
        }
        touches
    });
    ranges
}

impl AddressSpace for KvmSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        self.check()?;
        let mut state = self.state.lock();
        let (mut stale, mut fresh) = (Vec::new(), Vec::new());
        // Windows on files that are replaced must stay until nobody uses them.
        let before: Vec<_> = ops
            .iter()
            .filter_map(|op| match *op {
                MapOp::Map { addr, len, .. } | MapOp::Unmap { addr, len } => {
                    inside(addr, len).ok().map(|range| state.regions.parts(range))
                }
                MapOp::Protect { .. } => None,
            })
            .collect();
        let changed = ops
            .iter()
            .try_for_each(|op| self.change(&mut state.regions, op, &mut stale, &mut fresh));
        self.clear_ranges(&mut state, stale)?;
        drop(before);
        changed?;
        fresh.into_iter().try_for_each(|range| self.fill(&mut state, range))
    }

    fn clear(&self) -> Result<(), PlatformError> {
        self.check()?;
        let mut state = self.state.lock();
        let old = std::mem::take(&mut state.regions);
        self.clear_ranges(&mut state, std::iter::once(0..USER_END).collect())?;
        drop(old);
        Ok(())
    }

    fn is_alive(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    fn new_context(self: Arc<Self>) -> Result<Box<dyn Context>, PlatformError> {
        self.check()?;
        Ok(Box::new(KvmContext::new(self)))
    }
}

impl Drop for KvmSpace {
    fn drop(&mut self) {
        // Tables that are not known to be clear are not used again.
        if self.broken.load(Ordering::Acquire) {
            return;
        }
        let mut clearing = Clearing::default();
        let state = self.state.get_mut();
        state.tables.clear(&self.machine, 0..USER_END, &mut clearing);
        let mut batches = clearing.batches();
        match batches.last_mut() {
            Some(last) => last.roots.push(self.root),
            None => batches.push(Batch { roots: vec![self.root], ..Batch::default() }),
        }
        self.machine.remains.add(batches);
    }
}
