//! Clocks and sleeping (clock_gettime(2), clock_nanosleep(2), gettimeofday(2) …).

use std::sync::Arc;

use linux_abi::time::{Timespec, Timeval, Timezone};

use crate::{
    Errno, Restart, SysError, SysResult, err,
    kernel::{Capability, CurrentTask, SleepEnd, Task, ThreadGroup},
    time::Monotonic,
    user::{UserMemory, UserRef},
};

/// A clock a guest can name.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    Realtime,
    Monotonic,
    MonotonicRaw,
    Boottime,
    Tai,
    RealtimeCoarse,
    MonotonicCoarse,
    ProcessCpu(Arc<ThreadGroup>, CpuKind),
    ThreadCpu(Arc<Task>, CpuKind),
}

/// Which time of a CPU clock counts (`CPUCLOCK_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CpuKind {
    /// User and system.
    Prof,
    User,
    /// What the scheduler counts: both, too.
    Sched,
}

const CLOCK_REALTIME_ALARM: i32 = 8;
const CLOCK_BOOTTIME_ALARM: i32 = 9;
const CLOCK_TAI: i32 = 11;
/// Resolution of the coarse clocks: a tick of a kernel with CONFIG_HZ=250.
const COARSE_NS: u64 = 4_000_000;

impl Clock {
    /// From the number in a call; `EINVAL` for clocks there are not.
    pub(super) fn from_id(task: &CurrentTask, id: i32) -> SysResult<Self> {
        Ok(match id {
            libc::CLOCK_REALTIME | CLOCK_REALTIME_ALARM => Self::Realtime,
            libc::CLOCK_MONOTONIC => Self::Monotonic,
            libc::CLOCK_PROCESS_CPUTIME_ID => {
                Self::ProcessCpu(task.thread_group().clone(), CpuKind::Sched)
            }
            libc::CLOCK_THREAD_CPUTIME_ID => Self::ThreadCpu(task.task().clone(), CpuKind::Sched),
            libc::CLOCK_MONOTONIC_RAW => Self::MonotonicRaw,
            libc::CLOCK_REALTIME_COARSE => Self::RealtimeCoarse,
            libc::CLOCK_MONOTONIC_COARSE => Self::MonotonicCoarse,
            libc::CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Self::Boottime,
            CLOCK_TAI => Self::Tai,
            id if id < 0 => Self::cpu(task, id)?,
            _ => return err!(EINVAL),
        })
    }

    /// `~pid << 3 | bits`, as clock_getcpuclockid(3) makes it.
    fn cpu(task: &CurrentTask, id: i32) -> SysResult<Self> {
        const PER_THREAD: i32 = 4;
        let kind = match id & 3 {
            0 => CpuKind::Prof,
            1 => CpuKind::User,
            2 => CpuKind::Sched,
            _ => return err!(EINVAL),
        };
        let pid = !(id >> 3);
        if id & PER_THREAD != 0 {
            let target = match pid {
                0 => Some(task.task().clone()),
                pid => task.kernel().tasks.task(pid),
            };
            let own = |target: &Arc<Task>| Arc::ptr_eq(target.thread_group(), task.thread_group());
            return Ok(Self::ThreadCpu(target.filter(own).ok_or(Errno::EINVAL)?, kind));
        }
        let group = match pid {
            0 => Some(task.thread_group().clone()),
            pid => task.kernel().tasks.process(pid),
        };
        Ok(Self::ProcessCpu(group.ok_or(Errno::EINVAL)?, kind))
    }

    pub(super) fn is_cpu(&self) -> bool {
        matches!(self, Self::ProcessCpu(..) | Self::ThreadCpu(..))
    }

    /// In nanoseconds.
    pub(super) fn now(&self, task: &CurrentTask) -> u64 {
        let clocks = &task.kernel().clocks;
        let of = |times: crate::kernel::CpuTimes, kind| match kind {
            CpuKind::User => times.user_ns,
            CpuKind::Prof | CpuKind::Sched => times.total_ns(),
        };
        match self {
            Self::Realtime | Self::Tai => clocks.realtime_ns(),
            Self::Monotonic | Self::Boottime => clocks.monotonic().0,
            Self::MonotonicRaw => platform::host::clock_monotonic_raw_ns(),
            Self::RealtimeCoarse => clocks.realtime_ns() / COARSE_NS * COARSE_NS,
            Self::MonotonicCoarse => clocks.monotonic().0 / COARSE_NS * COARSE_NS,
            Self::ProcessCpu(group, kind) => of(group.cpu_times(), *kind),
            Self::ThreadCpu(thread, kind) => of(thread.cpu_times(), *kind),
        }
    }

    /// When a clock that goes with the wall will say `ns`.
    pub(super) fn deadline(&self, task: &CurrentTask, ns: u64) -> Monotonic {
        match self {
            Self::Realtime | Self::Tai => task.kernel().clocks.realtime_to_monotonic(ns),
            _ => Monotonic(ns),
        }
    }
}

pub(super) fn sys_clock_gettime(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<Timespec>,
) -> SysResult<()> {
    let now = Clock::from_id(task, id)?.now(task);
    task.mm().write_obj(at, &Timespec::from_ns(now))?;
    Ok(())
}

pub(super) fn sys_clock_getres(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<Timespec>,
) -> SysResult<()> {
    let resolution = match Clock::from_id(task, id)? {
        Clock::RealtimeCoarse | Clock::MonotonicCoarse => COARSE_NS,
        _ => 1,
    };
    if let Some(at) = at.non_null() {
        task.mm().write_obj(at, &Timespec::from_ns(resolution))?;
    }
    Ok(())
}

pub(super) fn sys_clock_settime(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<Timespec>,
) -> SysResult<()> {
    let clock = Clock::from_id(task, id)?;
    task.mm().read_obj(at)?.to_ns().ok_or(Errno::EINVAL)?;
    if !matches!(clock, Clock::Realtime) {
        return err!(EINVAL);
    }
    // A sandbox has its host's time.
    err!(EPERM)
}

pub(super) fn sys_gettimeofday(
    task: &mut CurrentTask,
    at: UserRef<Timeval>,
    zone: UserRef<Timezone>,
) -> SysResult<()> {
    if let Some(at) = at.non_null() {
        let now = Timeval::from_ns(task.kernel().clocks.realtime_ns());
        task.mm().write_obj(at, &now)?;
    }
    if let Some(zone) = zone.non_null() {
        task.mm().write_obj(zone, &Timezone::default())?;
    }
    Ok(())
}

pub(super) fn sys_settimeofday(
    task: &mut CurrentTask,
    at: UserRef<Timeval>,
    zone: UserRef<Timezone>,
) -> SysResult<()> {
    if let Some(at) = at.non_null() {
        task.mm().read_obj(at)?.to_ns().ok_or(Errno::EINVAL)?;
    }
    if let Some(zone) = zone.non_null() {
        task.mm().read_obj(zone)?;
    }
    err!(EPERM)
}

pub(super) fn sys_time(task: &mut CurrentTask, at: UserRef<i64>) -> SysResult<i64> {
    let now = (task.kernel().clocks.realtime_ns() / 1_000_000_000) as i64;
    if let Some(at) = at.non_null() {
        task.mm().write_obj(at, &now)?;
    }
    Ok(now)
}

/// adjtimex(2) with nothing to change tells the state; changing is refused.
pub(super) fn sys_adjtimex(task: &mut CurrentTask, at: UserRef<[u64; 26]>) -> SysResult<i32> {
    sys_clock_adjtime(task, libc::CLOCK_REALTIME, at)
}

pub(super) fn sys_clock_adjtime(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<[u64; 26]>,
) -> SysResult<i32> {
    /// TIME_ERROR: the clock is not synchronized, as far as the guest is concerned.
    const TIME_ERROR: i32 = 5;
    const STA_UNSYNC: u64 = 0x40;
    if id != libc::CLOCK_REALTIME {
        Clock::from_id(task, id)?;
        return err!(EOPNOTSUPP);
    }
    let mut timex = task.mm().read_obj(at)?;
    if timex[0] as u32 != 0 {
        return err!(EPERM);
    }
    timex = [0; 26];
    // status, tick (µs per tick), and the time.
    timex[5] = STA_UNSYNC;
    let now = Timeval::from_ns(task.kernel().clocks.realtime_ns());
    (timex[9], timex[10]) = (now.sec as u64, now.usec as u64);
    timex[11] = 10_000;
    task.mm().write_obj(at, &timex)?;
    Ok(TIME_ERROR)
}

pub(super) fn sys_nanosleep(
    task: &mut CurrentTask,
    request: UserRef<Timespec>,
    remaining: UserRef<Timespec>,
) -> SysResult<()> {
    let ns = task.mm().read_obj(request)?.to_ns().ok_or(Errno::EINVAL)?;
    let deadline = task.kernel().clocks.monotonic().after(ns);
    sleep_relative(task, deadline, remaining)
}

pub(super) fn sys_clock_nanosleep(
    task: &mut CurrentTask,
    id: i32,
    flags: i32,
    request: UserRef<Timespec>,
    remaining: UserRef<Timespec>,
) -> SysResult<()> {
    let clock = Clock::from_id(task, id)?;
    match id {
        libc::CLOCK_THREAD_CPUTIME_ID => return err!(EINVAL),
        libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_MONOTONIC_COARSE => {
            return err!(EOPNOTSUPP);
        }
        CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM if !task.cred().has(Capability::WAKE_ALARM) => {
            return err!(EPERM);
        }
        _ => {}
    }
    let ns = task.mm().read_obj(request)?.to_ns().ok_or(Errno::EINVAL)?;
    let absolute = flags & libc::TIMER_ABSTIME != 0;
    if clock.is_cpu() {
        let until = if absolute { ns } else { clock.now(task).saturating_add(ns) };
        return sleep_cpu(task, &clock, until);
    }
    if absolute {
        let deadline = clock.deadline(task, ns);
        return match sleep_until(task, deadline) {
            SleepEnd::Interrupted => Err(Restart::NoHandler.into()),
            _ => Ok(()),
        };
    }
    let deadline = task.kernel().clocks.monotonic().after(ns);
    sleep_relative(task, deadline, remaining)
}

fn sleep_until(task: &mut CurrentTask, deadline: Monotonic) -> SleepEnd {
    loop {
        task.waker().prepare();
        match task.sleep(Some(deadline)) {
            SleepEnd::Woken => {}
            end => return end,
        }
    }
}

fn sleep_relative(
    task: &mut CurrentTask,
    deadline: Monotonic,
    remaining: UserRef<Timespec>,
) -> SysResult<()> {
    if sleep_until(task, deadline) != SleepEnd::Interrupted {
        return Ok(());
    }
    let left = task.kernel().clocks.monotonic().until(deadline);
    if left == 0 {
        return Ok(());
    }
    if let Some(at) = remaining.non_null() {
        task.mm().write_obj(at, &Timespec::from_ns(left))?;
    }
    let again = move |task: &mut CurrentTask| {
        sleep_relative(task, deadline, remaining).map(|()| 0_i32.into())
    };
    Err::<(), SysError>(task.set_restart_block(again))
}

/// Sleeps until the processor clock has got there: looks again when it could have, at the earliest.
fn sleep_cpu(task: &mut CurrentTask, clock: &Clock, until: u64) -> SysResult<()> {
    const LOOK_AGAIN_NS: u64 = 1_000_000;
    loop {
        let now = clock.now(task);
        if now >= until {
            return Ok(());
        }
        let wait = (until - now).max(LOOK_AGAIN_NS);
        let deadline = task.kernel().clocks.monotonic().after(wait);
        if sleep_until(task, deadline) == SleepEnd::Interrupted {
            return Err(Restart::NoHandler.into());
        }
    }
}
