//! The kernel's timers: one host thread that sleeps until the nearest deadline.
//!
//! Started with the first timer; with none armed it sleeps for good. A task that just waits needs no
//! timer: it sleeps with a deadline of its own (`CurrentTask::sleep`).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ranked_sync::{Condvar, Mutex};

use super::Monotonic;
use crate::{
    lock_order,
    wait::{EventMask, Notify},
};

/// See the module.
pub struct TimerQueue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<lock_order::TimerQueue, State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next_id: u64,
    armed: BTreeMap<(Monotonic, u64), Arc<dyn Notify>>,
    running: bool,
    /// What the thread sleeps until; a nearer deadline must wake it.
    sleeps_until: Option<Monotonic>,
    closed: bool,
}

/// An armed timer; dropping it disarms. The target may be told once more while that happens.
#[must_use]
pub struct TimerHandle {
    shared: Weak<Shared>,
    key: (Monotonic, u64),
}

impl TimerQueue {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// `target` is told at `deadline` (with [`EventMask::IN`]), on the timer thread: it must be quick.
    /// A deadline in the past fires at once.
    pub fn arm(&self, deadline: Monotonic, target: Arc<dyn Notify>) -> TimerHandle {
        let mut state = self.shared.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let key = (deadline, id);
        state.armed.insert(key, target);
        if !state.running {
            state.running = true;
            let shared = self.shared.clone();
            let started = std::thread::Builder::new()
                .name("timers".to_owned())
                .stack_size(128 << 10)
                .spawn(move || shared.run());
            if let Err(error) = started {
                state.running = false;
                tracing::error!(%error, "the timer thread");
            }
        }
        let nearer = state.sleeps_until.is_none_or(|until| deadline < until);
        drop(state);
        if nearer {
            self.shared.changed.notify_one();
        }
        TimerHandle { shared: Arc::downgrade(&self.shared), key }
    }
}

impl Drop for TimerQueue {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            let now = Monotonic(platform::host::clock_monotonic_ns());
            let due = match state.armed.first_key_value() {
                Some((&key, _)) if key.0 <= now => state.armed.remove(&key),
                Some((&(deadline, _), _)) => {
                    state.sleeps_until = Some(deadline);
                    let wake = Instant::now() + Duration::from_nanos(now.until(deadline));
                    self.changed.wait_until(&mut state, wake);
                    None
                }
                None => {
                    state.sleeps_until = None;
                    self.changed.wait(&mut state);
                    None
                }
            };
            if let Some(target) = due {
                drop(state);
                target.notify(EventMask::IN);
                drop(target);
                state = self.state.lock();
            }
        }
    }
}

impl TimerHandle {
    /// When it fires, or fired.
    pub fn deadline(&self) -> Monotonic {
        self.key.0
    }
}

impl Drop for TimerHandle {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let target = shared.state.lock().armed.remove(&self.key);
            drop(target);
        }
    }
}

impl fmt::Debug for TimerQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerQueue({} armed)", self.shared.state.lock().armed.len())
    }
}

impl fmt::Debug for TimerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerHandle({})", self.key.0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Send(mpsc::Sender<u32>, u32);
    impl Notify for Send {
        fn notify(&self, _events: EventMask) {
            let _ = self.0.send(self.1);
        }
    }

    #[test]
    fn timers_fire_in_order_and_dropped_ones_do_not() {
        let queue = TimerQueue::new();
        let (sender, receiver) = mpsc::channel();
        let now = Monotonic(platform::host::clock_monotonic_ns());
        let arm =
            |ms: u64, nr| queue.arm(now.after(ms * 1_000_000), Arc::new(Send(sender.clone(), nr)));
        let _late = arm(60, 3);
        let _soon = arm(20, 1);
        drop(arm(30, 9));
        let _middle = arm(40, 2);
        let got: Vec<u32> = (0..3).map(|_| receiver.recv().unwrap()).collect();
        assert_eq!(got, [1, 2, 3]);
    }
}
