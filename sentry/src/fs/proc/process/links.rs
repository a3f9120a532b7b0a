//! `exe`, `cwd`, `root`: links that lead straight to a place.

use std::sync::Arc;

use super::{Sort, Subject};
use crate::{
    Errno, SysResult,
    fs::proc::access::{self, Look},
    fs::pseudo::{LinkSource, PseudoLink},
    kernel::{Task, served},
    vfs::{FileType, Inode, Link, VfsPath, path_name},
};

/// What of a process is meant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Cwd,
    Root,
    Exe,
}

impl Target {
    fn place(self, task: &Task) -> SysResult<VfsPath> {
        Ok(match self {
            Self::Cwd => task.fs_context().ok_or(Errno::ENOENT)?.state().cwd.clone(),
            Self::Root => task.fs_context().ok_or(Errno::ENOENT)?.state().root.clone(),
            Self::Exe => {
                let image = task.memory().ok_or(Errno::ENOENT)?.image();
                image.exe.ok_or(Errno::ENOENT)?.path().clone()
            }
        })
    }
}

/// The name of a place as the calling task sees it.
pub(super) fn name_for_caller(place: &VfsPath) -> Vec<u8> {
    let root = served().and_then(|task| task.fs_context()).map(|fs| fs.state().root.clone());
    match root {
        Some(root) => path_name(place, &root).display(),
        None => path_name(place, place).display(),
    }
}

#[derive(Debug)]
struct Place {
    subject: Subject,
    target: Target,
}

impl Place {
    fn find(&self) -> SysResult<VfsPath> {
        let task = self.subject.task()?;
        access::check(&task, Look::Read)?;
        self.target.place(&task)
    }
}

impl LinkSource for Place {
    fn text(&self) -> SysResult<Vec<u8>> {
        Ok(name_for_caller(&self.find()?))
    }
    fn follow(&self) -> SysResult<Link> {
        Ok(Link::Magic(self.find()?))
    }
}

pub(super) fn link(subject: &Subject, index: u32, target: Target) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::File, index, FileType::Symlink, 0o777);
    PseudoLink::new(attr, Place { subject: subject.clone(), target })
}
