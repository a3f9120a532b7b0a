//! A guest address space: a stub process, and the conversation with its mapper.

use std::{any::Any, ops::Range, os::fd::AsFd, sync::Arc};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{
    Shared,
    context::SystrapContext,
    extended,
    sites::Sites,
    thread::{GuestThread, State},
};
use crate::{
    AddressSpace, Context, MapOp, PlatformError, Rewrite,
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
    shared: Arc<Shared>,
    pub(super) sites: Sites,
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
        shared: Arc<Shared>,
    ) -> Result<Self, PlatformError> {
        Ok(Self {
            idle: Mutex::default(),
            mapper: Mutex::new(None),
            process: system.new_process()?,
            memory,
            shared,
            sites: Sites::default(),
            system,
        })
    }

    /// A guest thread in its first frame, or one that another context left.
    pub(super) fn thread(&self) -> Result<GuestThread, PlatformError> {
        let idle = self.idle.lock().pop();
        match idle {
            Some(thread) => Ok(thread),
            None => GuestThread::new(&self.process, self.shared.load.clone()),
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
        if let Some(format) = self.shared.format.get() {
            return Ok(format);
        }
        let State::Stop(stop) = thread.state else {
            return Err(self.process.corrupted("no frame to learn from"));
        };
        let format =
            extended::learn(self.process.control(), thread.slot, stop.frame).ok_or_else(|| {
                PlatformError::Unsupported("the host's signal frames have no XSAVE state".into())
            })?;
        let format = self.shared.format.get_or_init(|| format);
        // For the stub, which saves and loads the same.
        self.process.control().write_u64(CONST_OFFSET + C_FEATURES, format.features());
        Ok(format)
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
        self.run(&[command::CLEAR])?;
        self.sites.clear();
        Ok(())
    }

    fn plan_rewrite(
        &self,
        site: u64,
        code_at: u64,
        code: &[u8],
        room: Range<u64>,
    ) -> Option<Rewrite> {
        self.sites.plan(site, code_at, code, room)
    }

    fn note_rewrite(&self, rewrite: &Rewrite) {
        self.sites.note(rewrite);
    }

    fn forget_rewrites(&self, range: Range<u64>) {
        self.sites.forget(range);
    }

    fn inherit_rewrites(&self, parent: &dyn AddressSpace) {
        let parent: &dyn Any = parent;
        if let Some(parent) = parent.downcast_ref::<Self>() {
            self.sites.inherit(&parent.sites);
        }
    }

    fn renew(&self) -> Result<bool, PlatformError> {
        // With one thread there is nobody who could have kept something but that one, and it waits in a
        // system call.
        let mut thread = {
            let mut idle = self.idle.lock();
            match idle.as_slice() {
                [thread] if self.process.is_single() && matches!(thread.state, State::Call(_)) => {}
                _ => return Ok(false),
            }
            let Some(thread) = idle.pop() else { return Ok(false) };
            thread
        };
        let State::Call(call) = thread.state else { return Ok(false) };
        self.clear()?;
        self.process.wipe(thread.slot);
        thread.call_slot(&self.process).prepare();
        // Guest code can block our signal, or have its frame put elsewhere (rt_sigreturn). Such a thread ends
        // here, not when another process has it.
        thread.fetch(&self.process, call).inspect_err(|_| self.process.kill())?;
        self.idle.lock().push(thread);
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

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::systrap::attention::Load;
    use crate::{Backing, Prot, Trap, stub::Kind};

    const CODE: u64 = 0x40_0000;
    const DATA: u64 = 0x50_0000;
    const PAGE: u64 = 4096;

    /// A space whose only thread has left, in a system call, after an rt_sigreturn into a frame of its own
    /// with this mask of blocked signals.
    fn left_space(system: &Arc<StubSystem>, mask: u64) -> Arc<SystrapSpace> {
        let memory = Arc::new(MemoryFile::new(None).unwrap());
        let shared = Arc::new(Shared { format: OnceLock::new(), load: Arc::new(Load::new()) });
        let space = SystrapSpace::new(system.clone(), memory.clone(), shared.clone()).unwrap();
        let space = Arc::new(space);
        let pages = memory.allocate(2 * PAGE, None).unwrap();
        // mov eax, 15; jmp rsi; then syscall
        memory.slice(pages).copy_from(&[0xb8, 15, 0, 0, 0, 0xff, 0xe6, 0x0f, 0x05]);
        let mut context = [0u64; 64];
        // struct ucontext: flags, rsp, rip, eflags, segments, mask.
        for (at, value) in [
            (0, 6),
            (160, DATA + PAGE),
            (168, CODE + 7),
            (176, 0x202),
            (184, 0x33 | 0x2b << 48),
            (296, mask),
        ] {
            context[at / 8] = value;
        }
        let bytes: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        memory.slice(pages.sub(PAGE, PAGE)).copy_from(&bytes);
        let map = |addr, at, prot| {
            let backing = Backing::Memory(pages.sub(at, PAGE));
            MapOp::Map { addr, len: PAGE, prot, backing, populate: false }
        };
        let ops = [map(CODE, 0, Prot::READ | Prot::EXEC), map(DATA, PAGE, Prot::READ)];
        space.apply(&ops).unwrap();
        let mut thread = SystrapContext::new(space.clone()).unwrap();
        let registers = thread.registers().unwrap();
        (registers.rip, registers.rsp) = (CODE, DATA);
        registers.rsi = crate::stub::after_sigreturn() - 2;
        let trap = loop {
            match thread.switch().unwrap() {
                Trap::Interrupted => {}
                trap => break trap,
            }
        };
        assert!(matches!(trap, Trap::Syscall { .. }), "{trap:?}");
        drop(thread);
        space
    }

    #[test]
    fn a_thread_that_resists_is_not_given_to_another_process() {
        let system = Arc::new(StubSystem::start(Kind::Notify).unwrap());
        assert!(left_space(&system, 0).renew().unwrap());
        let resisting = left_space(&system, u64::MAX);
        assert!(resisting.renew().is_err());
        while resisting.is_alive() {
            std::thread::yield_now();
        }
    }
}
