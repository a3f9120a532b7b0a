//! The current task: what only its own thread may do, and how it blocks.

use std::{fmt, ops::Deref, sync::Arc};

use linux_abi::{SigInfo, SigSet, signal::SigStack};
use platform::Context;

use super::{
    Credentials, ExitStatus, FsContext, Task, TaskWaker,
    seccomp::FilterChain,
    task::{Rseq, RunState},
};
use crate::{
    Restart, SysError, SysResult,
    mm::MemoryManager,
    syscalls::Outcome,
    time::Monotonic,
    user::Fd,
    vfs::{FdEntry, FdTable, FileDescription},
    wait::{EventMask, PollTable},
};

/// The task that the calling thread serves. Handlers get it as `&mut`.
pub struct CurrentTask {
    pub(super) task: Arc<Task>,
    pub(super) context: Box<dyn Context>,
    /// Copies of what `Task` shares, so that the hot path takes no lock; replaced by their own
    /// thread only (execve, unshare).
    pub(super) mm: Arc<MemoryManager>,
    pub(super) fds: Arc<FdTable>,
    pub(super) fs: Arc<FsContext>,
    cred: Arc<Credentials>,
    /// How an interrupted call with a relative timeout goes on.
    pub(super) restart_block: Option<RestartBlock>,
    /// The mask to go back to when no handler runs (sigsuspend, ppoll …).
    pub(super) saved_mask: Option<SigSet>,
    pub(super) alt_stack: SigStack,
    /// Cleared and woken at exit (set_tid_address(2)).
    pub(super) clear_child_tid: u64,
    /// What exit(2) or a fatal signal decided for this thread.
    pub(super) exit_code: ExitStatus,
    /// A parent in vfork(2) waits for this task to leave its memory.
    pub(super) vfork_child: Option<super::task::VforkChild>,
    /// `trapno`, `err` and `cr2` of the last fault, for signal frames.
    pub(super) trap_numbers: (u64, u64, u64),
    /// Calls are traced, filtered or logged: not the fast path.
    pub(super) slow_entry: bool,
    /// Details of a signal which a tracer changed while the task stood.
    pub(super) changed_info: Option<SigInfo>,
    /// Its tracer let it go on though its process is stopped.
    pub(super) passed_stop: bool,
    pub(super) seccomp: Option<Arc<FilterChain>>,
    /// rseq(2), if it has registered.
    pub(super) rseq: Option<Box<Rseq>>,
    /// Futex waits use it again and again.
    pub(super) futex_waiter: Option<Arc<super::futex::Waiter>>,
}

/// What `restart_syscall` calls.
pub type RestartBlock = Box<dyn FnOnce(&mut CurrentTask) -> SysResult<Outcome> + Send>;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepEnd {
    /// Someone woke the task: check the condition again.
    Woken,
    /// The deadline passed.
    TimedOut,
    /// A signal or stop is waiting: give up with a [`Restart`].
    Interrupted,
}

impl CurrentTask {
    /// To be called by the host thread that will run it. `None` when the task has been torn down.
    pub(super) fn new(task: Arc<Task>, context: Box<dyn Context>) -> Option<Self> {
        let shared = task.shared.lock().clone();
        Some(Self {
            context,
            mm: shared.mm?,
            fds: shared.fds?,
            fs: shared.fs?,
            cred: shared.cred,
            restart_block: None,
            saved_mask: None,
            alt_stack: SigStack { flags: libc::SS_DISABLE, ..SigStack::default() },
            clear_child_tid: 0,
            exit_code: ExitStatus::Exited(0),
            vfork_child: None,
            trap_numbers: (0, 0, 0),
            slow_entry: false,
            changed_info: None,
            passed_stop: false,
            seccomp: shared.seccomp,
            rseq: None,
            futex_waiter: None,
            task,
        })
    }

    /// The shared part.
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// This process's memory.
    pub fn mm(&self) -> &Arc<MemoryManager> {
        &self.mm
    }

    /// This process's descriptors.
    pub fn fds(&self) -> &Arc<FdTable> {
        &self.fds
    }

    /// Root, working directory, umask.
    pub fn fs(&self) -> &Arc<FsContext> {
        &self.fs
    }

    /// Its credentials, without a lock.
    pub fn cred(&self) -> Arc<Credentials> {
        self.cred.clone()
    }

    /// The same, without a count.
    pub fn cred_ref(&self) -> &Credentials {
        &self.cred
    }

    /// Replaces its credentials.
    pub fn replace_cred(&mut self, cred: Arc<Credentials>) {
        self.cred = cred.clone();
        self.task.set_cred(cred);
        self.refresh_answers();
    }

    /// unshare(2), close_range(2) with CLOSE_RANGE_UNSHARE: another descriptor table.
    pub fn replace_fds(&mut self, fds: Arc<FdTable>) -> Arc<FdTable> {
        self.task.shared.lock().fds = Some(fds.clone());
        std::mem::replace(&mut self.fds, fds)
    }

    /// set_tid_address(2).
    pub(crate) fn set_clear_child_tid(&mut self, at: u64) {
        self.clear_child_tid = at;
    }

    /// PR_GET_TID_ADDRESS.
    pub(crate) fn clear_child_tid_address(&self) -> u64 {
        self.clear_child_tid
    }

    /// Closes what was taken out of a descriptor table.
    pub fn close_entry(&self, entry: FdEntry) {
        crate::vfs::close_entry(&self.fds, entry);
    }

    /// unshare(2): another file system context.
    pub fn replace_fs(&mut self, fs: Arc<FsContext>) -> Arc<FsContext> {
        self.task.shared.lock().fs = Some(fs.clone());
        std::mem::replace(&mut self.fs, fs)
    }

    pub(super) fn replace_mm(&mut self, mm: Arc<MemoryManager>) -> Arc<MemoryManager> {
        self.task.shared.lock().mm = Some(mm.clone());
        std::mem::replace(&mut self.mm, mm)
    }

    /// The call is interrupted; when no handler runs, it goes on with `block`.
    /// To be returned by the handler.
    pub fn set_restart_block(
        &mut self,
        block: impl FnOnce(&mut Self) -> SysResult<Outcome> + Send + 'static,
    ) -> SysError {
        self.restart_block = Some(Box::new(block));
        Restart::Block.into()
    }

    pub(crate) fn take_restart_block(&mut self) -> Option<RestartBlock> {
        self.restart_block.take()
    }

    /// The file behind `fd` (not O_PATH), or `EBADF`.
    pub fn file(&self, fd: Fd) -> SysResult<Arc<FileDescription>> {
        Ok(self.fds.get(fd)?)
    }

    /// The guest's registers and the right to run them.
    pub fn context(&mut self) -> &mut dyn Context {
        &mut *self.context
    }

    /// Target for wait-queue registrations.
    pub fn waker(&self) -> &Arc<TaskWaker> {
        &self.task.waker
    }

    /// Sleeps until woken, interrupted, or `deadline`. Use `block_until` unless you register by hand:
    /// `waker().prepare()`, check the condition, `sleep`, again.
    pub fn sleep(&mut self, deadline: Option<Monotonic>) -> SleepEnd {
        self.sleep_in(deadline, RunState::Sleeping, TaskWaker::is_interrupted)
    }

    /// As [`Self::sleep`], but only what ends the task interrupts it (`TASK_KILLABLE`).
    pub fn sleep_killable(&mut self, deadline: Option<Monotonic>) -> SleepEnd {
        let task = self.task.clone();
        self.sleep_in(deadline, RunState::Uninterruptible, move |_| task.must_die())
    }

    fn sleep_in(
        &mut self,
        deadline: Option<Monotonic>,
        state: RunState,
        interrupted: impl Fn(&TaskWaker) -> bool,
    ) -> SleepEnd {
        let waker = &self.task.waker;
        self.task.set_run_state(state);
        let end = loop {
            if waker.is_woken() {
                break SleepEnd::Woken;
            }
            if interrupted(waker) {
                break SleepEnd::Interrupted;
            }
            if let Some(deadline) = deadline
                && self.task.kernel.clocks.monotonic() >= deadline
            {
                break SleepEnd::TimedOut;
            }
            self.give_up_virtual_processor();
            waker.parker().park(deadline.map(|deadline| deadline.0));
        };
        self.task.set_run_state(RunState::Running);
        end
    }

    /// Tries `attempt` until it gives something (`Some`, or an error), sleeping in between. `register`
    /// is called once, before the second try, to make the registrations that end the sleeps.
    /// `Ok(None)` when `deadline` passed; `Restart::IfSaRestart` when interrupted.
    pub fn block_until<T, G>(
        &mut self,
        deadline: Option<Monotonic>,
        register: impl FnOnce(&mut Self) -> G,
        mut attempt: impl FnMut(&mut Self) -> SysResult<Option<T>>,
    ) -> SysResult<Option<T>> {
        if let Some(value) = attempt(self)? {
            return Ok(Some(value));
        }
        let _registrations = register(self);
        loop {
            self.waker().prepare();
            if let Some(value) = attempt(self)? {
                return Ok(Some(value));
            }
            match self.sleep(deadline) {
                SleepEnd::Woken => {}
                SleepEnd::TimedOut => return Ok(None),
                SleepEnd::Interrupted => return Err(Restart::IfSaRestart.into()),
            }
        }
    }

    /// Does a file operation that may have to wait: tries `attempt`; on `EAGAIN` waits, unless the file
    /// is non-blocking, until the file is ready for `events` and tries again.
    /// With a `deadline` (SO_RCVTIMEO), `EAGAIN` when it passes.
    pub fn block_on_file<T>(
        &mut self,
        file: &FileDescription,
        events: EventMask,
        deadline: Option<Monotonic>,
        mut attempt: impl FnMut(&mut Self) -> SysResult<T>,
    ) -> SysResult<T> {
        match attempt(self) {
            Err(error) if error.is_again() && !file.is_nonblocking() => {}
            result => return result,
        }
        let limit = file.ops().wait_limit(events);
        let deadline =
            deadline.or_else(|| limit.map(|ns| self.task.kernel.clocks.monotonic().after(ns)));
        let mut table = PollTable::register(self.waker().clone(), events);
        file.ops().poll(file, &mut table);
        let _registrations = table.into_registrations();
        loop {
            self.waker().prepare();
            match attempt(self) {
                Err(error) if error.is_again() => {}
                result => return result,
            }
            let sleep_limit = file.ops().sleep_limit(events);
            let look = sleep_limit.map(|ns| self.task.kernel.clocks.monotonic().after(ns));
            let until = [deadline, look].into_iter().flatten().min();
            match self.sleep(until) {
                SleepEnd::Woken => {}
                SleepEnd::TimedOut if until == look => {}
                SleepEnd::TimedOut => return Err(SysError::Errno(crate::Errno::EAGAIN)),
                // With a timeout of the socket's own it does not start again (signal(7)).
                SleepEnd::Interrupted if limit.is_some() => {
                    return Err(SysError::Errno(crate::Errno::EINTR));
                }
                SleepEnd::Interrupted => return Err(Restart::IfSaRestart.into()),
            }
        }
    }
}

impl Deref for CurrentTask {
    type Target = Task;
    fn deref(&self) -> &Task {
        &self.task
    }
}

impl fmt::Debug for CurrentTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}
