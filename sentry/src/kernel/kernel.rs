//! The kernel object: everything in a sandbox hangs on it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use linux_abi::{SigInfo, Signal};

use platform::{PAGE_SIZE, Platform, memory::MemoryFile};
use ranked_sync::{Condvar, Mutex};

use super::{
    CurrentTask, ExitStatus, FutexTable,
    mqueue::Mqueues,
    sandbox_limits::SandboxLimits,
    sysv::{msg::MessageQueues, sem::Semaphores},
    task::HostThreads,
    task_set::{INIT, TaskSet},
    tty::TtyTable,
    uts::Uts,
    virtual_processors::VirtualProcessors,
};
use crate::{
    SysResult,
    fs::{
        host_file::HostPoller,
        tmpfs::{PageQuota, Storage},
    },
    lock_order,
    mm::ShmTable,
    socket::{inet::Network, unix::UnixNamespace},
    syscalls::{Entry, Outcome},
    time::{Clocks, TimerQueue},
};

/// One sandbox.
#[derive(Debug)]
pub struct Kernel {
    platform: Arc<dyn Platform>,
    memory: Arc<MemoryFile>,
    pub clocks: Clocks,
    /// Held while an epoll set is put into another one, so that two such changes cannot
    /// make a circle together.
    pub epoll_nesting: Mutex<lock_order::EpollNesting, ()>,
    /// Who runs.
    pub tasks: TaskSet,
    /// Deadlines of timers.
    pub timers: Arc<TimerQueue>,
    pub(super) futexes: FutexTable,
    /// Host and domain name (uname(2)).
    pub uts: Uts,
    /// System V shared memory.
    pub shm: ShmTable,
    /// Prints system calls; looked at when a task starts.
    pub(super) tracer: OnceLock<Arc<dyn Tracer>>,
    init: Init,
    /// Numbers of unknown calls that were logged.
    unknown_calls: Mutex<lock_order::Leaf, BTreeSet<u64>>,
    /// Tells tasks that wait for host descriptors when those become ready.
    pub host_poller: Arc<HostPoller>,
    /// Its pseudo-terminals.
    pub ttys: Arc<TtyTable>,
    /// Names of unix sockets, and files in their messages.
    pub unix: UnixNamespace,
    /// The loopback network.
    pub network: Network,
    /// System V semaphores.
    pub semaphores: Semaphores,
    /// System V message queues.
    pub messages: MessageQueues,
    /// POSIX message queues.
    pub mqueues: Mqueues,
    /// What serves tasks.
    pub(super) host_threads: HostThreads,
    pub(super) limits: SandboxLimits,
    /// Bytes of files in memory, of all file systems.
    disk: Arc<PageQuota>,
    /// Where there are restartable sequences.
    virtual_processors: OnceLock<Arc<VirtualProcessors>>,
    /// Processor time of tasks that have ended.
    pub(super) ended_cpu_ns: AtomicU64,
}

impl Kernel {
    /// A kernel with no task and no file system yet.
    pub fn new(
        platform: Arc<dyn Platform>,
        memory: Arc<MemoryFile>,
        limits: SandboxLimits,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            ttys: TtyTable::new(Arc::new(this.clone())),
            platform,
            memory,
            clocks: Clocks::new(),
            tasks: TaskSet::new(limits.max_tasks()),
            timers: Arc::new(TimerQueue::new()),
            futexes: FutexTable::default(),
            uts: Uts::default(),
            shm: ShmTable::default(),
            tracer: OnceLock::new(),
            init: Init::default(),
            unknown_calls: Mutex::default(),
            epoll_nesting: Mutex::new(()),
            host_poller: HostPoller::new(),
            unix: UnixNamespace::default(),
            network: Network::default(),
            semaphores: Semaphores::default(),
            messages: MessageQueues::default(),
            mqueues: Mqueues::default(),
            host_threads: HostThreads::default(),
            disk: PageQuota::new(limits.disk.map_or(u64::MAX, |bytes| bytes / PAGE_SIZE)),
            virtual_processors: OnceLock::new(),
            ended_cpu_ns: AtomicU64::new(0),
            limits,
        })
    }

    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// Where file systems in memory keep their files.
    pub fn storage(&self) -> Storage {
        Storage { memory: self.memory.clone(), quota: self.disk.clone() }
    }

    /// A task has ended, which used so much processor time in all.
    pub(super) fn note_cpu_time(&self, ns: u64) {
        self.ended_cpu_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Has system calls reported to `tracer`. Tasks that run already are not; the second call is ignored.
    pub fn set_tracer(&self, tracer: Arc<dyn Tracer>) {
        let _ = self.tracer.set(tracer);
    }

    /// Lets threads use restartable sequences (rseq(2)). To be called before the first task begins.
    pub fn allow_rseq(&self) {
        let count = platform::host::cpu_count();
        let _ = self.virtual_processors.set(VirtualProcessors::new(count, self.timers.clone()));
    }

    /// Are there restartable sequences?
    pub fn has_rseq(&self) -> bool {
        self.virtual_processors.get().is_some()
    }

    /// `None` where there are no restartable sequences.
    pub(super) fn virtual_processors(&self) -> Option<&Arc<VirtualProcessors>> {
        self.virtual_processors.get()
    }

    /// Waits until the first process has ended and its sandbox is empty, and returns how. `on_stop` is
    /// called each time it stops before that.
    pub fn wait_for_init(&self, on_stop: impl Fn()) -> ExitStatus {
        /// How long killed processes may take before the sandbox ends without them.
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut state = self.init.state.lock();
        let status = loop {
            if let Some(status) = state.ended {
                break status;
            }
            if std::mem::take(&mut state.stopped) {
                drop(state);
                on_stop();
                state = self.init.state.lock();
            } else {
                self.init.changed.wait(&mut state);
            }
        };
        let deadline = Instant::now() + PATIENCE;
        while self.tasks.living_threads() > 0 {
            if self.init.changed.wait_until(&mut state, deadline) {
                break;
            }
        }
        status
    }

    /// Sends a signal to the first process, as its terminal or supervisor would.
    pub fn signal_init(&self, signal: Signal) {
        if let Some(init) = self.tasks.process(INIT) {
            let _ = init.send_signal(SigInfo::from_user(signal, 0, 0, 0));
        }
    }

    /// Sends a signal to the foreground group of init's terminal, or where it has none to init's group.
    pub fn signal_foreground(&self, signal: Signal) {
        let Some(init) = self.tasks.process(INIT) else { return };
        let tty = init.session().and_then(|session| session.tty());
        let info = Some(SigInfo::kernel(signal));
        let reached =
            tty.is_some_and(|tty| self.tasks.signal_group(tty.foreground(), info, |_| true).found);
        if !reached {
            self.tasks.signal_group(init.process_group_id(), info, |_| true);
        }
    }

    /// SIGKILL to everyone.
    pub fn kill_all(&self) {
        self.tasks.signal_all(&[], Some(SigInfo::kernel(Signal::KILL)), |_| true);
    }

    pub(super) fn note_init_ended(&self, status: ExitStatus) {
        self.init.state.lock().ended = Some(status);
        self.init.changed.notify_all();
    }

    pub(super) fn note_init_stopped(&self) {
        self.init.state.lock().stopped = true;
        self.init.changed.notify_all();
    }

    pub(super) fn note_task_gone(&self) {
        self.tasks.note_thread_ended();
        // Under the lock, so that a waiter cannot miss it between its look and its sleep.
        let ending = self.init.state.lock().ended.is_some();
        if ending {
            self.init.changed.notify_all();
        }
    }

    /// Logged once per number.
    #[cold]
    pub(super) fn note_unknown_call(&self, number: u64, pid: i32) {
        const REMEMBERED: usize = 1024;
        let new = {
            let mut seen = self.unknown_calls.lock();
            seen.len() < REMEMBERED && seen.insert(number)
        };
        if new {
            let name = crate::syscalls::table::entry(number).map_or("unknown", |entry| entry.name);
            tracing::info!(number, name, pid, "system call not implemented");
        }
    }
}

/// What became of the first process.
#[derive(Debug, Default)]
struct Init {
    state: Mutex<lock_order::Leaf, InitState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct InitState {
    ended: Option<ExitStatus>,
    /// It stopped, and no one was told yet.
    stopped: bool,
}

/// Hears of each system call of the tasks it traces.
pub trait Tracer: Send + Sync + fmt::Debug {
    /// A call begins. Arguments that point to memory may be looked at through `task.mm()`.
    fn enter(
        &self,
        task: &CurrentTask,
        number: u64,
        entry: Option<&'static Entry>,
        args: &[u64; 6],
    );

    /// The call ended, or is about to be interrupted.
    fn exit(
        &self,
        task: &CurrentTask,
        number: u64,
        entry: Option<&'static Entry>,
        args: &[u64; 6],
        result: &SysResult<Outcome>,
    );
}
