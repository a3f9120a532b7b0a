//! The current task: what only its own thread may do, and how it blocks.

use std::{fmt, ops::Deref, sync::Arc};

use platform::Context;

use super::{FsContext, Task, TaskWaker};
use crate::{
    Restart, SysError, SysResult,
    mm::MemoryManager,
    time::Monotonic,
    user::Fd,
    vfs::{FdTable, FileDescription},
    wait::{EventMask, PollTable},
};

/// The task that the calling thread serves. Handlers get it as `&mut`.
pub struct CurrentTask {
    task: Arc<Task>,
    context: Box<dyn Context>,
    /// Copies of what `Task` shares, so that the hot path takes no lock; replaced by their own
    /// thread only (execve, unshare).
    mm: Arc<MemoryManager>,
    fds: Arc<FdTable>,
    fs: Arc<FsContext>,
}

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
        let waker = &self.task.waker;
        loop {
            if waker.is_woken() {
                return SleepEnd::Woken;
            }
            if waker.is_interrupted() {
                return SleepEnd::Interrupted;
            }
            if let Some(deadline) = deadline
                && self.task.kernel.clocks.monotonic() >= deadline
            {
                return SleepEnd::TimedOut;
            }
            waker.parker().park(deadline.map(|deadline| deadline.0));
        }
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
        let waker = self.waker().clone();
        let done = self.block_until(
            deadline,
            |_| {
                let mut table = PollTable::register(waker, events);
                file.ops().poll(file, &mut table);
                table.into_registrations()
            },
            |task| match attempt(task) {
                Err(error) if error.is_again() => Ok(None),
                result => result.map(Some),
            },
        )?;
        done.ok_or(SysError::Errno(crate::Errno::EAGAIN))
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
