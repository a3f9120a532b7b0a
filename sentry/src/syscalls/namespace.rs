//! unshare(2), setns(2): what there is of namespaces.

use crate::{
    SysResult, err,
    kernel::{Capability, CurrentTask},
    user::Fd,
};

const FS: u64 = libc::CLONE_FS as u64;
const FILES: u64 = libc::CLONE_FILES as u64;
const SYSVSEM: u64 = libc::CLONE_SYSVSEM as u64;
const NEWNS: u64 = libc::CLONE_NEWNS as u64;
const THREAD: u64 = libc::CLONE_THREAD as u64;
const SIGHAND: u64 = libc::CLONE_SIGHAND as u64;
const VM: u64 = libc::CLONE_VM as u64;
const CLONE_NEWTIME: u64 = 0x80;
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS) as u32 as u64
    | CLONE_NEWTIME;

pub(super) fn sys_unshare(task: &mut CurrentTask, flags: u64) -> SysResult<()> {
    const KNOWN: u64 = FS | FILES | SYSVSEM | NEWNS | THREAD | SIGHAND | VM | NAMESPACES;
    if flags & !KNOWN != 0 {
        return err!(EINVAL);
    }
    // Threads cannot part; alone there is nothing to part from.
    if flags & (THREAD | SIGHAND | VM) != 0 && task.thread_group().thread_count() > 1 {
        return err!(EINVAL);
    }
    if flags & NAMESPACES != 0 {
        return err!(EPERM);
    }
    if flags & NEWNS != 0 && !task.cred().has(Capability::SYS_ADMIN) {
        return err!(EPERM);
    }
    if flags & (FS | NEWNS) != 0 {
        let own = task.fs().duplicate();
        drop(task.replace_fs(own));
    }
    if flags & NEWNS != 0 {
        let fs = task.fs().clone();
        fs.unshare_namespace()?;
    }
    if flags & FILES != 0 {
        let own = task.fds().duplicate();
        drop(task.replace_fds(own));
    }
    Ok(())
}

/// There are no other namespaces to enter.
pub(super) fn sys_setns(task: &mut CurrentTask, fd: Fd, _kind: i32) -> SysResult<()> {
    task.file(fd)?;
    err!(EINVAL)
}
