//! Where file contents go and come from: the buffers of a read or write.

use std::sync::Arc;

use linux_abi::Errno;
use platform::memory::VolatileSlice;
use smallvec::SmallVec;

use crate::{
    mm::MemoryManager,
    user::{UserAddr, UserMemory},
};

/// The guest's buffers: address and length of each.
pub type UserIovecs = SmallVec<[(UserAddr, usize); 2]>;

#[derive(Debug)]
enum Place<'a, K> {
    User { mm: &'a Arc<MemoryManager>, iovecs: UserIovecs, index: usize, within: usize },
    Kernel { buffer: K, done: usize },
}

/// Takes bytes: what `read` fills. Knows how far it is.
#[derive(Debug)]
pub struct IoDst<'a> {
    place: Place<'a, &'a mut [u8]>,
    left: usize,
}

/// Gives bytes: what `write` sends. Knows how far it is.
#[derive(Debug)]
pub struct IoSrc<'a> {
    place: Place<'a, &'a [u8]>,
    left: usize,
}

macro_rules! common {
    () => {
        /// Bytes left.
        pub fn len(&self) -> usize {
            self.left
        }

        /// Stops at `max` bytes, keeping the rest out of reach.
        pub fn truncate(&mut self, max: usize) {
            self.left = self.left.min(max);
        }

        /// Goes on by `count` bytes; also how a caller who used `host_slices` says how much it did.
        pub fn advance(&mut self, count: usize) {
            let mut count = count.min(self.left);
            self.left -= count;
            match &mut self.place {
                Place::Kernel { done, .. } => *done += count,
                Place::User { iovecs, index, within, .. } => {
                    while let Some((_, len)) = iovecs.get(*index) {
                        let here = count.min(len - *within);
                        *within += here;
                        count -= here;
                        if *within < *len {
                            break;
                        }
                        *index += 1;
                        *within = 0;
                    }
                }
            }
        }
    };
}

impl<'a> IoDst<'a> {
    /// Buffers in guest memory.
    pub fn user(mm: &'a Arc<MemoryManager>, iovecs: UserIovecs) -> Self {
        let left = iovecs.iter().fold(0_usize, |sum, (_, len)| sum.saturating_add(*len));
        Self { place: Place::User { mm, iovecs, index: 0, within: 0 }, left }
    }

    /// One guest buffer.
    pub fn user_buffer(mm: &'a Arc<MemoryManager>, addr: UserAddr, len: usize) -> Self {
        let mut iovecs = UserIovecs::new();
        iovecs.push((addr, len));
        Self::user(mm, iovecs)
    }

    /// A buffer of the sentry's own.
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        let left = buffer.len();
        Self { place: Place::Kernel { buffer, done: 0 }, left }
    }

    common!();

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Puts as many of `bytes` as fit and are writable; `EFAULT` when none are.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut total = 0;
        while total < bytes.len() && self.left > 0 {
            let rest = &bytes[total..];
            let n = match &mut self.place {
                Place::Kernel { buffer, done } => {
                    let n = rest.len().min(self.left);
                    let to = buffer.get_mut(*done..*done + n).ok_or(Errno::EFAULT)?;
                    to.copy_from_slice(&rest[..n]);
                    n
                }
                Place::User { mm, iovecs, index, within } => {
                    let Some(&(addr, len)) = iovecs.get(*index) else { break };
                    let n = rest.len().min(len - *within).min(self.left);
                    if n == 0 {
                        *index += 1;
                        *within = 0;
                        continue;
                    }
                    match addr
                        .offset(*within as u64)
                        .and_then(|addr| mm.copy_out_partial(addr, &rest[..n]))
                    {
                        Ok(n) => n,
                        Err(_) if total > 0 => return Ok(total),
                        Err(errno) => return Err(errno),
                    }
                }
            };
            self.advance(n);
            total += n;
            if n == 0 {
                break;
            }
        }
        Ok(total)
    }

    /// Puts `count` zero bytes, as [`Self::put`].
    pub fn put_zeros(&mut self, count: usize) -> Result<usize, Errno> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut total = 0;
        while total < count && self.left > 0 {
            let n = self.put(&ZEROS[..ZEROS.len().min(count - total)])?;
            if n == 0 {
                break;
            }
            total += n;
        }
        Ok(total)
    }

    /// Calls `f` with the memory of up to `max` bytes, mapped here and writable, so that a host call
    /// can fill it without a copy in between; `f` returns how many bytes it filled, and the cursor
    /// advances by that. Guest memory that is not in the memory file goes through a
    /// bounce buffer. `f` may be called once only, and may block: no lock is held.
    pub fn fill_with(
        &mut self,
        max: usize,
        f: &mut dyn FnMut(&[VolatileSlice<'_>]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let max = max.min(self.left);
        match &mut self.place {
            Place::User { mm, iovecs, index, within } => {
                let window = window(iovecs, *index, *within, max);
                if let Some(pinned) = mm.pin_for_io(&window, true)? {
                    let n = f(&pinned.slices())?;
                    self.advance(n);
                    return Ok(n);
                }
            }
            Place::Kernel { buffer, done } => {
                let room = buffer.get_mut(*done..*done + max).ok_or(Errno::EFAULT)?;
                let n = f(&[VolatileSlice::lend(room)])?;
                self.advance(n);
                return Ok(n);
            }
        }
        let mut bounce = platform::memory::Bounce::new(max.min(BOUNCE_BYTES));
        let n = f(&[bounce.slice()])?;
        let filled = bounce.bytes().get(..n).ok_or(Errno::EIO)?;
        self.put(filled)
    }
}

impl<'a> IoSrc<'a> {
    /// Buffers in guest memory.
    pub fn user(mm: &'a Arc<MemoryManager>, iovecs: UserIovecs) -> Self {
        let left = iovecs.iter().fold(0_usize, |sum, (_, len)| sum.saturating_add(*len));
        Self { place: Place::User { mm, iovecs, index: 0, within: 0 }, left }
    }

    /// One guest buffer.
    pub fn user_buffer(mm: &'a Arc<MemoryManager>, addr: UserAddr, len: usize) -> Self {
        let mut iovecs = UserIovecs::new();
        iovecs.push((addr, len));
        Self::user(mm, iovecs)
    }

    /// Bytes of the sentry's own.
    pub fn kernel(buffer: &'a [u8]) -> Self {
        Self { place: Place::Kernel { buffer, done: 0 }, left: buffer.len() }
    }

    common!();

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// Takes up to `buffer.len()` bytes; `EFAULT` when there are bytes but none is readable.
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut total = 0;
        while total < buffer.len() && self.left > 0 {
            let rest = &mut buffer[total..];
            let n = match &mut self.place {
                Place::Kernel { buffer, done } => {
                    let n = rest.len().min(self.left);
                    rest[..n].copy_from_slice(buffer.get(*done..*done + n).ok_or(Errno::EFAULT)?);
                    n
                }
                Place::User { mm, iovecs, index, within } => {
                    let Some(&(addr, len)) = iovecs.get(*index) else { break };
                    let n = rest.len().min(len - *within).min(self.left);
                    if n == 0 {
                        *index += 1;
                        *within = 0;
                        continue;
                    }
                    match addr
                        .offset(*within as u64)
                        .and_then(|addr| mm.copy_in_partial(addr, &mut rest[..n]))
                    {
                        Ok(n) => n,
                        Err(_) if total > 0 => return Ok(total),
                        Err(errno) => return Err(errno),
                    }
                }
            };
            self.advance(n);
            total += n;
            if n == 0 {
                break;
            }
        }
        Ok(total)
    }

    /// As [`Self::take`], but stays where it is.
    pub fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let before = (self.left, self.position());
        let got = self.take(buffer);
        self.rewind(before);
        got
    }

    /// All the rest, at most `max` bytes.
    pub fn take_vec(&mut self, max: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        let want = self.left.min(max);
        bytes.try_reserve_exact(want).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(want, 0);
        let n = self.take(&mut bytes)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Calls `f` with the memory of up to `max` bytes for a host call to read, as
    /// [`IoDst::fill_with`] does for filling. Kernel buffers go through a bounce buffer, too.
    pub fn drain_with(
        &mut self,
        max: usize,
        f: &mut dyn FnMut(&[VolatileSlice<'_>]) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let max = max.min(self.left);
        if let Place::User { mm, iovecs, index, within } = &self.place {
            let window = window(iovecs, *index, *within, max);
            if let Some(pinned) = mm.pin_for_io(&window, false)? {
                let n = f(&pinned.slices())?;
                self.advance(n);
                return Ok(n);
            }
        }
        // Peek by copying from a clone of the cursor: `f` may take less than offered.
        let mut bounce = platform::memory::Bounce::new(max.min(BOUNCE_BYTES));
        let before = (self.left, self.position());
        let got = self.take(bounce.bytes_mut())?;
        self.rewind(before);
        let n = f(&[bounce.slice().sub(0, got)])?;
        self.advance(n);
        Ok(n)
    }

    fn position(&self) -> (usize, usize) {
        match &self.place {
            Place::User { index, within, .. } => (*index, *within),
            Place::Kernel { done, .. } => (*done, 0),
        }
    }

    fn rewind(&mut self, (left, (first, second)): (usize, (usize, usize))) {
        self.left = left;
        match &mut self.place {
            Place::User { index, within, .. } => (*index, *within) = (first, second),
            Place::Kernel { done, .. } => *done = first,
        }
    }
}

/// How much goes through a bounce buffer at a time.
const BOUNCE_BYTES: usize = 256 << 10;

/// The next `max` bytes of the buffers.
fn window(iovecs: &UserIovecs, index: usize, within: usize, mut max: usize) -> UserIovecs {
    let mut out = UserIovecs::new();
    let mut skip = within;
    for &(addr, len) in iovecs.iter().skip(index) {
        if max == 0 {
            break;
        }
        let n = (len - skip).min(max);
        if n > 0 {
            out.push((UserAddr(addr.0.wrapping_add(skip as u64)), n));
        }
        max -= n;
        skip = 0;
    }
    out
}
