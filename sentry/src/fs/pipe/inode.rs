//! The inode of an anonymous pipe: what fstat(2) shows, and what /proc/PID/fd/N reopens.

use std::sync::Arc;

use ranked_sync::Mutex;

use super::Pipe;
use crate::{
    SysResult,
    fs::anon::InodeAttributes,
    kernel::Credentials,
    vfs::{FileOps, FileType, Inode, Metadata, SetAttr, VfsPath},
};

/// `pipe:[N]`.
#[derive(Debug)]
pub struct PipeInode {
    pipe: Arc<Pipe>,
    attributes: Mutex<crate::lock_order::Inode, InodeAttributes>,
}

impl PipeInode {
    /// Owned by whoever calls pipe(2).
    pub fn new(pipe: Arc<Pipe>, cred: &Credentials) -> Arc<Self> {
        let mode = FileType::Fifo.mode_bits() | 0o600;
        Arc::new(Self { pipe, attributes: Mutex::new(InodeAttributes::new(mode, cred)) })
    }

    /// Its inode number, as in `pipe:[N]`.
    pub fn number(&self) -> u64 {
        self.attributes.lock().metadata().ino
    }
}

impl Inode for PipeInode {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attributes.lock().metadata())
    }

    fn set_attr(&self, set: &SetAttr) -> SysResult<()> {
        self.attributes.lock().change(set)
    }

    fn open(self: Arc<Self>, _path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        self.pipe.open(flags)
    }
}
