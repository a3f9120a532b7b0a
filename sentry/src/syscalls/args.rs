//! From raw argument registers to typed arguments, and back to a result.

use crate::user::{Fd, UserAddr, UserCStr, UserRef};

/// How `--strace` prints an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    Fd,
    Path,
    Ptr,
    Int,
    Unsigned,
    Size,
    Hex,
}

/// A type that an argument register can hold. Narrow types take the low bits, as the C
/// prototypes in the kernel do.
pub trait FromArg {
    const KIND: ArgKind;
    fn from_arg(raw: u64) -> Self;
}

macro_rules! from_arg {
    ($($type:ty, $kind:ident, $raw:ident => $value:expr;)*) => { $(
        impl FromArg for $type {
            const KIND: ArgKind = ArgKind::$kind;
            #[inline]
            fn from_arg($raw: u64) -> Self { $value }
        }
    )* };
}

from_arg! {
    Fd, Fd, raw => Fd(raw as i32);
    UserAddr, Ptr, raw => UserAddr(raw);
    UserCStr, Path, raw => UserCStr(UserAddr(raw));
    i32, Int, raw => raw as i32;
    u32, Hex, raw => raw as u32;
    i64, Int, raw => raw as i64;
    u64, Hex, raw => raw;
    usize, Size, raw => raw as usize;
}

impl<T> FromArg for UserRef<T> {
    const KIND: ArgKind = ArgKind::Ptr;
    #[inline]
    fn from_arg(raw: u64) -> Self {
        Self::new(raw)
    }
}

/// What becomes of the task after a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The result register gets this.
    Return(u64),
    /// The handler has set all registers itself (`rt_sigreturn`, `execve`).
    RegistersSet,
    /// The task is ending; it never returns to guest code.
    Exit,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Return(0)
    }
}
impl From<usize> for Outcome {
    fn from(value: usize) -> Self {
        Self::Return(value as u64)
    }
}
impl From<u64> for Outcome {
    fn from(value: u64) -> Self {
        Self::Return(value)
    }
}
impl From<u32> for Outcome {
    fn from(value: u32) -> Self {
        Self::Return(u64::from(value))
    }
}
impl From<i32> for Outcome {
    fn from(value: i32) -> Self {
        Self::Return(i64::from(value) as u64)
    }
}
impl From<i64> for Outcome {
    fn from(value: i64) -> Self {
        Self::Return(value as u64)
    }
}
impl From<Fd> for Outcome {
    fn from(fd: Fd) -> Self {
        Self::Return(fd.0 as u64)
    }
}
impl From<UserAddr> for Outcome {
    fn from(addr: UserAddr) -> Self {
        Self::Return(addr.0)
    }
}
