//! pidfd_open(2): a descriptor that stands for a process.

use std::{any::Any, sync::Arc};

use super::{CurrentTask, Task, ThreadGroup};
use crate::{
    Errno, SysResult, err,
    fs::anon,
    user::Fd,
    vfs::{FileDescription, FileOps},
    wait::{EventMask, PollTable},
};

/// PIDFD_THREAD: it stands for one thread.
pub const PIDFD_THREAD: u32 = libc::O_EXCL as u32;

/// The open file.
#[derive(Debug)]
pub struct PidFd {
    group: Arc<ThreadGroup>,
    task: Arc<Task>,
    thread: bool,
}

impl PidFd {
    pub fn new(task: Arc<Task>, thread: bool) -> Self {
        Self { group: task.thread_group().clone(), task, thread }
    }

    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.group
    }

    /// Process or thread id.
    pub fn id(&self) -> i32 {
        if self.thread { self.task.tid() } else { self.group.pid() }
    }

    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    pub fn is_thread(&self) -> bool {
        self.thread
    }

    /// Has it been waited for?
    pub fn is_gone(&self) -> bool {
        self.group.kernel().tasks.task(self.id()).is_none()
    }

    fn has_ended(&self) -> bool {
        if self.thread {
            return self.task.is_exited();
        }
        let tasks = &self.group.kernel().tasks;
        tasks.is_zombie(self.group.pid()) || tasks.process(self.group.pid()).is_none()
    }
}

impl FileOps for PidFd {
    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.group.exit_queue);
        if self.has_ended() {
            if self.is_gone() { EventMask::READABLE | EventMask::HUP } else { EventMask::READABLE }
        } else {
            EventMask::empty()
        }
    }

    fn fdinfo(&self, _file: &FileDescription) -> String {
        let id = if self.is_gone() { -1 } else { self.id() };
        format!("Pid:\t{id}\nNSpid:\t{id}\n")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl CurrentTask {
    /// A new descriptor for `target`; close-on-exec, as pidfds always are.
    pub fn install_pidfd(&mut self, target: &Arc<Task>, thread: bool) -> Result<Fd, Errno> {
        self.install_pidfd_with(target, thread, false)
    }

    pub fn install_pidfd_with(
        &mut self,
        target: &Arc<Task>,
        thread: bool,
        nonblocking: bool,
    ) -> Result<Fd, Errno> {
        let mut flags = libc::O_RDWR as u32;
        if nonblocking {
            flags |= libc::O_NONBLOCK as u32;
        }
        let ops = Box::new(PidFd::new(target.clone(), thread));
        let file = anon::open_anon(ops, "pidfd", flags, self.cred());
        let limit = self.rlimit(libc::RLIMIT_NOFILE).0;
        self.fds.insert(file, true, 0, limit)
    }

    /// The process a pidfd stands for, and whether it is non-blocking. `EBADF` for other files.
    pub fn pidfd_process(&self, fd: Fd) -> SysResult<(i32, bool)> {
        let file = self.file(fd)?;
        match file.ops_as::<PidFd>() {
            Some(pidfd) => Ok((pidfd.id(), file.is_nonblocking())),
            None => err!(EBADF),
        }
    }
}
