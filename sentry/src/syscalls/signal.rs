//! Signals (kill(2), sigaction(2), sigprocmask(2), sigaltstack(2) …).

use linux_abi::{
    SigInfo, SigSet, Signal,
    signal::{SigAction, SigStack, sa, si_code},
};

use super::Outcome;
use crate::{
    Errno, Restart, SysResult, err,
    kernel::{
        CurrentTask, Task,
        signal::{Sent, may_kill},
    },
    user::{UserMemory, UserRef},
};

const SIGSET_BYTES: usize = 8;

fn signal_or_none(number: i32) -> SysResult<Option<Signal>> {
    match number {
        0 => Ok(None),
        number => Ok(Some(Signal::new(number).ok_or(Errno::EINVAL)?)),
    }
}

pub(super) fn sys_rt_sigaction(
    task: &mut CurrentTask,
    signal: i32,
    new: UserRef<SigAction>,
    old: UserRef<SigAction>,
    size: usize,
) -> SysResult<()> {
    if size != SIGSET_BYTES {
        return err!(EINVAL);
    }
    let new = match new.non_null() {
        Some(at) => Some(task.mm().read_obj(at)?),
        None => None,
    };
    let signal = Signal::new(signal).ok_or(Errno::EINVAL)?;
    if new.is_some() && SigSet::UNBLOCKABLE.contains(signal) {
        return err!(EINVAL);
    }
    let group = task.thread_group().clone();
    let handlers = group.handlers();
    let before = match new {
        None => handlers.get(signal),
        Some(mut action) => {
            action.flags &= sa::KNOWN;
            let before = handlers.set(signal, action);
            if handlers.ignores(signal) {
                group.forget_signal(signal);
            }
            before
        }
    };
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &before)?;
    }
    Ok(())
}

pub(super) fn sys_rt_sigprocmask(
    task: &mut CurrentTask,
    how: i32,
    new: UserRef<SigSet>,
    old: UserRef<SigSet>,
    size: usize,
) -> SysResult<()> {
    if size != SIGSET_BYTES {
        return err!(EINVAL);
    }
    let before = task.blocked();
    if let Some(at) = new.non_null() {
        let set = task.mm().read_obj(at)?;
        let blocked = match how {
            libc::SIG_BLOCK => before.union(set),
            libc::SIG_UNBLOCK => before.minus(set),
            libc::SIG_SETMASK => set,
            _ => return err!(EINVAL),
        };
        task.set_blocked(blocked.minus(SigSet::UNBLOCKABLE));
    }
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &before)?;
    }
    Ok(())
}

pub(super) fn sys_rt_sigreturn(task: &mut CurrentTask) -> SysResult<Outcome> {
    task.signal_return()
}

/// Called by the kernel only: goes on with what a signal interrupted.
pub(super) fn sys_restart_syscall(task: &mut CurrentTask) -> SysResult<Outcome> {
    match task.take_restart_block() {
        Some(block) => block(task),
        None => err!(EINTR),
    }
}

pub(super) fn sys_sigaltstack(
    task: &mut CurrentTask,
    new: UserRef<SigStack>,
    old: UserRef<SigStack>,
) -> SysResult<()> {
    let sp = task.context().registers().map_err(|_| Errno::EFAULT)?.rsp;
    let before = task.reported_alt_stack(sp);
    if let Some(at) = new.non_null() {
        let stack = task.mm().read_obj(at)?;
        task.set_alt_stack(stack, sp)?;
    }
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &before)?;
    }
    Ok(())
}

pub(super) fn sys_rt_sigpending(
    task: &mut CurrentTask,
    set: UserRef<SigSet>,
    size: usize,
) -> SysResult<()> {
    if size > SIGSET_BYTES {
        return err!(EINVAL);
    }
    let (own, group) = task.pending_signals();
    let pending = own.union(group).intersection(task.blocked());
    let bytes = pending.0.to_ne_bytes();
    task.mm().copy_out(set.addr(), bytes.get(..size).unwrap_or_default())?;
    Ok(())
}

pub(super) fn sys_rt_sigsuspend(
    task: &mut CurrentTask,
    set: UserRef<SigSet>,
    size: usize,
) -> SysResult<()> {
    if size != SIGSET_BYTES {
        return err!(EINVAL);
    }
    let mask = task.mm().read_obj(set)?;
    task.set_temporary_mask(mask);
    pause(task)
}

pub(super) fn sys_pause(task: &mut CurrentTask) -> SysResult<()> {
    pause(task)
}

fn pause(task: &mut CurrentTask) -> SysResult<()> {
    task.waker().prepare();
    while task.sleep(None) != crate::kernel::SleepEnd::Interrupted {
        task.waker().prepare();
    }
    Err(Restart::NoHandler.into())
}

pub(super) fn sys_kill(task: &mut CurrentTask, pid: i32, signal: i32) -> SysResult<()> {
    let sender = task.task().clone();
    let tasks = &task.kernel().tasks;
    if pid == i32::MIN {
        return err!(ESRCH);
    }
    let signal = signal_or_none(signal)?;
    let (own, uid) = (sender.pid(), sender.cred().uid);
    let info = signal.map(|signal| SigInfo::from_user(signal, si_code::USER, own, uid));
    let may = |target: &Task| may_kill(&sender, target, signal);
    let sent = match pid {
        -1 => tasks.signal_all(&[1, own], info, may),
        0 => tasks.signal_group(sender.thread_group().process_group_id(), info, may),
        pid if pid < 0 => tasks.signal_group(-pid, info, may),
        pid => {
            // The id of any thread stands for its process.
            let target = tasks.task(pid).ok_or(Errno::ESRCH)?;
            let leader = target.thread_group().leader().ok_or(Errno::ESRCH)?;
            if !may(&leader) {
                return err!(EPERM);
            }
            return Ok(info.map_or(Ok(()), |info| target.thread_group().send_signal(info))?);
        }
    };
    match sent {
        Sent { sent: true, .. } => Ok(()),
        Sent { refused: true, .. } => err!(EPERM),
        _ => err!(ESRCH),
    }
}

pub(super) fn sys_tkill(task: &mut CurrentTask, tid: i32, signal: i32) -> SysResult<()> {
    if tid <= 0 {
        return err!(EINVAL);
    }
    send_to_thread(task, None, tid, signal, None)
}

pub(super) fn sys_tgkill(
    task: &mut CurrentTask,
    tgid: i32,
    tid: i32,
    signal: i32,
) -> SysResult<()> {
    if tid <= 0 || tgid <= 0 {
        return err!(EINVAL);
    }
    send_to_thread(task, Some(tgid), tid, signal, None)
}

fn send_to_thread(
    task: &CurrentTask,
    tgid: Option<i32>,
    tid: i32,
    signal: i32,
    info: Option<SigInfo>,
) -> SysResult<()> {
    let target = task.kernel().tasks.task(tid).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|tgid| target.pid() != tgid) {
        return err!(ESRCH);
    }
    let signal = signal_or_none(signal)?;
    if !may_kill(task.task(), &target, signal) {
        return err!(EPERM);
    }
    if let Some(signal) = signal {
        let info = info.unwrap_or_else(|| {
            SigInfo::from_user(signal, si_code::TKILL, task.pid(), task.cred_ref().uid)
        });
        if target.is_exited() {
            return Ok(());
        }
        target.send_signal(info)?;
    }
    Ok(())
}

/// Reads the details a process sends along: only it itself may pretend they come from the kernel
/// or from `kill`.
fn read_info(
    task: &CurrentTask,
    at: UserRef<SigInfo>,
    signal: i32,
    target: i32,
) -> SysResult<SigInfo> {
    let mut info = task.mm().read_obj(at)?;
    info.signo = signal;
    if (info.code >= 0 || info.code == si_code::TKILL) && target != task.pid() {
        return err!(EPERM);
    }
    Ok(info)
}

pub(super) fn sys_rt_sigqueueinfo(
    task: &mut CurrentTask,
    pid: i32,
    signal: i32,
    info: UserRef<SigInfo>,
) -> SysResult<()> {
    let info = read_info(task, info, signal, pid)?;
    let signal = signal_or_none(signal)?;
    let target = task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?;
    if !may_kill(task.task(), &target, signal) {
        return err!(EPERM);
    }
    if signal.is_some() {
        target.thread_group().send_signal(info)?;
    }
    Ok(())
}

pub(super) fn sys_rt_tgsigqueueinfo(
    task: &mut CurrentTask,
    tgid: i32,
    tid: i32,
    signal: i32,
    info: UserRef<SigInfo>,
) -> SysResult<()> {
    if tid <= 0 || tgid <= 0 {
        return err!(EINVAL);
    }
    let info = read_info(task, info, signal, tgid)?;
    send_to_thread(task, Some(tgid), tid, signal, Some(info))
}

pub(super) fn sys_rt_sigtimedwait(
    task: &mut CurrentTask,
    set: UserRef<SigSet>,
    info: UserRef<SigInfo>,
    timeout: UserRef<linux_abi::time::Timespec>,
    size: usize,
) -> SysResult<i32> {
    if size != SIGSET_BYTES {
        return err!(EINVAL);
    }
    let wanted = task.mm().read_obj(set)?.minus(SigSet::UNBLOCKABLE);
    let deadline = match timeout.non_null() {
        None => None,
        Some(at) => {
            let ns = task.mm().read_obj(at)?.to_ns().ok_or(Errno::EINVAL)?;
            Some(task.kernel().clocks.monotonic().after(ns))
        }
    };
    let (signal, found) = task.wait_for_signal(wanted, deadline)?;
    if let Some(at) = info.non_null() {
        task.mm().write_obj(at, &found)?;
    }
    Ok(signal.number())
}
