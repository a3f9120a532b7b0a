//! timerfd_create(2) (`fs/timerfd.c`).

use std::{any::Any, fmt, sync::Arc};

use linux_abi::time::{Itimerspec, Timespec};
use ranked_sync::{Mutex, MutexGuard};

use crate::{
    Errno, SysResult, err,
    kernel::Kernel,
    lock_order,
    time::{Monotonic, TimerHandle},
    vfs::{FileDescription, FileOps, IoDst},
    wait::{EventMask, Notify, PollTable, WaitQueue},
};

/// A timer that is read.
#[derive(Debug)]
pub struct TimerFd(Arc<Timer>);

struct Timer {
    kernel: Arc<Kernel>,
    /// CLOCK_REALTIME or its alarm: absolute times are the wall clock's.
    is_realtime: bool,
    clock: i32,
    state: Mutex<lock_order::Timers, State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    /// When it expires next, or has expired while `expired` is set. `None`: disarmed.
    at: Option<Monotonic>,
    /// 0: once.
    interval_ns: u64,
    /// It went off and was not started again: a reader does that.
    expired: bool,
    ticks: u64,
    settime_flags: u32,
    handle: Option<TimerHandle>,
}

impl TimerFd {
    /// `clock`: one that timerfd_create(2) takes.
    pub fn new(kernel: Arc<Kernel>, clock: i32) -> Self {
        let is_realtime = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_ALARM;
        Self(Arc::new(Timer {
            kernel,
            is_realtime,
            clock,
            state: Mutex::default(),
            queue: WaitQueue::new(),
        }))
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Itimerspec {
        self.0.get(&mut self.0.state.lock())
    }

    /// timerfd_settime(2): the setting before. `EINVAL` for a time that is none.
    pub fn set(&self, flags: u32, spec: Itimerspec) -> SysResult<Itimerspec> {
        let value = spec.value.to_ns().ok_or(Errno::EINVAL)?;
        let interval_ns = spec.interval.to_ns().ok_or(Errno::EINVAL)?;
        let timer = &self.0;
        let mut state = timer.state.lock();
        let old = timer.get(&mut state);
        let clocks = &timer.kernel.clocks;
        let at = if value == 0 {
            None
        } else if flags & libc::TFD_TIMER_ABSTIME as u32 == 0 {
            Some(clocks.monotonic().after(value))
        } else if timer.is_realtime {
            Some(clocks.realtime_to_monotonic(value))
        } else {
            Some(Monotonic(value))
        };
        state.handle = None;
        state.at = at;
        state.interval_ns = interval_ns;
        state.expired = false;
        state.ticks = 0;
        state.settime_flags = flags;
        timer.start(&mut state);
        Ok(old)
    }
}

impl Timer {
    /// Arms the kernel's timer for `state.at`.
    fn start(self: &Arc<Self>, state: &mut MutexGuard<'_, lock_order::Timers, State>) {
        if let Some(at) = state.at {
            state.handle = Some(self.kernel.timers.arm(at, self.clone()));
        }
    }

    /// A periodic timer that went off goes on: adds the periods that passed meanwhile.
    fn catch_up(self: &Arc<Self>, state: &mut MutexGuard<'_, lock_order::Timers, State>) {
        let Some(at) = state.at.filter(|_| state.expired && state.interval_ns > 0) else { return };
        let late = at.until(self.kernel.clocks.monotonic());
        let passed = late / state.interval_ns;
        state.ticks = state.ticks.saturating_add(passed);
        state.at = Some(at.after(state.interval_ns.saturating_mul(passed + 1)));
        state.expired = false;
        self.start(state);
    }

    fn get(self: &Arc<Self>, state: &mut MutexGuard<'_, lock_order::Timers, State>) -> Itimerspec {
        self.catch_up(state);
        let now = self.kernel.clocks.monotonic();
        let left = match state.at {
            // Not yet told of, but over: never 0, which says that it is disarmed.
            Some(at) if !state.expired => now.until(at).max(1),
            _ => 0,
        };
        Itimerspec {
            interval: Timespec::from_ns(state.interval_ns),
            value: Timespec::from_ns(left),
        }
    }
}

impl Notify for Timer {
    fn notify(&self, _events: EventMask) {
        {
            let mut state = self.state.lock();
            // Late news of a setting that is gone.
            let now = self.kernel.clocks.monotonic();
            if state.expired || state.at.is_none_or(|at| at > now) {
                return;
            }
            state.expired = true;
            state.ticks = state.ticks.saturating_add(1);
        }
        self.queue.wake(EventMask::READABLE);
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        // The kernel's timer holds the timer.
        let handle = self.0.state.lock().handle.take();
        drop(handle);
    }
}

impl FileOps for TimerFd {
    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        if dst.len() < 8 {
            return err!(EINVAL);
        }
        let ticks = {
            let mut state = self.0.state.lock();
            if state.ticks == 0 {
                return err!(EAGAIN);
            }
            self.0.catch_up(&mut state);
            std::mem::take(&mut state.ticks)
        };
        if dst.put(&ticks.to_ne_bytes())? == 8 { Ok(8) } else { err!(EFAULT) }
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.0.queue);
        let ticks = self.0.state.lock().ticks;
        if ticks > 0 { EventMask::IN } else { EventMask::empty() }
    }

    fn fdinfo(&self, _file: &FileDescription) -> String {
        let (spec, ticks, flags) = {
            let mut state = self.0.state.lock();
            (self.0.get(&mut state), state.ticks, state.settime_flags)
        };
        format!(
            "clockid: {}\nticks: {ticks}\nsettime flags: 0{flags:o}\n\
             it_value: ({}, {})\nit_interval: ({}, {})\n",
            self.0.clock, spec.value.sec, spec.value.nsec, spec.interval.sec, spec.interval.nsec
        )
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timer(clock {})", self.clock)
    }
}
