//! `fd/` and `fdinfo/`: the descriptors of a process.

use std::sync::Arc;

use super::{Sort, Subject, links::name_for_caller, table::check_fd_access};
use crate::{
    Errno, SysResult,
    fs::{
        proc::{
            access::{self, Look},
            put,
        },
        pseudo::{Content, Entries, LinkSource, Listed, PseudoDir, PseudoFile, PseudoLink},
    },
    kernel::Credentials,
    user::Fd,
    vfs::{
        AccessMask, DirOps, FdEntry, FileOps, FileType, Inode, Link, Metadata, SetAttr, VfsPath,
    },
};

impl Subject {
    fn fd_entry(&self, fd: Fd) -> SysResult<FdEntry> {
        let task = self.task()?;
        let entry = task.fd_table().and_then(|table| table.entry(fd).ok());
        Ok(entry.ok_or(Errno::ENOENT)?)
    }

    fn fds(&self) -> SysResult<Vec<Fd>> {
        let task = self.task().map_err(|_| Errno::ENOENT)?;
        Ok(task.fd_table().map(|table| table.list()).unwrap_or_default())
    }
}

/// A descriptor from a name, in the one spelling it has.
fn parse_fd(name: &[u8]) -> Option<Fd> {
    if name == b"0" { Some(Fd(0)) } else { crate::fs::proc::process::parse_id(name).map(Fd) }
}

/// Either directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Files,
    Info,
}

#[derive(Debug)]
struct Descriptors {
    subject: Subject,
    shows: Shows,
}

impl Descriptors {
    fn sort(&self) -> Sort {
        if self.shows == Shows::Files { Sort::Fd } else { Sort::FdInfo }
    }
}

impl Entries for Descriptors {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        let fd = parse_fd(name).ok_or(Errno::ENOENT)?;
        let entry = self.subject.fd_entry(fd).map_err(|_| Errno::ENOENT)?;
        let index = fd.0.unsigned_abs();
        let subject = self.subject.clone();
        Ok(match self.shows {
            Shows::Files => {
                let read = if entry.file.is_readable() { 0o500 } else { 0 };
                let write = if entry.file.is_writable() { 0o300 } else { 0 };
                let attr = subject.attr(Sort::Fd, index, FileType::Symlink, read | write);
                PseudoLink::new(attr.with_size(64), OpenFile { subject, fd })
            }
            Shows::Info => {
                let attr = subject.attr(Sort::FdInfo, index, FileType::Regular, 0o444);
                PseudoFile::new(attr, Arc::new(Info { subject, fd }))
            }
        })
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        let sort = self.sort();
        let kind = if self.shows == Shows::Files { FileType::Symlink } else { FileType::Regular };
        let fds = self.subject.fds()?;
        Ok(fds
            .into_iter()
            .map(|fd| (u64::from(fd.0.unsigned_abs()), fd))
            .filter(|(key, _)| *key >= from)
            .map(|(key, fd)| Listed {
                key,
                name: fd.0.to_string().into_bytes(),
                ino: self.subject.ino(sort, fd.0.unsigned_abs()),
                kind,
            })
            .collect())
    }

    fn is_current(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> bool {
        // The descriptor may be another file by now, with another mode.
        false
    }
}

/// Where a descriptor's link leads.
#[derive(Debug)]
struct OpenFile {
    subject: Subject,
    fd: Fd,
}

impl OpenFile {
    fn place(&self) -> SysResult<VfsPath> {
        access::check(&*self.subject.task()?, Look::Read)?;
        Ok(self.subject.fd_entry(self.fd)?.file.path().clone())
    }
}

impl LinkSource for OpenFile {
    fn text(&self) -> SysResult<Vec<u8>> {
        Ok(name_for_caller(&self.place()?))
    }
    fn follow(&self) -> SysResult<Link> {
        Ok(Link::Magic(self.place()?))
    }
}

/// `fdinfo/N`.
#[derive(Debug)]
struct Info {
    subject: Subject,
    fd: Fd,
}

impl Content for Info {
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        let entry = self.subject.fd_entry(self.fd)?;
        let file = &entry.file;
        let cloexec = if entry.cloexec { libc::O_CLOEXEC as u32 } else { 0 };
        put!(out, "pos:\t{}\n", file.position());
        put!(out, "flags:\t0{:o}\n", file.open_flags() | cloexec);
        put!(out, "mnt_id:\t{}\n", file.path().mount.id());
        put!(out, "ino:\t{}\n", file.metadata().map_or(0, |meta| meta.ino));
        put!(out, "{}", file.ops().fdinfo(file));
        Ok(())
    }

    fn check_open(&self, _flags: u32) -> SysResult<()> {
        access::check(&*self.subject.task()?, Look::Read)
    }
}

/// A directory of descriptors: its size is how many there are, and its owner may always enter.
#[derive(Debug)]
struct DescriptorDir {
    dir: Arc<PseudoDir>,
    subject: Subject,
}

impl Inode for DescriptorDir {
    fn metadata(&self) -> SysResult<Metadata> {
        let size = self.subject.fds().map_or(0, |fds| fds.len() as u64);
        Ok(Metadata { size, ..self.dir.metadata()? })
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
    fn check_access(&self, cred: &Credentials, want: AccessMask) -> SysResult<()> {
        check_fd_access(&self.subject, &self.dir.metadata()?, cred, want)
    }
}

pub(super) fn fd_dir(subject: &Subject, index: u32) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::File, index, FileType::Directory, 0o500);
    let dir = PseudoDir::new(attr, Descriptors { subject: subject.clone(), shows: Shows::Files });
    Arc::new(DescriptorDir { dir, subject: subject.clone() })
}

pub(super) fn fdinfo_dir(subject: &Subject, index: u32) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::File, index, FileType::Directory, 0o555);
    PseudoDir::new(attr, Descriptors { subject: subject.clone(), shows: Shows::Info })
}
