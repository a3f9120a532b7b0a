//! ptrace(2) inside the sandbox: debuggers and system-call tracers that guests run.
//!
//! A tracee stops on its own thread: it puts its registers where the tracer can reach them, tells the tracer, and
//! parks until it gets a command. The tracer works on that copy; the tracee takes it back when it goes on.

mod access;
mod entry;
mod requests;
mod stops;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use linux_abi::{SigInfo, Signal};
use platform::{Registers, XState};
use ranked_sync::Mutex;

use super::{Registration, Task};
use crate::lock_order;

pub(crate) use access::poke;

/// Who traces a task, and how.
#[derive(Default)]
pub(super) struct TraceState {
    traced: AtomicBool,
    trace: Mutex<lock_order::Leaf, Trace>,
}

/// Under the lock.
#[derive(Default)]
struct Trace {
    /// The tracing thread, and its process.
    tracer: Option<(i32, i32)>,
    seized: bool,
    options: Options,
    mode: Mode,
    /// It stands in a stop.
    stop: Option<Stop>,
    /// What the tracer has decided about the stop.
    command: Option<Command>,
    /// PTRACE_INTERRUPT was asked for.
    interrupt: bool,
    /// The last event's message.
    message: u64,
    /// PTRACE_SETSIGINFO changed the details of the signal it stopped for.
    changed_info: bool,
}

bitflags::bitflags! {
    /// PTRACE_O_*.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Options: u32 {
        const SYSGOOD = 1;
        const FORK = 1 << 1;
        const VFORK = 1 << 2;
        const CLONE = 1 << 3;
        const EXEC = 1 << 4;
        const VFORKDONE = 1 << 5;
        const EXIT = 1 << 6;
        const SECCOMP = 1 << 7;
        const EXITKILL = 1 << 20;
    }
}

/// How a tracee runs between stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Continue,
    /// Stops at entry and exit of system calls.
    Syscall,
    SingleStep,
}

#[derive(Clone, Copy, Debug)]
enum Command {
    /// Go on, with this signal (0: none).
    Resume { signal: i32 },
    /// PTRACE_LISTEN: stay, but hear of SIGCONT.
    Listen,
}

/// What a system-call stop is about, for PTRACE_GET_SYSCALL_INFO.
#[derive(Clone, Copy, Debug, Default)]
enum About {
    #[default]
    Other,
    Entry {
        number: u64,
        args: [u64; 6],
    },
    Exit {
        value: u64,
    },
    Seccomp {
        number: u64,
        args: [u64; 6],
        data: u32,
    },
}

/// A stop.
struct Stop {
    /// Signal, and the event in the second byte, as wait reports it.
    code: i32,
    info: SigInfo,
    about: About,
    registers: Registers,
    xstate: XState,
    /// What it registered with rseq(2).
    rseq: Option<Registration>,
    /// No wait has taken it yet.
    unreported: bool,
    /// PTRACE_LISTEN was given.
    listening: bool,
}

impl TraceState {
    pub(super) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }
}

impl Task {
    /// The thread that traces it; 0: none.
    pub fn tracer_tid(&self) -> i32 {
        self.trace.trace.lock().tracer.map_or(0, |(tid, _)| tid)
    }

    /// The process that traces it.
    pub(super) fn tracer_pid(&self) -> Option<i32> {
        if !self.is_traced() {
            return None;
        }
        self.trace.trace.lock().tracer.map(|(_, pid)| pid)
    }

    fn start_tracing(&self, tracer: &Task, seized: bool, options: Options) -> bool {
        let mut trace = self.trace.trace.lock();
        if trace.tracer.is_some() {
            return false;
        }
        *trace = Trace {
            tracer: Some((tracer.tid(), tracer.pid())),
            seized,
            options,
            ..Trace::default()
        };
        self.trace.traced.store(true, Ordering::SeqCst);
        true
    }

    /// Nobody traces it any more; if it stands in a stop, it goes on with `signal`.
    fn stop_tracing(&self, signal: i32) {
        {
            let mut trace = self.trace.trace.lock();
            trace.tracer = None;
            trace.mode = Mode::Continue;
            trace.command = Some(Command::Resume { signal });
            trace.interrupt = false;
        }
        self.trace.traced.store(false, Ordering::SeqCst);
        self.interrupt();
    }
}

/// A tracer ends: its tracees are let go, or killed if it asked for that.
pub(super) fn tracer_ends(tracer: &Task, tasks: &[Arc<Task>]) {
    for task in tasks {
        if !task.is_traced() || task.tracer_tid() != tracer.tid() {
            continue;
        }
        let kill = task.trace.trace.lock().options.contains(Options::EXITKILL);
        task.stop_tracing(0);
        if kill {
            let _ = task.send_signal(SigInfo::kernel(Signal::KILL));
        }
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceState(traced: {})", self.is_traced())
    }
}
