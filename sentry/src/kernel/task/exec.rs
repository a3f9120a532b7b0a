//! execve(2): a new program in the same process (`fs/exec.c`).

use std::sync::{Arc, atomic::Ordering};

use linux_abi::{Signal, signal::SigStack};
use platform::{PlatformError, Registers};

use super::signal_frame;
use crate::{
    SysResult, err,
    kernel::{Credentials, CurrentTask, ExitStatus, SleepEnd, exec_cred},
    loader::{self, ExecRequest, Identity, LoadedImage, Prepared},
    syscalls::Outcome,
    vfs::{self, FileDescription, LookupFlags, VfsPath},
};

const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
/// Personalities that do not survive gaining privileges (`PER_CLEAR_ON_SETID`).
const CLEAR_ON_SETID: u32 = 0x0004_0000 | 0x0010_0000 | 0x0020_0000 | 0x0040_0000;
/// Interrupts enabled, and the bit that is always one.
const INITIAL_FLAGS: u64 = 0x202;
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;

impl CurrentTask {
    /// Runs the program at `path`, as execve does.
    pub(in crate::kernel) fn exec_path(
        &mut self,
        path: &[u8],
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> SysResult<Outcome> {
        let cx = self.path_cx();
        let start = self.walk_start(&cx, crate::user::Fd::CWD, path)?;
        self.exec_at(&start, path, LookupFlags::FOLLOW, path.to_vec(), argv, envp)
    }

    /// Runs the program at `path` from `start` on. `shown`: the name the program sees.
    pub(crate) fn exec_at(
        &mut self,
        start: &VfsPath,
        path: &[u8],
        lookup: LookupFlags,
        shown: Vec<u8>,
        argv: Vec<Vec<u8>>,
        envp: Vec<Vec<u8>>,
    ) -> SysResult<Outcome> {
        let cx = self.path_cx();
        let file = vfs::open_exec(&cx, start, path, lookup)?;
        if self.exec_name_vanishes(&shown) && is_script(&file) {
            // The interpreter could not open it by that name.
            return err!(ENOENT);
        }
        let request = ExecRequest {
            file,
            path: shown,
            argv,
            envp,
            stack_limit: self.rlimit(libc::RLIMIT_STACK).0,
        };
        let opener = |path: &[u8]| -> SysResult<Arc<FileDescription>> {
            let start = self.walk_start(&cx, crate::user::Fd::CWD, path)?;
            vfs::open_exec(&cx, &start, path, LookupFlags::FOLLOW)
        };
        let prepared = loader::prepare(request, &opener)?;
        let cred = exec_cred::after_exec(&self.cred(), prepared.file(), self.is_traced())?;
        let former_tid = self.tid();
        self.end_other_threads()?;
        // From here on there is no way back: what fails now ends the process.
        match self.replace_image(prepared, cred) {
            Ok(()) => {
                self.trace_exec(former_tid);
                Ok(Outcome::RegistersSet)
            }
            Err(error) => {
                tracing::debug!(pid = self.pid(), %error, "execve");
                self.die_in_exec(&error)
            }
        }
    }

    /// Is the name one of a descriptor that execve closes?
    fn exec_name_vanishes(&self, shown: &[u8]) -> bool {
        let number = shown.strip_prefix(b"/dev/fd/").and_then(|rest| {
            let digits = rest.split(|&byte| byte == b'/').next()?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        });
        number
            .and_then(|number| self.fds.entry(crate::user::Fd(number)).ok())
            .is_some_and(|entry| entry.cloexec)
    }

    /// The end of a process whose new image cannot be built (`bprm_execve` in `fs/exec.c`); of the first one, the error.
    fn die_in_exec(&mut self, error: &PlatformError) -> SysResult<Outcome> {
        let group = self.thread_group().clone();
        let signal = if self.has_lost_its_process() { Signal::KILL } else { Signal::SEGV };
        let status = ExitStatus::Signaled { signal, core: false };
        group.begin_exit(&mut group.state.lock(), status);
        self.exit_code = status;
        if self.pid() == 1 {
            return match error {
                PlatformError::Host { errno, .. } => Err((*errno).into()),
                _ => err!(ENOMEM),
            };
        }
        Ok(Outcome::Exit)
    }

    /// All other threads end; this one becomes the leader.
    fn end_other_threads(&mut self) -> SysResult<()> {
        let group = self.thread_group().clone();
        {
            let mut state = group.state.lock();
            if state.exit.is_some() || state.exec.is_some() {
                return err!(EAGAIN);
            }
            if state.threads.len() > 1 {
                state.exec = Some(self.task.clone());
            }
            for thread in &state.threads {
                if !Arc::ptr_eq(thread, &self.task) {
                    thread.killed.store(true, Ordering::SeqCst);
                    thread.interrupt();
                }
            }
        }
        loop {
            self.waker().prepare();
            if group.state.lock().threads.len() == 1 {
                break;
            }
            if self.sleep_killable(None) == SleepEnd::Interrupted {
                group.state.lock().exec = None;
                return err!(EAGAIN);
            }
        }
        self.become_leader();
        Ok(())
    }

    fn become_leader(&mut self) {
        let group = self.thread_group().clone();
        let kernel = self.kernel().clone();
        let mut members = kernel.tasks.lock();
        let old;
        {
            let mut state = group.state.lock();
            state.exec = None;
            state.leader_exit = None;
            old = state.leader.replace(self.task.clone());
        }
        if self.is_leader() {
            return;
        }
        members.remove_thread(self.tid());
        self.task.take_tid(group.pid());
        members.insert_thread(self.task.clone());
        drop(members);
        kernel.tasks.unreserve();
        if let Some(old) = old {
            old.set_run_state(super::RunState::Dead);
        }
    }

    fn replace_image(
        &mut self,
        prepared: Prepared,
        cred: exec_cred::NewCred,
    ) -> Result<(), PlatformError> {
        let group = self.thread_group().clone();
        let comm = super::comm_from(prepared.comm());
        self.exit_robust_list();
        self.clear_child_tid_word();
        let image = self.load_image(prepared, &cred)?;
        let old = self.replace_mm(image.mm);
        self.refresh_slow_entry();
        self.vfork_child = None;
        drop(old);
        self.kernel().memory().settle();
        self.start_fresh(image.entry, image.stack_pointer)?;

        // Nothing of the old program's is left: descriptors, handlers, timers.
        self.unshare_files();
        let closing = self.fds.take_where(|_, entry| entry.cloexec);
        for entry in closing {
            self.close_entry(entry);
        }
        let handlers = group.handlers();
        let own = if Arc::strong_count(&handlers) > 2 { handlers.copy(false) } else { handlers };
        own.reset_for_exec();
        group.set_handlers(own);
        group.timers.delete_posix_timers();
        self.alt_stack = SigStack { flags: libc::SS_DISABLE, ..SigStack::default() };
        self.restart_block = None;
        self.rseq = None;
        group.exit_signal.store(Signal::CHLD.number(), Ordering::Relaxed);
        group.did_exec.store(true, Ordering::Relaxed);
        group.dumpable.store(u32::from(!cred.gains), Ordering::Relaxed);
        group.membarrier.store(0, Ordering::Relaxed);
        if cred.changes {
            self.task.parent_death_signal.store(0, Ordering::Relaxed);
        }
        {
            let mut shared = self.task.shared.lock();
            shared.comm = comm;
            if cred.gains {
                shared.personality &= !CLEAR_ON_SETID;
            }
        }
        self.replace_cred(cred.cred);
        Ok(())
    }

    /// The new image, in this address space if no one else uses it, else in a new one.
    fn load_image(
        &mut self,
        prepared: Prepared,
        cred: &exec_cred::NewCred,
    ) -> Result<LoadedImage, PlatformError> {
        // With our own references gone from where others could take them, the count cannot grow.
        let shared = self.task.shared.lock().mm.take();
        drop(shared);
        let alone = Arc::strong_count(&self.mm) == 1;
        let space = if alone {
            // The new mappings take the place of the old ones, all at once.
            self.mm.space().clone()
        } else {
            let space = self.kernel().platform().new_address_space()?;
            self.context.move_to(space.clone())?;
            space
        };
        let randomize = self.personality() & ADDR_NO_RANDOMIZE == 0 || cred.gains;
        let new: &Credentials = &cred.cred;
        let identity = Identity {
            uid: new.uid,
            euid: new.euid,
            gid: new.gid,
            egid: new.egid,
            secure: cred.gains,
        };
        let kernel = self.kernel().clone();
        prepared
            .load(&kernel, space, &identity, self.mm.limits(), randomize)
            .map_err(|errno| PlatformError::Host { what: "loading the image", errno })
    }

    fn start_fresh(&mut self, entry: u64, stack: u64) -> Result<(), PlatformError> {
        *self.context.registers()? = Registers {
            rip: entry,
            rsp: stack,
            eflags: INITIAL_FLAGS,
            cs: USER_CS,
            ss: USER_SS,
            orig_rax: u64::MAX,
            ..Registers::default()
        };
        signal_frame::reset(self.context.xstate()?);
        Ok(())
    }

    fn unshare_files(&mut self) {
        // Our own reference and the one others can see.
        if Arc::strong_count(&self.fds) > 2 {
            let copy = self.fds.duplicate();
            drop(self.replace_fds(copy));
        }
    }
}

fn is_script(file: &FileDescription) -> bool {
    let mut head = [0; 2];
    let got = file.ops().read(file, 0, &mut vfs::IoDst::kernel(&mut head));
    got == Ok(2) && head == *b"#!"
}
