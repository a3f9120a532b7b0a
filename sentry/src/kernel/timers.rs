//! Timers of a process: setitimer(2), alarm(2), timer_create(2), and RLIMIT_CPU.
//!
//! Timers on clocks that go with the wall are armed in the kernel's timer queue. Those on processor time are looked at
//! whenever they could have run out at the earliest; nothing counts ticks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use linux_abi::{Errno, SigInfo, Signal};
use ranked_sync::Mutex;

use super::{Task, ThreadGroup};
use crate::{
    lock_order,
    time::{Monotonic, TimerHandle},
    wait::{EventMask, Notify},
};

/// `DELAYTIMER_MAX`.
const OVERRUN_MAX: u64 = i32::MAX as u64;
/// Processor time is looked at so often at most, and at least while nothing runs, in nanoseconds.
const CPU_CHECK_MIN: u64 = 1_000_000;
const CPU_CHECK_IDLE: u64 = 50_000_000;

/// Interval timers and the limit on processor time have fixed, negative ids.
pub(crate) const ITIMER_REAL: i32 = -1;
pub(crate) const ITIMER_VIRTUAL: i32 = -2;
pub(crate) const ITIMER_PROF: i32 = -3;
const LIMIT_CPU: i32 = -4;

/// What a timer counts by.
#[derive(Clone, Debug)]
pub(crate) enum TimerClock {
    /// Nanoseconds of CLOCK_MONOTONIC; `realtime`: absolute times are given by CLOCK_REALTIME.
    Wall { realtime: bool },
    /// The process's user time, or user and system time.
    Process { user_only: bool },
    /// A thread's.
    Thread { task: Weak<Task>, user_only: bool },
}

/// Who is told.
#[derive(Clone, Debug)]
pub(crate) enum TimerTarget {
    /// SIGEV_NONE.
    Nobody,
    Process(Signal),
    Thread(Weak<Task>, Signal),
}

/// What a timer is set to: time until it fires (0: not armed) and interval, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimerSetting {
    pub(crate) value: u64,
    pub(crate) interval: u64,
}

#[derive(Debug)]
struct Timer {
    clock: TimerClock,
    target: TimerTarget,
    /// `sigev_value`.
    value: u64,
    /// When it fires next, by its clock; 0: not armed.
    next: u64,
    interval: u64,
    /// Its signal waits to be delivered: expiries until then are overruns.
    queued: bool,
    overrun: i32,
    handle: Option<TimerHandle>,
}

#[derive(Debug, Default)]
struct Timers {
    next_id: i32,
    all: BTreeMap<i32, Timer>,
    /// The process is gone.
    closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ProcessTimers {
    group: Weak<ThreadGroup>,
    timers: Mutex<lock_order::Timers, Timers>,
}

/// What the timer queue calls.
struct Expiry {
    group: Weak<ThreadGroup>,
    id: i32,
}

impl Notify for Expiry {
    fn notify(&self, _events: EventMask) {
        if let Some(group) = self.group.upgrade() {
            group.timers.expired(self.id);
        }
    }
}

impl Timer {
    fn new(clock: TimerClock, target: TimerTarget, value: u64) -> Self {
        Self { clock, target, value, next: 0, interval: 0, queued: false, overrun: 0, handle: None }
    }

    fn now(&self, group: &ThreadGroup) -> u64 {
        let of = |times: super::CpuTimes, user_only: bool| {
            if user_only { times.user_ns } else { times.total_ns() }
        };
        match &self.clock {
            TimerClock::Wall { .. } => group.kernel().clocks.monotonic().0,
            TimerClock::Process { user_only } => of(group.cpu_times(), *user_only),
            TimerClock::Thread { task, user_only } => {
                task.upgrade().map_or(0, |task| of(task.cpu_times(), *user_only))
            }
        }
    }

    /// Puts it into the timer queue for `next`.
    fn arm(&mut self, group: &Arc<ThreadGroup>, id: i32) {
        self.handle = None;
        if self.next == 0 {
            return;
        }
        let deadline = match self.clock {
            TimerClock::Wall { .. } => Monotonic(self.next),
            _ => {
                let left = self.next.saturating_sub(self.now(group));
                let threads = group.threads();
                let running = threads.iter().filter(|thread| thread.is_in_guest()).count() as u64;
                let wait = match left.checked_div(running) {
                    None => left.max(CPU_CHECK_IDLE),
                    Some(share) => share.max(CPU_CHECK_MIN),
                };
                group.kernel().clocks.monotonic().after(wait)
            }
        };
        let target = Arc::new(Expiry { group: Arc::downgrade(group), id });
        self.handle = Some(group.kernel().timers.arm(deadline, target));
    }

    /// Steps over the expiries up to now; how many there were.
    fn forward(&mut self, now: u64) -> u64 {
        if self.next == 0 || self.interval == 0 || now < self.next {
            return 0;
        }
        let steps = (now - self.next) / self.interval + 1;
        self.next = self.next.saturating_add(steps.saturating_mul(self.interval));
        steps
    }

    fn setting(&self, now: u64) -> TimerSetting {
        if self.next == 0 {
            return TimerSetting { value: 0, interval: self.interval };
        }
        let next = if self.next <= now && self.interval != 0 {
            let steps = (now - self.next) / self.interval + 1;
            self.next.saturating_add(steps.saturating_mul(self.interval))
        } else {
            self.next
        };
        // An armed timer never says 0.
        TimerSetting { value: next.saturating_sub(now).max(1), interval: self.interval }
    }
}

impl ProcessTimers {
    pub(super) fn new(group: Weak<ThreadGroup>) -> Self {
        Self { group, timers: Mutex::default() }
    }

    /// An interval timer's setting before it is set to `new`.
    pub(crate) fn set_interval(&self, id: i32, new: TimerSetting) -> TimerSetting {
        let (clock, signal) = match id {
            ITIMER_REAL => (TimerClock::Wall { realtime: false }, Signal::ALRM),
            ITIMER_VIRTUAL => (TimerClock::Process { user_only: true }, Signal::VTALRM),
            _ => (TimerClock::Process { user_only: false }, Signal::PROF),
        };
        let Some(group) = self.group.upgrade() else { return TimerSetting::default() };
        let mut timer = Timer::new(clock, TimerTarget::Process(signal), 0);
        let now = timer.now(&group);
        let mut timers = self.timers.lock();
        let old = timers.all.remove(&id);
        let before = old.as_ref().map_or(TimerSetting::default(), |old| old.setting(now));
        if new.value != 0 && !timers.closed {
            timer.next = now.saturating_add(new.value);
            timer.interval = new.interval;
            timer.arm(&group, id);
            timers.all.insert(id, timer);
        }
        drop(timers);
        drop(old);
        before
    }

    /// What an interval timer is set to.
    pub(crate) fn interval(&self, id: i32) -> TimerSetting {
        let Some(group) = self.group.upgrade() else { return TimerSetting::default() };
        let timers = self.timers.lock();
        timers
            .all
            .get(&id)
            .map_or(TimerSetting::default(), |timer| timer.setting(timer.now(&group)))
    }

    /// timer_create(2). `EAGAIN` when there are `limit` already. `value`: `sigev_value`, or the new timer's id.
    pub(crate) fn create(
        &self,
        clock: TimerClock,
        target: TimerTarget,
        value: Option<u64>,
        limit: u64,
    ) -> Result<i32, Errno> {
        let mut timers = self.timers.lock();
        if timers.all.len() as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        let mut id = timers.next_id;
        while timers.all.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(0);
        }
        timers.next_id = id.checked_add(1).unwrap_or(0);
        let value = value.unwrap_or(id as u64);
        timers.all.insert(id, Timer::new(clock, target, value));
        Ok(id)
    }

    /// timer_delete(2).
    pub(crate) fn delete(&self, id: i32) -> Result<(), Errno> {
        let old = self.timers.lock().all.remove(&id).filter(|_| id >= 0);
        old.map(drop).ok_or(Errno::EINVAL)
    }

    /// What clock the timer has.
    pub(crate) fn clock(&self, id: i32) -> Result<TimerClock, Errno> {
        let timers = self.timers.lock();
        timers
            .all
            .get(&id)
            .filter(|_| id >= 0)
            .map(|timer| timer.clock.clone())
            .ok_or(Errno::EINVAL)
    }

    /// timer_settime(2): `at` says when by the timer's clock if `absolute`, else in how long. The setting before.
    pub(crate) fn set(
        &self,
        id: i32,
        new: TimerSetting,
        absolute: bool,
    ) -> Result<TimerSetting, Errno> {
        let group = self.group.upgrade().ok_or(Errno::EINVAL)?;
        let mut timers = self.timers.lock();
        let timer = timers.all.get_mut(&id).filter(|_| id >= 0).ok_or(Errno::EINVAL)?;
        let now = timer.now(&group);
        let before = timer.setting(now);
        timer.handle = None;
        timer.interval = new.interval;
        timer.next = match new.value {
            0 => 0,
            at if absolute => at,
            after => now.saturating_add(after),
        };
        timer.queued = false;
        timer.overrun = 0;
        timer.arm(&group, id);
        Ok(before)
    }

    /// timer_gettime(2).
    pub(crate) fn get(&self, id: i32) -> Result<TimerSetting, Errno> {
        let group = self.group.upgrade().ok_or(Errno::EINVAL)?;
        let timers = self.timers.lock();
        let timer = timers.all.get(&id).filter(|_| id >= 0).ok_or(Errno::EINVAL)?;
        Ok(timer.setting(timer.now(&group)))
    }

    /// timer_getoverrun(2).
    pub(crate) fn overrun(&self, id: i32) -> Result<i32, Errno> {
        let timers = self.timers.lock();
        timers.all.get(&id).filter(|_| id >= 0).map(|timer| timer.overrun).ok_or(Errno::EINVAL)
    }

    /// Its time may have come.
    fn expired(&self, id: i32) {
        let Some(group) = self.group.upgrade() else { return };
        let handlers = group.handlers();
        // Held until the signal is sent: whoever disarms the timer gets none after that.
        let mut timers = self.timers.lock();
        let Some(timer) = timers.all.get_mut(&id) else { return };
        let now = timer.now(&group);
        if timer.next == 0 || now < timer.next {
            timer.arm(&group, id);
            return;
        }
        let signal = match &timer.target {
            TimerTarget::Nobody => None,
            TimerTarget::Process(signal) | TimerTarget::Thread(_, signal) => Some(*signal),
        };
        // A signal that is ignored is never delivered: the timer must not wait for that.
        let posix = id >= 0 && signal.is_some_and(|signal| !handlers.ignores(signal));
        if timer.interval == 0 {
            timer.next = 0;
            timer.handle = None;
        } else if posix {
            // Counted and armed again when the signal is delivered.
            timer.handle = None;
        } else {
            timer.forward(now);
            timer.arm(&group, id);
        }
        timer.queued = posix;
        let Some(signal) = signal else { return };
        if id == LIMIT_CPU {
            return group.cpu_limit_reached();
        }
        let info = match id {
            id if id >= 0 => SigInfo::timer(signal, id, 0, timer.value),
            _ => SigInfo::kernel(signal),
        };
        let thread = match &timer.target {
            TimerTarget::Thread(thread, _) => Some(thread.upgrade()),
            TimerTarget::Nobody | TimerTarget::Process(_) => None,
        };
        let _ = match &thread {
            None => group.send_signal(info),
            Some(Some(task)) if !task.is_exited() => task.send_signal(info),
            Some(_) => Ok(()),
        };
        // Its last owner may be this one: not below the lock.
        drop(timers);
        drop(thread);
    }

    /// A timer's signal was taken from the queue: its overruns are known now.
    pub(super) fn delivered(&self, info: &mut SigInfo) {
        let Some(group) = self.group.upgrade() else { return };
        let id = info.timer_id();
        let mut timers = self.timers.lock();
        let Some(timer) = timers.all.get_mut(&id).filter(|timer| timer.queued) else { return };
        timer.queued = false;
        timer.overrun = 0;
        if timer.interval != 0 && timer.next != 0 {
            let steps = timer.forward(timer.now(&group));
            timer.overrun = steps.saturating_sub(1).min(OVERRUN_MAX) as i32;
            timer.arm(&group, id);
        }
        info.set_overrun(timer.overrun);
    }

    /// execve(2): POSIX timers go, interval timers stay.
    pub(super) fn delete_posix_timers(&self) {
        let gone = {
            let mut timers = self.timers.lock();
            timers.next_id = 0;
            timers.all.split_off(&0)
        };
        drop(gone);
    }

    /// None of them fires any more.
    pub(super) fn disarm_all(&self) {
        let gone = {
            let mut timers = self.timers.lock();
            timers.closed = true;
            std::mem::take(&mut timers.all)
        };
        drop(gone);
    }
}

impl ThreadGroup {
    /// setitimer(2), timer_create(2).
    pub(crate) fn timers(&self) -> &ProcessTimers {
        &self.timers
    }

    /// RLIMIT_CPU was changed.
    pub(crate) fn limit_cpu_time(&self) {
        let Some(group) = self.timers.group.upgrade() else { return };
        let soft = self.limits().soft(libc::RLIMIT_CPU);
        let mut timers = self.timers.timers.lock();
        let old = timers.all.remove(&LIMIT_CPU);
        if soft != u64::MAX && !timers.closed {
            let clock = TimerClock::Process { user_only: false };
            let mut timer = Timer::new(clock, TimerTarget::Process(Signal::XCPU), 0);
            timer.next = soft.max(1).saturating_mul(1_000_000_000);
            // SIGXCPU comes every second from then on, until the hard limit.
            timer.interval = 1_000_000_000;
            timer.arm(&group, LIMIT_CPU);
            timers.all.insert(LIMIT_CPU, timer);
        }
        drop(timers);
        drop(old);
    }

    fn cpu_limit_reached(&self) {
        let used = self.cpu_times().total_ns() / 1_000_000_000;
        let hard = self.limits().get(libc::RLIMIT_CPU).max;
        let signal = if used >= hard { Signal::KILL } else { Signal::XCPU };
        let _ = self.send_signal(SigInfo::kernel(signal));
    }
}
