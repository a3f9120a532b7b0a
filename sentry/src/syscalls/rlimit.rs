//! Limits and usage (getrlimit(2), prlimit(2), getrusage(2), times(2)).

use std::sync::atomic::Ordering;

use linux_abi::{
    process::{Rlimit, Rusage, Tms},
    time::Timeval,
};

use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CpuTimes, CurrentTask, Task, limits},
    user::{UserMemory, UserRef},
};

/// `fs.nr_open`: the most RLIMIT_NOFILE can be.
const NR_OPEN: u64 = 1 << 20;

fn check(resource: u32) -> SysResult<u32> {
    if (resource as usize) < limits::COUNT { Ok(resource) } else { err!(EINVAL) }
}

pub(super) fn sys_getrlimit(
    task: &mut CurrentTask,
    resource: u32,
    at: UserRef<Rlimit>,
) -> SysResult<()> {
    let limit = task.thread_group().limits().get(check(resource)?);
    task.mm().write_obj(at, &limit)?;
    Ok(())
}

pub(super) fn sys_setrlimit(
    task: &mut CurrentTask,
    resource: u32,
    at: UserRef<Rlimit>,
) -> SysResult<()> {
    let new = task.mm().read_obj(at)?;
    let target = task.task().clone();
    set(task, &target, check(resource)?, new)
}

pub(super) fn sys_prlimit64(
    task: &mut CurrentTask,
    pid: i32,
    resource: u32,
    new: UserRef<Rlimit>,
    old: UserRef<Rlimit>,
) -> SysResult<()> {
    let resource = check(resource)?;
    let new = match new.non_null() {
        Some(at) => Some(task.mm().read_obj(at)?),
        None => None,
    };
    let target = match pid {
        0 => task.task().clone(),
        pid => task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?,
    };
    if !may_limit(task, &target) {
        return err!(EPERM);
    }
    let before = target.thread_group().limits().get(resource);
    if let Some(new) = new {
        set(task, &target, resource, new)?;
    }
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &before)?;
    }
    Ok(())
}

/// `check_prlimit_permission`.
fn may_limit(task: &CurrentTask, target: &Task) -> bool {
    if target.pid() == task.pid() || task.cred().has(Capability::SYS_RESOURCE) {
        return true;
    }
    let (own, other) = (task.cred(), target.cred());
    [other.uid, other.euid, other.suid].iter().all(|&uid| uid == own.uid)
        && [other.gid, other.egid, other.sgid].iter().all(|&gid| gid == own.gid)
}

fn set(task: &CurrentTask, target: &Task, resource: u32, new: Rlimit) -> SysResult<()> {
    if new.cur > new.max {
        return err!(EINVAL);
    }
    let group = target.thread_group();
    let before = group.limits().get(resource);
    if resource == libc::RLIMIT_NOFILE && new.max > NR_OPEN {
        return err!(EPERM);
    }
    if new.max > before.max && !task.cred().has(Capability::SYS_RESOURCE) {
        return err!(EPERM);
    }
    group.limits().set(resource, new);
    if let Some(mm) = target.memory() {
        let limits = mm.limits();
        let to = match resource {
            libc::RLIMIT_AS => Some(&limits.address_space),
            libc::RLIMIT_DATA => Some(&limits.data),
            libc::RLIMIT_STACK => Some(&limits.stack),
            libc::RLIMIT_MEMLOCK => Some(&limits.memlock),
            _ => None,
        };
        if let Some(to) = to {
            to.store(new.cur, Ordering::Relaxed);
        }
    }
    if resource == libc::RLIMIT_CPU {
        group.limit_cpu_time();
    }
    Ok(())
}

fn usage(times: CpuTimes, max_rss: i64) -> Rusage {
    Rusage {
        utime: Timeval::from_ns(times.user_ns),
        stime: Timeval::from_ns(times.system_ns),
        maxrss: max_rss,
        ..Rusage::default()
    }
}

pub(super) fn sys_getrusage(
    task: &mut CurrentTask,
    who: i32,
    at: UserRef<Rusage>,
) -> SysResult<()> {
    let group = task.thread_group();
    group.note_memory(task.mm());
    let found = match who {
        libc::RUSAGE_SELF => group.usage(),
        libc::RUSAGE_CHILDREN => usage(group.child_cpu_times(), group.child_max_rss()),
        libc::RUSAGE_THREAD => usage(task.cpu_times(), group.usage().maxrss),
        _ => return err!(EINVAL),
    };
    task.mm().write_obj(at, &found)?;
    Ok(())
}

pub(super) fn sys_times(task: &mut CurrentTask, at: UserRef<Tms>) -> SysResult<i64> {
    const NS_PER_TICK: u64 = 10_000_000;
    let ticks = |ns: u64| (ns / NS_PER_TICK) as i64;
    if let Some(at) = at.non_null() {
        let (own, children) =
            (task.thread_group().cpu_times(), task.thread_group().child_cpu_times());
        let times = Tms {
            utime: ticks(own.user_ns),
            stime: ticks(own.system_ns),
            cutime: ticks(children.user_ns),
            cstime: ticks(children.system_ns),
        };
        task.mm().write_obj(at, &times)?;
    }
    Ok(ticks(task.kernel().clocks.monotonic().0))
}
