//! Waiting for children (wait4(2), waitid(2); `do_wait` in `kernel/exit.c`).

use std::sync::{Arc, atomic::Ordering};

use linux_abi::{Signal, process::Rusage, signal::si_code};

use super::{
    CurrentTask, Task, ThreadGroup,
    task_set::{Members, Process, TraceeEnd},
    thread_group::StateReport,
};
use crate::{SysResult, err, wait::EventMask};

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitTarget {
    Any,
    Pid(i32),
    Group(i32),
}

/// Children made with another exit signal than SIGCHLD are "clone" children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitKind {
    Normal,
    Clone,
    All,
}

/// What to wait for.
#[derive(Clone, Copy, Debug)]
pub struct WaitRequest {
    pub target: WaitTarget,
    pub kind: WaitKind,
    pub exited: bool,
    pub stopped: bool,
    pub continued: bool,
    /// Leave the state for another wait (WNOWAIT).
    pub keep: bool,
    pub no_hang: bool,
    /// Only children this thread made (__WNOTHREAD).
    pub own_thread_only: bool,
}

/// What a wait found.
#[derive(Clone, Copy, Debug)]
pub struct WaitResult {
    pub pid: i32,
    pub uid: u32,
    /// CLD_*.
    pub code: i32,
    /// Exit code or signal, as in `si_status`.
    pub status: i32,
    /// The status word of wait4(2).
    pub wait_status: i32,
    pub usage: Rusage,
}

impl CurrentTask {
    /// The next change of state, or `None` with `no_hang`. `ECHILD` without such children.
    pub fn wait_for_child(&mut self, request: &WaitRequest) -> SysResult<Option<WaitResult>> {
        if request.no_hang {
            return self.look_for_child(request);
        }
        let group = self.thread_group().clone();
        self.block_until(
            None,
            |task| group.child_queue.register(task.waker().clone(), EventMask::READABLE),
            |task| task.look_for_child(request),
        )
    }

    fn look_for_child(&mut self, request: &WaitRequest) -> SysResult<Option<WaitResult>> {
        let group = self.thread_group().clone();
        let tid = self.tid();
        let mut members = self.kernel().tasks.lock();
        let Some(own) = members.processes.get(&group.pid()) else { return err!(ECHILD) };
        let candidates: Vec<i32> = match request.target {
            WaitTarget::Pid(pid) => own.children.get(&pid).copied().into_iter().collect(),
            _ => own.children.iter().copied().collect(),
        };
        let mut any = false;
        if let Some(found) = members.take_tracee(&group, request, &mut any) {
            return Ok(Some(found));
        }
        for pid in candidates {
            let Some(child) = members.processes.get(&pid) else { continue };
            if !request.matches(child, tid) {
                continue;
            }
            any = true;
            if child.traced_by_other(group.pid()) {
                continue;
            }
            if let Some(result) = child.report(request) {
                if result.is_end() && !request.keep {
                    reap(&mut members, &group, pid);
                }
                return Ok(Some(result));
            }
        }
        if any { Ok(None) } else { err!(ECHILD) }
    }
}

impl WaitResult {
    fn is_end(&self) -> bool {
        matches!(self.code, si_code::CLD_EXITED | si_code::CLD_KILLED | si_code::CLD_DUMPED)
    }
}

impl WaitRequest {
    fn matches(&self, child: &Process, tid: i32) -> bool {
        let group = &child.group;
        let is_clone = group.exit_signal.load(Ordering::Relaxed) != Signal::CHLD.number();
        let kind = match self.kind {
            WaitKind::All => true,
            WaitKind::Clone => is_clone,
            WaitKind::Normal => !is_clone,
        };
        let target = match self.target {
            WaitTarget::Any => true,
            WaitTarget::Pid(pid) => group.pid() == pid,
            WaitTarget::Group(pgid) => group.process_group_id() == pgid,
        };
        kind && target && (!self.own_thread_only || child.parent_tid == tid)
    }
}

impl Process {
    /// What there is to report of this child, if anything.
    fn report(&self, request: &WaitRequest) -> Option<WaitResult> {
        let pid = self.group.pid();
        if let Some(zombie) = &self.zombie {
            let (code, status) = zombie.status.code_and_status();
            return request.exited.then_some(WaitResult {
                pid,
                uid: zombie.uid,
                code,
                status,
                wait_status: zombie.status.wait_status(),
                usage: zombie.usage,
            });
        }
        let uid = self.group.leader().map_or(0, |leader| leader.cred().uid);
        let report = {
            let mut state = self.group.state.lock();
            let wanted = match state.report? {
                StateReport::Stopped(_) => request.stopped,
                StateReport::Continued => request.continued,
            };
            if !wanted {
                return None;
            }
            if request.keep { state.report } else { state.report.take() }
        }?;
        let (code, status, wait_status) = match report {
            StateReport::Stopped(signal) => {
                (si_code::CLD_STOPPED, signal.number(), signal.number() << 8 | 0x7f)
            }
            StateReport::Continued => (si_code::CLD_CONTINUED, Signal::CONT.number(), 0xffff),
        };
        Some(WaitResult { pid, uid, code, status, wait_status, usage: self.group.usage() })
    }
}

impl Process {
    /// Another process traces it: that one hears of its end first.
    fn traced_by_other(&self, pid: i32) -> bool {
        self.zombie.is_some() && self.tracer.is_some_and(|tracer| tracer != pid)
    }
}

impl Members {
    /// The tracer has heard of this end, or never will: it is the parent's turn.
    pub(super) fn release_tracee(&mut self, end: &TraceeEnd) {
        let Some(process) = self.processes.get_mut(&end.tid) else { return };
        if process.tracer != Some(end.tracer) {
            return;
        }
        process.tracer = None;
        if let (group, Some(zombie)) = (process.group.clone(), process.zombie) {
            group.tell_parent_of_end(self, zombie.status);
        }
    }

    /// Stops of tracees, and ends of those that are no children of the tracer `group`.
    fn take_tracee(
        &mut self,
        group: &ThreadGroup,
        request: &WaitRequest,
        any: &mut bool,
    ) -> Option<WaitResult> {
        let pid = group.pid();
        let wanted = |task: &Task| match request.target {
            WaitTarget::Any => true,
            WaitTarget::Pid(tid) => task.tid() == tid,
            WaitTarget::Group(pgid) => task.thread_group().process_group_id() == pgid,
        };
        for task in self.tasks() {
            if !task.is_traced() || task.tracer_pid() != Some(pid) || !wanted(task) {
                continue;
            }
            *any = true;
            if let Some(code) = task.take_trace_stop(request.keep) {
                return Some(WaitResult {
                    pid: task.tid(),
                    uid: task.cred().uid,
                    code: si_code::CLD_TRAPPED,
                    status: code & 0xff | code & 0xff00,
                    wait_status: code << 8 | 0x7f,
                    usage: Rusage::default(),
                });
            }
        }
        let ended = self.tracee_ends.iter().position(|end| {
            end.tracer == pid
                && match request.target {
                    WaitTarget::Any => true,
                    WaitTarget::Pid(tid) => end.tid == tid,
                    WaitTarget::Group(_) => false,
                }
        })?;
        *any = true;
        if !request.exited {
            return None;
        }
        let end = *self.tracee_ends.get(ended)?;
        if !request.keep {
            self.tracee_ends.remove(ended);
            self.release_tracee(&end);
        }
        let (code, status) = end.status.code_and_status();
        Some(WaitResult {
            pid: end.tid,
            uid: end.uid,
            code,
            status,
            wait_status: end.status.wait_status(),
            usage: Rusage::default(),
        })
    }
}

/// The zombie goes; its times count as the parent's children's.
fn reap(members: &mut Members, parent: &Arc<ThreadGroup>, pid: i32) {
    let Some(child) = members.processes.get(&pid).map(|process| process.group.clone()) else {
        return;
    };
    let mut times = child.cpu_times();
    times.add(child.child_cpu_times());
    let max_rss = {
        let state = child.state.lock();
        state.max_rss.max(state.child_max_rss)
    };
    {
        let mut state = parent.state.lock();
        state.child_times.add(times);
        state.child_max_rss = state.child_max_rss.max(max_rss);
    }
    child.reap(members);
}
