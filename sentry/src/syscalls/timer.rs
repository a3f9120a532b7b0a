//! Timers (setitimer(2), alarm(2), timer_create(2) …).

use std::sync::Arc;

use linux_abi::{
    Signal,
    time::{Itimerspec, Itimerval, Timespec, Timeval},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::time::{Clock, CpuKind};
use crate::{
    Errno, SysResult, err,
    kernel::{
        Capability, CurrentTask,
        timers::{ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, TimerClock, TimerSetting, TimerTarget},
    },
    user::{UserMemory, UserRef},
};

fn interval_timer(which: i32) -> SysResult<i32> {
    match which {
        libc::ITIMER_REAL => Ok(ITIMER_REAL),
        libc::ITIMER_VIRTUAL => Ok(ITIMER_VIRTUAL),
        libc::ITIMER_PROF => Ok(ITIMER_PROF),
        _ => err!(EINVAL),
    }
}

fn to_itimerval(setting: TimerSetting) -> Itimerval {
    // Rounded up, so that an armed timer does not read as 0.
    let micro = |ns: u64| Timeval::from_ns(ns.saturating_add(999));
    Itimerval { interval: micro(setting.interval), value: micro(setting.value) }
}

pub(super) fn sys_getitimer(
    task: &mut CurrentTask,
    which: i32,
    at: UserRef<Itimerval>,
) -> SysResult<()> {
    let setting = task.thread_group().timers().interval(interval_timer(which)?);
    task.mm().write_obj(at, &to_itimerval(setting))?;
    Ok(())
}

pub(super) fn sys_setitimer(
    task: &mut CurrentTask,
    which: i32,
    new: UserRef<Itimerval>,
    old: UserRef<Itimerval>,
) -> SysResult<()> {
    let setting = match new.non_null() {
        // A NULL new value disarms, as it does in Linux.
        None => TimerSetting::default(),
        Some(at) => {
            let new = task.mm().read_obj(at)?;
            TimerSetting {
                value: new.value.to_ns().ok_or(Errno::EINVAL)?,
                interval: new.interval.to_ns().ok_or(Errno::EINVAL)?,
            }
        }
    };
    let id = interval_timer(which)?;
    let before = task.thread_group().timers().set_interval(id, setting);
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &to_itimerval(before))?;
    }
    Ok(())
}

pub(super) fn sys_alarm(task: &mut CurrentTask, seconds: u32) -> SysResult<u32> {
    const SECOND: u64 = 1_000_000_000;
    let setting = TimerSetting { value: u64::from(seconds) * SECOND, interval: 0 };
    let before = task.thread_group().timers().set_interval(ITIMER_REAL, setting);
    // Rounded to the nearest second, but never to 0 while armed.
    let left = (before.value + SECOND / 2) / SECOND;
    Ok(if before.value != 0 { left.max(1) as u32 } else { 0 })
}

/// `struct sigevent`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct SigEvent {
    pub(super) value: u64,
    pub(super) signo: i32,
    pub(super) notify: i32,
    tid: i32,
    pad: [u32; 11],
}

fn timer_clock(task: &CurrentTask, id: i32) -> SysResult<TimerClock> {
    const ALARM_CLOCKS: [i32; 2] = [8, 9];
    if ALARM_CLOCKS.contains(&id) && !task.cred().has(Capability::WAKE_ALARM) {
        return err!(EPERM);
    }
    match Clock::from_id(task, id)? {
        Clock::Realtime | Clock::Tai => Ok(TimerClock::Wall { realtime: true }),
        Clock::Monotonic | Clock::Boottime => Ok(TimerClock::Wall { realtime: false }),
        Clock::ProcessCpu(group, kind) if Arc::ptr_eq(&group, task.thread_group()) => {
            Ok(TimerClock::Process { user_only: kind == CpuKind::User })
        }
        Clock::ThreadCpu(thread, kind) => Ok(TimerClock::Thread {
            task: Arc::downgrade(&thread),
            user_only: kind == CpuKind::User,
        }),
        Clock::ProcessCpu(..)
        | Clock::MonotonicRaw
        | Clock::RealtimeCoarse
        | Clock::MonotonicCoarse => err!(EOPNOTSUPP),
    }
}

pub(super) fn sys_timer_create(
    task: &mut CurrentTask,
    clock: i32,
    event: UserRef<SigEvent>,
    id_at: UserRef<i32>,
) -> SysResult<()> {
    let timer_clock = timer_clock(task, clock)?;
    let (target, value) = match event.non_null() {
        None => (TimerTarget::Process(Signal::ALRM), None),
        Some(at) => {
            let event = task.mm().read_obj(at)?;
            (timer_target(task, &event)?, Some(event.value))
        }
    };
    let limit = task.rlimit(libc::RLIMIT_SIGPENDING).0;
    let group = task.thread_group().clone();
    let id = group.timers().create(timer_clock, target, value, limit)?;
    if let Err(errno) = task.mm().write_obj(id_at, &id) {
        let _ = group.timers().delete(id);
        return Err(errno.into());
    }
    Ok(())
}

fn timer_target(task: &CurrentTask, event: &SigEvent) -> SysResult<TimerTarget> {
    const SIGEV_SIGNAL: i32 = 0;
    const SIGEV_NONE: i32 = 1;
    const SIGEV_THREAD: i32 = 2;
    const SIGEV_THREAD_ID: i32 = 4;
    let signal = || Signal::new(event.signo).ok_or(Errno::EINVAL);
    match event.notify {
        SIGEV_NONE => Ok(TimerTarget::Nobody),
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(TimerTarget::Process(signal()?)),
        SIGEV_THREAD_ID => {
            let target = task.kernel().tasks.task(event.tid).ok_or(Errno::EINVAL)?;
            if target.pid() != task.pid() {
                return err!(EINVAL);
            }
            Ok(TimerTarget::Thread(Arc::downgrade(&target), signal()?))
        }
        _ => err!(EINVAL),
    }
}

fn to_itimerspec(setting: TimerSetting) -> Itimerspec {
    Itimerspec {
        interval: Timespec::from_ns(setting.interval),
        value: Timespec::from_ns(setting.value),
    }
}

pub(super) fn sys_timer_settime(
    task: &mut CurrentTask,
    id: i32,
    flags: i32,
    new: UserRef<Itimerspec>,
    old: UserRef<Itimerspec>,
) -> SysResult<()> {
    if new.is_null() {
        return err!(EINVAL);
    }
    let new = task.mm().read_obj(new)?;
    let mut setting = TimerSetting {
        value: new.value.to_ns().ok_or(Errno::EINVAL)?,
        interval: new.interval.to_ns().ok_or(Errno::EINVAL)?,
    };
    let absolute = flags & libc::TIMER_ABSTIME != 0;
    let group = task.thread_group().clone();
    let realtime = matches!(group.timers().clock(id)?, TimerClock::Wall { realtime: true });
    if absolute && setting.value != 0 && realtime {
        setting.value = task.kernel().clocks.realtime_to_monotonic(setting.value).0.max(1);
    }
    let before = group.timers().set(id, setting, absolute)?;
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &to_itimerspec(before))?;
    }
    Ok(())
}

pub(super) fn sys_timer_gettime(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<Itimerspec>,
) -> SysResult<()> {
    let setting = task.thread_group().timers().get(id)?;
    task.mm().write_obj(at, &to_itimerspec(setting))?;
    Ok(())
}

pub(super) fn sys_timer_getoverrun(task: &mut CurrentTask, id: i32) -> SysResult<i32> {
    Ok(task.thread_group().timers().overrun(id)?)
}

pub(super) fn sys_timer_delete(task: &mut CurrentTask, id: i32) -> SysResult<()> {
    Ok(task.thread_group().timers().delete(id)?)
}
