//! Signals sent and not yet delivered.

use std::collections::VecDeque;

use linux_abi::{SigInfo, SigSet, Signal};

/// Pending signals of a thread or a group, oldest first.
#[derive(Debug, Default)]
pub struct SignalQueue {
    set: SigSet,
    list: VecDeque<SigInfo>,
}

impl SignalQueue {
    /// Which are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// How many are queued (RLIMIT_SIGPENDING counts them).
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Makes it pending with its details.
    pub fn push(&mut self, signal: Signal, info: SigInfo) {
        self.set = self.set.union(signal.set());
        self.list.push_back(info);
    }

    /// Makes it pending without details: the queue is full.
    pub fn mark(&mut self, signal: Signal) {
        self.set = self.set.union(signal.set());
    }

    /// The signal among `wanted` to deliver first: synchronous ones, then the lowest.
    pub fn next(&self, wanted: SigSet) -> Option<Signal> {
        let ready = self.set.intersection(wanted);
        ready.intersection(SigSet::SYNCHRONOUS).first().or(ready.first())
    }

    /// Takes the oldest of that signal.
    pub fn take(&mut self, signal: Signal) -> Option<SigInfo> {
        if !self.set.contains(signal) {
            return None;
        }
        let is_it = |info: &SigInfo| info.signo == signal.number();
        let Some(at) = self.list.iter().position(is_it) else {
            // Pending without details.
            self.set = self.set.minus(signal.set());
            return Some(SigInfo::from_user(signal, 0, 0, 0));
        };
        let info = self.list.remove(at);
        if !self.list.iter().any(is_it) {
            self.set = self.set.minus(signal.set());
        }
        info
    }

    /// Forgets all signals in `which`.
    pub fn flush(&mut self, which: SigSet) {
        if self.set.intersection(which).is_empty() {
            return;
        }
        self.set = self.set.minus(which);
        self.list.retain(|info| info.signal().is_none_or(|signal| !which.contains(signal)));
    }

    /// Changes the entry of a POSIX timer that is still queued, if there is one: an expiry then
    /// counts as an overrun instead of queueing again.
    pub fn timer_entry(&mut self, id: i32) -> Option<&mut SigInfo> {
        self.list
            .iter_mut()
            .find(|info| info.code == linux_abi::signal::si_code::TIMER && info.timer_id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synchronous_signals_come_first_then_the_lowest() {
        let mut queue = SignalQueue::default();
        for signal in [Signal::TERM, Signal::HUP, Signal::SEGV] {
            queue.push(signal, SigInfo::kernel(signal));
        }
        let all = SigSet::EMPTY.complement();
        assert_eq!(queue.next(all), Some(Signal::SEGV));
        assert!(queue.take(Signal::SEGV).is_some());
        assert_eq!(queue.next(all), Some(Signal::HUP));
        assert_eq!(queue.next(Signal::TERM.set()), Some(Signal::TERM));
    }

    #[test]
    fn real_time_signals_stay_pending_until_the_last_is_taken() {
        let mut queue = SignalQueue::default();
        let rt = Signal::new(40).unwrap();
        for value in [1, 2] {
            let mut info = SigInfo::from_user(rt, -1, 1, 0);
            info.set_value(value);
            queue.push(rt, info);
        }
        assert_eq!(queue.take(rt).unwrap().value(), 1);
        assert!(queue.set().contains(rt));
        assert_eq!(queue.take(rt).unwrap().value(), 2);
        assert!(queue.is_empty());
    }
}
