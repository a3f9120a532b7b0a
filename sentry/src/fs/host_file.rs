//! Files that are host descriptors: the stdin, stdout and stderr which the launcher passed on.
//!
//! They are open files of other processes too: their position and O_NONBLOCK flag are theirs and
//! are left alone. Reads and writes never wait in the host; tasks wait here, woken by
//! the [`HostPoller`].

mod inode;
mod poller;

use std::{
    any::Any,
    fmt,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock},
};

use platform::host::{self, poller as host_io};

pub use self::{inode::HostInode, poller::HostPoller};
use crate::{
    Errno, SysResult, err,
    fs::anon,
    kernel::{Credentials, CurrentTask, Kernel},
    user::{UserAddr, UserMemory},
    vfs::{FileDescription, FileOps, IoDst, IoSrc, SeekFrom},
    wait::{EventMask, PollTable, WaitQueue},
};

/// An open host file.
pub struct HostFile {
    fd: Arc<OwnedFd>,
    /// A regular file or block device: never waits, has a position.
    is_regular: bool,
    queue: WaitQueue,
    poller: Arc<HostPoller>,
    /// Set when the first task waits; `None` in it: always ready.
    watched: OnceLock<Option<u64>>,
}

impl HostFile {
    /// A description for `fd`, with the access mode of `fd`. `name` is what
    /// /proc/PID/fd/N shows; where it is `None`, pipes and sockets get their usual names.
    pub fn describe(
        kernel: &Kernel,
        fd: OwnedFd,
        name: Option<String>,
        cred: Arc<Credentials>,
    ) -> Result<Arc<FileDescription>, Errno> {
        let fd = Arc::new(fd);
        let flags = host_io::status_flags(fd.as_fd())?;
        let flags = flags & (libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK) as u32;
        let inode = HostInode::new(fd.clone(), kernel.host_poller.clone());
        let name = name.unwrap_or_else(|| inode.usual_name());
        let ops = Self::new(fd, kernel.host_poller.clone())?;
        // O_NONBLOCK set by another process on a shared descriptor says nothing about the guest.
        let flags = flags & !(libc::O_NONBLOCK as u32);
        Ok(anon::open_inode(Box::new(ops), inode, name, flags, cred))
    }

    fn new(fd: Arc<OwnedFd>, poller: Arc<HostPoller>) -> Result<Self, Errno> {
        let kind = host_io::stat(fd.as_fd())?.st_mode & libc::S_IFMT;
        let is_regular = kind == libc::S_IFREG || kind == libc::S_IFBLK;
        Ok(Self { fd, is_regular, queue: WaitQueue::new(), poller, watched: OnceLock::new() })
    }

    /// The host's descriptor.
    pub fn host_fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }
}

impl Drop for HostFile {
    fn drop(&mut self) {
        if let Some(Some(token)) = self.watched.get() {
            self.poller.unwatch(self.fd.as_fd(), *token);
        }
    }
}

impl FileOps for HostFile {
    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let (fd, max) = (self.fd.as_fd(), dst.len());
        Ok(dst.fill_with(max, &mut |slices| {
            if self.is_regular { host::readv(fd, slices) } else { host_io::read_now(fd, slices) }
        })?)
    }

    fn write(
        &self,
        _file: &FileDescription,
        _offset: u64,
        src: &mut IoSrc<'_>,
    ) -> SysResult<usize> {
        let (fd, max) = (self.fd.as_fd(), src.len());
        Ok(src.drain_with(max, &mut |slices| {
            if self.is_regular { host::writev(fd, slices) } else { host_io::write_now(fd, slices) }
        })?)
    }

    fn writes_all(&self) -> bool {
        !self.is_regular
    }

    /// The position is the host's, so that it stays right for all who share it.
    fn seek(&self, _file: &FileDescription, _current: u64, to: SeekFrom) -> SysResult<u64> {
        if !self.is_regular {
            return err!(ESPIPE);
        }
        use rustix::fs::SeekFrom as Host;
        let to = match to {
            SeekFrom::Start(at) => Host::Start(at),
            SeekFrom::Current(by) => Host::Current(by),
            SeekFrom::End(by) => Host::End(by),
            SeekFrom::Data(at) => Host::Data(at),
            SeekFrom::Hole(at) => Host::Hole(at),
        };
        Ok(host_io::seek_shared(self.fd.as_fd(), to)?)
    }

    fn is_pollable(&self) -> bool {
        !self.is_regular
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        if self.is_regular {
            return EventMask::READABLE | EventMask::WRITABLE;
        }
        if table.registers() {
            table.wait_on(&self.queue);
            self.watched.get_or_init(|| self.poller.watch(self.fd.as_fd(), &self.queue).ok());
        }
        let asked = (EventMask::READABLE | EventMask::WRITABLE | EventMask::PRI | EventMask::RDHUP)
            .bits() as u16;
        EventMask::from_bits_truncate(host_io::poll_now(self.fd.as_fd(), asked).into())
    }

    fn ioctl(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        request: u32,
        arg: UserAddr,
    ) -> SysResult<u64> {
        // Terminals are not passed through (`kernel::tty`), so that there is nothing else to ask.
        if u64::from(request) != libc::FIONREAD {
            return err!(ENOTTY);
        }
        let bytes = host_io::bytes_readable(self.fd.as_fd())?;
        task.mm().copy_out(arg, &i32::try_from(bytes).unwrap_or(i32::MAX).to_ne_bytes())?;
        Ok(0)
    }

    fn sync(&self, _file: &FileDescription, data_only: bool) -> SysResult<()> {
        Ok(host::sync_file(self.fd.as_fd(), data_only)?)
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for HostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFile({:?})", self.fd)
    }
}
