//! `/proc/PID` and `/proc/PID/task/TID`.
//!
//! A [`Subject`] is a task seen as a whole process or as one thread. Tables say which files there are
//! and which function makes each one's content.

mod fds;
mod links;
mod maps;
mod memory;
mod mounts;
mod namespaces;
mod small;
mod stat;
mod status;
mod table;
mod tasks;

use std::{
    any::Any,
    sync::{Arc, Weak},
};

use crate::{
    Errno, SysResult,
    fs::pseudo::{Attr, Owner},
    kernel::{RunState, Task},
    vfs::{FileDescription, FileType},
};

pub(super) use table::directory;
pub(super) use tasks::{Processes, is_current, parse_id};

/// The process whose directory in procfs `file` is (`tgid_pidfd_to_pid` in `fs/proc/base.c`); `ESRCH` when it
/// is gone.
pub fn process_of(file: &FileDescription) -> Option<SysResult<Arc<Task>>> {
    let inode: Arc<dyn Any + Send + Sync> = file.path().inode().clone();
    let subject = inode.downcast::<table::TaskDir>().ok()?.subject().clone();
    (subject.scope == Scope::Process).then(|| subject.task())
}

/// Processor time in /proc is in ticks of this length (USER_HZ = 100).
pub(super) const NS_PER_TICK: u64 = 10_000_000;

/// What part of a process it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Process,
    Thread,
}

/// A task, which may be gone by the time someone looks.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    task: Weak<Task>,
    tid: i32,
    scope: Scope,
    /// `st_dev`.
    dev: u64,
}

impl Subject {
    pub(super) fn new(task: &Arc<Task>, scope: Scope, dev: u64) -> Self {
        Self { task: Arc::downgrade(task), tid: task.tid(), scope, dev }
    }

    /// The task, or `ESRCH` when it was reaped.
    pub(super) fn task(&self) -> SysResult<Arc<Task>> {
        let task = self.task.upgrade().ok_or(Errno::ESRCH)?;
        if task.run_state() == RunState::Dead || task.tid() != self.tid {
            return Err(Errno::ESRCH.into());
        }
        Ok(task)
    }

    /// Inode number of the thing of that sort and index: the same each time it is looked up.
    fn ino(&self, sort: Sort, index: u32) -> u64 {
        let scope = u64::from(self.scope == Scope::Thread);
        let tid = u64::from(self.tid.unsigned_abs());
        1 << 60 | tid << 36 | scope << 35 | (sort as u64) << 32 | u64::from(index)
    }

    /// Attributes, with the owner following the task's credentials.
    fn attr(&self, sort: Sort, index: u32, kind: FileType, perm: u32) -> Attr {
        // Linux makes everything but plain 0555 directories root's when the task is not dumpable.
        let always = kind == FileType::Directory && perm == 0o555;
        let owner = Arc::new(TaskOwner { task: self.task.clone(), always });
        Attr::new(self.dev, self.ino(sort, index), kind, perm)
            .owned_by(owner)
            .refusing(Errno::ENOENT)
    }
}

/// Kinds of inodes below a task, for their numbers.
#[derive(Clone, Copy, Debug)]
enum Sort {
    Directory,
    File,
    Fd,
    FdInfo,
    Namespace,
    Attribute,
}

/// Nodes belong to the effective user, or to root for a process that is not dumpable
/// (`task_dump_owner` in `fs/proc/base.c`).
#[derive(Debug)]
struct TaskOwner {
    task: Weak<Task>,
    always: bool,
}

impl Owner for TaskOwner {
    fn ids(&self) -> (u32, u32) {
        let Some(task) = self.task.upgrade() else { return (0, 0) };
        if self.always || task.thread_group().dumpable() == 1 {
            let cred = task.cred();
            (cred.euid, cred.egid)
        } else {
            (0, 0)
        }
    }
}
