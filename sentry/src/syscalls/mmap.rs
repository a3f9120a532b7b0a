//! mmap(2) and its relatives.

use std::sync::{Arc, atomic::Ordering};

use linux_abi::Errno;
use platform::{PAGE_SIZE, Prot};

use crate::{
    SysResult, err,
    kernel::{Capability, CurrentTask},
    mm::{MapRequest, MappedFile, Placement, Source, VmaFlags},
    user::{Fd, UserAddr},
    vfs::MountFlags,
};

const PROT_SEM: u32 = 8;
const PROT_GROWSDOWN: u32 = libc::PROT_GROWSDOWN as u32;
const PROT_GROWSUP: u32 = libc::PROT_GROWSUP as u32;

const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_SHARED_VALIDATE: u32 = 3;
const MAP_TYPE: u32 = 0xf;
const MAP_DROPPABLE: u32 = 8;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_32BIT: u32 = 0x40;
const MAP_GROWSDOWN: u32 = 0x100;
/// Means nothing any more; the dynamic linker still sets it for the parts of a library (`MAP_COPY`).
const MAP_DENYWRITE: u32 = 0x800;
const MAP_LOCKED: u32 = 0x2000;
const MAP_NORESERVE: u32 = 0x4000;
const MAP_POPULATE: u32 = 0x8000;
const MAP_NONBLOCK: u32 = 0x1_0000;
const MAP_HUGETLB: u32 = 0x4_0000;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;
/// What MAP_SHARED_VALIDATE lets through (`LEGACY_MAP_MASK`); MAP_SYNC needs DAX and is refused.
const MAP_LEGACY: u32 = MAP_TYPE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_32BIT
    | MAP_GROWSDOWN
    | 0x800
    | 0x1000
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | 0x2_0000
    | MAP_HUGETLB
    | MAP_FIXED_NOREPLACE;

/// Tells the address space the limits of the process as they are now.
pub(crate) fn refresh_limits(task: &CurrentTask) {
    let soft = |resource| task.rlimit(resource).0;
    let limits = task.mm().limits();
    limits.address_space.store(soft(libc::RLIMIT_AS), Ordering::Relaxed);
    limits.data.store(soft(libc::RLIMIT_DATA), Ordering::Relaxed);
    limits.stack.store(soft(libc::RLIMIT_STACK), Ordering::Relaxed);
    limits.memlock.store(soft(libc::RLIMIT_MEMLOCK), Ordering::Relaxed);
}

/// The same, for calls that lock memory: the capability to do so counts too.
pub(super) fn refresh_lock_limits(task: &CurrentTask) {
    refresh_limits(task);
    let may_lock = task.cred().has(Capability::IPC_LOCK);
    task.mm().limits().may_lock.store(may_lock, Ordering::Relaxed);
}

pub(super) fn sys_mmap(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u32,
    flags: u32,
    fd: Fd,
    offset: u64,
) -> SysResult<UserAddr> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return err!(EINVAL);
    }
    let kind = flags & MAP_TYPE;
    let mut request = MapRequest::anonymous(addr.0, len, prot_of(prot), placement(flags));
    request.populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
    request.flags.set(VmaFlags::NORESERVE, flags & MAP_NORESERVE != 0);
    request.flags.set(VmaFlags::LOCKED, flags & MAP_LOCKED != 0);
    if flags & MAP_ANONYMOUS == 0 {
        let file = task.file(fd)?;
        if flags & MAP_HUGETLB != 0 {
            return err!(EINVAL);
        }
        request = map_file(request, flags, &file, offset)?;
        request.is_part = kind == MAP_PRIVATE && flags & MAP_DENYWRITE != 0;
    } else {
        if flags & MAP_HUGETLB != 0 {
            return err!(ENOMEM);
        }
        match kind {
            MAP_SHARED if flags & MAP_GROWSDOWN != 0 => return err!(EINVAL),
            MAP_SHARED => request.flags |= VmaFlags::SHARED,
            MAP_PRIVATE => {}
            // Droppable memory came with Linux 6.11: private, its pages may vanish; ours do not.
            MAP_DROPPABLE if flags & (MAP_LOCKED | MAP_GROWSDOWN) == 0 => {
                request.flags |= VmaFlags::NORESERVE | VmaFlags::WIPEONFORK | VmaFlags::DONTDUMP;
            }
            _ => return err!(EINVAL),
        }
        request.flags.set(VmaFlags::GROWSDOWN, flags & MAP_GROWSDOWN != 0);
    }
    if flags & MAP_LOCKED == 0 {
        refresh_limits(task);
    } else {
        refresh_lock_limits(task);
        task.mm().may_lock()?;
    }
    Ok(UserAddr(task.mm().map(request)?))
}

fn placement(flags: u32) -> Placement {
    if flags & MAP_FIXED_NOREPLACE != 0 {
        Placement::FixedNoReplace
    } else if flags & MAP_FIXED != 0 {
        Placement::Fixed
    } else if flags & MAP_32BIT != 0 {
        Placement::Low
    } else {
        Placement::Anywhere
    }
}

/// Bits that mean nothing are ignored, as mmap does.
fn prot_of(prot: u32) -> Prot {
    Prot::from_bits_truncate((prot & 7) as u8)
}

/// Completes the request for a mapping of `file`, in the order of `do_mmap` in `mm/mmap.c`.
fn map_file(
    mut request: MapRequest,
    flags: u32,
    file: &Arc<crate::vfs::FileDescription>,
    offset: u64,
) -> SysResult<MapRequest> {
    if request.len == 0 {
        return err!(EINVAL);
    }
    let end = request.len.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?;
    offset.checked_add(end).ok_or(Errno::EOVERFLOW)?;
    match flags & MAP_TYPE {
        MAP_SHARED_VALIDATE if flags & !MAP_LEGACY != 0 => return err!(EOPNOTSUPP),
        MAP_SHARED | MAP_SHARED_VALIDATE => {
            if request.prot.contains(Prot::WRITE) && !file.is_writable() {
                return err!(EACCES);
            }
            let sealed = file.ops().is_write_sealed();
            if request.prot.contains(Prot::WRITE) && sealed {
                return err!(EPERM);
            }
            request.flags |= VmaFlags::SHARED;
            if !file.is_writable() || sealed {
                request.max_prot -= Prot::WRITE;
            }
        }
        MAP_PRIVATE => {}
        _ => return err!(EINVAL),
    }
    if !file.is_readable() {
        return err!(EACCES);
    }
    if file.path().mount.flags().contains(MountFlags::NOEXEC) {
        if request.prot.contains(Prot::EXEC) {
            return err!(EPERM);
        }
        request.max_prot -= Prot::EXEC;
    }
    if file.ops().maps_as_zeros() {
        return Ok(request);
    }
    let Some(mappable) = file.ops().mappable(file) else { return err!(ENODEV) };
    if flags & MAP_GROWSDOWN != 0 {
        return err!(EINVAL);
    }
    let file = Arc::new(MappedFile { mappable, file: Some(file.clone()) });
    request.source = Source::File { file, offset };
    Ok(request)
}

pub(super) fn sys_munmap(task: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult<()> {
    Ok(task.mm().unmap(addr.0, len)?)
}

pub(super) fn sys_mprotect(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u32,
) -> SysResult<()> {
    let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    if grows == PROT_GROWSDOWN | PROT_GROWSUP {
        return err!(EINVAL);
    }
    let rest = prot & !grows;
    if rest & !(7 | PROT_SEM) != 0 {
        return err!(EINVAL);
    }
    if grows == PROT_GROWSUP {
        // No mapping grows up on x86.
        return err!(EINVAL);
    }
    refresh_limits(task);
    Ok(task.mm().protect(addr.0, len, prot_of(rest), grows == PROT_GROWSDOWN)?)
}

pub(super) fn sys_brk(task: &mut CurrentTask, addr: UserAddr) -> SysResult<UserAddr> {
    refresh_limits(task);
    Ok(UserAddr(task.mm().brk(addr.0)))
}
