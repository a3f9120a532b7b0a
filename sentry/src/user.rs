//! Addresses in guest memory, as types.
//!
//! There is no way to reach the memory but through [`UserMemory`], which checks at access,
//! as Linux does: `read(fd, NULL, 1)` at end of file is 0, not `EFAULT`. Read each word
//! once: copy the structure in, then check the copy.

use std::{fmt, marker::PhantomData};

use linux_abi::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A guest virtual address. No arithmetic that can wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UserAddr(pub u64);

/// A guest address where a `T` is, may be, or will be. May be null: many calls allow it.
pub struct UserRef<T>(pub UserAddr, PhantomData<fn() -> T>);

/// A guest address where a NUL-terminated string begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserCStr(pub UserAddr);

/// A file descriptor number as the guest passed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fd(pub i32);

impl Fd {
    /// "Relative to the current directory" (openat(2)).
    pub const CWD: Self = Self(libc::AT_FDCWD);
}

impl UserAddr {
    pub const NULL: Self = Self(0);

    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// `EFAULT` when the sum leaves the 64 bits.
    pub fn offset(self, bytes: u64) -> Result<Self, Errno> {
        self.0.checked_add(bytes).map(Self).ok_or(Errno::EFAULT)
    }

    /// The start of the page it lies in.
    pub const fn page_start(self) -> Self {
        Self(self.0 & !(platform::PAGE_SIZE - 1))
    }

    pub const fn is_page_aligned(self) -> bool {
        self.0 & (platform::PAGE_SIZE - 1) == 0
    }

    /// The same address as the place of a `T`.
    pub const fn as_ref<T>(self) -> UserRef<T> {
        UserRef(self, PhantomData)
    }
}

impl<T> UserRef<T> {
    pub const fn new(addr: u64) -> Self {
        Self(UserAddr(addr), PhantomData)
    }

    pub const fn addr(self) -> UserAddr {
        self.0
    }

    pub const fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// `None` for NULL.
    pub fn non_null(self) -> Option<Self> {
        (!self.is_null()).then_some(self)
    }

    /// Element `index` of the array that starts here.
    pub fn at(self, index: usize) -> Result<Self, Errno> {
        let bytes = (index as u64).checked_mul(size_of::<T>() as u64).ok_or(Errno::EFAULT)?;
        Ok(Self(self.0.offset(bytes)?, PhantomData))
    }
}

impl<T> Clone for UserRef<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserRef<T> {}

impl fmt::Debug for UserAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
impl<T> fmt::Debug for UserRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Plain data that may be copied in from a guest.
pub trait Pod: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Pod for T {}

/// Access to one address space's memory. Implemented by `mm::MemoryManager`.
///
/// Each access faults pages in and breaks copy-on-write as the guest's own access would;
/// what the guest could not read or write gives `EFAULT`.
pub trait UserMemory {
    /// Copies in as much as is readable; the number of bytes. `EFAULT` only when nothing is.
    fn copy_in_partial(&self, addr: UserAddr, dst: &mut [u8]) -> Result<usize, Errno>;

    /// Copies out as much as is writable; the number of bytes. `EFAULT` only when nothing is.
    fn copy_out_partial(&self, addr: UserAddr, src: &[u8]) -> Result<usize, Errno>;

    /// A futex word, read atomically. `EINVAL` unless 4-aligned.
    fn load_u32(&self, addr: UserAddr) -> Result<u32, Errno>;

    /// Atomic compare-and-exchange of a futex word: the value that was there.
    fn cmpxchg_u32(&self, addr: UserAddr, old: u32, new: u32) -> Result<u32, Errno>;

    /// Atomic read-modify-write of a futex word: the value that was there.
    fn update_u32(&self, addr: UserAddr, f: &mut dyn FnMut(u32) -> u32) -> Result<u32, Errno> {
        let mut old = self.load_u32(addr)?;
        loop {
            let seen = self.cmpxchg_u32(addr, old, f(old))?;
            if seen == old {
                return Ok(old);
            }
            old = seen;
        }
    }

    /// Copies exactly `dst.len()` bytes in.
    fn copy_in(&self, addr: UserAddr, dst: &mut [u8]) -> Result<(), Errno> {
        if dst.is_empty() {
            return Ok(());
        }
        if self.copy_in_partial(addr, dst)? == dst.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies exactly `src.len()` bytes out.
    fn copy_out(&self, addr: UserAddr, src: &[u8]) -> Result<(), Errno> {
        if src.is_empty() {
            return Ok(());
        }
        if self.copy_out_partial(addr, src)? == src.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads one structure.
    fn read_obj<T: Pod>(&self, at: UserRef<T>) -> Result<T, Errno>
    where
        Self: Sized,
    {
        let mut value = T::new_zeroed();
        self.copy_in(at.addr(), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes one structure; its type has no padding, so nothing leaks.
    fn write_obj<T: IntoBytes + Immutable>(&self, at: UserRef<T>, value: &T) -> Result<(), Errno>
    where
        Self: Sized,
    {
        self.copy_out(at.addr(), value.as_bytes())
    }

    /// Reads `count` structures.
    fn read_array<T: Pod>(&self, at: UserRef<T>, count: usize) -> Result<Vec<T>, Errno>
    where
        Self: Sized,
    {
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        for index in 0..count {
            values.push(self.read_obj(at.at(index)?)?);
        }
        Ok(values)
    }

    /// Reads a NUL-terminated string, without the NUL. `ENAMETOOLONG` when there is no
    /// NUL in the first `max` bytes.
    fn read_cstr(&self, at: UserCStr, max: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        let mut addr = at.0;
        while out.len() < max {
            // Up to the end of the page, so that a string before an unmapped page works.
            let in_page = (platform::PAGE_SIZE - (addr.0 & (platform::PAGE_SIZE - 1))) as usize;
            let mut chunk = [0; 256];
            let want = in_page.min(chunk.len()).min(max - out.len());
            let got = self.copy_in_partial(addr, &mut chunk[..want])?;
            let chunk = chunk.get(..got).ok_or(Errno::EFAULT)?;
            if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
                out.extend_from_slice(&chunk[..end]);
                return Ok(out);
            }
            out.extend_from_slice(chunk);
            addr = addr.offset(got as u64)?;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path argument: at most PATH_MAX with the NUL. The empty path is allowed here.
    fn read_path(&self, at: UserCStr) -> Result<Vec<u8>, Errno> {
        self.read_cstr(at, libc::PATH_MAX as usize)
    }
}
