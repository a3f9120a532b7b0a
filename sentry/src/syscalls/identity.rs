//! Who a task is: process, group and session ids (getpid(2), setpgid(2), setsid(2) …).

use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{UserAddr, UserMemory, UserRef},
};

pub(super) fn sys_getpid(task: &mut CurrentTask) -> SysResult<i32> {
    Ok(task.pid())
}

pub(super) fn sys_gettid(task: &mut CurrentTask) -> SysResult<i32> {
    Ok(task.tid())
}

pub(super) fn sys_getppid(task: &mut CurrentTask) -> SysResult<i32> {
    Ok(task.thread_group().ppid())
}

pub(super) fn sys_getpgrp(task: &mut CurrentTask) -> SysResult<i32> {
    Ok(task.thread_group().process_group_id())
}

pub(super) fn sys_getpgid(task: &mut CurrentTask, pid: i32) -> SysResult<i32> {
    if pid == 0 {
        return sys_getpgrp(task);
    }
    let target = task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?;
    Ok(target.thread_group().process_group_id())
}

pub(super) fn sys_getsid(task: &mut CurrentTask, pid: i32) -> SysResult<i32> {
    if pid == 0 {
        return Ok(task.thread_group().session_id());
    }
    let target = task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?;
    Ok(target.thread_group().session_id())
}

pub(super) fn sys_setpgid(task: &mut CurrentTask, pid: i32, pgid: i32) -> SysResult<()> {
    let own = task.pid();
    let pid = if pid == 0 { own } else { pid };
    let pgid = if pgid == 0 { pid } else { pgid };
    if pgid < 0 {
        return err!(EINVAL);
    }
    Ok(task.kernel().tasks.change_process_group(own, pid, pgid)?)
}

pub(super) fn sys_setsid(task: &mut CurrentTask) -> SysResult<i32> {
    Ok(task.kernel().tasks.start_session(task.pid())?)
}

pub(super) fn sys_set_tid_address(task: &mut CurrentTask, at: u64) -> SysResult<i32> {
    task.set_clear_child_tid(at);
    Ok(task.tid())
}

pub(super) fn sys_set_robust_list(task: &mut CurrentTask, head: u64, len: usize) -> SysResult<()> {
    const HEAD_BYTES: usize = 24;
    if len != HEAD_BYTES {
        return err!(EINVAL);
    }
    task.set_robust_list(head);
    Ok(())
}

pub(super) fn sys_get_robust_list(
    task: &mut CurrentTask,
    tid: i32,
    head: UserRef<u64>,
    len: UserRef<u64>,
) -> SysResult<()> {
    const HEAD_BYTES: u64 = 24;
    let target = if tid == 0 {
        task.task().clone()
    } else {
        task.kernel().tasks.task(tid).ok_or(Errno::ESRCH)?
    };
    if !task.may_ptrace(&target) {
        return err!(EPERM);
    }
    let value = target.robust_list();
    task.mm().write_obj(len, &HEAD_BYTES)?;
    task.mm().write_obj(head, &value)?;
    Ok(())
}

const ARCH_SET_GS: i32 = 0x1001;
const ARCH_SET_FS: i32 = 0x1002;
const ARCH_GET_FS: i32 = 0x1003;
const ARCH_GET_GS: i32 = 0x1004;
const ARCH_GET_CPUID: i32 = 0x1011;
const ARCH_SET_CPUID: i32 = 0x1012;

pub(super) fn sys_arch_prctl(task: &mut CurrentTask, code: i32, addr: u64) -> SysResult<u64> {
    let limit = task.mm().user_range().end;
    let broken = |_| Errno::EFAULT;
    match code {
        ARCH_SET_FS | ARCH_SET_GS if addr >= limit => err!(EPERM),
        ARCH_SET_FS => {
            task.context().registers().map_err(broken)?.fs_base = addr;
            Ok(0)
        }
        ARCH_SET_GS => {
            task.context().registers().map_err(broken)?.gs_base = addr;
            Ok(0)
        }
        ARCH_GET_FS | ARCH_GET_GS => {
            let regs = task.context().registers().map_err(broken)?;
            let base = if code == ARCH_GET_FS { regs.fs_base } else { regs.gs_base };
            task.mm().write_obj(UserAddr(addr).as_ref::<u64>(), &base)?;
            Ok(0)
        }
        ARCH_GET_CPUID => Ok(1),
        ARCH_SET_CPUID => err!(ENODEV),
        _ => err!(EINVAL),
    }
}
