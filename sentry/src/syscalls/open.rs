//! open(2) and its relatives, close(2), close_range(2).

use linux_abi::stat::OpenHow as UserOpenHow;
use zerocopy::FromBytes;

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserAddr, UserCStr, UserMemory},
    vfs::{OpenHow, close_entry, open},
};

/// `struct open_how` as it was when openat2 came.
const OPEN_HOW_SIZE: usize = size_of::<UserOpenHow>();

fn do_open(task: &mut CurrentTask, dir: Fd, path: UserCStr, how: &OpenHow) -> SysResult<Fd> {
    let path = task.mm().read_path(path)?;
    let cx = task.path_cx();
    let start =
        if how.is_scoped() { task.dir_path(&cx, dir)? } else { task.walk_start(&cx, dir, &path)? };
    let file = open(&cx, &start, &path, how)?;
    drop(cx);
    if !file.is_path() {
        file.ops().open_wait(task, &file)?;
    }
    install_fd(task, file, how.is_cloexec())
}

pub(super) fn sys_open(
    task: &mut CurrentTask,
    path: UserCStr,
    flags: u32,
    mode: u32,
) -> SysResult<Fd> {
    sys_openat(task, Fd::CWD, path, flags, mode)
}

pub(super) fn sys_openat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    flags: u32,
    mode: u32,
) -> SysResult<Fd> {
    do_open(task, dir, path, &OpenHow::open(flags, mode)?)
}

pub(super) fn sys_creat(task: &mut CurrentTask, path: UserCStr, mode: u32) -> SysResult<Fd> {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    sys_openat(task, Fd::CWD, path, flags as u32, mode)
}

/// A larger structure than ours is fine as long as what we do not know is zero (`copy_struct_from_user`).
pub(super) fn sys_openat2(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    how: UserAddr,
    size: usize,
) -> SysResult<Fd> {
    if size < OPEN_HOW_SIZE {
        return err!(EINVAL);
    }
    if size as u64 > platform::PAGE_SIZE {
        return err!(E2BIG);
    }
    let mut bytes = vec![0; size];
    task.mm().copy_in(how, &mut bytes)?;
    let (how, rest) = UserOpenHow::read_from_prefix(&bytes).map_err(|_| Errno::EINVAL)?;
    if rest.iter().any(|&byte| byte != 0) {
        return err!(E2BIG);
    }
    do_open(task, dir, path, &OpenHow::open2(how.flags, how.mode, how.resolve)?)
}

pub(super) fn sys_close(task: &mut CurrentTask, fd: Fd) -> SysResult<()> {
    let entry = task.fds().remove(fd)?;
    close_entry(task.fds(), entry);
    Ok(())
}

pub(super) fn sys_close_range(
    task: &mut CurrentTask,
    first: u32,
    last: u32,
    flags: u32,
) -> SysResult<()> {
    const UNSHARE: u32 = libc::CLOSE_RANGE_UNSHARE;
    const CLOEXEC: u32 = libc::CLOSE_RANGE_CLOEXEC;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return err!(EINVAL);
    }
    if flags & UNSHARE != 0 {
        let own = task.fds().duplicate();
        drop(task.replace_fds(own));
    }
    let inside = |fd: Fd| u32::try_from(fd.0).is_ok_and(|fd| (first..=last).contains(&fd));
    if flags & CLOEXEC != 0 {
        task.fds().set_cloexec_where(inside);
        return Ok(());
    }
    for entry in task.fds().take_where(|fd, _| inside(fd)) {
        close_entry(task.fds(), entry);
    }
    Ok(())
}
