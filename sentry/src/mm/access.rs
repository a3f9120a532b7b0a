//! Access to guest memory, as the guest itself would access it.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use linux_abi::Errno;
use platform::{
    AccessKind, Prot, host,
    memory::{FileRange, VolatileSlice},
};
use smallvec::SmallVec;

use super::{
    MemoryManager,
    pma::{Place, Pma},
    state::MmState,
    vma::Source,
};
use crate::{
    user::{UserAddr, UserMemory},
    vfs::UserIovecs,
};

/// Guest pages that stay where they are, for a host call to read or write.
#[derive(Debug)]
pub struct PinnedSlices<'a> {
    mm: &'a MemoryManager,
    ranges: SmallVec<[FileRange; 4]>,
}

impl PinnedSlices<'_> {
    /// The pieces, in order.
    pub fn slices(&self) -> SmallVec<[VolatileSlice<'_>; 4]> {
        self.ranges.iter().map(|&range| self.mm.memory.slice(range)).collect()
    }
}

impl Drop for PinnedSlices<'_> {
    fn drop(&mut self) {
        self.mm.pins.unpin(&self.mm.memory, &self.ranges);
    }
}

/// What lies at an address.
enum Spot<'a> {
    /// Accessible, in the memory file.
    Memory(FileRange),
    /// Accessible, in a host file: so many bytes.
    Host(&'a Pma, u64, u64),
    /// Not there, or not accessible in this way as things are.
    Missing,
}

impl MmState {
    /// What lies at `addr`, up to `len` bytes of it.
    #[inline]
    fn spot(&self, addr: u64, len: u64, write: bool) -> Spot<'_> {
        let Some((range, pma)) = self.pmas.find(addr) else { return Spot::Missing };
        let allowed = if write {
            pma.prot.contains(Prot::WRITE) && !pma.copies_on_write()
        } else {
            !pma.prot.is_empty()
        };
        if !allowed {
            return Spot::Missing;
        }
        let within = addr - range.start;
        let len = len.min(range.end - addr);
        match &pma.place {
            Place::Memory { offset, .. } => {
                let start = offset.saturating_add(within);
                Spot::Memory(FileRange { start, end: start.saturating_add(len) })
            }
            Place::Host { .. } => Spot::Host(pma, within, len),
        }
    }
}

impl MmState {
    /// Is what is mapped at `addr` a file whose bytes do not change?
    fn is_constant(&self, addr: u64) -> bool {
        self.vmas.find(addr).is_some_and(|(_, vma)| match &vma.source {
            Source::File { file, .. } => file.mappable.is_constant(),
            Source::Anonymous => false,
        })
    }
}

impl MemoryManager {
    /// Does `each` for the pieces of `addr..addr + len`, with how far it is; how many bytes were done. Stops where the
    /// guest could not go on; `EFAULT` when that is at once.
    fn walk(
        &self,
        addr: UserAddr,
        len: usize,
        write: bool,
        each: &mut dyn FnMut(usize, Piece<'_>) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        let mut done = 0_usize;
        while done < len {
            let host = {
                let state = self.state.read();
                loop {
                    let Some(at) = addr.0.checked_add(done as u64) else {
                        return partial(done);
                    };
                    match state.spot(at, (len - done) as u64, write) {
                        Spot::Memory(range) => {
                            done += each(done, Piece::Memory(self.memory.slice(range)))?;
                            if done >= len {
                                return Ok(done);
                            }
                        }
                        Spot::Host(pma, within, len) => {
                            let is_constant = !write && state.is_constant(at);
                            break Some((pma.clone(), within, len, is_constant));
                        }
                        Spot::Missing => break None,
                    }
                }
            };
            // Without the lock: these wait for the host, or change the mappings.
            match host {
                Some((
                    Pma { place: Place::Host { file, offset, .. }, .. },
                    within,
                    len,
                    is_constant,
                )) => {
                    let at = offset.saturating_add(within);
                    let piece = Piece::Host { file: &file, at, len: len as usize, is_constant };
                    match each(done, piece) {
                        Ok(0) | Err(_) => return partial(done),
                        Ok(n) => done += n,
                    }
                }
                _ => {
                    let at = addr.0.saturating_add(done as u64);
                    if self.fault_in(at, access).is_err() {
                        return partial(done);
                    }
                }
            }
        }
        Ok(done)
    }

    /// Pins the pages of `iovecs` (up to the first that is not accessible; `EFAULT` when that is the first
    /// of all) so that a host call may use them without any lock. `write`: the host call will write to
    /// them. `None`: some of it is not in the memory file; use a bounce buffer.
    pub fn pin_for_io(
        &self,
        iovecs: &UserIovecs,
        write: bool,
    ) -> Result<Option<PinnedSlices<'_>>, Errno> {
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        loop {
            let missing = {
                let state = self.state.read();
                let mut ranges: SmallVec<[FileRange; 4]> = SmallVec::new();
                let mut missing = None;
                'all: for &(addr, len) in iovecs {
                    let mut done = 0_u64;
                    while done < len as u64 {
                        let Some(at) = addr.0.checked_add(done) else {
                            missing = Some(u64::MAX);
                            break 'all;
                        };
                        match state.spot(at, len as u64 - done, write) {
                            Spot::Memory(range) => {
                                done += range.len();
                                ranges.push(range);
                            }
                            Spot::Host(..) if ranges.is_empty() => return Ok(None),
                            // The pages before it make a short transfer.
                            Spot::Host(..) => break 'all,
                            Spot::Missing => {
                                missing = Some(at);
                                break 'all;
                            }
                        }
                    }
                }
                match missing {
                    // What is accessible by now makes a short transfer only if the rest cannot be had.
                    Some(at) if ranges.is_empty() => at,
                    Some(at) => {
                        drop(state);
                        if self.fault_in(at, access).is_ok() {
                            continue;
                        }
                        // Once more, knowing that it ends there.
                        return self.pin_until(iovecs, write, at).map(Some);
                    }
                    None => {
                        self.pins.pin(&ranges);
                        return Ok(Some(PinnedSlices { mm: self, ranges }));
                    }
                }
            };
            self.fault_in(missing, access)?;
        }
    }

    /// Pins what is accessible of `iovecs` before the first address that is not, found to be `bad`.
    fn pin_until(
        &self,
        iovecs: &UserIovecs,
        write: bool,
        bad: u64,
    ) -> Result<PinnedSlices<'_>, Errno> {
        let state = self.state.read();
        let mut ranges: SmallVec<[FileRange; 4]> = SmallVec::new();
        'all: for &(addr, len) in iovecs {
            let mut done = 0_u64;
            while done < len as u64 {
                let Some(at) = addr.0.checked_add(done).filter(|&at| at != bad) else { break 'all };
                let Spot::Memory(range) = state.spot(at, len as u64 - done, write) else {
                    break 'all;
                };
                done += range.len();
                ranges.push(range);
            }
        }
        if ranges.is_empty() {
            return Err(Errno::EFAULT);
        }
        self.pins.pin(&ranges);
        Ok(PinnedSlices { mm: self, ranges })
    }

    /// Does `f` with the 4 bytes at `addr`, in memory.
    fn with_word<T>(
        &self,
        addr: UserAddr,
        write: bool,
        f: impl Fn(&std::sync::atomic::AtomicU32) -> T,
    ) -> Result<T, Errno> {
        if !addr.0.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let access = if write { AccessKind::Write } else { AccessKind::Read };
        loop {
            {
                let state = self.state.read();
                match state.spot(addr.0, 4, write) {
                    Spot::Memory(range) => {
                        let slice = self.memory.slice(range);
                        return slice.atomic_u32(0).map(&f).ok_or(Errno::EFAULT);
                    }
                    Spot::Host(pma, within, _) => {
                        // No atomic access through a file: what a guest does at the same time may be lost.
                        let Place::Host { file, offset, .. } = &pma.place else {
                            return Err(Errno::EFAULT);
                        };
                        let (file, at) = (file.clone(), offset.saturating_add(within));
                        drop(state);
                        return file_word(&file, at, write, &f);
                    }
                    Spot::Missing => {}
                }
            }
            self.fault_in(addr.0, access)?;
        }
    }
}

/// `f` on a word of a host file.
fn file_word<T>(
    file: &OwnedFd,
    at: u64,
    write: bool,
    f: &impl Fn(&std::sync::atomic::AtomicU32) -> T,
) -> Result<T, Errno> {
    let mut bounce = platform::memory::Bounce::new(4);
    if host::preadv(file.as_fd(), &[bounce.slice()], at)? != 4 {
        return Err(Errno::EFAULT);
    }
    let mut bytes = [0; 4];
    bytes.copy_from_slice(bounce.bytes());
    let word = std::sync::atomic::AtomicU32::new(u32::from_ne_bytes(bytes));
    let result = f(&word);
    if write {
        bounce.bytes_mut().copy_from_slice(&word.into_inner().to_ne_bytes());
        host::pwritev(file.as_fd(), &[bounce.slice()], at)?;
    }
    Ok(result)
}

/// A contiguous piece of guest memory.
enum Piece<'a> {
    Memory(VolatileSlice<'a>),
    /// Of a file, from an offset on. `is_constant`: its bytes do not change.
    Host {
        file: &'a Arc<OwnedFd>,
        at: u64,
        len: usize,
        is_constant: bool,
    },
}

fn partial(done: usize) -> Result<usize, Errno> {
    if done > 0 { Ok(done) } else { Err(Errno::EFAULT) }
}

impl UserMemory for MemoryManager {
    fn copy_in_partial(&self, addr: UserAddr, dst: &mut [u8]) -> Result<usize, Errno> {
        let len = dst.len();
        self.walk(addr, len, false, &mut |done, piece| {
            let rest = dst.get_mut(done..).ok_or(Errno::EFAULT)?;
            match piece {
                Piece::Memory(slice) => Ok(slice.copy_to(rest)),
                Piece::Host { file, at, len, is_constant } => {
                    let len = len.min(rest.len()).min(64 << 10);
                    if is_constant
                        && let Some(to) = rest.get_mut(..len)
                        && self.constants.get(file, at, to)
                    {
                        return Ok(len);
                    }
                    let mut bounce = platform::memory::Bounce::new(len);
                    let n = host::preadv(file.as_fd(), &[bounce.slice()], at)?;
                    if n == 0 {
                        return Ok(0);
                    }
                    // Behind the end of the file, the rest of its last page reads as zero.
                    let page_end = at
                        .saturating_add(n as u64)
                        .checked_next_multiple_of(platform::PAGE_SIZE)
                        .unwrap_or(u64::MAX);
                    let len = len.min(usize::try_from(page_end - at).unwrap_or(usize::MAX));
                    let (to, from) = (rest.get_mut(..len), bounce.bytes().get(..len));
                    let (Some(to), Some(from)) = (to, from) else { return Ok(0) };
                    to.copy_from_slice(from);
                    if is_constant {
                        self.constants.put(file, at, from);
                    }
                    Ok(len)
                }
            }
        })
    }

    fn copy_out_partial(&self, addr: UserAddr, src: &[u8]) -> Result<usize, Errno> {
        self.walk(addr, src.len(), true, &mut |done, piece| {
            let rest = src.get(done..).ok_or(Errno::EFAULT)?;
            match piece {
                Piece::Memory(slice) => Ok(slice.copy_from(rest)),
                Piece::Host { file, at, len, .. } => {
                    let len = len.min(rest.len()).min(64 << 10);
                    let mut bounce = platform::memory::Bounce::new(len);
                    let from = rest.get(..len).ok_or(Errno::EFAULT)?;
                    bounce.bytes_mut().copy_from_slice(from);
                    host::pwritev(file.as_fd(), &[bounce.slice()], at)
                }
            }
        })
    }

    fn load_u32(&self, addr: UserAddr) -> Result<u32, Errno> {
        self.with_word(addr, false, |word| word.load(Ordering::SeqCst))
    }

    fn cmpxchg_u32(&self, addr: UserAddr, old: u32, new: u32) -> Result<u32, Errno> {
        self.with_word(addr, true, |word| {
            match word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(seen) | Err(seen) => seen,
            }
        })
    }
}
