//! pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2), kcmp(2), process_mrelease(2).

use std::sync::Arc;

use linux_abi::{SigInfo, Signal, signal::si_code};

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    fs::proc::process_of,
    kernel::{
        CurrentTask, Task,
        pidfd::{PIDFD_THREAD, PidFd},
        signal::may_kill,
    },
    user::{Fd, UserMemory, UserRef},
};

pub(super) fn sys_pidfd_open(task: &mut CurrentTask, pid: i32, flags: u32) -> SysResult<Fd> {
    const NONBLOCK: u32 = libc::O_NONBLOCK as u32;
    if flags & !(NONBLOCK | PIDFD_THREAD) != 0 || pid <= 0 {
        return err!(EINVAL);
    }
    let target = task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?;
    let thread = flags & PIDFD_THREAD != 0;
    if !thread && !target.is_leader() {
        return err!(ENOENT);
    }
    Ok(task.install_pidfd_with(&target, thread, flags & NONBLOCK != 0)?)
}

pub(super) fn sys_pidfd_send_signal(
    task: &mut CurrentTask,
    fd: Fd,
    signal: i32,
    info: UserRef<SigInfo>,
    flags: u32,
) -> SysResult<()> {
    const TO_THREAD: u32 = 1;
    const TO_PROCESS: u32 = 2;
    const TO_GROUP: u32 = 4;
    if !matches!(flags, 0 | TO_THREAD | TO_PROCESS | TO_GROUP) {
        return err!(EINVAL);
    }
    let file = task.fds().get(fd)?;
    let pidfd = file.ops_as::<PidFd>();
    let target = match pidfd {
        Some(pidfd) if pidfd.is_gone() => return err!(ESRCH),
        Some(pidfd) => pidfd.task().clone(),
        // A directory of procfs, from before there were pidfds, will do.
        None => process_of(&file).ok_or(Errno::EBADF)??,
    };
    let wanted = match signal {
        0 => None,
        signal => Some(Signal::new(signal).ok_or(Errno::EINVAL)?),
    };
    let details = match info.non_null() {
        None => None,
        Some(at) => {
            let info = task.mm().read_obj(at)?;
            if info.signo != signal {
                return err!(EINVAL);
            }
            let forged = info.code >= 0 || info.code == si_code::TKILL;
            if forged && target.pid() != task.pid() {
                return err!(EPERM);
            }
            Some(info)
        }
    };
    if !may_kill(task.task(), &target, wanted) {
        return err!(EPERM);
    }
    let Some(wanted) = wanted else { return Ok(()) };
    let (pid, uid) = (task.pid(), task.cred().uid);
    let details = details.unwrap_or_else(|| SigInfo::from_user(wanted, si_code::USER, pid, uid));
    match flags {
        TO_GROUP => {
            let pgid = target.thread_group().process_group_id();
            task.kernel().tasks.signal_group(pgid, Some(details), |_| true);
        }
        TO_THREAD => target.send_signal(details)?,
        0 if pidfd.is_some_and(PidFd::is_thread) => target.send_signal(details)?,
        _ => target.thread_group().send_signal(details)?,
    }
    Ok(())
}

pub(super) fn sys_pidfd_getfd(
    task: &mut CurrentTask,
    pidfd: Fd,
    fd: Fd,
    flags: u32,
) -> SysResult<Fd> {
    if flags != 0 {
        return err!(EINVAL);
    }
    let file = task.file(pidfd)?;
    let target = file.ops_as::<PidFd>().ok_or(Errno::EBADF)?.task().clone();
    if !task.may_ptrace(&target) {
        return err!(EPERM);
    }
    let found = target.fd_table().ok_or(Errno::ESRCH)?.get_any(fd)?;
    install_fd(task, found, true)
}

fn find(task: &CurrentTask, pid: i32) -> SysResult<Arc<Task>> {
    Ok(task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?)
}

pub(super) fn sys_kcmp(
    task: &mut CurrentTask,
    pid1: i32,
    pid2: i32,
    kind: i32,
    index1: u64,
    index2: u64,
) -> SysResult<i32> {
    const FILE: i32 = 0;
    const VM: i32 = 1;
    const FILES: i32 = 2;
    const FS: i32 = 3;
    const SIGHAND: i32 = 4;
    const IO: i32 = 5;
    const SYSVSEM: i32 = 6;
    let (one, two) = (find(task, pid1)?, find(task, pid2)?);
    if !task.may_ptrace(&one) || !task.may_ptrace(&two) {
        return err!(EPERM);
    }
    let gone = Errno::ESRCH;
    let addresses = match kind {
        FILE => {
            let file = |of: &Task, index: u64| -> SysResult<usize> {
                let fd = Fd(i32::try_from(index).map_err(|_| Errno::EBADF)?);
                Ok(of.fd_table().ok_or(gone)?.get_any(fd)?.id() as usize)
            };
            (file(&one, index1)?, file(&two, index2)?)
        }
        VM => (
            Arc::as_ptr(&one.memory().ok_or(gone)?) as usize,
            Arc::as_ptr(&two.memory().ok_or(gone)?) as usize,
        ),
        FILES => (
            Arc::as_ptr(&one.fd_table().ok_or(gone)?) as usize,
            Arc::as_ptr(&two.fd_table().ok_or(gone)?) as usize,
        ),
        FS => (
            Arc::as_ptr(&one.fs_context().ok_or(gone)?) as usize,
            Arc::as_ptr(&two.fs_context().ok_or(gone)?) as usize,
        ),
        SIGHAND => (
            Arc::as_ptr(&one.thread_group().handlers()) as usize,
            Arc::as_ptr(&two.thread_group().handlers()) as usize,
        ),
        IO | SYSVSEM => (0, 0),
        _ => return err!(EINVAL),
    };
    Ok(match addresses.0.cmp(&addresses.1) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Greater => 2,
    })
}
