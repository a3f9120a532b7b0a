//! What is in a task's directory.

use std::sync::Arc;

use super::{
    Scope, Sort, Subject, fds, links, maps, memory, mounts, namespaces, small, stat, status, tasks,
};
use crate::{
    Errno, SysResult, err,
    fs::proc::access::{self, Look},
    fs::pseudo::{Content, Entries, Listed, PseudoDir, PseudoFile},
    kernel::{Credentials, Task},
    vfs::{
        AccessMask, DirOps, FileDescription, FileOps, FileType, Inode, Metadata, SetAttr, VfsPath,
    },
};

/// Writes the content of a task's file.
pub(super) type Show = fn(&Arc<Task>, Scope, &mut Vec<u8>) -> SysResult<()>;
/// Takes what was written to it.
pub(super) type Store = fn(&Arc<Task>, &FileDescription, &[u8]) -> SysResult<()>;

/// What an entry is.
#[derive(Clone, Copy)]
pub(super) enum Node {
    File(u32, Show),
    /// Asked at open(2) whether the caller may look.
    Guarded(u32, Show),
    Writable(u32, Show, Store),
    Link(links::Target),
    Mem,
    Pagemap,
    Fd,
    FdInfo,
    Task,
    Net,
    Namespaces,
    Attributes,
}
use Node::*;

/// Where an entry shows up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Both,
    Process,
    Thread,
}
use In::{Both, Process, Thread};

#[rustfmt::skip]
const ENTRIES: &[(&str, In, Node)] = &[
    ("task", Process, Task),
    ("fd", Both, Fd),
    ("fdinfo", Both, FdInfo),
    ("ns", Both, Namespaces),
    ("net", Both, Net),
    ("environ", Both, Guarded(0o400, memory::environ)),
    ("auxv", Both, Guarded(0o400, memory::auxv)),
    ("status", Both, File(0o444, status::status)),
    ("personality", Both, File(0o400, small::personality)),
    ("limits", Both, File(0o444, small::limits)),
    ("sched", Both, Writable(0o644, small::sched, small::ignore)),
    ("autogroup", Process, Writable(0o644, small::autogroup, small::ignore)),
    ("comm", Both, Writable(0o644, small::comm, small::set_comm)),
    ("syscall", Both, File(0o400, small::syscall)),
    ("cmdline", Both, File(0o444, memory::cmdline)),
    ("stat", Both, File(0o444, stat::stat)),
    ("statm", Both, File(0o444, stat::statm)),
    ("maps", Both, Guarded(0o444, maps::maps)),
    ("numa_maps", Both, Guarded(0o444, maps::numa_maps)),
    ("mem", Both, Mem),
    ("cwd", Both, Link(links::Target::Cwd)),
    ("root", Both, Link(links::Target::Root)),
    ("exe", Both, Link(links::Target::Exe)),
    ("mounts", Both, File(0o444, mounts::mounts)),
    ("mountinfo", Both, File(0o444, mounts::mountinfo)),
    ("mountstats", Process, File(0o400, mounts::mountstats)),
    ("clear_refs", Both, Writable(0o200, small::unreadable, small::clear_refs)),
    ("smaps", Both, Guarded(0o444, maps::smaps)),
    ("smaps_rollup", Both, Guarded(0o444, maps::smaps_rollup)),
    ("pagemap", Both, Pagemap),
    ("attr", Both, Attributes),
    ("wchan", Both, File(0o444, small::wchan)),
    ("stack", Both, File(0o400, small::stack)),
    ("schedstat", Both, File(0o444, small::schedstat)),
    ("cpuset", Both, File(0o444, small::cpuset)),
    ("cgroup", Both, File(0o444, small::cgroup)),
    ("oom_score", Both, File(0o444, small::oom_score)),
    ("oom_adj", Both, Writable(0o644, small::oom_adj, small::set_oom_adj)),
    ("oom_score_adj", Both, Writable(0o644, small::oom_score_adj, small::set_oom_score_adj)),
    ("loginuid", Both, Writable(0o644, small::no_id, small::refuse)),
    ("sessionid", Both, File(0o444, small::no_id)),
    ("coredump_filter", Process, Writable(0o644, small::coredump_filter, small::ignore)),
    ("io", Both, File(0o400, small::io)),
    ("uid_map", Both, Writable(0o644, small::id_map, small::refuse)),
    ("gid_map", Both, Writable(0o644, small::id_map, small::refuse)),
    ("projid_map", Both, Writable(0o644, small::id_map, small::refuse)),
    ("setgroups", Both, Writable(0o644, small::setgroups, small::refuse)),
    ("timers", Process, File(0o444, small::nothing)),
    ("timerslack_ns", Process, Writable(0o666, small::timer_slack, small::ignore)),
    ("timens_offsets", Process, Writable(0o644, small::time_offsets, small::refuse)),
    ("children", Thread, File(0o444, small::children)),
    ("arch_status", Both, File(0o444, small::nothing)),
];

/// The directory of a task.
pub(in crate::fs::proc) fn directory(subject: Subject, net: Arc<dyn Inode>) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::Directory, 0, FileType::Directory, 0o555).with_links(9);
    let dir = PseudoDir::new(attr, TaskEntries { subject: subject.clone(), net });
    Arc::new(TaskDir { dir, subject })
}

/// A task's directory: knows its task, so that a stale one is noticed.
#[derive(Debug)]
pub(super) struct TaskDir {
    dir: Arc<PseudoDir>,
    subject: Subject,
}

impl TaskDir {
    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl Inode for TaskDir {
    fn metadata(&self) -> SysResult<Metadata> {
        self.dir.metadata()
    }
    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.dir.set_attr(change)
    }
    fn open(self: Arc<Self>, path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        self.dir.clone().open(path, flags)
    }
    fn as_dir(&self) -> Option<&dyn DirOps> {
        self.dir.as_dir()
    }
}

#[derive(Debug)]
struct TaskEntries {
    subject: Subject,
    net: Arc<dyn Inode>,
}

impl TaskEntries {
    fn shows(&self, place: In) -> bool {
        match place {
            Both => true,
            Process => self.subject.scope == Scope::Process,
            Thread => self.subject.scope == Scope::Thread,
        }
    }

    fn inode(&self, index: u32, node: Node) -> Arc<dyn Inode> {
        let subject = &self.subject;
        let file = |perm, content: Arc<dyn Content>| -> Arc<dyn Inode> {
            PseudoFile::new(subject.attr(Sort::File, index, FileType::Regular, perm), content)
        };
        let text = |show, guarded, store| {
            Arc::new(Text { subject: subject.clone(), show, is_guarded: guarded, store })
        };
        match node {
            File(perm, show) => file(perm, text(show, false, None)),
            Guarded(perm, show) => file(perm, text(show, true, None)),
            Writable(perm, show, store) => file(perm, text(show, false, Some(store))),
            Link(target) => links::link(subject, index, target),
            Mem => memory::mem(subject, index),
            Pagemap => memory::pagemap(subject, index),
            Fd => fds::fd_dir(subject, index),
            FdInfo => fds::fdinfo_dir(subject, index),
            Task => tasks::threads(subject, &self.net, index),
            Net => self.net.clone(),
            Namespaces => namespaces::directory(subject, index),
            Attributes => small::attributes(subject, index),
        }
    }
}

impl Entries for TaskEntries {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        self.subject.task().map_err(|_| Errno::ENOENT)?;
        let found = ENTRIES
            .iter()
            .zip(0..)
            .find(|((entry, place, _), _)| entry.as_bytes() == name && self.shows(*place));
        let ((_, _, node), index) = found.ok_or(Errno::ENOENT)?;
        Ok(self.inode(index, *node))
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        self.subject.task().map_err(|_| Errno::ENOENT)?;
        let shown = ENTRIES
            .iter()
            .zip(0_u32..)
            .filter(|((_, place, _), index)| u64::from(*index) >= from && self.shows(*place));
        Ok(shown
            .map(|((name, _, node), index)| Listed {
                key: index.into(),
                name: name.as_bytes().to_vec(),
                ino: self.subject.ino(Sort::File, index),
                kind: match node {
                    Link(_) => FileType::Symlink,
                    Fd | FdInfo | Task | Net | Namespaces | Attributes => FileType::Directory,
                    _ => FileType::Regular,
                },
            })
            .collect())
    }
}

/// A file whose text a function makes.
struct Text {
    subject: Subject,
    show: Show,
    is_guarded: bool,
    store: Option<Store>,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.subject.fmt(f)
    }
}

impl Content for Text {
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        (self.show)(&self.subject.task()?, self.subject.scope, out)
    }

    fn store(&self, file: &FileDescription, _offset: u64, bytes: &[u8]) -> SysResult<usize> {
        let Some(store) = self.store else { return err!(EINVAL) };
        store(&self.subject.task()?, file, bytes)?;
        Ok(bytes.len())
    }

    fn check_open(&self, _flags: u32) -> SysResult<()> {
        if self.is_guarded {
            access::check(&*self.subject.task()?, Look::Read)?;
        }
        Ok(())
    }
}

/// Directories which only those may enter who may look into the process, whatever their mode.
pub(super) fn check_fd_access(
    subject: &Subject,
    meta: &Metadata,
    cred: &Credentials,
    want: AccessMask,
) -> SysResult<()> {
    crate::vfs::check_mode(meta, cred, want).or_else(|denied| {
        // `proc_fd_permission`: the threads of a process may always look at their own.
        let own = crate::kernel::served()
            .zip(subject.task().ok())
            .is_some_and(|(caller, target)| caller.pid() == target.pid());
        if own { Ok(()) } else { Err(denied) }
    })
}
