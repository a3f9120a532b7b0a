//! What an open file does.

use std::{any::Any, fmt, sync::Arc};

use linux_abi::Errno;
use platform::Backing;

use super::{FileDescription, FileType, IoDst, IoSrc};
use crate::{
    SysResult, err,
    kernel::CurrentTask,
    user::UserAddr,
    wait::{EventMask, PollTable},
};

/// Where lseek(2) goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekFrom {
    Start(u64),
    Current(i64),
    End(i64),
    Data(u64),
    Hole(u64),
}

/// An entry that `iterate` reports.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    pub kind: Option<FileType>,
    /// Where iteration goes on behind this entry (`d_off`).
    pub next: u64,
}

/// Takes directory entries; returns false when it is full (that entry was not taken).
pub type DirSink<'a> = dyn FnMut(DirEntry<'_>) -> bool + 'a;

/// An open file, one per `open`. All methods but where noted never wait: `EAGAIN` says that the
/// caller has to, which it does in one place (`CurrentTask::block_on_file`) unless the file is
/// non-blocking.
///
/// VFS has already checked: that the description is open for reading or writing as the
/// call needs, that offset + length do not overflow, RLIMIT_FSIZE, O_APPEND (the offset is the end).
pub trait FileOps: Send + Sync + Any + fmt::Debug {
    /// Reads up to `dst.len()` bytes at `offset` (ignored by streams). 0 at the end.
    fn read(
        &self,
        _file: &FileDescription,
        _offset: u64,
        _dst: &mut IoDst<'_>,
    ) -> SysResult<usize> {
        err!(EINVAL)
    }

    /// A blocking read of up to `max` bytes by a file that knows when to give up waiting (terminals with
    /// VTIME). `None`: in the usual way, by `read`, waiting on `EAGAIN`.
    fn read_timed(
        &self,
        _task: &mut CurrentTask,
        _file: &FileDescription,
        _max: usize,
    ) -> Option<SysResult<Vec<u8>>> {
        None
    }

    /// The second half of open(2), after the description was made and with no lock held: waits for
    /// what an open has to wait for (the other end of a fifo). On an error the description is dropped.
    fn open_wait(&self, _task: &mut CurrentTask, _file: &FileDescription) -> SysResult<()> {
        Ok(())
    }

    /// Writes up to `src.len()` bytes at `offset` (ignored by streams). `EPIPE` is passed on to the
    /// guest together with SIGPIPE, which the write handlers send.
    fn write(
        &self,
        _file: &FileDescription,
        _offset: u64,
        _src: &mut IoSrc<'_>,
    ) -> SysResult<usize> {
        err!(EINVAL)
    }

    /// Writes at the end of the file (O_APPEND): where it wrote, and how much. Files that can be written by
    /// several at once override this, so that none writes over another.
    fn append(&self, file: &FileDescription, src: &mut IoSrc<'_>) -> SysResult<(u64, usize)> {
        let end = file.metadata()?.size;
        self.write(file, end, src).map(|n| (end, n))
    }

    /// The longest time, in nanoseconds, that a read or write which waits for `events` may wait
    /// (SO_RCVTIMEO, SO_SNDTIMEO). Asked by `CurrentTask::block_on_file`.
    fn wait_limit(&self, _events: EventMask) -> Option<u64> {
        None
    }

    /// The longest time, in nanoseconds, that such a wait may sleep before the operation is tried again, woken or not. Asked before
    /// each sleep: a file that says so need not wake who waits at once.
    fn sleep_limit(&self, _events: EventMask) -> Option<u64> {
        None
    }

    /// Does a blocking write go on until all bytes are written (pipes, stream sockets, ttys)? The
    /// write handlers then call `write` again after a short count, waiting as needed.
    fn writes_all(&self) -> bool {
        false
    }

    /// Has it a position? Streams (pipes, sockets, ttys) have none: `ESPIPE`.
    fn is_seekable(&self) -> bool {
        false
    }

    /// lseek(2): the new position, given the current one.
    /// The default handles Start and Current, and the rest by the file's size.
    fn seek(&self, file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        if !self.is_seekable() {
            return err!(ESPIPE);
        }
        let size = || file.metadata().map(|meta| meta.size);
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(by) => size()?.checked_add_signed(by),
            SeekFrom::Data(at) if at < size()? => Some(at),
            SeekFrom::Hole(at) if at < size()? => Some(size()?),
            SeekFrom::Data(_) | SeekFrom::Hole(_) => return err!(ENXIO),
        };
        target.filter(|&at| at <= i64::MAX as u64).ok_or(Errno::EINVAL.into())
    }

    /// Reports entries from position `from` on (0 is the start, before `.` and `..`, which are
    /// reported too). Returns the position to go on from.
    fn iterate(
        &self,
        _file: &FileDescription,
        _from: u64,
        _sink: &mut DirSink<'_>,
    ) -> SysResult<u64> {
        err!(ENOTDIR)
    }

    /// What is ready now; names the queues it depends on to `table`. Regular files are
    /// always ready.
    fn poll(&self, _file: &FileDescription, _table: &mut PollTable) -> EventMask {
        EventMask::READABLE | EventMask::WRITABLE
    }

    /// Can its becoming ready be told by a signal (O_ASYNC; `fasync` of `struct file_operations`)? Never where
    /// signals make it ready: that would go round for ever.
    fn signals_readiness(&self) -> bool {
        false
    }

    /// May it be added to an epoll set? (`EPERM` for regular files and directories.)
    fn is_pollable(&self) -> bool {
        !self.is_seekable()
    }

    /// ioctl(2). FIONBIO, FIOCLEX and the like are VFS's. May block through `task`.
    fn ioctl(
        &self,
        _task: &mut CurrentTask,
        _file: &FileDescription,
        _request: u32,
        _arg: UserAddr,
    ) -> SysResult<u64> {
        err!(ENOTTY)
    }

    /// What mmap(2) maps; `None` gives `ENODEV`.
    fn mappable(&self, _file: &FileDescription) -> Option<Arc<dyn Mappable>> {
        None
    }

    /// Is a mapping of it zero pages of its own, as of /dev/zero?
    fn maps_as_zeros(&self) -> bool {
        false
    }

    /// Sealed against writing: a shared mapping cannot be writable (`EPERM`), nor become so.
    fn is_write_sealed(&self) -> bool {
        false
    }

    /// fsync(2), fdatasync(2).
    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        err!(EINVAL)
    }

    /// fallocate(2), flags as there.
    fn allocate(
        &self,
        _file: &FileDescription,
        _mode: u32,
        _offset: u64,
        _len: u64,
    ) -> SysResult<()> {
        err!(EOPNOTSUPP)
    }

    /// A descriptor for it was closed (`flush` in Linux): dnotify, record locks are VFS's.
    fn close(&self, _file: &FileDescription) {}

    /// Status flags were changed by F_SETFL or FIONBIO; may refuse (`EPERM`).
    fn set_flags(&self, _file: &FileDescription, _flags: u32) -> SysResult<()> {
        Ok(())
    }

    /// Commands of fcntl(2) that only some files know: F_SETPIPE_SZ, F_ADD_SEALS …
    fn fcntl(
        &self,
        _task: &mut CurrentTask,
        _file: &FileDescription,
        _command: u32,
        _arg: u64,
    ) -> SysResult<u64> {
        err!(EINVAL)
    }

    /// Extra lines of /proc/PID/fdinfo/N.
    fn fdinfo(&self, _file: &FileDescription) -> String {
        String::new()
    }

    /// For callers which need the concrete type (sockets, epoll, pipes).
    fn as_any(&self) -> &dyn Any;
}

/// Something whose pages can be mapped: a regular file, shared memory.
pub trait Mappable: Send + Sync + fmt::Debug {
    /// Where the bytes `offset..offset + len` are (page aligned), for a mapping. A shorter answer than `len`
    /// is allowed (the part that lies together), at least one page; the caller asks again for the rest.
    /// `shared`: changes must be seen by all. Memory ranges come with a count for the caller
    /// (`MemoryFile::retain` already done). Pages wholly behind the end of the file: `EFAULT`, and
    /// the guest gets SIGBUS. Called without the locks of an address space; no lock that this takes may be held
    /// while guest memory is accessed, which may fault in pages of the same object.
    fn pages(&self, offset: u64, len: u64, shared: bool) -> SysResult<(Backing, u64)>;

    /// Identity for shared futexes and /proc/PID/maps: (device, inode).
    fn identity(&self) -> (u64, u64);

    /// The size now, in bytes.
    fn size(&self) -> u64;

    /// The size, as far as it is known without asking: right unless somebody breaks a promise.
    fn likely_size(&self) -> u64 {
        self.size()
    }

    /// Do its bytes never change, unless somebody breaks a promise?
    fn is_constant(&self) -> bool {
        false
    }

    /// Writes dirty pages back (msync(2)).
    fn sync_pages(&self, _offset: u64, _len: u64) -> SysResult<()> {
        Ok(())
    }

    /// Which of its parts those who map it privately write; `None` where that is not remembered.
    fn written_parts(&self) -> Option<&crate::mm::WrittenParts> {
        None
    }

    /// A mapping of it was made or removed: `mm` wants to hear of truncation and hole punching
    /// (see `mm::MappingSet`). `None` where that cannot happen.
    fn mappings(&self) -> Option<&crate::mm::MappingSet> {
        None
    }

    /// For `mm`, which knows its own objects again.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}
