//! What fstat(2) says of a host descriptor.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use platform::host::poller as host_io;

use super::{HostFile, HostPoller};
use crate::{
    SysResult, err,
    vfs::{FileOps, FileType, Inode, Metadata, SetAttr, TimeSpec, VfsPath},
};

/// The inode behind a host descriptor.
#[derive(Debug)]
pub struct HostInode {
    fd: Arc<OwnedFd>,
    poller: Arc<HostPoller>,
}

impl HostInode {
    pub(super) fn new(fd: Arc<OwnedFd>, poller: Arc<HostPoller>) -> Arc<Self> {
        Arc::new(Self { fd, poller })
    }

    /// `pipe:[N]`, `socket:[N]`; a plain word for what has a name only outside.
    pub(super) fn usual_name(&self) -> String {
        let Ok(meta) = self.metadata() else { return "host:".into() };
        match meta.file_type() {
            Some(FileType::Fifo) => format!("pipe:[{}]", meta.ino),
            Some(FileType::Socket) => format!("socket:[{}]", meta.ino),
            _ => format!("host:[{}]", meta.ino),
        }
    }
}

impl Inode for HostInode {
    fn metadata(&self) -> SysResult<Metadata> {
        let stat = host_io::stat(self.fd.as_fd())?;
        let time = |sec, nsec: u64| TimeSpec { sec, nsec: nsec as u32 };
        Ok(Metadata {
            dev: stat.st_dev,
            ino: stat.st_ino,
            mode: stat.st_mode,
            nlink: stat.st_nlink as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev,
            size: stat.st_size as u64,
            blksize: stat.st_blksize as u32,
            blocks: stat.st_blocks as u64,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            btime: None,
        })
    }

    /// Truncates a regular file; nothing else of a file outside can be changed.
    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        match change.size {
            Some(size) if change.mode.is_none() && change.uid.is_none() => {
                Ok(host_io::truncate(self.fd.as_fd(), size)?)
            }
            _ => err!(EPERM),
        }
    }

    /// Through /proc/PID/fd or /dev/stdout: the same open file again.
    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        // A descriptor of its own: the poller knows each only once.
        let fd = Arc::new(host_io::duplicate(self.fd.as_fd())?);
        Ok(Box::new(HostFile::new(fd, self.poller.clone())?))
    }
}
