//! A guest address space: a stub process, and its helper that changes its memory.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use linux_abi::Errno;
use ranked_sync::Mutex;
use rustix::event::EventfdFlags;

use super::{
    Shared,
    context::PtraceContext,
    tracee::{self, Event, Stopped},
};
use crate::{
    AddressSpace, Context, MapOp, PlatformError, Registers,
    extended::ExtendedFormat,
    host,
    lock_order::{IdleThreads, SpaceCommands},
    stub::{
        self, StubProcess, Waiter,
        command::{self, Command},
        layout::*,
        sys,
    },
};

/// How often the caller of a slow helper looks whether it is still there.
const LOOK_PERIOD_MS: u64 = 500;

/// See the module.
#[derive(Debug)]
pub(super) struct PtraceSpace {
    /// Threads that contexts left behind.
    idle: Mutex<IdleThreads, Vec<i32>>,
    helper: Mutex<SpaceCommands, Helper>,
    pub(super) process: StubProcess,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
struct Helper {
    tid: i32,
    /// What it says when it is done: an error number plus one.
    answers: OwnedFd,
    waiter: Arc<Waiter>,
    batches: u32,
    /// The processor it is held to.
    cpu: Option<usize>,
}

impl PtraceSpace {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, PlatformError> {
        let process = shared.system.new_process()?;
        let answers = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| PlatformError::Host {
                what: "a stub process' eventfd",
                errno: host::errno(error),
            })?;
        let waiter = Arc::new(Waiter::default());
        process.add_waiter(waiter.clone());
        let word = process.control().word(process.command_word(M_ACK_FD));
        word.store(answers.as_raw_fd() as u32, Ordering::Release);
        let tid = process.helper()?;
        let helper = Helper { tid, answers, waiter, batches: 0, cpu: None };
        Ok(Self { idle: Mutex::default(), helper: Mutex::new(helper), process, shared })
    }

    /// A thread of the process, stopped and traced by the calling thread.
    pub(super) fn thread(&self) -> Result<(Stopped, i32), PlatformError> {
        let idle = self.idle.lock().pop();
        let tid = match idle {
            Some(tid) => tid,
            None => self.process.new_thread()?.born,
        };
        let pid = self.process.pid();
        // A guest may have written the number: it must be a thread of this process …
        if tid == pid || sys::tgkill(pid, tid, 0).is_err() {
            return Err(self.gone("a new thread is none"));
        }
        let stopped = tracee::seize(tid)
            .and_then(|running| running.wait())
            .map_err(|errno| self.refused(errno))?;
        let (mut stopped, event) = stopped;
        // … and one that waits for a tracer, not the spawner or the helper.
        let registers = stopped.registers().map_err(|errno| self.lost(tid, errno))?;
        if event != Event::Stop || !stub::unborn().contains(&registers.rip) {
            let error = self.process.corrupted("a new thread is not where it should be");
            tracee::reap(tid);
            return Err(error);
        }
        stopped.set_signal_mask(0).map_err(|errno| self.lost(tid, errno))?;
        Ok((stopped, tid))
    }

    /// Makes a thread wait for another context.
    pub(super) fn put_back(&self, mut thread: Stopped, tid: i32) {
        let registers = Registers {
            rip: stub::unborn().start,
            r12: COMMAND,
            r15: CONST,
            cs: 0x33,
            ss: 0x2b,
            eflags: 0x202,
            orig_rax: u64::MAX,
            ..Registers::default()
        };
        let left = thread
            .set_registers(&registers)
            .and_then(|()| thread.set_signal_mask(u64::MAX))
            .and_then(|()| thread.detach());
        match left {
            Ok(()) => self.idle.lock().push(tid),
            // It must not run on, whatever it is doing.
            Err(errno) => drop(self.lost(tid, errno)),
        }
    }

    /// What it means that a thread cannot be seized.
    fn refused(&self, errno: Errno) -> PlatformError {
        if errno == Errno::EPERM && !self.process.has_ended() {
            return PlatformError::Unsupported(
                "this host does not allow programs to trace their own child processes".into(),
            );
        }
        self.gone("a new thread cannot be traced")
    }

    fn gone(&self, what: &str) -> PlatformError {
        if self.process.has_ended() { self.process.death() } else { self.process.corrupted(what) }
    }

    /// The end of the process, after a request on a thread of the caller's failed.
    pub(super) fn lost(&self, tid: i32, errno: Errno) -> PlatformError {
        if errno != Errno::ESRCH {
            tracing::warn!("ptrace: {errno}; process {} is killed", self.process.pid());
        }
        self.process.kill();
        tracee::reap(tid);
        self.process.death()
    }

    pub(super) fn format(&self, thread: &Stopped) -> Result<&ExtendedFormat, PlatformError> {
        if let Some(format) = self.shared.format.get() {
            return Ok(format);
        }
        let format =
            thread.xstate().ok().and_then(|bytes| ExtendedFormat::from_regset(&bytes)).ok_or_else(
                || PlatformError::Unsupported("the host's ptrace knows no XSAVE state".into()),
            )?;
        Ok(self.shared.format.get_or_init(|| format))
    }

    fn run(&self, commands: &[Command]) -> Result<(), PlatformError> {
        let mut helper = self.helper.lock();
        commands.chunks(COMMANDS_MAX).try_for_each(|batch| self.run_batch(&mut helper, batch))
    }

    fn run_batch(&self, helper: &mut Helper, batch: &[Command]) -> Result<(), PlatformError> {
        let process = &self.process;
        if process.is_dead() {
            return Err(process.death());
        }
        let cpu = self.shared.placement.here();
        if helper.cpu != cpu {
            helper.cpu = cpu;
            self.shared.placement.hold(helper.tid, cpu);
        }
        process.write_commands(batch);
        let control = process.control();
        control
            .word(process.command_word(M_BATCH_LEN))
            .store(batch.len() as u32, Ordering::Release);
        helper.batches = helper.batches.wrapping_add(1);
        let sequence = control.word(process.command_word(M_BATCH_SEQ));
        sys::futex_post_shared(sequence, helper.batches);
        let answer = self.answer(helper)?;
        match answer.wrapping_sub(1) {
            0 => Ok(()),
            error => Err(PlatformError::Host {
                what: "changing guest memory",
                errno: Errno::from_raw(error as i32),
            }),
        }
    }

    fn answer(&self, helper: &Helper) -> Result<u64, PlatformError> {
        loop {
            helper.waiter.enter();
            if self.process.is_dead() {
                helper.waiter.leave();
                return Err(self.process.death());
            }
            let events = sys::poll(helper.answers.as_fd(), LOOK_PERIOD_MS);
            helper.waiter.leave();
            let mut answer = [0; 8];
            if rustix::io::read(&helper.answers, &mut answer).is_ok() {
                return Ok(u64::from_ne_bytes(answer));
            }
            // The reaper does not see a process end while threads of it are traced.
            if events == 0 && sys::tgkill(self.process.pid(), helper.tid, 0).is_err() {
                return Err(self.process.death());
            }
        }
    }
}

impl AddressSpace for PtraceSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        self.run(&command::commands(&self.shared.memory, ops)?)
    }

    fn clear(&self) -> Result<(), PlatformError> {
        self.run(&[command::CLEAR])
    }

    fn is_alive(&self) -> bool {
        !self.process.has_ended()
    }

    fn new_context(self: Arc<Self>) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(PtraceContext::new(self)?))
    }
}
