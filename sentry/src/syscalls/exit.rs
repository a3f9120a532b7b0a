//! exit(2), exit_group(2), wait4(2), waitid(2).

use linux_abi::{SigInfo, process::Rusage};

use super::Outcome;
use crate::{
    SysResult, err,
    kernel::{CurrentTask, WaitKind, WaitRequest, WaitTarget},
    user::{Fd, UserMemory, UserRef},
};

const WALL: u32 = libc::__WALL as u32;
const WCLONE: u32 = libc::__WCLONE as u32;
const WNOTHREAD: u32 = libc::__WNOTHREAD as u32;
const WNOHANG: u32 = libc::WNOHANG as u32;
const WUNTRACED: u32 = libc::WUNTRACED as u32;
const WEXITED: u32 = libc::WEXITED as u32;
const WCONTINUED: u32 = libc::WCONTINUED as u32;
const WNOWAIT: u32 = libc::WNOWAIT as u32;

pub(super) fn sys_exit(task: &mut CurrentTask, code: i32) -> SysResult<Outcome> {
    Ok(task.exit_thread(code))
}

pub(super) fn sys_exit_group(task: &mut CurrentTask, code: i32) -> SysResult<Outcome> {
    Ok(task.exit_group(code))
}

fn request(target: WaitTarget, options: u32) -> WaitRequest {
    WaitRequest {
        target,
        kind: if options & WALL != 0 {
            WaitKind::All
        } else if options & WCLONE != 0 {
            WaitKind::Clone
        } else {
            WaitKind::Normal
        },
        exited: options & WEXITED != 0,
        stopped: options & WUNTRACED != 0,
        continued: options & WCONTINUED != 0,
        keep: options & WNOWAIT != 0,
        no_hang: options & WNOHANG != 0,
        own_thread_only: options & WNOTHREAD != 0,
    }
}

pub(super) fn sys_wait4(
    task: &mut CurrentTask,
    pid: i32,
    status: UserRef<i32>,
    options: u32,
    usage: UserRef<Rusage>,
) -> SysResult<i32> {
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL) != 0 {
        return err!(EINVAL);
    }
    let target = match pid {
        i32::MIN => return err!(ESRCH),
        -1 => WaitTarget::Any,
        0 => WaitTarget::Group(task.thread_group().process_group_id()),
        pid if pid < 0 => WaitTarget::Group(-pid),
        pid => WaitTarget::Pid(pid),
    };
    let Some(found) = task.wait_for_child(&request(target, options | WEXITED))? else {
        return Ok(0);
    };
    if let Some(status) = status.non_null() {
        task.mm().write_obj(status, &found.wait_status)?;
    }
    if let Some(usage) = usage.non_null() {
        task.mm().write_obj(usage, &found.usage)?;
    }
    Ok(found.pid)
}

pub(super) fn sys_waitid(
    task: &mut CurrentTask,
    which: i32,
    id: i32,
    info: UserRef<SigInfo>,
    options: u32,
    usage: UserRef<Rusage>,
) -> SysResult<()> {
    const KNOWN: u32 =
        WNOHANG | WNOWAIT | WEXITED | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL;
    if options & !KNOWN != 0 || options & (WEXITED | WUNTRACED | WCONTINUED) == 0 {
        return err!(EINVAL);
    }
    let mut no_hang = options & WNOHANG != 0;
    let mut is_nonblocking_pidfd = false;
    let target = match which as u32 {
        libc::P_ALL => WaitTarget::Any,
        libc::P_PID if id > 0 => WaitTarget::Pid(id),
        libc::P_PGID if id > 0 => WaitTarget::Group(id),
        libc::P_PGID if id == 0 => WaitTarget::Group(task.thread_group().process_group_id()),
        libc::P_PIDFD if id >= 0 => {
            let (pid, nonblocking) = task.pidfd_process(Fd(id))?;
            is_nonblocking_pidfd = nonblocking && !no_hang;
            no_hang |= nonblocking;
            WaitTarget::Pid(pid)
        }
        _ => return err!(EINVAL),
    };
    let mut request = request(target, options);
    request.no_hang = no_hang;
    let found = task.wait_for_child(&request)?;
    if found.is_none() && is_nonblocking_pidfd {
        return err!(EAGAIN);
    }
    if let (Some(usage), Some(found)) = (usage.non_null(), &found) {
        task.mm().write_obj(usage, &found.usage)?;
    }
    if let Some(at) = info.non_null() {
        let mut bytes = task.mm().read_obj(at)?;
        match found {
            Some(found) => {
                let filled = SigInfo::child(found.code, found.pid, found.uid, found.status, 0, 0);
                bytes.take_wait_fields(&filled);
            }
            None => bytes.take_wait_fields(&SigInfo::empty()),
        }
        task.mm().write_obj(at, &bytes)?;
    }
    Ok(())
}
