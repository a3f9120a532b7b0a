//! A thread group: what Linux users call a process (`struct signal_struct`).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
};

use linux_abi::{SigSet, Signal, process::Rlimit};
use ranked_sync::Mutex;

use super::{
    CpuTimes, ExitStatus, Kernel, Session, SignalHandlers, SignalQueue, Task,
    limits::{self, Limits},
    signal::Forks,
    timers::ProcessTimers,
};
use crate::{lock_order, time::Monotonic, wait::WaitQueue};

/// The threads of a process and what they have in common.
pub struct ThreadGroup {
    kernel: Arc<Kernel>,
    pid: i32,
    /// Copies of what the task set decides, to be read without its lock.
    pub(super) ppid: AtomicI32,
    pub(super) pgid: AtomicI32,
    pub(super) sid: AtomicI32,
    /// What the parent is told with when it ends; 0: nothing.
    pub(super) exit_signal: AtomicI32,
    pub(super) state: Mutex<lock_order::ThreadGroup, GroupState>,
    /// The set of `state.signals`, to be looked at without the lock.
    pub(super) pending: AtomicU64,
    exiting: AtomicBool,
    handlers: Mutex<lock_order::Leaf, Arc<SignalHandlers>>,
    limits: Limits,
    /// Told of each signal sent to the process or one of its threads: signalfd, sigtimedwait.
    pub signal_queue: WaitQueue,
    /// Told when a child changes state: wait4(2).
    pub(super) child_queue: WaitQueue,
    /// Told when the process has ended: pidfd.
    pub exit_queue: WaitQueue,
    pub(super) is_subreaper: AtomicBool,
    /// SUID_DUMP_*: 1 is dumpable.
    pub(super) dumpable: AtomicU32,
    /// execve was done since fork: setpgid by the parent is refused.
    pub(super) did_exec: AtomicBool,
    pub(super) oom_score_adj: AtomicI32,
    pub(super) membarrier: AtomicU32,
    /// PR_SET_THP_DISABLE: kept, without effect.
    thp_disabled: AtomicBool,
    pub(super) timers: ProcessTimers,
    start: Monotonic,
}

/// Under the group's lock.
#[derive(Default)]
pub(super) struct GroupState {
    /// Living threads.
    pub(super) threads: Vec<Arc<Task>>,
    /// The thread whose id is the process's, dead or alive.
    pub(super) leader: Option<Arc<Task>>,
    pub(super) signals: SignalQueue,
    /// Its threads that are in fork(2).
    pub(super) forks: Forks,
    /// The process is ending, with this status.
    pub(super) exit: Option<ExitStatus>,
    /// How the leader ended, while other threads went on.
    pub(super) leader_exit: Option<ExitStatus>,
    /// The thread in execve, which waits for the others to end.
    pub(super) exec: Option<Arc<Task>>,
    /// A stop is being made or is complete; by this signal.
    pub(super) stop: Option<Signal>,
    /// All threads have stopped.
    pub(super) stopped: bool,
    /// A stop or continuation no wait has taken yet.
    pub(super) report: Option<StateReport>,
    /// A thread of the group is to tell the parent (CLD_*).
    pub(super) notify: Option<i32>,
    /// Processor time of threads that have ended.
    pub(super) ended_times: CpuTimes,
    /// Of children waited for.
    pub(super) child_times: CpuTimes,
    /// Largest resident size of the process and of children, in KiB.
    pub(super) max_rss: i64,
    pub(super) child_max_rss: i64,
}

/// For wait4 with WUNTRACED or WCONTINUED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateReport {
    Stopped(Signal),
    Continued,
}

impl GroupState {
    /// SIGCONT was sent.
    pub(super) fn continue_group(&mut self) {
        use linux_abi::signal::si_code;
        if self.stop.take().is_some() {
            if self.stopped {
                self.report = Some(StateReport::Continued);
                self.notify = Some(si_code::CLD_CONTINUED);
            } else {
                self.notify = Some(si_code::CLD_STOPPED);
            }
            self.stopped = false;
        }
    }
}

/// What a new group takes over from its parent.
pub(super) struct Inherited {
    pub(super) ppid: i32,
    pub(super) pgid: i32,
    pub(super) sid: i32,
    pub(super) exit_signal: i32,
    pub(super) handlers: Arc<SignalHandlers>,
    pub(super) limits: [Rlimit; limits::COUNT],
    pub(super) dumpable: u32,
    pub(super) oom_score_adj: i32,
}

impl ThreadGroup {
    /// A group and its leader, which know each other.
    pub(super) fn new(
        kernel: Arc<Kernel>,
        pid: i32,
        inherited: Inherited,
        shared: super::task::TaskShared,
    ) -> (Arc<Self>, Arc<Task>) {
        let start = kernel.clocks.monotonic();
        let group = Arc::new_cyclic(|weak| Self {
            kernel,
            pid,
            ppid: inherited.ppid.into(),
            pgid: inherited.pgid.into(),
            sid: inherited.sid.into(),
            exit_signal: inherited.exit_signal.into(),
            state: Mutex::new(GroupState::default()),
            pending: AtomicU64::new(0),
            exiting: AtomicBool::new(false),
            handlers: Mutex::new(inherited.handlers),
            limits: Limits::new(inherited.limits),
            signal_queue: WaitQueue::new(),
            child_queue: WaitQueue::new(),
            exit_queue: WaitQueue::new(),
            is_subreaper: AtomicBool::new(false),
            dumpable: inherited.dumpable.into(),
            did_exec: AtomicBool::new(false),
            oom_score_adj: inherited.oom_score_adj.into(),
            membarrier: AtomicU32::new(0),
            thp_disabled: AtomicBool::new(false),
            timers: ProcessTimers::new(weak.clone()),
            start,
        });
        let task = Arc::new(Task::new(pid, group.clone(), shared));
        {
            let mut state = group.state.lock();
            state.leader = Some(task.clone());
            state.threads.push(task.clone());
        }
        (group, task)
    }

    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// getpid(2).
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// getppid(2).
    pub fn ppid(&self) -> i32 {
        self.ppid.load(Ordering::Relaxed)
    }

    /// getpgid(2).
    pub fn process_group_id(&self) -> i32 {
        self.pgid.load(Ordering::Relaxed)
    }

    /// getsid(2).
    pub fn session_id(&self) -> i32 {
        self.sid.load(Ordering::Relaxed)
    }

    /// The session itself; `None` once the process is reaped.
    pub fn session(&self) -> Option<Arc<Session>> {
        self.kernel.tasks.lock().session(self.session_id())
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn handlers(&self) -> Arc<SignalHandlers> {
        self.handlers.lock().clone()
    }

    /// For execve: handlers of its own.
    pub(super) fn set_handlers(&self, handlers: Arc<SignalHandlers>) {
        let before = std::mem::replace(&mut *self.handlers.lock(), handlers);
        drop(before);
    }

    /// Pending for the whole process.
    pub fn pending(&self) -> SigSet {
        SigSet(self.pending.load(Ordering::SeqCst))
    }

    /// Is it ending?
    pub fn is_exiting(&self) -> bool {
        self.exiting.load(Ordering::SeqCst)
    }

    /// Its living threads.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.state.lock().threads.clone()
    }

    /// How many threads live.
    pub fn thread_count(&self) -> usize {
        self.state.lock().threads.len()
    }

    /// The thread with the process's id; it may have ended before the others.
    pub fn leader(&self) -> Option<Arc<Task>> {
        self.state.lock().leader.clone()
    }

    /// When it was made.
    pub fn start_time(&self) -> Monotonic {
        self.start
    }

    /// Is it stopped by a signal?
    pub fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    pub(crate) fn set_dumpable(&self, dumpable: u32) {
        self.dumpable.store(dumpable, Ordering::Relaxed);
    }

    pub(crate) fn set_thp_disabled(&self, disabled: bool) {
        self.thp_disabled.store(disabled, Ordering::Relaxed);
    }

    pub(crate) fn is_thp_disabled(&self) -> bool {
        self.thp_disabled.load(Ordering::Relaxed)
    }

    pub(crate) fn set_subreaper(&self, on: bool) {
        self.is_subreaper.store(on, Ordering::Relaxed);
    }

    pub(crate) fn is_subreaper(&self) -> bool {
        self.is_subreaper.load(Ordering::Relaxed)
    }

    pub(crate) fn child_max_rss(&self) -> i64 {
        self.state.lock().child_max_rss
    }

    pub fn dumpable(&self) -> u32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// /proc/PID/oom_score_adj.
    pub fn oom_score_adj(&self) -> &AtomicI32 {
        &self.oom_score_adj
    }

    /// Processor time of all threads, ended ones too.
    pub fn cpu_times(&self) -> CpuTimes {
        let (mut times, threads) = {
            let state = self.state.lock();
            (state.ended_times, state.threads.clone())
        };
        for thread in threads {
            times.add(thread.cpu_times());
        }
        times
    }

    /// Of children that were waited for.
    pub fn child_cpu_times(&self) -> CpuTimes {
        self.state.lock().child_times
    }

    pub(super) fn mark_exiting(&self) {
        self.exiting.store(true, Ordering::SeqCst);
    }

    /// The process ends with `status`: every thread hears of it. The first status counts.
    pub(super) fn begin_exit(&self, state: &mut GroupState, status: ExitStatus) {
        if state.exit.is_some() {
            return;
        }
        state.exit = Some(status);
        state.stop = None;
        self.exiting.store(true, Ordering::SeqCst);
        for thread in &state.threads {
            thread.interrupt();
        }
    }
}

impl fmt::Debug for ThreadGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ThreadGroup({})", self.pid)
    }
}
