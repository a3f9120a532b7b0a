//! The kernel object: everything in a sandbox hangs on it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use linux_abi::{SigInfo, Signal};

use platform::{Platform, memory::MemoryFile};
use ranked_sync::{Condvar, Mutex};

use super::{
    CurrentTask, ExitStatus, FutexTable,
    mqueue::Mqueues,
    sysv::{msg::MessageQueues, sem::Semaphores},
    task::HostThreads,
    task_set::TaskSet,
    tty::TtyTable,
    uts::Uts,
};
use crate::{
    SysResult,
    fs::host_file::HostPoller,
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
    pub timers: TimerQueue,
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
}

impl Kernel {
    /// A kernel with no task and no file system yet.
    pub fn new(platform: Arc<dyn Platform>, memory: Arc<MemoryFile>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            ttys: TtyTable::new(Arc::new(this.clone())),
            platform,
            memory,
            clocks: Clocks::new(),
            tasks: TaskSet::default(),
            timers: TimerQueue::new(),
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
        })
    }

    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }

    /// Has system calls reported to `tracer`. Tasks that run already are not; the second call is ignored.
    pub fn set_tracer(&self, tracer: Arc<dyn Tracer>) {
        let _ = self.tracer.set(tracer);
    }

    /// Waits until the first process has ended and its sandbox is empty, and returns how.
    pub fn wait_for_init(&self) -> ExitStatus {
        /// How long killed processes may take before the sandbox ends without them.
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut state = self.init.status.lock();
        let status = loop {
            match *state {
                Some(status) => break status,
                None => self.init.changed.wait(&mut state),
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
        if let Some(init) = self.tasks.process(1) {
            let _ = init.send_signal(SigInfo::from_user(signal, 0, 0, 0));
        }
    }

    /// Sends a signal to the foreground group of init's terminal, or to init where it has none.
    pub fn signal_foreground(&self, signal: Signal) {
        let foreground = self
            .tasks
            .process(1)
            .and_then(|init| init.session())
            .and_then(|session| session.tty())
            .map_or(0, |tty| tty.foreground());
        let members = self.tasks.process_group(foreground);
        if members.is_empty() {
            return self.signal_init(signal);
        }
        for process in members {
            let _ = process.send_signal(SigInfo::kernel(signal));
        }
    }

    /// SIGKILL to everyone.
    pub fn kill_all(&self) {
        for process in self.tasks.processes() {
            process.kill();
        }
    }

    pub(super) fn note_init_ended(&self, status: ExitStatus) {
        *self.init.status.lock() = Some(status);
        self.init.changed.notify_all();
    }

    pub(super) fn note_task_gone(&self) {
        self.tasks.note_thread_ended();
        // Under the lock, so that a waiter cannot miss it between its look and its sleep.
        let ending = self.init.status.lock().is_some();
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

/// How the first process ended.
#[derive(Debug, Default)]
struct Init {
    status: Mutex<lock_order::Leaf, Option<ExitStatus>>,
    changed: Condvar,
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
