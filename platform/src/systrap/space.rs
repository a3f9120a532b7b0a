//! A guest address space: a stub process, and the conversation with its mapper.

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::{Arc, OnceLock},
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{context::SystrapContext, extended::ExtendedFormat, thread::GuestThread};
use crate::{
    AddressSpace, Backing, Context, MapOp, PAGE_SIZE, PlatformError, Prot,
    lock_order::{IdleThreads, SpaceCommands},
    memory::MemoryFile,
    stub::{Listener, StubProcess, StubSystem, Waiter, layout::*, sys},
};

/// One system call of the mapper: number and arguments.
type Command = [u64; 7];

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
        let super::thread::State::Stop(stop) = thread.state else {
            return Err(self.process.corrupted("no frame to learn from"));
        };
        let format = ExtendedFormat::learn(self.process.control(), thread.slot, stop.frame)
            .ok_or_else(|| {
                PlatformError::Unsupported("the host's signal frames have no XSAVE state".into())
            })?;
        Ok(self.format.get_or_init(|| format))
    }

    fn command(&self, op: &MapOp) -> Result<Command, PlatformError> {
        let (MapOp::Map { addr, len, .. }
        | MapOp::Unmap { addr, len }
        | MapOp::Protect { addr, len, .. }) = *op;
        let inside = addr.checked_add(len).is_some_and(|end| end <= USER_END);
        if !inside || !(addr | len).is_multiple_of(PAGE_SIZE) {
            return Err(PlatformError::Host { what: "a guest mapping", errno: Errno::EINVAL });
        }
        Ok(match op {
            MapOp::Map { prot, backing, populate, .. } => {
                let (sharing, fd, offset) = match backing {
                    Backing::Memory(range) => {
                        (libc::MAP_SHARED, self.memory.fd().as_raw_fd(), range.start)
                    }
                    Backing::Host { file, offset, shared: true } => {
                        (libc::MAP_SHARED, file.as_raw_fd(), *offset)
                    }
                    Backing::Host { file, offset, shared: false } => {
                        (libc::MAP_PRIVATE, file.as_raw_fd(), *offset)
                    }
                };
                let populate = if *populate { libc::MAP_POPULATE } else { 0 };
                let flags = sharing | populate | libc::MAP_FIXED | libc::MAP_NORESERVE;
                let prot = host_prot(*prot);
                [libc::SYS_mmap as u64, addr, len, prot, flags as u64, fd as u64, offset]
            }
            MapOp::Unmap { .. } => [libc::SYS_munmap as u64, addr, len, 0, 0, 0, 0],
            MapOp::Protect { prot, .. } => {
                [libc::SYS_mprotect as u64, addr, len, host_prot(*prot), 0, 0, 0]
            }
        })
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
        let page = self.process.mapper_commands();
        for (command, at) in batch.iter().zip((page..).step_by(COMMAND_LEN as usize)) {
            for (word, at) in command.iter().zip((at..).step_by(8)) {
                self.process.control().write_u64(at, *word);
            }
        }
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

fn host_prot(prot: Prot) -> u64 {
    let mut host = libc::PROT_NONE;
    for (ours, theirs) in [
        (Prot::READ, libc::PROT_READ),
        (Prot::WRITE, libc::PROT_WRITE),
        (Prot::EXEC, libc::PROT_EXEC),
    ] {
        if prot.contains(ours) {
            host |= theirs;
        }
    }
    host as u64
}

/// Makes one command of two that follow one another, when they can be one.
fn join(last: &mut Command, next: &Command) -> bool {
    let [number, addr, len, prot, flags, fd, offset] = *last;
    let adjacent = next[1] == addr.wrapping_add(len);
    let same = next[0] == number && next[3] == prot && next[4] == flags && next[5] == fd;
    let continues = number != libc::SYS_mmap as u64 || next[6] == offset.wrapping_add(len);
    let joined = adjacent && same && continues;
    if joined {
        last[2] = len.wrapping_add(next[2]);
    }
    joined
}

impl AddressSpace for SystrapSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        let mut commands: Vec<Command> = Vec::with_capacity(ops.len());
        for op in ops {
            let next = self.command(op)?;
            if next[2] == 0 {
                continue;
            }
            if !commands.last_mut().is_some_and(|last| join(last, &next)) {
                commands.push(next);
            }
        }
        self.run(&commands)
    }

    fn clear(&self) -> Result<(), PlatformError> {
        self.run(&[[libc::SYS_munmap as u64, 0, USER_END, 0, 0, 0, 0]])
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
