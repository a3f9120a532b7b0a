//! madvise(2), mremap(2), msync(2), mincore(2), and locking memory.

use platform::PAGE_SIZE;

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    mm::{Advice, MemoryManager, RemapRequest, VmaFlags},
    user::{UserAddr, UserMemory},
};

pub(super) fn sys_madvise(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    advice: i32,
) -> SysResult<()> {
    advise(task.mm(), addr, len, advice)
}

/// madvise(2) on any address space.
pub(super) fn advise(mm: &MemoryManager, addr: UserAddr, len: u64, advice: i32) -> SysResult<()> {
    let advice = decode_advice(advice)?;
    Ok(mm.advise(addr.0, len, advice)?)
}

fn decode_advice(advice: i32) -> SysResult<Advice> {
    let flags = |set, clear| Advice::Flags { set, clear };
    let none = VmaFlags::empty();
    let access = VmaFlags::RANDOM | VmaFlags::SEQUENTIAL;
    Ok(match advice {
        libc::MADV_NORMAL => flags(none, access),
        libc::MADV_RANDOM => flags(VmaFlags::RANDOM, access),
        libc::MADV_SEQUENTIAL => flags(VmaFlags::SEQUENTIAL, access),
        // Read-ahead is the host's; nothing is swapped or merged here.
        libc::MADV_WILLNEED
        | libc::MADV_MERGEABLE
        | libc::MADV_UNMERGEABLE
        | libc::MADV_COLD
        | libc::MADV_PAGEOUT
        | libc::MADV_COLLAPSE => Advice::Nothing,
        libc::MADV_DONTNEED => Advice::DontNeed { locked: false },
        libc::MADV_DONTNEED_LOCKED => Advice::DontNeed { locked: true },
        libc::MADV_FREE => Advice::Free,
        libc::MADV_REMOVE => Advice::Remove,
        libc::MADV_DONTFORK => flags(VmaFlags::DONTFORK, none),
        libc::MADV_DOFORK => flags(none, VmaFlags::DONTFORK),
        libc::MADV_DONTDUMP => flags(VmaFlags::DONTDUMP, none),
        libc::MADV_DODUMP => flags(none, VmaFlags::DONTDUMP),
        libc::MADV_HUGEPAGE => flags(VmaFlags::HUGEPAGE, VmaFlags::NOHUGEPAGE),
        libc::MADV_NOHUGEPAGE => flags(VmaFlags::NOHUGEPAGE, VmaFlags::HUGEPAGE),
        libc::MADV_WIPEONFORK => Advice::WipeOnFork,
        libc::MADV_KEEPONFORK => flags(none, VmaFlags::WIPEONFORK),
        libc::MADV_POPULATE_READ => Advice::Populate { write: false },
        libc::MADV_POPULATE_WRITE => Advice::Populate { write: true },
        _ => return err!(EINVAL),
    })
}

pub(super) fn sys_mremap(
    task: &mut CurrentTask,
    addr: UserAddr,
    old_len: u64,
    new_len: u64,
    flags: u32,
    new_addr: UserAddr,
) -> SysResult<UserAddr> {
    const MAYMOVE: u32 = libc::MREMAP_MAYMOVE as u32;
    const FIXED: u32 = libc::MREMAP_FIXED as u32;
    const DONTUNMAP: u32 = 4;
    if flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0 {
        return err!(EINVAL);
    }
    let fixed = flags & FIXED != 0;
    let hint = if fixed { 0 } else { new_addr.0 };
    let request = RemapRequest {
        addr: addr.0,
        old_len,
        new_len,
        may_move: flags & MAYMOVE != 0,
        fixed: fixed.then_some(new_addr.0),
        keep_old: (flags & DONTUNMAP != 0).then_some(hint),
    };
    super::mmap::refresh_lock_limits(task);
    Ok(UserAddr(task.mm().remap(request)?))
}

pub(super) fn sys_msync(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    flags: i32,
) -> SysResult<()> {
    let both = libc::MS_ASYNC | libc::MS_SYNC;
    if flags & !(both | libc::MS_INVALIDATE) != 0 || flags & both == both {
        return err!(EINVAL);
    }
    let sync = flags & libc::MS_SYNC != 0;
    Ok(task.mm().sync(addr.0, len, sync, flags & libc::MS_INVALIDATE != 0)?)
}

/// Pages that mincore looks at in one go.
const IN_CORE_PAGES: u64 = 4096;

pub(super) fn sys_mincore(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    vec: UserAddr,
) -> SysResult<()> {
    if !addr.is_page_aligned() {
        return err!(EINVAL);
    }
    let Some(end) = addr.0.checked_add(len) else { return err!(ENOMEM) };
    if end > task.mm().user_range().end {
        return err!(ENOMEM);
    }
    let end = end.next_multiple_of(PAGE_SIZE);
    let mut at = addr.0;
    let mut to = vec;
    while at < end {
        let part = at..end.min(at + IN_CORE_PAGES * PAGE_SIZE);
        at = part.end;
        let present = task.mm().in_core(part)?;
        task.mm().copy_out(to, &present)?;
        to = to.offset(present.len() as u64)?;
    }
    Ok(())
}

pub(super) fn sys_mlock(task: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult<()> {
    super::mmap::refresh_lock_limits(task);
    Ok(task.mm().lock(addr.0, len, true, false)?)
}

pub(super) fn sys_mlock2(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    flags: u32,
) -> SysResult<()> {
    const MLOCK_ONFAULT: u32 = 1;
    if flags & !MLOCK_ONFAULT != 0 {
        return err!(EINVAL);
    }
    super::mmap::refresh_lock_limits(task);
    Ok(task.mm().lock(addr.0, len, true, flags != 0)?)
}

pub(super) fn sys_munlock(task: &mut CurrentTask, addr: UserAddr, len: u64) -> SysResult<()> {
    super::mmap::refresh_lock_limits(task);
    Ok(task.mm().lock(addr.0, len, false, false)?)
}

pub(super) fn sys_mlockall(task: &mut CurrentTask, flags: u32) -> SysResult<()> {
    const CURRENT: u32 = libc::MCL_CURRENT as u32;
    const FUTURE: u32 = libc::MCL_FUTURE as u32;
    const ONFAULT: u32 = 4;
    if flags == 0 || flags & !(CURRENT | FUTURE | ONFAULT) != 0 || flags == ONFAULT {
        return err!(EINVAL);
    }
    super::mmap::refresh_lock_limits(task);
    Ok(task.mm().lock_all(flags & CURRENT != 0, flags & FUTURE != 0, flags & ONFAULT != 0)?)
}

pub(super) fn sys_munlockall(task: &mut CurrentTask) -> SysResult<()> {
    super::mmap::refresh_lock_limits(task);
    Ok(task.mm().lock_all(false, false, false)?)
}

pub(super) fn sys_mseal(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    flags: u64,
) -> SysResult<()> {
    if flags != 0 {
        return err!(EINVAL);
    }
    Ok(task.mm().seal(addr.0, len)?)
}
