//! Attributes of a node that has no storage.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    Errno, SysResult, err,
    vfs::{FileType, Metadata, SetAttr, TimeSpec},
};

/// Whose a node is, where that changes: the files of a process are its current user's.
pub trait Owner: Send + Sync + fmt::Debug {
    /// (uid, gid) now.
    fn ids(&self) -> (u32, u32);
}

/// What stat(2) reports of a pseudo node.
#[derive(Debug)]
pub struct Attr {
    dev: u64,
    ino: u64,
    kind: FileType,
    perm: AtomicU32,
    uid: AtomicU32,
    gid: AtomicU32,
    nlink: u32,
    size: u64,
    blksize: u32,
    rdev: u64,
    time: TimeSpec,
    owner: Option<Arc<dyn Owner>>,
    creation: Errno,
}

impl Attr {
    /// Root's, of size 0, made now.
    pub fn new(dev: u64, ino: u64, kind: FileType, perm: u32) -> Self {
        Self {
            dev,
            ino,
            kind,
            perm: AtomicU32::new(perm & 0o7777),
            uid: AtomicU32::new(0),
            gid: AtomicU32::new(0),
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            size: 0,
            blksize: 1024,
            rdev: 0,
            time: TimeSpec::now(),
            owner: None,
            creation: Errno::EPERM,
        }
    }

    /// Owned by whom `owner` says at the time; such nodes cannot be chmodded.
    pub fn owned_by(mut self, owner: Arc<dyn Owner>) -> Self {
        self.owner = Some(owner);
        self
    }

    /// How making something in this directory fails. (proc knows no name that is not there, so it says `ENOENT`.)
    pub fn refusing(mut self, creation: Errno) -> Self {
        self.creation = creation;
        self
    }

    pub(super) fn creation_error(&self) -> Errno {
        self.creation
    }

    pub fn with_ids(self, uid: u32, gid: u32) -> Self {
        self.uid.store(uid, Ordering::Relaxed);
        self.gid.store(gid, Ordering::Relaxed);
        self
    }

    pub fn with_size(mut self, size: u64) -> Self {
        self.size = size;
        self
    }

    /// `st_blksize`: 1024 in proc and devpts, 4096 in sysfs.
    pub fn with_block_size(mut self, blksize: u32) -> Self {
        self.blksize = blksize;
        self
    }

    pub fn with_links(mut self, nlink: u32) -> Self {
        self.nlink = nlink;
        self
    }

    /// The device a device node stands for.
    pub fn with_device(mut self, rdev: u64) -> Self {
        self.rdev = rdev;
        self
    }

    pub fn ino(&self) -> u64 {
        self.ino
    }

    pub fn dev(&self) -> u64 {
        self.dev
    }

    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// stat(2).
    pub fn metadata(&self) -> Metadata {
        let ids = (self.uid.load(Ordering::Relaxed), self.gid.load(Ordering::Relaxed));
        let (uid, gid) = self.owner.as_ref().map_or(ids, |owner| owner.ids());
        Metadata {
            dev: self.dev,
            ino: self.ino,
            mode: self.kind.mode_bits() | self.perm.load(Ordering::Relaxed),
            nlink: self.nlink,
            uid,
            gid,
            rdev: self.rdev,
            size: self.size,
            blksize: self.blksize,
            blocks: 0,
            atime: self.time,
            mtime: self.time,
            ctime: self.time,
            btime: None,
        }
    }

    /// Changes mode and owner; sizes (`O_TRUNC`) and times are accepted and mean nothing.
    /// `EPERM` for the mode of nodes that follow an owner (`proc_setattr` in Linux).
    pub fn set(&self, change: &SetAttr) -> SysResult<()> {
        if self.owner.is_some() {
            return if change.mode.is_some() { err!(EPERM) } else { Ok(()) };
        }
        if let Some(mode) = change.mode {
            self.perm.store(mode & 0o7777, Ordering::Relaxed);
        }
        if let Some(uid) = change.uid {
            self.uid.store(uid, Ordering::Relaxed);
        }
        if let Some(gid) = change.gid {
            self.gid.store(gid, Ordering::Relaxed);
        }
        Ok(())
    }
}
