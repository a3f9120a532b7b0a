//! Changes of an address space as the system calls which the mapper makes.

use std::os::fd::AsRawFd;

use linux_abi::Errno;

use super::layout::USER_END;
use crate::{Backing, MapOp, PAGE_SIZE, PlatformError, Prot, memory::MemoryFile};

/// One system call of the mapper: number and arguments.
pub(crate) type Command = [u64; 7];

/// Unmaps everything.
pub(crate) const CLEAR: Command = [libc::SYS_munmap as u64, 0, USER_END, 0, 0, 0, 0];

/// The calls that do these changes.
///
/// # Errors
/// EINVAL when one of them is not whole pages of guest addresses.
pub(crate) fn commands(memory: &MemoryFile, ops: &[MapOp]) -> Result<Vec<Command>, PlatformError> {
    let mut commands: Vec<Command> = Vec::with_capacity(ops.len());
    for op in ops {
        let next = command(memory, op)?;
        if next[2] == 0 {
            continue;
        }
        if !commands.last_mut().is_some_and(|last| join(last, &next)) {
            commands.push(next);
        }
    }
    Ok(commands)
}

fn command(memory: &MemoryFile, op: &MapOp) -> Result<Command, PlatformError> {
    let (MapOp::Map { addr, len, .. }
    | MapOp::Unmap { addr, len }
    | MapOp::Protect { addr, len, .. }) = *op;
    let inside = addr.checked_add(len).is_some_and(|end| end <= USER_END);
    if !inside || !(addr | len).is_multiple_of(PAGE_SIZE) {
        return Err(PlatformError::Host { what: "a guest mapping", errno: Errno::EINVAL });
    }
    Ok(match op {
        MapOp::Map { prot, backing, populate, .. } => {
            let (sharing, fd, offset) = match backing {
                Backing::Memory(range) => (libc::MAP_SHARED, memory.fd().as_raw_fd(), range.start),
                Backing::Host { file, offset, shared: true } => {
                    (libc::MAP_SHARED, file.as_raw_fd(), *offset)
                }
                Backing::Host { file, offset, shared: false } => {
                    (libc::MAP_PRIVATE, file.as_raw_fd(), *offset)
                }
            };
            let populate = if *populate { libc::MAP_POPULATE } else { 0 };
            let flags = sharing | populate | libc::MAP_FIXED | libc::MAP_NORESERVE;
            let prot = host_prot(*prot);
            [libc::SYS_mmap as u64, addr, len, prot, flags as u64, fd as u64, offset]
        }
        MapOp::Unmap { .. } => [libc::SYS_munmap as u64, addr, len, 0, 0, 0, 0],
        MapOp::Protect { prot, .. } => {
            [libc::SYS_mprotect as u64, addr, len, host_prot(*prot), 0, 0, 0]
        }
    })
}

fn host_prot(prot: Prot) -> u64 {
    let mut host = libc::PROT_NONE;
    for (ours, theirs) in [
        (Prot::READ, libc::PROT_READ),
        (Prot::WRITE, libc::PROT_WRITE),
        (Prot::EXEC, libc::PROT_EXEC),
    ] {
        if prot.contains(ours) {
            host |= theirs;
        }
    }
    host as u64
}

/// Makes one command of two that follow one another, when they can be one.
fn join(last: &mut Command, next: &Command) -> bool {
    let [number, addr, len, prot, flags, fd, offset] = *last;
    let adjacent = next[1] == addr.wrapping_add(len);
    let same = next[0] == number && next[3] == prot && next[4] == flags && next[5] == fd;
    let continues = number != libc::SYS_mmap as u64 || next[6] == offset.wrapping_add(len);
    let joined = adjacent && same && continues;
    if joined {
        last[2] = len.wrapping_add(next[2]);
    }
    joined
}
