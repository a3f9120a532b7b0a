//! A task (`struct task_struct`): what others may see and change of a guest thread.

mod accounting;
mod clone;
mod exec;
mod exit;
mod host_threads;
mod rseq;
mod run;
mod signal_delivery;
mod signal_frame;
mod signal_wait;
mod stop;
mod waker;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
    },
};

use linux_abi::{SigSet, Signal};
use platform::Kick;
use ranked_sync::Mutex;

use super::{Credentials, FsContext, Kernel, SignalQueue, ThreadGroup, seccomp::FilterChain};
use crate::{lock_order, mm::MemoryManager, time::Monotonic, vfs::FdTable};

pub use accounting::CpuTimes;
pub use clone::CloneRequest;
pub(super) use clone::VforkChild;
pub(super) use host_threads::HostThreads;
pub(crate) use rseq::Registration;
pub(super) use rseq::Rseq;
pub(super) use run::{Start, spawn};
pub use waker::TaskWaker;

/// A guest thread, as the rest of the kernel knows it.
pub struct Task {
    pub(super) kernel: Arc<Kernel>,
    /// Changes once at most: when another thread than the leader calls execve.
    tid: AtomicI32,
    group: Arc<ThreadGroup>,
    pub(super) waker: Arc<TaskWaker>,
    /// Set by the host thread that serves the task, when it has made its context.
    pub(super) kick: OnceLock<Arc<dyn Kick>>,
    /// Blocked signals. Only the task itself changes it.
    blocked: AtomicU64,
    /// Signals it waits for in sigtimedwait: held back as if blocked.
    pub(super) awaited: AtomicU64,
    /// The set of `signals`, to be looked at without its lock.
    pub(super) pending: AtomicU64,
    /// Sent to this thread alone.
    pub(super) signals: Mutex<lock_order::TaskSignals, SignalQueue>,
    /// Must end: its group goes on without it (execve by another thread).
    pub(super) killed: AtomicBool,
    run_state: AtomicU8,
    /// SIGKILL and the like when the parent ends (PR_SET_PDEATHSIG).
    pub(super) parent_death_signal: AtomicI32,
    pub(super) nice: AtomicI32,
    /// ioprio_set(2).
    pub(super) io_priority: AtomicI32,
    /// SCHED_* policy and static priority, as told; the host schedules as it likes.
    pub(super) policy: AtomicU32,
    pub(super) priority: AtomicI32,
    pub(super) affinity: Mutex<lock_order::Leaf, Option<Box<[u64]>>>,
    /// Its own thread is to look at its virtual processor and critical section before guest code (rseq(2)).
    pub(super) rseq_is_due: AtomicBool,
    pub(super) timer_slack_ns: AtomicU64,
    pub(super) default_timer_slack_ns: AtomicU64,
    pub(super) clock: accounting::TaskClock,
    start: Monotonic,
    /// ptrace(2): who traces it, and how.
    pub(super) trace: super::ptrace::TraceState,
    pub(super) seccomp_mode: AtomicU32,
    pub(super) shared: Mutex<lock_order::Task, TaskShared>,
}

/// What of a task others may look at or replace, under its lock.
#[derive(Clone)]
pub(super) struct TaskShared {
    pub(super) cred: Arc<Credentials>,
    /// `None` once the task has exited.
    pub(super) mm: Option<Arc<MemoryManager>>,
    pub(super) fds: Option<Arc<FdTable>>,
    pub(super) fs: Option<Arc<FsContext>>,
    /// Name, NUL padded.
    pub(super) comm: [u8; 16],
    pub(super) personality: u32,
    /// `get_robust_list(2)`: head of the list of robust futexes.
    pub(super) robust_list: u64,
    pub(super) seccomp: Option<Arc<FilterChain>>,
    /// Another thread's filters came with its no_new_privs.
    pub(super) force_no_new_privs: bool,
}

/// The letter in /proc/PID/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RunState {
    Running = b'R',
    Sleeping = b'S',
    Uninterruptible = b'D',
    Stopped = b'T',
    Traced = b't',
    Zombie = b'Z',
    Dead = b'X',
}

impl Task {
    pub(super) fn new(tid: i32, group: Arc<ThreadGroup>, shared: TaskShared) -> Self {
        let kernel = group.kernel().clone();
        let start = kernel.clocks.monotonic();
        Self {
            kernel,
            tid: AtomicI32::new(tid),
            group,
            waker: TaskWaker::new(),
            kick: OnceLock::new(),
            blocked: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            signals: Mutex::new(SignalQueue::default()),
            killed: AtomicBool::new(false),
            run_state: AtomicU8::new(RunState::Running as u8),
            parent_death_signal: AtomicI32::new(0),
            nice: AtomicI32::new(0),
            io_priority: AtomicI32::new(0),
            policy: AtomicU32::new(0),
            priority: AtomicI32::new(0),
            affinity: Mutex::new(None),
            rseq_is_due: AtomicBool::new(false),
            timer_slack_ns: AtomicU64::new(50_000),
            default_timer_slack_ns: AtomicU64::new(50_000),
            clock: accounting::TaskClock::default(),
            start,
            trace: super::ptrace::TraceState::default(),
            seccomp_mode: AtomicU32::new(0),
            shared: Mutex::new(shared),
        }
    }

    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// gettid(2).
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// For execve by a thread that is not the leader; the caller holds the task set.
    pub(super) fn take_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    pub fn thread_group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// getpid(2).
    pub fn pid(&self) -> i32 {
        self.group.pid()
    }

    pub fn is_leader(&self) -> bool {
        self.tid() == self.group.pid()
    }

    pub fn cred(&self) -> Arc<Credentials> {
        self.shared.lock().cred.clone()
    }

    pub(super) fn set_cred(&self, cred: Arc<Credentials>) {
        let before = std::mem::replace(&mut self.shared.lock().cred, cred);
        drop(before);
    }

    /// Its memory; `None` once it has exited.
    pub fn memory(&self) -> Option<Arc<MemoryManager>> {
        self.shared.lock().mm.clone()
    }

    /// Root and working directory; `None` once it has exited.
    pub fn fs_context(&self) -> Option<Arc<FsContext>> {
        self.shared.lock().fs.clone()
    }

    /// Its descriptors; `None` once it has exited.
    pub fn fd_table(&self) -> Option<Arc<FdTable>> {
        self.shared.lock().fds.clone()
    }

    /// The name, without padding.
    pub fn comm(&self) -> Vec<u8> {
        let comm = self.shared.lock().comm;
        comm.iter().copied().take_while(|&byte| byte != 0).collect()
    }

    /// PR_SET_NAME: cut to 15 bytes.
    pub fn set_comm(&self, name: &[u8]) {
        self.shared.lock().comm = comm_from(name);
    }

    /// When it was made.
    pub fn start_time(&self) -> Monotonic {
        self.start
    }

    pub fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed)
    }

    /// Policy and static priority (sched(7)).
    pub fn scheduling(&self) -> (u32, i32) {
        (self.policy.load(Ordering::Relaxed), self.priority.load(Ordering::Relaxed))
    }

    pub fn personality(&self) -> u32 {
        self.shared.lock().personality
    }

    pub(crate) fn set_personality(&self, personality: u32) {
        self.shared.lock().personality = personality;
    }

    pub(crate) fn clear_parent_death_signal(&self) {
        self.parent_death_signal.store(0, Ordering::Relaxed);
    }

    /// 0, or SECCOMP_MODE_STRICT, SECCOMP_MODE_FILTER.
    pub fn seccomp_mode(&self) -> u32 {
        self.seccomp_mode.load(Ordering::Relaxed)
    }

    /// The soft and hard limit (`libc::RLIMIT_*`).
    pub fn rlimit(&self, resource: u32) -> (u64, u64) {
        let limit = self.group.limits().get(resource);
        (limit.cur, limit.max)
    }

    pub fn run_state(&self) -> RunState {
        match self.run_state.load(Ordering::Relaxed) {
            b'S' => RunState::Sleeping,
            b'D' => RunState::Uninterruptible,
            b'T' => RunState::Stopped,
            b't' => RunState::Traced,
            b'Z' => RunState::Zombie,
            b'X' => RunState::Dead,
            _ => RunState::Running,
        }
    }

    pub(super) fn set_run_state(&self, state: RunState) {
        self.run_state.store(state as u8, Ordering::Relaxed);
    }

    pub fn is_exited(&self) -> bool {
        matches!(self.run_state(), RunState::Zombie | RunState::Dead)
    }

    /// Blocked signals.
    pub fn blocked(&self) -> SigSet {
        SigSet(self.blocked.load(Ordering::SeqCst))
    }

    /// Head of the list of robust futexes; 0: none.
    pub(crate) fn robust_list(&self) -> u64 {
        self.shared.lock().robust_list
    }

    pub(crate) fn set_robust_list(&self, head: u64) {
        self.shared.lock().robust_list = head;
    }

    /// Without looking whether something became deliverable.
    pub(super) fn set_blocked_raw(&self, blocked: SigSet) {
        self.blocked.store(blocked.minus(SigSet::UNBLOCKABLE).0, Ordering::SeqCst);
    }

    /// Would a signal of that number stay pending, and not be delivered?
    pub(super) fn holds_back(&self, signal: Signal) -> bool {
        self.blocked().contains(signal)
            || SigSet(self.awaited.load(Ordering::SeqCst)).contains(signal)
    }

    /// Pending for this thread, and for the whole process.
    pub fn pending_signals(&self) -> (SigSet, SigSet) {
        (SigSet(self.pending.load(Ordering::SeqCst)), self.group.pending())
    }

    /// Pending and not blocked.
    pub(super) fn deliverable(&self) -> SigSet {
        let (own, group) = self.pending_signals();
        own.union(group).minus(self.blocked())
    }

    pub fn is_traced(&self) -> bool {
        self.trace.is_traced()
    }

    /// Does only a fatal signal or its process's end interrupt the current sleep?
    pub(super) fn must_die(&self) -> bool {
        self.killed.load(Ordering::SeqCst) || self.group.is_exiting()
    }

    /// Makes it look at its signals and stop state soon, whether it runs guest code or sleeps.
    pub fn interrupt(&self) {
        self.waker.interrupt();
        // Pairs with the fence after `kick` is set: either we see the kick here, or the
        // starting thread sees the interrupt before it first enters guest code.
        fence(Ordering::SeqCst);
        if let Some(kick) = self.kick.get() {
            kick.kick();
        }
    }

    /// SIGCONT: it may go on.
    pub(super) fn wake_from_stop(&self) {
        self.interrupt();
    }
}

/// A name as the kernel keeps it.
pub(super) fn comm_from(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    for (to, from) in comm.iter_mut().take(15).zip(name) {
        *to = *from;
    }
    comm
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Task({} of {})", self.tid(), self.group.pid())
    }
}

/// What scheduling calls set and tell; the host schedules as it likes.
impl Task {
    pub(crate) fn set_nice(&self, nice: i32) {
        self.nice.store(nice, Ordering::Relaxed);
    }

    pub(crate) fn set_scheduling(&self, policy: u32, priority: i32) {
        self.policy.store(policy, Ordering::Relaxed);
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// The processors it asked for; `None`: all.
    pub fn affinity(&self) -> Option<Box<[u64]>> {
        self.affinity.lock().clone()
    }

    pub(crate) fn set_affinity(&self, cpus: Box<[u64]>) {
        *self.affinity.lock() = Some(cpus);
    }

    /// As ioprio_set(2) has it; 0: not set.
    pub fn io_priority(&self) -> &AtomicI32 {
        &self.io_priority
    }

    /// PR_SET_TIMERSLACK, in nanoseconds.
    pub fn timer_slack_ns(&self) -> &AtomicU64 {
        &self.timer_slack_ns
    }

    /// What PR_SET_TIMERSLACK with 0 sets: what the thread had that made this one.
    pub fn default_timer_slack_ns(&self) -> u64 {
        self.default_timer_slack_ns.load(Ordering::Relaxed)
    }

    /// PR_SET_PDEATHSIG: the number, 0 for none.
    pub(crate) fn parent_death_signal(&self) -> &AtomicI32 {
        &self.parent_death_signal
    }
}
