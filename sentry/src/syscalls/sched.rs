//! Scheduling (sched(7)). The host schedules as it likes; what a guest sets is checked and kept.

use std::sync::{Arc, atomic::Ordering};

use linux_abi::time::Timespec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::clone::read_extensible;
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask, Task},
    user::{UserAddr, UserMemory, UserRef},
};

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_BATCH: u32 = 3;
const SCHED_IDLE: u32 = 5;
const SCHED_DEADLINE: u32 = 6;
const RESET_ON_FORK: u32 = 0x4000_0000;

fn target(task: &CurrentTask, pid: i32) -> SysResult<Arc<Task>> {
    match pid {
        pid if pid < 0 => err!(EINVAL),
        0 => Ok(task.task().clone()),
        pid => Ok(task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?),
    }
}

/// As `target`, for the calls where a negative id is only one that nobody has.
fn affinity_target(task: &CurrentTask, pid: i32) -> SysResult<Arc<Task>> {
    if pid < 0 { err!(ESRCH) } else { target(task, pid) }
}

/// The owner of a task, or who may do anything.
fn owns(task: &CurrentTask, target: &Task) -> bool {
    let (own, other) = (task.cred(), target.cred());
    own.euid == other.euid || own.euid == other.uid || own.has(Capability::SYS_NICE)
}

pub(super) fn sys_sched_yield(task: &mut CurrentTask) -> SysResult<()> {
    task.give_up_virtual_processor();
    std::thread::yield_now();
    Ok(())
}

/// Bytes of an affinity mask: whole words.
fn mask_bytes() -> usize {
    platform::host::cpu_count().div_ceil(64) * 8
}

fn all_cpus() -> Vec<u64> {
    let count = platform::host::cpu_count();
    (0..count.div_ceil(64))
        .map(|word| match count - word * 64 {
            left if left >= 64 => u64::MAX,
            left => (1 << left) - 1,
        })
        .collect()
}

pub(super) fn sys_sched_getaffinity(
    task: &mut CurrentTask,
    pid: i32,
    len: u32,
    mask: UserAddr,
) -> SysResult<usize> {
    let bytes = mask_bytes();
    // Bits are counted in 32 bits, however many that makes.
    if (len.wrapping_mul(8) as usize) < platform::host::cpu_count() || len & 7 != 0 {
        return err!(EINVAL);
    }
    let set = affinity_target(task, pid)?.affinity().unwrap_or_else(|| all_cpus().into());
    let count = bytes.min(len as usize);
    task.mm().copy_out(mask, set.as_bytes().get(..count).unwrap_or_default())?;
    Ok(count)
}

pub(super) fn sys_sched_setaffinity(
    task: &mut CurrentTask,
    pid: i32,
    len: u32,
    mask: UserAddr,
) -> SysResult<()> {
    let mut bytes = vec![0; mask_bytes()];
    let count = bytes.len().min(len as usize);
    task.mm().copy_in(mask, bytes.get_mut(..count).unwrap_or_default())?;
    let target = affinity_target(task, pid)?;
    if !owns(task, &target) {
        return err!(EPERM);
    }
    let wanted: Vec<u64> = bytes
        .chunks_exact(8)
        .zip(all_cpus())
        .map(|(bytes, all)| bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)) & all)
        .collect();
    if wanted.iter().all(|&word| word == 0) {
        return err!(EINVAL);
    }
    target.set_affinity(wanted.into());
    if task.kernel().has_rseq() {
        target.make_rseq_due();
        if !Arc::ptr_eq(&target, task.task()) {
            target.wait_for_exit_from_guest(task);
        }
    }
    Ok(())
}

fn priority_range(policy: u32) -> SysResult<(i32, i32)> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok((1, 99)),
        SCHED_OTHER | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok((0, 0)),
        _ => err!(EINVAL),
    }
}

pub(super) fn sys_sched_get_priority_max(_: &mut CurrentTask, policy: u32) -> SysResult<i32> {
    Ok(priority_range(policy)?.1)
}

pub(super) fn sys_sched_get_priority_min(_: &mut CurrentTask, policy: u32) -> SysResult<i32> {
    Ok(priority_range(policy)?.0)
}

pub(super) fn sys_sched_getscheduler(task: &mut CurrentTask, pid: i32) -> SysResult<u32> {
    Ok(target(task, pid)?.scheduling().0)
}

pub(super) fn sys_sched_getparam(
    task: &mut CurrentTask,
    pid: i32,
    param: UserRef<i32>,
) -> SysResult<()> {
    if param.is_null() {
        return err!(EINVAL);
    }
    let priority = target(task, pid)?.scheduling().1;
    task.mm().write_obj(param, &priority)?;
    Ok(())
}

pub(super) fn sys_sched_setscheduler(
    task: &mut CurrentTask,
    pid: i32,
    policy: i32,
    param: UserRef<i32>,
) -> SysResult<()> {
    if policy < 0 || param.is_null() {
        return err!(EINVAL);
    }
    let priority = task.mm().read_obj(param)?;
    set(task, pid, policy as u32, priority, None)
}

pub(super) fn sys_sched_setparam(
    task: &mut CurrentTask,
    pid: i32,
    param: UserRef<i32>,
) -> SysResult<()> {
    if param.is_null() {
        return err!(EINVAL);
    }
    let priority = task.mm().read_obj(param)?;
    let policy = target(task, pid)?.scheduling().0;
    set(task, pid, policy, priority, None)
}

/// `__sched_setscheduler`'s rules.
fn set(
    task: &CurrentTask,
    pid: i32,
    policy: u32,
    priority: i32,
    nice: Option<i32>,
) -> SysResult<()> {
    let kind = policy & !RESET_ON_FORK;
    if kind == SCHED_DEADLINE {
        // Its parameters cannot be promised.
        return err!(EPERM);
    }
    let (low, high) = priority_range(kind)?;
    if !(low..=high).contains(&priority) {
        return err!(EINVAL);
    }
    let target = target(task, pid)?;
    let (old_policy, old_priority) = target.scheduling();
    if !task.cred().has(Capability::SYS_NICE) {
        if !owns(task, &target) {
            return err!(EPERM);
        }
        let limit = target.rlimit(libc::RLIMIT_RTPRIO).0;
        let raises = priority > old_priority && priority as u64 > limit;
        let becomes_rt = kind != old_policy & !RESET_ON_FORK && high > 0 && limit == 0;
        let clears_reset = old_policy & RESET_ON_FORK != 0 && policy & RESET_ON_FORK == 0;
        if (high > 0 && (raises || becomes_rt)) || clears_reset {
            return err!(EPERM);
        }
        if let Some(nice) = nice
            && nice < target.nice()
            && !may_lower(&target, nice)
        {
            return err!(EPERM);
        }
    }
    target.set_scheduling(policy, priority);
    if let Some(nice) = nice {
        target.set_nice(nice);
    }
    Ok(())
}

pub(super) fn sys_sched_rr_get_interval(
    task: &mut CurrentTask,
    pid: i32,
    at: UserRef<Timespec>,
) -> SysResult<()> {
    const RR_SLICE_NS: u64 = 100_000_000;
    const FAIR_SLICE_NS: u64 = 4_000_000;
    let slice = match target(task, pid)?.scheduling().0 & !RESET_ON_FORK {
        SCHED_FIFO => 0,
        SCHED_RR => RR_SLICE_NS,
        _ => FAIR_SLICE_NS,
    };
    task.mm().write_obj(at, &Timespec::from_ns(slice))?;
    Ok(())
}

/// `struct sched_attr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

const ATTR_SIZE_MIN: u32 = 48;

pub(super) fn sys_sched_setattr(
    task: &mut CurrentTask,
    pid: i32,
    at: UserRef<SchedAttr>,
    flags: u32,
) -> SysResult<()> {
    const FLAG_RESET_ON_FORK: u64 = 1;
    const FLAG_KEEP_POLICY: u64 = 8;
    const FLAG_KEEP_PARAMS: u64 = 0x10;
    const KNOWN: u64 = 0x7f;
    if at.is_null() || pid < 0 || flags != 0 {
        return err!(EINVAL);
    }
    let size: u32 = task.mm().read_obj(UserRef::new(at.addr().0))?;
    let size = if size == 0 { ATTR_SIZE_MIN } else { size };
    if !(ATTR_SIZE_MIN..=4096).contains(&size) {
        return err!(E2BIG);
    }
    let attr: SchedAttr = read_extensible(task, at.addr(), size as usize)?;
    if attr.flags & !KNOWN != 0 {
        return err!(EINVAL);
    }
    let (old_policy, old_priority) = target(task, pid)?.scheduling();
    let mut policy = if attr.flags & FLAG_KEEP_POLICY != 0 { old_policy } else { attr.policy };
    if attr.flags & FLAG_RESET_ON_FORK != 0 {
        policy |= RESET_ON_FORK;
    }
    let keep = attr.flags & FLAG_KEEP_PARAMS != 0;
    let priority = if keep {
        old_priority
    } else {
        i32::try_from(attr.priority).map_err(|_| Errno::EINVAL)?
    };
    let nice = (!keep && matches!(policy & !RESET_ON_FORK, SCHED_OTHER | SCHED_BATCH))
        .then_some(attr.nice.clamp(-20, 19));
    set(task, pid, policy, priority, nice)
}

pub(super) fn sys_sched_getattr(
    task: &mut CurrentTask,
    pid: i32,
    at: UserRef<SchedAttr>,
    size: u32,
    flags: u32,
) -> SysResult<()> {
    if at.is_null() || pid < 0 || !(ATTR_SIZE_MIN..=4096).contains(&size) || flags != 0 {
        return err!(EINVAL);
    }
    let target = target(task, pid)?;
    let (policy, priority) = target.scheduling();
    let attr = SchedAttr {
        size: size.min(size_of::<SchedAttr>() as u32),
        policy: policy & !RESET_ON_FORK,
        flags: u64::from(policy & RESET_ON_FORK != 0),
        nice: target.nice(),
        priority: priority as u32,
        util_max: 1024,
        ..SchedAttr::default()
    };
    let bytes = attr.as_bytes();
    task.mm().copy_out(at.addr(), bytes.get(..attr.size as usize).unwrap_or(bytes))?;
    Ok(())
}

/// RLIMIT_NICE allows a nice value of `20 - limit` and above.
fn may_lower(target: &Task, nice: i32) -> bool {
    let limit = target.rlimit(libc::RLIMIT_NICE).0;
    20_i64.saturating_sub(i64::from(nice)) <= i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The tasks getpriority and setpriority are about.
fn priority_targets(task: &CurrentTask, which: i32, who: i32) -> SysResult<Vec<Arc<Task>>> {
    let tasks = &task.kernel().tasks;
    let all_threads = |groups: Vec<Arc<crate::kernel::ThreadGroup>>| {
        groups.iter().flat_map(|group| group.threads()).collect()
    };
    Ok(match which as u32 {
        libc::PRIO_PROCESS => match who {
            0 => vec![task.task().clone()],
            pid => tasks.task(pid).into_iter().collect(),
        },
        libc::PRIO_PGRP => all_threads(tasks.process_group(match who {
            0 => task.thread_group().process_group_id(),
            pgid => pgid,
        })),
        libc::PRIO_USER => {
            let uid = if who == 0 { task.cred().uid } else { who as u32 };
            let mut all: Vec<Arc<Task>> = all_threads(tasks.processes());
            all.retain(|task| task.cred().uid == uid);
            all
        }
        _ => return err!(EINVAL),
    })
}

pub(super) fn sys_getpriority(task: &mut CurrentTask, which: i32, who: i32) -> SysResult<i32> {
    let targets = priority_targets(task, which, who)?;
    let lowest = targets.iter().map(|task| task.nice()).min().ok_or(Errno::ESRCH)?;
    Ok(20 - lowest)
}

pub(super) fn sys_setpriority(
    task: &mut CurrentTask,
    which: i32,
    who: i32,
    nice: i32,
) -> SysResult<()> {
    let nice = nice.clamp(-20, 19);
    let targets = priority_targets(task, which, who)?;
    if targets.is_empty() {
        return err!(ESRCH);
    }
    let mut result = Ok(());
    for target in targets {
        if !owns(task, &target) {
            result = err!(EPERM);
        } else if nice < target.nice()
            && !may_lower(&target, nice)
            && !task.cred().has(Capability::SYS_NICE)
        {
            result = err!(EACCES);
        } else {
            target.set_nice(nice);
        }
    }
    result
}

const IOPRIO_CLASS_SHIFT: i32 = 13;
/// Classes (`include/uapi/linux/ioprio.h`). What a thread that set none has depends on its nice value.
const IOPRIO_CLASS_RT: i32 = 1;
const IOPRIO_CLASS_BE: i32 = 2;
const IOPRIO_CLASS_IDLE: i32 = 3;
const IOPRIO_LEVEL_MASK: i32 = 7;

/// Of getpriority's numbers; `IOPRIO_WHO_PROCESS` is 1.
fn ioprio_targets(task: &CurrentTask, which: i32, who: i32) -> SysResult<Vec<Arc<Task>>> {
    let targets = priority_targets(task, which.wrapping_sub(1), who)?;
    if targets.is_empty() { err!(ESRCH) } else { Ok(targets) }
}

/// ioprio_get(2): as it was set for one thread, the best in effect of several. It is kept, and steers nothing.
pub(super) fn sys_ioprio_get(task: &mut CurrentTask, which: i32, who: i32) -> SysResult<i32> {
    let targets = ioprio_targets(task, which, who)?;
    let in_effect = |target: &Arc<Task>| match target.io_priority().load(Ordering::Relaxed) {
        set if set >> IOPRIO_CLASS_SHIFT != 0 => set,
        _ => (IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT) | ((target.nice() + 20) / 5),
    };
    let found = match targets.as_slice() {
        [one] if which == 1 => Some(one.io_priority().load(Ordering::Relaxed)),
        all => all.iter().map(in_effect).min(),
    };
    found.ok_or(Errno::ESRCH.into())
}

/// ioprio_set(2).
pub(super) fn sys_ioprio_set(
    task: &mut CurrentTask,
    which: i32,
    who: i32,
    value: i32,
) -> SysResult<()> {
    match value >> IOPRIO_CLASS_SHIFT {
        IOPRIO_CLASS_RT
            if !task.cred().has(Capability::SYS_ADMIN)
                && !task.cred().has(Capability::SYS_NICE) =>
        {
            return err!(EPERM);
        }
        IOPRIO_CLASS_RT | IOPRIO_CLASS_BE | IOPRIO_CLASS_IDLE => {}
        0 if value & IOPRIO_LEVEL_MASK == 0 => {}
        _ => return err!(EINVAL),
    }
    for target in ioprio_targets(task, which, who)? {
        if !owns(task, &target) {
            return err!(EPERM);
        }
        target.io_priority().store(value, Ordering::Relaxed);
    }
    Ok(())
}
