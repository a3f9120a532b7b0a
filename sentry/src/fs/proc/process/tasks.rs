//! Which processes and threads there are, as directories.

use std::sync::{Arc, Weak};

use super::{Scope, Subject, directory};
use crate::{
    Errno, SysResult,
    fs::{
        proc::upgrade,
        pseudo::{Entries, Listed, PseudoDir},
    },
    kernel::{Kernel, RunState, Task},
    vfs::{FileType, Inode},
};

/// A task id from a name, in the one spelling it has.
pub(in crate::fs::proc) fn parse_id(name: &[u8]) -> Option<i32> {
    if name.first() == Some(&b'0') || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// The numbered entries at the top.
#[derive(Debug)]
pub(in crate::fs::proc) struct Processes {
    pub(in crate::fs::proc) kernel: Weak<Kernel>,
    pub(in crate::fs::proc) dev: u64,
    pub(in crate::fs::proc) net: Arc<dyn Inode>,
}

impl Processes {
    /// The directory of a process. Threads are found too, though not listed, as in Linux.
    pub(in crate::fs::proc) fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        let id = parse_id(name).ok_or(Errno::ENOENT)?;
        let task = upgrade(&self.kernel)?.tasks.task(id).ok_or(Errno::ENOENT)?;
        if task.run_state() == RunState::Dead {
            return Err(Errno::ENOENT.into());
        }
        let subject = Subject::new(&task, Scope::Process, self.dev);
        Ok(directory(subject, self.net.clone()))
    }

    /// Ids of processes from `from` on.
    pub(in crate::fs::proc) fn ids(&self, from: i32) -> SysResult<Vec<i32>> {
        let processes = upgrade(&self.kernel)?.tasks.processes();
        Ok(processes.iter().map(|process| process.pid()).filter(|&pid| pid >= from).collect())
    }

    pub(in crate::fs::proc) fn listed(&self, pid: i32, key: u64) -> Listed {
        let ino = match upgrade(&self.kernel).map(|kernel| kernel.tasks.task(pid)) {
            Ok(Some(task)) => {
                Subject::new(&task, Scope::Process, self.dev).ino(super::Sort::Directory, 0)
            }
            _ => 0,
        };
        Listed { key, name: pid.to_string().into_bytes(), ino, kind: FileType::Directory }
    }
}

/// May a directory found before still stand for its task?
pub(in crate::fs::proc) fn is_current(inode: &Arc<dyn Inode>) -> bool {
    let inode: &dyn std::any::Any = &**inode;
    match inode.downcast_ref::<super::table::TaskDir>() {
        Some(dir) => dir.subject().task().is_ok(),
        None => true,
    }
}

/// `task/`: the threads of a process.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) subject: Subject,
    pub(super) net: Arc<dyn Inode>,
}

impl Threads {
    fn all(&self) -> SysResult<Vec<Arc<Task>>> {
        let group = self.subject.task()?.thread_group().clone();
        let mut threads = group.threads();
        // A leader that has ended is listed for as long as its process lives.
        if let Some(leader) = group.leader()
            && !threads.iter().any(|task| Arc::ptr_eq(task, &leader))
        {
            threads.push(leader);
        }
        threads.sort_by_key(|task| task.tid());
        Ok(threads)
    }
}

impl Entries for Threads {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        let id = parse_id(name).ok_or(Errno::ENOENT)?;
        let threads = self.all().map_err(|_| Errno::ENOENT)?;
        let task = threads.iter().find(|task| task.tid() == id).ok_or(Errno::ENOENT)?;
        let subject = Subject::new(task, Scope::Thread, self.subject.dev);
        Ok(directory(subject, self.net.clone()))
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        let threads = self.all().map_err(|_| Errno::ENOENT)?;
        let keyed = threads.iter().map(|task| (u64::from(task.tid().unsigned_abs()), task));
        Ok(keyed
            .filter(|(key, _)| *key >= from)
            .map(|(key, task)| Listed {
                key,
                name: task.tid().to_string().into_bytes(),
                ino: Subject::new(task, Scope::Thread, self.subject.dev)
                    .ino(super::Sort::Directory, 0),
                kind: FileType::Directory,
            })
            .collect())
    }

    fn links(&self) -> Option<u32> {
        let count = self.subject.task().map_or(0, |task| task.thread_group().thread_count());
        Some(2 + u32::try_from(count).unwrap_or(0))
    }

    fn is_current(&self, _name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        is_current(inode)
    }
}

/// The inode of `task/`.
pub(super) fn threads(subject: &Subject, net: &Arc<dyn Inode>, index: u32) -> Arc<dyn Inode> {
    let attr = subject.attr(super::Sort::File, index, FileType::Directory, 0o555);
    PseudoDir::new(attr, Threads { subject: subject.clone(), net: net.clone() })
}
