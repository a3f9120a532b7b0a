//! `ns/`: the namespaces a task is in (namespaces(7)).

use std::sync::Arc;

use super::{Sort, Subject};
use crate::{
    Errno, SysResult, err,
    fs::{
        proc::access::{self, Look},
        pseudo::{Entries, LinkSource, Listed, PseudoDir, PseudoLink},
    },
    vfs::{FileType, Inode, Link},
};

/// Names, what the link says, and the number the first namespace of that kind has in Linux.
const NAMESPACES: &[(&str, &str, u64)] = &[
    ("cgroup", "cgroup", 0xeffffffb),
    ("ipc", "ipc", 0xefffffff),
    ("mnt", "mnt", 0xeffffff8),
    ("net", "net", 0xeffffff9),
    ("pid", "pid", 0xeffffffc),
    ("pid_for_children", "pid", 0xeffffffc),
    ("time", "time", 0xeffffffa),
    ("time_for_children", "time", 0xeffffffa),
    ("user", "user", 0xeffffffd),
    ("uts", "uts", 0xeffffffe),
];

#[derive(Debug)]
struct Namespaces {
    subject: Subject,
}

impl Entries for Namespaces {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        let found = NAMESPACES.iter().zip(0..).find(|((entry, ..), _)| entry.as_bytes() == name);
        let (&(_, kind, number), index) = found.ok_or(Errno::ENOENT)?;
        let attr = self.subject.attr(Sort::Namespace, index, FileType::Symlink, 0o777);
        Ok(PseudoLink::new(attr, Namespace { subject: self.subject.clone(), kind, number }))
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        let entries = NAMESPACES.iter().zip(0_u32..);
        Ok(entries
            .filter(|(_, index)| u64::from(*index) >= from)
            .map(|((name, ..), index)| Listed {
                key: index.into(),
                name: name.as_bytes().to_vec(),
                ino: self.subject.ino(Sort::Namespace, index),
                kind: FileType::Symlink,
            })
            .collect())
    }
}

#[derive(Debug)]
struct Namespace {
    subject: Subject,
    kind: &'static str,
    number: u64,
}

impl LinkSource for Namespace {
    fn text(&self) -> SysResult<Vec<u8>> {
        let task = self.subject.task()?;
        access::check(&task, Look::Read)?;
        let mut number = self.number;
        if self.kind == "mnt"
            && let Some(fs) = task.fs_context()
        {
            // The first mount namespace has number 1.
            let id = fs.state().namespace.id();
            number = if id <= 1 { number } else { 0xf000_0000 + id };
        }
        Ok(format!("{}:[{number}]", self.kind).into_bytes())
    }

    fn follow(&self) -> SysResult<Link> {
        // Divergence: namespaces are no files that could be opened, so setns(2) has nothing to go to.
        err!(EACCES)
    }
}

pub(super) fn directory(subject: &Subject, index: u32) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::File, index, FileType::Directory, 0o511);
    PseudoDir::new(attr, Namespaces { subject: subject.clone() })
}
