//! Signals to several processes at once: a process group, or all.
//!
//! They arrive in one moment, under the lock that a new process is entered with. A process in fork(2) at that moment
//! either ends before its child is there, or its child gets the signal too (`multiprocess` in `copy_process`,
//! `kernel/fork.c`): nobody runs away from a signal by forking.

use std::sync::Arc;

use linux_abi::{SigInfo, SigSet, Signal};

use super::SignalQueue;
use crate::kernel::{CurrentTask, Task, TaskSet, ThreadGroup, task_set::Members};

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// There was a process.
    pub found: bool,
    /// One got the signal, or could have.
    pub sent: bool,
    /// One may not be sent it.
    pub refused: bool,
}

impl TaskSet {
    /// Sends to all members of a process group that `may` allows; `None` only asks.
    pub fn signal_group(
        &self,
        pgid: i32,
        info: Option<SigInfo>,
        may: impl Fn(&Task) -> bool,
    ) -> Sent {
        self.signal_many(info, may, |members| members.group_members(pgid))
    }

    /// Sends to all processes that `may` allows, but for those of `except`.
    pub fn signal_all(
        &self,
        except: &[i32],
        info: Option<SigInfo>,
        may: impl Fn(&Task) -> bool,
    ) -> Sent {
        self.signal_many(info, may, |members| {
            let groups = members.processes.values().map(|process| process.group.clone());
            groups.filter(|group| !except.contains(&group.pid())).collect()
        })
    }

    fn signal_many(
        &self,
        info: Option<SigInfo>,
        may: impl Fn(&Task) -> bool,
        choose: impl FnOnce(&Members) -> Vec<Arc<ThreadGroup>>,
    ) -> Sent {
        let mut done = Sent::default();
        let mut told = Vec::new();
        let members = self.lock();
        for group in choose(&members) {
            done.found = true;
            let Some(leader) = group.leader() else { continue };
            if !may(&leader) {
                done.refused = true;
                continue;
            }
            done.sent = true;
            // A full queue loses a signal here, as ever.
            if let Some(info) = info
                && group.post(info, None, true).is_ok()
            {
                told.push(group);
            }
        }
        drop(members);
        // Who watches may look at the task set.
        told.iter().for_each(|group| group.signal_queue.wake(crate::wait::EventMask::READABLE));
        done
    }
}

/// The threads of a process that are in fork(2), and what their children are to get.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Forks(Vec<(i32, SigSet)>);

impl Forks {
    /// A signal to several processes comes; `pending` are those that the process has already.
    pub(super) fn add(&mut self, signal: Signal, pending: &SignalQueue) {
        if !signal.is_realtime() && pending.set().contains(signal) {
            return;
        }
        for (_, signals) in &mut self.0 {
            // A stop and a continuation cancel each other.
            if signal == Signal::CONT {
                *signals = signals.minus(SigSet::STOPS);
            } else if SigSet::STOPS.contains(signal) {
                *signals = signals.minus(Signal::CONT.set());
            }
            *signals = signals.union(signal.set());
        }
    }

    /// What has come for the child of `tid`.
    pub(in crate::kernel) fn of(&self, tid: i32) -> SigSet {
        let own = self.0.iter().find(|(forking, _)| *forking == tid);
        own.map_or(SigSet::EMPTY, |(_, signals)| *signals)
    }
}

/// The calling thread is in fork(2) as long as this is there.
#[derive(Debug)]
pub(in crate::kernel) struct Forking {
    group: Arc<ThreadGroup>,
    tid: i32,
}

impl Forking {
    /// From now on signals to several processes are for the child, too. What was there before is for the caller to see.
    pub(in crate::kernel) fn begin(task: &CurrentTask) -> Self {
        let (group, tid) = (task.thread_group().clone(), task.tid());
        group.state.lock().forks.0.push((tid, SigSet::EMPTY));
        Self { group, tid }
    }
}

impl Drop for Forking {
    fn drop(&mut self) {
        self.group.state.lock().forks.0.retain(|(forking, _)| *forking != self.tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_what_came_meanwhile() {
        let mut forks = Forks(vec![(7, SigSet::EMPTY)]);
        let mut queue = SignalQueue::default();
        queue.mark(Signal::HUP);
        for signal in [Signal::HUP, Signal::TERM, Signal::STOP, Signal::CONT] {
            forks.add(signal, &queue);
        }
        assert_eq!(forks.of(7), Signal::TERM.set().union(Signal::CONT.set()));
        forks.add(Signal::STOP, &queue);
        assert_eq!(forks.of(7), Signal::TERM.set().union(Signal::STOP.set()));
        assert_eq!(forks.of(8), SigSet::EMPTY);
    }
}
