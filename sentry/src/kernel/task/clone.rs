//! Making tasks: fork, vfork, clone, clone3 (clone(2), `copy_process` in `kernel/fork.c`).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use linux_abi::process::Rlimit;

use super::{
    Task, TaskShared, TaskWaker,
    run::{Start, spawn},
};
use crate::{
    Errno, Restart, SysResult, err,
    kernel::{
        Capability, CurrentTask, SleepEnd, ThreadGroup, limits, signal::Forking,
        thread_group::Inherited,
    },
    mm::MemoryManager,
    user::{UserMemory, UserRef},
};

/// Namespaces a guest cannot have more of, or not yet. CLONE_NEWUTS and CLONE_NEWNS have their own handling.
const OTHER_NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS) as u32 as u64
    | CLONE_NEWTIME;
const CLONE_NEWTIME: u64 = 0x80;
pub(crate) const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
pub(crate) const CLONE_INTO_CGROUP: u64 = 1 << 33;

const VM: u64 = libc::CLONE_VM as u64;
const FS: u64 = libc::CLONE_FS as u64;
const FILES: u64 = libc::CLONE_FILES as u64;
const SIGHAND: u64 = libc::CLONE_SIGHAND as u64;
const PIDFD: u64 = libc::CLONE_PIDFD as u64;
const VFORK: u64 = libc::CLONE_VFORK as u64;
const PARENT: u64 = libc::CLONE_PARENT as u64;
const THREAD: u64 = libc::CLONE_THREAD as u64;
const SETTLS: u64 = libc::CLONE_SETTLS as u64;
const PARENT_SETTID: u64 = libc::CLONE_PARENT_SETTID as u64;
const CHILD_CLEARTID: u64 = libc::CLONE_CHILD_CLEARTID as u64;
const DETACHED: u64 = libc::CLONE_DETACHED as u64;
const CHILD_SETTID: u64 = libc::CLONE_CHILD_SETTID as u64;

/// Arguments of clone(2) in its three forms.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// CLONE_*, without the exit signal.
    pub flags: u64,
    /// The signal for the parent when the child ends; 0: none.
    pub exit_signal: i32,
    /// New stack pointer; 0: the parent's.
    pub stack: u64,
    pub tls: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    /// Where the pidfd goes.
    pub pidfd: u64,
}

/// Tells a parent in vfork(2) that its memory is its own again.
#[derive(Debug)]
pub(in crate::kernel) struct VforkDone {
    done: AtomicBool,
    parent: Arc<TaskWaker>,
}

/// The child's side: dropped when the child has left its parent's memory, or could not even begin.
#[derive(Debug)]
pub(in crate::kernel) struct VforkChild(Arc<VforkDone>);

impl Drop for VforkChild {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::SeqCst);
        self.0.parent.wake();
    }
}

impl CloneRequest {
    fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// The combinations clone(2) refuses.
    fn check(&self) -> SysResult<()> {
        let without = |flag, needed| self.has(flag) && !self.has(needed);
        if without(THREAD, SIGHAND)
            || without(SIGHAND, VM)
            || (self.has(SIGHAND) && self.has(CLONE_CLEAR_SIGHAND))
            || (self.has(PIDFD) && self.has(DETACHED))
            || self.has(CLONE_INTO_CGROUP)
            || (self.has(libc::CLONE_NEWNS as u64) && self.has(FS))
            || (self.has(libc::CLONE_NEWUSER as u64) && self.has(FS | THREAD))
        {
            return err!(EINVAL);
        }
        Ok(())
    }
}

impl CurrentTask {
    /// Makes a child process or thread; its id.
    pub fn clone_task(&mut self, request: &CloneRequest) -> SysResult<i32> {
        request.check()?;
        self.check_namespaces(request.flags)?;
        if request.has(PARENT) && self.pid() == 1 {
            return err!(EINVAL);
        }
        // What comes after the next line is for the child as well.
        let forking = (!request.has(THREAD)).then(|| Forking::begin(self));
        // A fatal signal or stop comes first, and fork starts again (ERESTARTNOINTR).
        if forking.is_some() && !self.deliverable().is_empty() || self.must_die() {
            return Err(Restart::Always.into());
        }
        self.check_process_limit()?;
        let kernel = self.kernel().clone();
        kernel.tasks.reserve()?;
        let made = self.make_child(request);
        drop(forking);
        if made.is_err() {
            kernel.tasks.unreserve();
        }
        let (child, vfork) = made?;
        let tid = child.tid();
        self.trace_cloned(tid, request.flags, request.exit_signal);
        if let Some(vfork) = vfork {
            self.wait_for_vfork(&vfork);
            self.trace_vfork_done(tid);
        }
        Ok(tid)
    }

    fn check_namespaces(&self, flags: u64) -> SysResult<()> {
        // Divergence: no more namespaces inside a sandbox; programs fall back as they do where
        // user namespaces are switched off.
        if flags & OTHER_NAMESPACES != 0 {
            return err!(EPERM);
        }
        Ok(())
    }

    /// RLIMIT_NPROC counts the tasks of the user, and does not hold for the privileged.
    fn check_process_limit(&self) -> SysResult<()> {
        let limit = self.thread_group().limits().soft(libc::RLIMIT_NPROC);
        let tasks = &self.kernel().tasks;
        if (tasks.count() as u64) < limit {
            return Ok(());
        }
        let cred = self.cred();
        if cred.uid == 0 || cred.has(Capability::SYS_RESOURCE) || cred.has(Capability::SYS_ADMIN) {
            return Ok(());
        }
        let all: Vec<Arc<Task>> = tasks.lock().tasks().cloned().collect();
        let own = all.iter().filter(|task| task.cred().uid == cred.uid).count();
        if own as u64 >= limit { err!(EAGAIN) } else { Ok(()) }
    }

    fn make_child(
        &mut self,
        request: &CloneRequest,
    ) -> SysResult<(Arc<Task>, Option<Arc<VforkDone>>)> {
        let mut registers = *self.context.registers().map_err(|_| Errno::EAGAIN)?;
        registers.rax = 0;
        registers.orig_rax = u64::MAX;
        if request.stack != 0 {
            registers.rsp = request.stack;
        }
        if request.has(SETTLS) {
            registers.fs_base = request.tls;
        }
        let xstate = self.context.xstate().map_err(|_| Errno::EAGAIN)?.clone();
        let shared = self.child_resources(request)?;
        let child = if request.has(THREAD) {
            self.add_thread(shared)?
        } else {
            self.add_process(request, shared)?
        };
        self.inherit(&child, request);
        if let Err(errno) = self.publish(request, &child) {
            self.undo(&child);
            return Err(errno.into());
        }
        let vfork = request.has(VFORK).then(|| {
            Arc::new(VforkDone { done: AtomicBool::new(false), parent: self.waker().clone() })
        });
        self.waker().prepare();
        let start = Start {
            task: child.clone(),
            registers,
            xstate: Some(xstate),
            prepare: self.child_setup(request, vfork.clone().map(VforkChild)),
        };
        if let Err(errno) = spawn(start) {
            self.undo(&child);
            return Err(errno.into());
        }
        Ok((child, vfork))
    }

    /// Memory, files, credentials: shared or copied.
    fn child_resources(&self, request: &CloneRequest) -> SysResult<TaskShared> {
        let mut shared = self.task.shared.lock().clone();
        shared.robust_list = 0;
        if !request.has(VM) {
            shared.mm = Some(self.fork_memory()?);
        }
        if !request.has(FILES) {
            shared.fds = Some(self.fds.duplicate());
        }
        if !request.has(FS) {
            shared.fs = Some(self.fs.duplicate());
        }
        Ok(shared)
    }

    fn fork_memory(&self) -> SysResult<Arc<MemoryManager>> {
        let space = self.kernel().platform().new_address_space().map_err(|error| {
            tracing::warn!(%error, "fork");
            Errno::EAGAIN
        })?;
        Ok(self.mm.fork(space, self.thread_group().thread_count() == 1)?)
    }

    fn add_thread(&self, shared: TaskShared) -> SysResult<Arc<Task>> {
        let group = self.thread_group();
        let mut members = self.kernel().tasks.lock();
        let tid = members.allocate_pid()?;
        let child = Arc::new(Task::new(tid, group.clone(), shared));
        {
            let mut state = group.state.lock();
            if state.exit.is_some() || state.exec.is_some() {
                return Err(Restart::Always.into());
            }
            state.threads.push(child.clone());
            if state.stop.is_some() {
                child.interrupt();
            }
        }
        members.insert_thread(child.clone());
        Ok(child)
    }

    fn add_process(&self, request: &CloneRequest, shared: TaskShared) -> SysResult<Arc<Task>> {
        let group = self.thread_group();
        let handlers = if request.has(SIGHAND) {
            group.handlers()
        } else {
            group.handlers().copy(request.has(CLONE_CLEAR_SIGHAND))
        };
        let limits: [Rlimit; limits::COUNT] = group.limits().all();
        let mut members = self.kernel().tasks.lock();
        if members.closing {
            return err!(ENOMEM);
        }
        let meanwhile = {
            let state = group.state.lock();
            if state.exit.is_some() {
                return Err(Restart::Always.into());
            }
            state.forks.of(self.tid())
        };
        let pid = members.allocate_pid()?;
        let sibling = request.has(PARENT);
        let inherited = Inherited {
            ppid: if sibling { group.ppid() } else { group.pid() },
            pgid: group.process_group_id(),
            sid: group.session_id(),
            exit_signal: if sibling {
                group.exit_signal.load(Ordering::Relaxed)
            } else {
                request.exit_signal
            },
            handlers,
            limits,
            dumpable: group.dumpable(),
            oom_score_adj: group.oom_score_adj.load(Ordering::Relaxed),
        };
        let parent_tid = if sibling {
            members.processes.get(&group.pid()).map_or(0, |process| process.parent_tid)
        } else {
            self.tid()
        };
        let (child_group, child) = ThreadGroup::new(self.kernel().clone(), pid, inherited, shared);
        child_group.inherit_signals(meanwhile);
        members.insert_process(child_group, child.clone(), parent_tid);
        Ok(child)
    }

    /// What a child gets of its parent's own state.
    fn inherit(&self, child: &Task, request: &CloneRequest) {
        child.set_blocked_raw(self.blocked());
        for (to, from) in [
            (&child.nice, &self.task.nice),
            (&child.priority, &self.task.priority),
            (&child.io_priority, &self.task.io_priority),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        const RESET_ON_FORK: u32 = 0x4000_0000;
        let policy = self.task.policy.load(Ordering::Relaxed);
        if policy & RESET_ON_FORK == 0 {
            child.policy.store(policy, Ordering::Relaxed);
        } else {
            child.priority.store(0, Ordering::Relaxed);
            child.nice.store(child.nice().max(0), Ordering::Relaxed);
        }
        let slack = self.task.timer_slack_ns.load(Ordering::Relaxed);
        child.timer_slack_ns.store(slack, Ordering::Relaxed);
        child.default_timer_slack_ns.store(slack, Ordering::Relaxed);
        child.seccomp_mode.store(self.task.seccomp_mode(), Ordering::Relaxed);
        let affinity = self.task.affinity.lock().clone();
        *child.affinity.lock() = affinity;
        self.trace_new_child(child, request.flags, request.exit_signal);
    }

    /// Tells the parent's memory and descriptors about the child, before it runs.
    fn publish(&mut self, request: &CloneRequest, child: &Arc<Task>) -> Result<(), Errno> {
        if request.has(PIDFD) {
            let target = child.clone();
            let fd = self.install_pidfd(&target, request.has(THREAD))?;
            let at = UserRef::<i32>::new(request.pidfd);
            if let Err(errno) = self.mm.write_obj(at, &fd.0) {
                let _ = self.fds.remove(fd);
                return Err(errno);
            }
        }
        if request.has(PARENT_SETTID) {
            // As in Linux, an address that cannot be written is not an error here.
            let _ = self.mm.write_obj(UserRef::<i32>::new(request.parent_tid), &child.tid());
        }
        Ok(())
    }

    /// What the child's own thread does first.
    fn child_setup(
        &self,
        request: &CloneRequest,
        vfork: Option<VforkChild>,
    ) -> Box<dyn FnOnce(&mut CurrentTask) + Send> {
        let request = *request;
        // A child in the same memory must not run its handlers on the parent's alternate stack.
        let keeps_stack = !request.has(VM) || request.has(VFORK);
        let alt_stack = keeps_stack.then_some(self.alt_stack);
        let own_memory = !request.has(VM);
        let rseq = self.rseq_registration().filter(|_| own_memory);
        Box::new(move |task| {
            task.vfork_child = vfork;
            if let Some(stack) = alt_stack {
                task.alt_stack = stack;
            }
            if request.has(CHILD_CLEARTID) {
                task.clear_child_tid = request.child_tid;
            }
            if request.has(CHILD_SETTID) {
                let tid = task.tid();
                let _ = task.mm.write_obj(UserRef::<i32>::new(request.child_tid), &tid);
            }
            if own_memory && let Err(errno) = task.mm.finish_fork() {
                // Too late for the parent to hear of it.
                tracing::warn!(pid = task.pid(), %errno, "a new process has no memory; killed");
                task.thread_group().kill();
            }
            if rseq.is_some() {
                task.set_rseq(rseq);
            }
            task.refresh_slow_entry();
        })
    }

    /// Takes a child out again that never ran.
    fn undo(&self, child: &Arc<Task>) {
        child.set_run_state(super::RunState::Dead);
        let mut members = self.kernel().tasks.lock();
        if Arc::ptr_eq(child.thread_group(), self.thread_group()) {
            let mut state = child.thread_group().state.lock();
            state.threads.retain(|thread| !Arc::ptr_eq(thread, child));
            drop(state);
            members.remove_thread(child.tid());
        } else {
            child.thread_group().state.lock().threads.clear();
            child.thread_group().state.lock().leader = None;
            drop(members.remove_process(child.pid()));
        }
        let shared = &mut *child.shared.lock();
        (shared.mm, shared.fds, shared.fs) = (None, None, None);
    }

    /// Until the child has left our memory or ended; only death interrupts it.
    fn wait_for_vfork(&mut self, vfork: &VforkDone) {
        loop {
            if vfork.done.load(Ordering::SeqCst) {
                return;
            }
            self.waker().prepare();
            if vfork.done.load(Ordering::SeqCst)
                || self.sleep_killable(None) == SleepEnd::Interrupted
            {
                return;
            }
        }
    }
}
