//! A guest address space: a stub process, and the conversation with its mapper.

use std::{
    os::fd::AsFd,
    sync::{Arc, OnceLock},
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{
    context::SystrapContext,
    extended,
    thread::{GuestThread, State},
};
use crate::{
    AddressSpace, Context, MapOp, PlatformError,
    extended::ExtendedFormat,
    lock_order::{IdleThreads, SpaceCommands},
    memory::MemoryFile,
    stub::{
        Listener, StubProcess, StubSystem, Waiter,
        command::{self, Command},
        layout::*,
        sys,
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct SystrapSpace {
    /// Threads that contexts left behind, for the next contexts.
    idle: Mutex<IdleThreads, Vec<GuestThread>>,
    mapper: Mutex<SpaceCommands, Option<Mapper>>,
    pub(super) process: StubProcess,
    memory: Arc<MemoryFile>,
    format: Arc<OnceLock<ExtendedFormat>>,
    /// Keeps the zygote alive.
    pub(super) system: Arc<StubSystem>,
}

#[derive(Debug)]
struct Mapper {
    listener: Listener,
    waiter: Arc<Waiter>,
    /// Its doorbell call, which waits for commands.
    id: u64,
}

impl SystrapSpace {
    pub(super) fn new(
        system: Arc<StubSystem>,
        memory: Arc<MemoryFile>,
        format: Arc<OnceLock<ExtendedFormat>>,
    ) -> Result<Self, PlatformError> {
        Ok(Self {
            idle: Mutex::default(),
            mapper: Mutex::new(None),
            process: system.new_process()?,
            memory,
            format,
            system,
        })
    }

    /// A guest thread in its first frame, or one that another context left.
    pub(super) fn thread(&self) -> Result<GuestThread, PlatformError> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(thread) => Ok(thread),
            None => GuestThread::new(&self.process),
        }
    }

    /// Takes back a guest thread whose context is gone.
    pub(super) fn put_back(&self, thread: GuestThread) {
        if !self.process.is_dead() {
            self.idle.lock().push(thread);
        }
    }

    /// What extended state looks like on this host. The first frame tells, of a thread
    /// that is the only one in its address space.
    pub(super) fn format(&self, thread: &GuestThread) -> Result<&ExtendedFormat, PlatformError> {
        if let Some(format) = self.format.get() {
            return Ok(format);
        }
        let State::Stop(stop) = thread.state else {
            return Err(self.process.corrupted("no frame to learn from"));
        };
        let format =
            extended::learn(self.process.control(), thread.slot, stop.frame).ok_or_else(|| {
                PlatformError::Unsupported("the host's signal frames have no XSAVE state".into())
            })?;
        Ok(self.format.get_or_init(|| format))
    }

    fn run(&self, commands: &[Command]) -> Result<(), PlatformError> {
        let mut mapper = self.mapper.lock();
        for batch in commands.chunks(COMMANDS_MAX) {
            let mapper = match &mut *mapper {
                Some(mapper) => mapper,
                none => none.insert(self.meet_mapper()?),
            };
            self.run_batch(mapper, batch)?;
        }
        Ok(())
    }

    fn meet_mapper(&self) -> Result<Mapper, PlatformError> {
        let (listener, first) = self.process.mapper()?;
        let waiter = Arc::new(Waiter::default());
        self.process.add_waiter(waiter.clone());
        Ok(Mapper { listener, waiter, id: first.id })
    }

    fn run_batch(&self, mapper: &mut Mapper, batch: &[Command]) -> Result<(), PlatformError> {
        self.process.write_commands(batch);
        match sys::notification_send(mapper.listener.as_fd(), mapper.id, batch.len() as u64) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Err(self.process.death()),
            Err(errno) => return Err(PlatformError::Host { what: "calling the mapper", errno }),
        }
        let answer = loop {
            mapper.waiter.enter();
            if self.process.is_dead() {
                mapper.waiter.leave();
                return Err(self.process.death());
            }
            let received = sys::notification_receive(mapper.listener.as_fd());
            mapper.waiter.leave();
            match received {
                Ok(answer) => break answer,
                Err(Errno::EINTR) => {}
                Err(Errno::ENOENT) => {
                    if self.process.has_ended() || sys::is_hung_up(mapper.listener.as_fd()) {
                        return Err(self.process.death());
                    }
                }
                Err(errno) => {
                    return Err(PlatformError::Host { what: "the mapper's answer", errno });
                }
            }
        };
        mapper.id = answer.id;
        let [done, error, ..] = answer.args;
        if error == 0 && done == batch.len() as u64 {
            return Ok(());
        }
        let errno = Errno::from_raw((error as i32).checked_neg().unwrap_or(0));
        Err(PlatformError::Host { what: "changing guest memory", errno })
    }
}

impl AddressSpace for SystrapSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        let commands = command::commands(&self.memory, ops)?;
        self.run(&commands)
    }

    fn clear(&self) -> Result<(), PlatformError> {
        self.run(&[command::CLEAR])
    }

    fn renew(&self) -> Result<bool, PlatformError> {
        // With one thread there is nobody who could have kept something but that one, and it waits in a
        // system call: its registers are set anew before it runs on.
        let slot = match self.idle.lock().as_slice() {
            [thread] if self.process.is_single() && matches!(thread.state, State::Call(_)) => {
                thread.slot
            }
            _ => return Ok(false),
        };
        self.clear()?;
        self.process.wipe(slot);
        Ok(true)
    }

    fn is_alive(&self) -> bool {
        !self.process.has_ended()
    }

    fn new_context(self: Arc<Self>) -> Result<Box<dyn Context>, PlatformError> {
        Ok(Box::new(SystrapContext::new(self)?))
    }
}

impl Drop for SystrapSpace {
    fn drop(&mut self) {
        // Before the listeners close: a call that nobody can answer any more returns
        // ENOSYS, and no guest code may run on that.
        self.process.kill();
    }
}
