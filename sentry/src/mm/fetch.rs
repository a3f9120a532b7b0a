//! Pages of mapped objects, looked up without the VMA lock: an object may take locks of its own, or ask the gofer.

use std::{
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use linux_abi::Errno;
use platform::{
    Backing, PAGE_SIZE, Prot, host,
    memory::{Bounce, FileRange, MemoryFile},
};

use super::{
    MemoryManager,
    batch::Batch,
    memory_manager::page_up,
    pma::{Owner, Place, Pma},
    state::MmState,
    vma::MappedFile,
};

/// Private writable mappings up to this size that look like an ELF data segment are copied at once: they are written
/// soon, each page by a fault of its own otherwise.
const COPY_EAGERLY_MAX: u64 = 64 << 10;

/// Pages an object named, counted, not yet in an address space. Given back when dropped.
#[derive(Debug)]
pub(super) struct Fetched {
    memory: Arc<MemoryFile>,
    /// Distance from the start of what was asked for, length, and where.
    pieces: Vec<(u64, u64, Place, Owner)>,
    generation: Option<u64>,
    object: Arc<MappedFile>,
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) object: Arc<MappedFile>,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) shared: bool,
    /// Will be written to soon: a small private mapping is copied at once.
    pub(super) copy: bool,
}

impl Want {
    /// What to copy of the first `len` bytes: distances from the first.
    fn copies(&self, len: u64) -> Vec<Range<u64>> {
        if !self.copy || self.shared {
            return Vec::new();
        }
        if len <= COPY_EAGERLY_MAX {
            return std::iter::once(0..len).collect();
        }
        let Some(parts) = self.object.mappable.written_parts() else { return Vec::new() };
        let parts = parts.within(&(self.offset..self.offset.saturating_add(len)));
        parts.into_iter().map(|part| part.start - self.offset..part.end - self.offset).collect()
    }
}

impl MemoryManager {
    /// Looks up the pages of an object up to its end. Fewer (or none) when some are not to be had: touching them then
    /// fails by itself.
    pub(super) fn fetch(&self, want: &Want) -> Result<Fetched, Errno> {
        let mappings = want.object.mappable.mappings();
        if let Some(set) = mappings {
            set.add(&self.this);
        }
        let mut fetched = Fetched {
            memory: self.memory.clone(),
            pieces: Vec::new(),
            generation: mappings.map(super::MappingSet::generation),
            object: want.object.clone(),
        };
        let end = page_up(want.object.mappable.likely_size()).unwrap_or(!(PAGE_SIZE - 1));
        let len = want.len.min(end.saturating_sub(want.offset));
        let copies = want.copies(len);
        let mut done = 0;
        while done < len {
            let offset = want.offset.checked_add(done).ok_or(Errno::EOVERFLOW)?;
            let found = want.object.mappable.pages(offset, len - done, want.shared);
            let (backing, got) = match found {
                Ok(found) => found,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error.errno()),
            };
            let got = got.min(len - done) & !(PAGE_SIZE - 1);
            if got == 0 {
                break;
            }
            fetched.push(done, got, backing, want.shared);
            for part in &copies {
                fetched.copy(part)?;
            }
            done += got;
        }
        Ok(fetched)
    }
}

impl Fetched {
    fn push(&mut self, at: u64, len: u64, backing: Backing, shared: bool) {
        let owner = if shared { Owner::Shared } else { Owner::Borrowed };
        let place = match backing {
            Backing::Memory(range) => Place::Memory { offset: range.start, cow: !shared },
            Backing::Host { file, offset, .. } => Place::Host { file, offset, shared },
        };
        self.pieces.push((at, len, place, owner));
    }

    /// Takes a copy of what lies in `part` of the last piece. What is behind it is the last piece then.
    fn copy(&mut self, part: &Range<u64>) -> Result<(), Errno> {
        let Some((at, len, place, owner)) = self.pieces.last_mut() else { return Ok(()) };
        let (end, owner) = (*at + *len, *owner);
        let (from, to) = (part.start.clamp(*at, end), part.end.clamp(*at, end));
        if from == to {
            return Ok(());
        }
        let (mut middle, mut behind) = (place.clone(), place.clone());
        middle.advance(from - *at);
        behind.advance(to - *at);
        let copied = copy_pages(&self.memory, &middle, to - from)?;
        *len = from - *at;
        if *len == 0 {
            self.pieces.pop();
        }
        if let Place::Memory { offset, .. } = middle {
            self.memory.release(FileRange { start: offset, end: offset + (to - from) });
        }
        self.pieces.push((from, to - from, Place::own(copied), Owner::Own));
        if to < end {
            self.pieces.push((to, end - to, behind, owner));
        }
        Ok(())
    }

    /// Are the pages still the object's? To be asked with the VMA lock held.
    pub(super) fn is_current(&self) -> bool {
        self.object.mappable.mappings().map(super::MappingSet::generation) == self.generation
    }

    /// True when there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Puts the pages that belong to `range` (the first byte asked for is at `start`) where there are none yet.
    pub(super) fn install(
        mut self,
        state: &mut MmState,
        start: u64,
        range: Range<u64>,
        prot: Prot,
        batch: &mut Batch,
        populate: bool,
    ) {
        for (at, len, place, owner) in std::mem::take(&mut self.pieces) {
            let pma = Pma { prot, owner, place };
            let Some(whole) = start.checked_add(at).and_then(|s| Some(s..s.checked_add(len)?))
            else {
                continue;
            };
            let mut unused = vec![whole.clone()];
            let inside = whole.start.max(range.start)..whole.end.min(range.end);
            if inside.start < inside.end {
                for gap in state.pmas.gaps(inside) {
                    let mut part = pma.clone();
                    super::range_map::RangeValue::advance(&mut part, gap.start - whole.start);
                    // What was copied is about to be used: mapping it at once saves a host fault for each page.
                    batch.map(gap.clone(), &part, populate || owner == Owner::Own);
                    state.pmas.insert(gap.clone(), part);
                    unused = unused
                        .into_iter()
                        .flat_map(|rest| {
                            [
                                rest.start..rest.end.min(gap.start).max(rest.start),
                                rest.start.max(gap.end).min(rest.end)..rest.end,
                            ]
                        })
                        .filter(|rest| !rest.is_empty())
                        .collect();
                }
            }
            for rest in unused {
                if let Some(memory) = pma.memory(len) {
                    self.memory
                        .release(memory.sub(rest.start - whole.start, rest.end - rest.start));
                }
            }
        }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        for (_, len, place, _) in &self.pieces {
            if let Place::Memory { offset, .. } = place {
                self.memory.release(FileRange { start: *offset, end: offset.saturating_add(*len) });
            }
        }
    }
}

impl Place {
    /// Fresh memory of one's own.
    pub(super) fn own(range: FileRange) -> Self {
        Self::Memory { offset: range.start, cow: false }
    }
}

/// A copy of the first `len` bytes at `place`, in new memory. The caller holds a count on them.
pub(super) fn copy_pages(memory: &MemoryFile, place: &Place, len: u64) -> Result<FileRange, Errno> {
    let copy = memory.allocate(len, None)?;
    let done = match place {
        Place::Memory { offset, .. } => {
            let source = FileRange { start: *offset, end: offset.saturating_add(len) };
            memory.write(copy, memory.slice(source))
        }
        Place::Host { file, offset, .. } => read_host(memory, file, *offset, copy),
    };
    done.map(|()| copy).inspect_err(|_| memory.release(copy))
}

/// Fills new memory from a host file; what lies behind its end stays zero.
fn read_host(
    memory: &MemoryFile,
    file: &OwnedFd,
    offset: u64,
    target: FileRange,
) -> Result<(), Errno> {
    const CHUNK: u64 = 64 << 10;
    let mut bounce = Bounce::new(target.len().min(CHUNK) as usize);
    let mut done = 0;
    while done < target.len() {
        let len = (target.len() - done).min(CHUNK);
        let part = bounce.slice().sub(0, len as usize);
        match host::preadv(file.as_fd(), &[part], offset.saturating_add(done)) {
            Ok(0) => break,
            Ok(n) => {
                let to = FileRange { start: target.start + done, end: target.end };
                memory.write(to, part.sub(0, n))?;
                done += n as u64;
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
