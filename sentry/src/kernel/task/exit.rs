//! Ending a thread, and with the last one a process (`do_exit` in `kernel/exit.c`).

use std::sync::{Arc, atomic::Ordering};

use linux_abi::{
    SigInfo, Signal,
    process::Rusage,
    signal::{SigAction, sa},
};

use super::{RunState, Task};
use crate::{
    kernel::{
        CurrentTask, ExitStatus, MAX_TASKS, ThreadGroup,
        task_set::{Members, TraceeEnd, Zombie},
    },
    mm::MemoryManager,
    syscalls::Outcome,
    user::{UserAddr, UserMemory, UserRef},
    wait::EventMask,
};

impl CurrentTask {
    /// exit(2): this thread alone.
    pub fn exit_thread(&mut self, code: i32) -> Outcome {
        self.exit_code = ExitStatus::Exited(code as u8);
        Outcome::Exit
    }

    /// exit_group(2): the whole process.
    pub fn exit_group(&mut self, code: i32) -> Outcome {
        let group = self.task.thread_group();
        let mut state = group.state.lock();
        group.begin_exit(&mut state, ExitStatus::Exited(code as u8));
        self.exit_code = state.exit.unwrap_or(ExitStatus::Exited(code as u8));
        drop(state);
        Outcome::Exit
    }

    /// Gives everything back and leaves the books. The last thing a task's thread does.
    pub(super) fn exit(mut self) {
        self.rseq = None;
        self.trace_exit();
        self.release_memory();
        let task = self.task.clone();
        let status = self.exit_code;
        task.thread_group().note_memory(&self.mm);
        let (mm, fds, fs) = {
            let mut shared = task.shared.lock();
            (shared.mm.take(), shared.fds.take(), shared.fs.take())
        };
        drop((mm, fs));
        drop(fds);
        self.seccomp = None;
        let space = self.mm.space().clone();
        // Dropping the context may end the stub: before the parent hears that the child is gone.
        drop(self);
        task.clock_end();
        task.leave(status);
        // While the parent takes note. Without init there is nobody to use any of it again.
        if task.pid() != 1 {
            task.kernel().memory().settle();
            task.kernel().platform().recycle(space);
        }
    }

    /// Robust futexes, the thread id for pthread_join, the vfork parent.
    pub(in crate::kernel) fn release_memory(&mut self) {
        self.exit_robust_list();
        self.clear_child_tid_word();
        self.vfork_child = None;
    }

    /// Who waits for this thread in memory that others share hears that it is gone.
    pub(super) fn clear_child_tid_word(&mut self) {
        let clear = std::mem::take(&mut self.clear_child_tid);
        // Our own reference, and the one others can see.
        if clear != 0 && Arc::strong_count(&self.mm) > 2 {
            // Someone else may wait for it in this memory.
            if self.mm.write_obj(UserRef::<i32>::new(clear), &0).is_ok() {
                self.wake_futex_at(UserAddr(clear), 1);
            }
        }
    }
}

impl Task {
    /// Out of the thread group; the last one takes the process with it.
    pub(super) fn leave(&self, status: ExitStatus) {
        let group = self.thread_group();
        let kernel = self.kernel();
        let times = self.cpu_times();
        let mut members = kernel.tasks.lock();
        self.set_run_state(RunState::Zombie);
        let last = {
            let mut state = group.state.lock();
            state.threads.retain(|thread| !std::ptr::eq(&**thread, self));
            state.ended_times.add(times);
            if self.is_leader() {
                state.leader_exit = Some(status);
            }
            if let Some(exec) = &state.exec
                && state.threads.len() == 1
            {
                exec.waker.wake();
            }
            if !state.threads.is_empty() {
                // The others may all stand already.
                state.complete_stop();
            }
            state.threads.is_empty()
        };
        signal_orphans(&members, group, self.tid());
        if last {
            release_tracee_ends(&mut members, group.pid());
        }
        if let Some(tracer) = self.tracer_pid()
            && (!self.is_leader() || (last && tracer != group.ppid()))
        {
            note_tracee_end(&mut members, self, tracer, status);
        }
        if !self.is_leader() {
            drop(members.remove_thread(self.tid()));
            self.set_run_state(RunState::Dead);
            kernel.tasks.unreserve();
        }
        if last {
            // Before the parent hears of it.
            kernel.semaphores.undo(group.pid());
            group.end(&mut members, status);
        }
    }
}

/// A tracer waits for the end of its tracee, though it is no child.
fn note_tracee_end(members: &mut Members, task: &Task, tracer: i32, status: ExitStatus) {
    let Some(process) = members.processes.get(&tracer) else { return };
    let group = process.group.clone();
    let end = TraceeEnd { tracer, tid: task.tid(), uid: task.cred().uid, status };
    if members.tracee_ends.len() >= MAX_TASKS {
        // A tracer that never waits loses the oldest.
        let oldest = members.tracee_ends.remove(0);
        members.release_tracee(&oldest);
    }
    members.tracee_ends.push(end);
    if task.is_leader()
        && let Some(process) = members.processes.get_mut(&task.pid())
    {
        process.tracer = Some(tracer);
    }
    group.child_queue.wake(EventMask::READABLE);
}

/// Tracees whose ends this tracer did not wait for before its own: now their parents hear of them.
fn release_tracee_ends(members: &mut Members, tracer: i32) {
    let all = std::mem::take(&mut members.tracee_ends);
    let (own, others) = all.into_iter().partition(|end| end.tracer == tracer);
    members.tracee_ends = others;
    let own: Vec<TraceeEnd> = own;
    own.iter().for_each(|end| members.release_tracee(end));
}

/// PR_SET_PDEATHSIG: children made by this thread hear of its end.
fn signal_orphans(members: &Members, parent: &ThreadGroup, parent_tid: i32) {
    let Some(process) = members.processes.get(&parent.pid()) else { return };
    for pid in &process.children {
        let Some(child) = members.processes.get(pid) else { continue };
        if child.parent_tid != parent_tid {
            continue;
        }
        let threads = child.group.threads();
        for thread in threads {
            let signal = thread.parent_death_signal.load(Ordering::Relaxed);
            if let Some(signal) = Signal::new(signal) {
                let info = SigInfo::from_user(signal, 0, parent.pid(), 0);
                let _ = child.group.send_signal(info);
            }
        }
    }
}

impl ThreadGroup {
    /// The last thread has left: the process is a zombie, or gone at once if no one cares.
    fn end(&self, members: &mut Members, last_status: ExitStatus) {
        self.timers.disarm_all();
        let status = {
            let mut state = self.state.lock();
            let status = state.exit.or(state.leader_exit).unwrap_or(last_status);
            state.exit = Some(status);
            status
        };
        self.mark_exiting();
        self.leave_terminal(members);
        self.orphan_groups(members);
        self.give_children_away(members);
        let uid = self.leader().map_or(0, |leader| leader.cred().uid);
        if let Some(process) = members.processes.get_mut(&self.pid()) {
            process.zombie = Some(Zombie { status, usage: self.usage(), uid });
        }
        self.exit_queue.wake(EventMask::READABLE | EventMask::HUP);
        if self.pid() == 1 {
            self.end_sandbox(members, status);
        }
        let traced = members.processes.get(&self.pid()).is_some_and(|it| it.tracer.is_some());
        if !traced {
            self.tell_parent_of_end(members, status);
        }
    }

    /// SIGCHLD (or what clone asked for); a parent that ignores it needs no zombie.
    pub(in crate::kernel) fn tell_parent_of_end(&self, members: &mut Members, status: ExitStatus) {
        let parent = members.processes.get(&self.ppid()).map(|process| process.group.clone());
        let Some(parent) = parent else {
            if self.pid() != 1 {
                self.reap(members);
            }
            return;
        };
        let exit_signal = self.exit_signal.load(Ordering::Relaxed);
        let mut wanted = true;
        if let Some(signal) = Signal::new(exit_signal) {
            let action = parent.handlers().get(Signal::CHLD);
            if signal == Signal::CHLD
                && (action.handler == SigAction::IGN || action.flags & sa::NOCLDWAIT != 0)
            {
                wanted = false;
            }
            if signal != Signal::CHLD || action.handler != SigAction::IGN {
                let (code, status) = status.code_and_status();
                let mut info = self.child_info(code, status);
                info.signo = signal.number();
                let _ = parent.send_signal(info);
            }
        }
        if !wanted {
            self.reap(members);
        }
        parent.child_queue.wake(EventMask::READABLE);
    }

    /// Takes the zombie out of the books.
    pub(in crate::kernel) fn reap(&self, members: &mut Members) {
        if members.remove_process(self.pid()).is_some() {
            self.state.lock().leader = None;
            self.kernel().tasks.unreserve();
        }
    }

    /// Children go to the nearest ancestor that asked for them, or to init.
    fn give_children_away(&self, members: &mut Members) {
        let heir = self.heir(members);
        let Some(process) = members.processes.get_mut(&self.pid()) else { return };
        let children = std::mem::take(&mut process.children);
        for pid in &children {
            let Some(child) = members.processes.get_mut(pid) else { continue };
            child.parent_tid = heir;
            child.group.ppid.store(heir, Ordering::Relaxed);
            // Whoever adopts it can only be told with SIGCHLD.
            let before = child.group.exit_signal.swap(Signal::CHLD.number(), Ordering::Relaxed);
            let _ = before;
            let group = child.group.clone();
            let zombie = child.zombie;
            if let Some(parent) = members.processes.get_mut(&heir) {
                parent.children.insert(*pid);
            }
            if let Some(zombie) = zombie {
                group.tell_parent_of_end(members, zombie.status);
            }
        }
    }

    fn heir(&self, members: &Members) -> i32 {
        let mut at = self.ppid();
        while let Some(process) = members.processes.get(&at) {
            if process.zombie.is_none()
                && !process.group.is_exiting()
                && (process.group.is_subreaper.load(Ordering::Relaxed) || at == 1)
            {
                return at;
            }
            if process.group.ppid() == at {
                break;
            }
            at = process.group.ppid();
        }
        if self.pid() == 1 { 0 } else { 1 }
    }

    /// Stopped groups which this end leaves without anyone to continue them: SIGHUP, SIGCONT.
    fn orphan_groups(&self, members: &Members) {
        let mut groups: Vec<i32> = vec![];
        let Some(process) = members.processes.get(&self.pid()) else { return };
        for pid in &process.children {
            if let Some(child) = members.processes.get(pid) {
                let pgid = child.group.process_group_id();
                if pgid != self.process_group_id()
                    && child.group.session_id() == self.session_id()
                    && !groups.contains(&pgid)
                {
                    groups.push(pgid);
                }
            }
        }
        let own = self.process_group_id();
        if !members.is_orphaned(own, None) && !groups.contains(&own) {
            groups.push(own);
        }
        for pgid in groups {
            let orphaned = if pgid == own {
                members.is_orphaned(pgid, Some(self.pid()))
            } else {
                members.is_orphaned_without_parent(pgid, self.pid())
            };
            if orphaned && members.has_stopped(pgid) {
                for member in members.group_members(pgid) {
                    let _ = member.send_signal(SigInfo::kernel(Signal::HUP));
                    let _ = member.send_signal(SigInfo::kernel(Signal::CONT));
                }
            }
        }
    }

    /// The end of a session's leader takes the terminal from the session.
    fn leave_terminal(&self, members: &Members) {
        if self.session_id() != self.pid() {
            return;
        }
        let Some(session) = members.session(self.pid()) else { return };
        let Some(tty) = session.set_tty(None) else { return };
        let foreground = tty.leave_session();
        for member in members.group_members(foreground) {
            let _ = member.send_signal(SigInfo::kernel(Signal::HUP));
            let _ = member.send_signal(SigInfo::kernel(Signal::CONT));
        }
    }

    /// Without init there is no sandbox.
    fn end_sandbox(&self, members: &mut Members, status: ExitStatus) {
        members.closing = true;
        for process in members.processes.values() {
            if process.group.pid() != 1 {
                process.group.kill();
            }
        }
        self.kernel().note_init_ended(status);
    }

    /// What getrusage(2) and wait4(2) report of the process itself.
    pub fn usage(&self) -> Rusage {
        use linux_abi::time::Timeval;
        let times = self.cpu_times();
        Rusage {
            utime: Timeval::from_ns(times.user_ns),
            stime: Timeval::from_ns(times.system_ns),
            maxrss: self.state.lock().max_rss,
            ..Rusage::default()
        }
    }

    /// Remembers how much memory it has used. Divergence: what its own stack, data and code could hold; how much of
    /// it was ever touched would take host calls at each exit.
    pub(crate) fn note_memory(&self, mm: &MemoryManager) {
        let pages = mm.in_use_at_most() / 1024;
        let mut state = self.state.lock();
        state.max_rss = state.max_rss.max(pages as i64);
    }
}
