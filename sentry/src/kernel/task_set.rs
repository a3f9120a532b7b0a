//! The pid table and the family tree: everything one lock decides about who is whose.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use linux_abi::{Errno, process::Rusage};
use ranked_sync::{Mutex, MutexGuard};

use super::{ExitStatus, Session, Task, ThreadGroup, session::ProcessGroup};
use crate::lock_order;

/// The number of the first process of a sandbox.
pub(super) const INIT: i32 = 1;

/// Pids are below this (`PID_MAX_LIMIT` on 64-bit).
const PID_MAX: i32 = 4 << 20;
/// After a wrap, low pids are left to daemons (`RESERVED_PIDS`).
const RESERVED_PIDS: i32 = 300;
/// Tasks a sandbox may have (`kernel.threads-max`).
pub const MAX_TASKS: usize = 30_000;

/// See the module.
pub struct TaskSet {
    members: Mutex<lock_order::TaskSet, Members>,
    /// Living tasks, ended or not reaped ones included.
    count: AtomicUsize,
    /// Host threads that serve tasks.
    living: AtomicUsize,
    max: usize,
}

/// Everything under the lock.
#[derive(Default)]
pub(super) struct Members {
    tasks: BTreeMap<i32, Arc<Task>>,
    pub(super) processes: BTreeMap<i32, Process>,
    groups: BTreeMap<i32, ProcessGroup>,
    sessions: BTreeMap<i32, Arc<Session>>,
    last_pid: i32,
    /// Not yet waited for by their tracers.
    pub(super) tracee_ends: Vec<TraceeEnd>,
    /// Init is ending: no more forks.
    pub(super) closing: bool,
}

/// A process and its family.
pub(super) struct Process {
    pub(super) group: Arc<ThreadGroup>,
    /// The thread that made it, for __WNOTHREAD and PR_SET_PDEATHSIG.
    pub(super) parent_tid: i32,
    pub(super) children: BTreeSet<i32>,
    /// It has ended and waits to be waited for.
    pub(super) zombie: Option<Zombie>,
    /// The process that traced it when it ended, if that is not its parent.
    pub(super) tracer: Option<i32>,
}

/// A tracee that ended and is no child of its tracer.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceeEnd {
    pub(super) tracer: i32,
    pub(super) tid: i32,
    pub(super) uid: u32,
    pub(super) status: ExitStatus,
}

/// What is left of a process that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zombie {
    pub(super) status: ExitStatus,
    pub(super) usage: Rusage,
    pub(super) uid: u32,
}

impl TaskSet {
    pub(super) fn lock(&self) -> MutexGuard<'_, lock_order::TaskSet, Members> {
        self.members.lock()
    }

    /// The task with that thread id; ended leaders are there until they are reaped.
    pub fn task(&self, tid: i32) -> Option<Arc<Task>> {
        self.lock().tasks.get(&tid).cloned()
    }

    /// The process with that id, also when it has ended and is not reaped.
    pub fn process(&self, pid: i32) -> Option<Arc<ThreadGroup>> {
        self.lock().processes.get(&pid).map(|process| process.group.clone())
    }

    /// All processes, in the order of their ids.
    pub fn processes(&self) -> Vec<Arc<ThreadGroup>> {
        self.lock().processes.values().map(|process| process.group.clone()).collect()
    }

    /// The processes of a process group.
    pub fn process_group(&self, pgid: i32) -> Vec<Arc<ThreadGroup>> {
        self.lock().group_members(pgid)
    }

    /// The session of a process group, if there is one.
    pub fn session_of_group(&self, pgid: i32) -> Option<i32> {
        self.lock().groups.get(&pgid).map(|group| group.session)
    }

    pub fn session(&self, sid: i32) -> Option<Arc<Session>> {
        self.lock().session(sid)
    }

    /// No member has a parent in another group of the same session (`is_current_pgrp_orphaned`): job-control
    /// stops do not happen in it.
    pub fn is_orphaned(&self, pgid: i32) -> bool {
        self.lock().is_orphaned(pgid, None)
    }

    /// The children of a process, for /proc/PID/task/TID/children.
    pub fn children(&self, pid: i32) -> Vec<i32> {
        let members = self.lock();
        members
            .processes
            .get(&pid)
            .map_or_else(Vec::new, |it| it.children.iter().copied().collect())
    }

    /// Tasks that exist.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Threads that have not ended.
    pub(super) fn living_threads(&self) -> usize {
        self.living.load(Ordering::SeqCst)
    }

    pub(super) fn note_thread_started(&self) {
        self.living.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn note_thread_ended(&self) {
        self.living.fetch_sub(1, Ordering::SeqCst);
    }

    /// The id used last, for /proc/loadavg.
    pub fn last_pid(&self) -> i32 {
        self.lock().last_pid
    }

    /// Has it ended, and waits for its parent to notice?
    pub fn is_zombie(&self, pid: i32) -> bool {
        self.lock().processes.get(&pid).is_some_and(|process| process.zombie.is_some())
    }

    /// setpgid(2): `own` moves `pid` to the group `pgid`.
    pub(crate) fn change_process_group(&self, own: i32, pid: i32, pgid: i32) -> Result<(), Errno> {
        let mut members = self.lock();
        let target = members.processes.get(&pid).map(|process| process.group.clone());
        let target = target.filter(|it| pid == own || it.ppid() == own).ok_or(Errno::ESRCH)?;
        let me = members.processes.get(&own).map(|it| it.group.clone()).ok_or(Errno::ESRCH)?;
        if pid != own {
            if target.session_id() != me.session_id() {
                return Err(Errno::EPERM);
            }
            if target.did_exec.load(Ordering::Relaxed) {
                return Err(Errno::EACCES);
            }
        }
        if target.session_id() == pid {
            return Err(Errno::EPERM);
        }
        if pgid != pid && members.group_session(pgid) != Some(me.session_id()) {
            return Err(Errno::EPERM);
        }
        members.set_process_group(pid, pgid);
        Ok(())
    }

    /// setsid(2).
    pub(crate) fn start_session(&self, pid: i32) -> Result<i32, Errno> {
        let mut members = self.lock();
        if members.groups.contains_key(&pid) {
            return Err(Errno::EPERM);
        }
        members.new_session(pid);
        Ok(pid)
    }

    /// An empty set, of at most `max` tasks.
    pub(super) fn new(max: usize) -> Self {
        Self {
            members: Mutex::default(),
            count: AtomicUsize::new(0),
            living: AtomicUsize::new(0),
            max,
        }
    }

    /// Tasks there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Nanoseconds of processor time that the tasks used which have not ended.
    pub(super) fn cpu_ns(&self) -> u64 {
        let tasks: Vec<Arc<Task>> = self.lock().tasks.values().cloned().collect();
        let times = tasks.iter().filter_map(|task| task.running_cpu_times());
        times.map(|times| times.user_ns.saturating_add(times.system_ns)).sum()
    }

    /// Counts one more task, or `EAGAIN` at the limit.
    pub(super) fn reserve(&self) -> Result<(), Errno> {
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < self.max).then_some(count + 1)
            })
            .map(drop)
            .map_err(|_| Errno::EAGAIN)
    }

    pub(super) fn unreserve(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Members {
    pub(super) fn session(&self, sid: i32) -> Option<Arc<Session>> {
        self.sessions.get(&sid).cloned()
    }

    pub(super) fn task(&self, tid: i32) -> Option<&Arc<Task>> {
        self.tasks.get(&tid)
    }

    pub(super) fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    pub(super) fn group_members(&self, pgid: i32) -> Vec<Arc<ThreadGroup>> {
        let members = self.groups.get(&pgid).map(|group| &group.members);
        members
            .into_iter()
            .flatten()
            .filter_map(|pid| self.processes.get(pid).map(|process| process.group.clone()))
            .collect()
    }

    pub(super) fn group_session(&self, pgid: i32) -> Option<i32> {
        self.groups.get(&pgid).map(|group| group.session)
    }

    /// An id that no task, group or session has.
    pub(super) fn allocate_pid(&mut self) -> Result<i32, Errno> {
        for _ in 0..PID_MAX {
            let next = self.last_pid.saturating_add(1);
            self.last_pid = if next >= PID_MAX { RESERVED_PIDS } else { next };
            let pid = self.last_pid;
            let taken = self.tasks.contains_key(&pid)
                || self.processes.contains_key(&pid)
                || self.groups.contains_key(&pid)
                || self.sessions.contains_key(&pid);
            if !taken {
                return Ok(pid);
            }
        }
        Err(Errno::EAGAIN)
    }

    pub(super) fn insert_thread(&mut self, task: Arc<Task>) {
        self.tasks.insert(task.tid(), task);
    }

    /// A new process, child of `parent` (`None` for init).
    pub(super) fn insert_process(
        &mut self,
        group: Arc<ThreadGroup>,
        leader: Arc<Task>,
        parent_tid: i32,
    ) {
        let pid = group.pid();
        self.tasks.insert(pid, leader);
        if let Some(parent) = self.processes.get_mut(&group.ppid()) {
            parent.children.insert(pid);
        }
        let (pgid, session) = (group.process_group_id(), group.session_id());
        self.groups
            .entry(pgid)
            .or_insert_with(|| ProcessGroup { session, members: BTreeSet::new() })
            .members
            .insert(pid);
        self.sessions.entry(session).or_insert_with(|| Session::new(session));
        self.processes.insert(
            pid,
            Process { group, parent_tid, children: BTreeSet::new(), zombie: None, tracer: None },
        );
    }

    pub(super) fn remove_thread(&mut self, tid: i32) -> Option<Arc<Task>> {
        self.tasks.remove(&tid)
    }

    /// Takes a reaped process out.
    pub(super) fn remove_process(&mut self, pid: i32) -> Option<Process> {
        let process = self.processes.remove(&pid)?;
        if let Some(leader) = self.tasks.remove(&pid) {
            leader.set_run_state(super::task::RunState::Dead);
        }
        if let Some(parent) = self.processes.get_mut(&process.group.ppid()) {
            parent.children.remove(&pid);
        }
        self.leave_group(pid, process.group.process_group_id());
        Some(process)
    }

    fn leave_group(&mut self, pid: i32, pgid: i32) {
        let Some(group) = self.groups.get_mut(&pgid) else { return };
        group.members.remove(&pid);
        if group.members.is_empty() {
            let session = group.session;
            self.groups.remove(&pgid);
            if !self.groups.values().any(|group| group.session == session) {
                self.sessions.remove(&session);
            }
        }
    }

    /// setpgid(2), checks done.
    pub(super) fn set_process_group(&mut self, pid: i32, pgid: i32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let group = process.group.clone();
        let (before, session) = (group.process_group_id(), group.session_id());
        if before == pgid {
            return;
        }
        self.groups
            .entry(pgid)
            .or_insert_with(|| ProcessGroup { session, members: BTreeSet::new() })
            .members
            .insert(pid);
        group.pgid.store(pgid, Ordering::Relaxed);
        self.leave_group(pid, before);
    }

    /// setsid(2), checks done.
    pub(super) fn new_session(&mut self, pid: i32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let group = process.group.clone();
        self.sessions.insert(pid, Session::new(pid));
        let before = group.process_group_id();
        group.sid.store(pid, Ordering::Relaxed);
        group.pgid.store(pid, Ordering::Relaxed);
        self.groups.insert(pid, ProcessGroup { session: pid, members: BTreeSet::from([pid]) });
        if before != pid {
            self.leave_group(pid, before);
        }
    }

    /// See [`TaskSet::is_orphaned`]; `without` is left out (it is ending).
    pub(super) fn is_orphaned(&self, pgid: i32, without: Option<i32>) -> bool {
        let Some(group) = self.groups.get(&pgid) else { return true };
        !group.members.iter().any(|pid| {
            let Some(process) = self.processes.get(pid) else { return false };
            if Some(*pid) == without || process.zombie.is_some() {
                return false;
            }
            // Its parent is the launcher, which stops with it and is continued by the user's shell.
            if *pid == INIT {
                return true;
            }
            let Some(parent) = self.processes.get(&process.group.ppid()) else { return false };
            parent.group.process_group_id() != pgid && parent.group.session_id() == group.session
        })
    }

    /// Would it be orphaned when the children of `parent` in it have no parent there any more?
    pub(super) fn is_orphaned_without_parent(&self, pgid: i32, parent: i32) -> bool {
        let Some(group) = self.groups.get(&pgid) else { return true };
        !group.members.iter().any(|pid| {
            let Some(process) = self.processes.get(pid) else { return false };
            let ppid = process.group.ppid();
            let Some(kept) = self.processes.get(&ppid).filter(|_| ppid != parent) else {
                return false;
            };
            process.zombie.is_none()
                && kept.group.process_group_id() != pgid
                && kept.group.session_id() == group.session
        })
    }

    /// Does a member of the group stand stopped?
    pub(super) fn has_stopped(&self, pgid: i32) -> bool {
        self.group_members(pgid).iter().any(|group| group.is_stopped())
    }
}

impl std::fmt::Debug for TaskSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TaskSet({} tasks)", self.count())
    }
}
