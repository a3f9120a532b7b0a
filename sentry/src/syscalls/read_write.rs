//! read(2), write(2), their positioned and vectored forms, lseek(2).

use bitflags::bitflags;

use super::io_limits::{MAX_RW_COUNT, broken_pipe, writable_len};
use crate::{
    Errno, SysError, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserAddr, UserMemory, UserRef},
    vfs::{
        FileDescription, FileType, IoDst, IoSrc, SeekFrom, StatusFlags, UserIovecs, drop_set_ids,
        notify::{FsEvent, notify_file},
    },
    wait::EventMask,
};

/// `UIO_MAXIOV`.
const IOV_MAX: usize = 1024;

bitflags! {
    /// RWF_ flags of preadv2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct IoFlags: u32 {
        const HIPRI = 1;
        const DSYNC = 2;
        const SYNC = 4;
        const NOWAIT = 8;
        const APPEND = 0x10;
        const NOAPPEND = 0x20;
    }
}

/// Where a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The description's position, which moves.
    Current,
    Offset(u64),
}

impl At {
    /// As pread(2) takes it: `EINVAL` when negative.
    fn offset(offset: i64) -> SysResult<Self> {
        Ok(Self::Offset(u64::try_from(offset).map_err(|_| Errno::EINVAL)?))
    }

    /// As preadv2(2) takes it: -1 is the description's position.
    fn offset_or_current(offset: i64) -> SysResult<Self> {
        if offset == -1 { Ok(Self::Current) } else { Self::offset(offset) }
    }

    /// `ESPIPE` in a file that has no positions.
    fn check(&self, file: &FileDescription) -> SysResult<()> {
        if *self != Self::Current && !file.ops().is_seekable() { err!(ESPIPE) } else { Ok(()) }
    }
}

/// One past the last address that programs can have (`TASK_SIZE_MAX`).
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// `EFAULT` for a buffer that reaches beyond what any program can have, whether or not so much of it is used
/// (`access_ok`).
fn check_range(addr: UserAddr, len: u64) -> SysResult<()> {
    match addr.0.checked_add(len) {
        Some(end) if end <= TASK_SIZE => Ok(()),
        _ => err!(EFAULT),
    }
}

/// One guest buffer.
fn buffer(addr: UserAddr, len: usize) -> SysResult<UserIovecs> {
    check_range(addr, len as u64)?;
    let mut iovecs = UserIovecs::new();
    iovecs.push((addr, len.min(MAX_RW_COUNT)));
    Ok(iovecs)
}

/// The buffers of readv(2) and sendmsg(2): `EINVAL` for too many or too long ones (`import_iovec`).
pub(super) fn read_iovecs(
    task: &CurrentTask,
    iov: UserRef<[u64; 2]>,
    count: usize,
) -> SysResult<UserIovecs> {
    if count > IOV_MAX {
        return err!(EINVAL);
    }
    let mut iovecs = UserIovecs::new();
    let mut left = MAX_RW_COUNT;
    for index in 0..count {
        let [base, len] = task.mm().read_obj(iov.at(index)?)?;
        if i64::try_from(len).is_err() {
            return err!(EINVAL);
        }
        check_range(UserAddr(base), len)?;
        let len = usize::try_from(len).map_or(left, |len| len.min(left));
        left -= len;
        iovecs.push((UserAddr(base), len));
    }
    Ok(iovecs)
}

fn total(iovecs: &UserIovecs) -> usize {
    iovecs.iter().map(|(_, len)| len).sum()
}

/// A file to be read at that position. `ESPIPE` comes before `EBADF`.
fn readable(task: &CurrentTask, fd: Fd, at: &At) -> SysResult<std::sync::Arc<FileDescription>> {
    let file = task.file(fd)?;
    at.check(&file)?;
    if !file.is_readable() {
        return err!(EBADF);
    }
    if file.path().dentry.is_dir() {
        return err!(EISDIR);
    }
    Ok(file)
}

/// The same, to be written.
fn writable(task: &CurrentTask, fd: Fd, at: &At) -> SysResult<std::sync::Arc<FileDescription>> {
    let file = task.file(fd)?;
    at.check(&file)?;
    if file.is_writable() { Ok(file) } else { err!(EBADF) }
}

/// Reads into the buffers; waits for streams unless `flags` say not to.
fn do_read(
    task: &mut CurrentTask,
    file: &FileDescription,
    iovecs: UserIovecs,
    at: At,
    flags: IoFlags,
) -> SysResult<usize> {
    let seekable = file.ops().is_seekable();
    if total(&iovecs) == 0 && file.path().dentry.kind() != Some(FileType::Socket) {
        return Ok(0);
    }
    let attempt = |task: &mut CurrentTask| {
        let mut dst = IoDst::user(task.mm(), iovecs.clone());
        match at {
            At::Offset(offset) => file.ops().read(file, offset, &mut dst),
            At::Current if seekable => {
                let mut position = file.offset.lock();
                let n = file.ops().read(file, *position, &mut dst)?;
                *position = position.saturating_add(n as u64);
                Ok(n)
            }
            At::Current => file.ops().read(file, 0, &mut dst),
        }
    };
    let waits = !flags.contains(IoFlags::NOWAIT) && !file.is_nonblocking();
    let n = if flags.contains(IoFlags::NOWAIT) {
        attempt(task)?
    } else if waits
        && !seekable
        && let Some(bytes) = file.ops().read_timed(task, file, total(&iovecs))
    {
        IoDst::user(task.mm(), iovecs).put(&bytes?)?
    } else {
        task.block_on_file(file, EventMask::READABLE, None, attempt)?
    };
    if n > 0 {
        notify_file(file, FsEvent::Access);
    }
    Ok(n)
}

/// Writes the buffers, all of them where the file is one that waits for room.
fn do_write(
    task: &mut CurrentTask,
    file: &FileDescription,
    iovecs: &UserIovecs,
    at: At,
    flags: IoFlags,
) -> SysResult<usize> {
    let seekable = file.ops().is_seekable();
    let len = total(iovecs);
    let kind = file.path().dentry.kind();
    if len == 0 && kind == Some(FileType::Regular) {
        return Ok(0);
    }
    drop_set_ids(file, task.cred_ref())?;
    let mut done = 0;
    let result = loop {
        let attempt = |task: &mut CurrentTask| {
            let mut src = IoSrc::user(task.mm(), iovecs.clone());
            src.advance(done);
            if seekable {
                write_seekable(task, file, at, flags, &mut src)
            } else {
                file.ops().write(file, 0, &mut src)
            }
        };
        let result = if flags.contains(IoFlags::NOWAIT) {
            attempt(task)
        } else {
            task.block_on_file(file, EventMask::WRITABLE, None, attempt)
        };
        match result {
            Ok(n) => {
                done += n;
                if n == 0 || done >= len || !file.ops().writes_all() {
                    break Ok(done);
                }
            }
            Err(error) => break Err(error),
        }
    };
    if result == Err(SysError::Errno(Errno::EPIPE)) {
        broken_pipe(task);
    }
    if done > 0 {
        notify_file(file, FsEvent::Modify);
        sync_written(file, flags)?;
        return Ok(done);
    }
    result
}

/// One write to a file with a position.
fn write_seekable(
    task: &CurrentTask,
    file: &FileDescription,
    at: At,
    flags: IoFlags,
    src: &mut IoSrc<'_>,
) -> SysResult<usize> {
    let open_for_append = file.flags().contains(StatusFlags::APPEND);
    let append =
        (open_for_append && !flags.contains(IoFlags::NOAPPEND)) || flags.contains(IoFlags::APPEND);
    let mut write_at = |offset: Option<u64>| -> SysResult<(u64, usize)> {
        let start = match offset {
            Some(offset) => offset,
            None => file.metadata()?.size,
        };
        let room = writable_len(task, file, start, src.len())?;
        src.truncate(room);
        match offset {
            Some(offset) => file.ops().write(file, offset, src).map(|n| (offset, n)),
            None => file.ops().append(file, src),
        }
    };
    match at {
        At::Offset(offset) => write_at((!append).then_some(offset)).map(|(_, n)| n),
        At::Current => {
            let mut position = file.offset.lock();
            let (start, n) = write_at((!append).then_some(*position))?;
            *position = start.saturating_add(n as u64);
            Ok(n)
        }
    }
}

/// O_SYNC, O_DSYNC and their per-call forms.
fn sync_written(file: &FileDescription, flags: IoFlags) -> SysResult<()> {
    let status = file.flags();
    if flags.contains(IoFlags::SYNC) || status.contains(StatusFlags::SYNC) {
        return file.ops().sync(file, false);
    }
    if flags.contains(IoFlags::DSYNC) || status.contains(StatusFlags::DSYNC) {
        return file.ops().sync(file, true);
    }
    Ok(())
}

pub(super) fn sys_read(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: usize,
) -> SysResult<usize> {
    let file = readable(task, fd, &At::Current)?;
    do_read(task, &file, buffer(addr, len)?, At::Current, IoFlags::empty())
}

pub(super) fn sys_write(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: usize,
) -> SysResult<usize> {
    let file = writable(task, fd, &At::Current)?;
    do_write(task, &file, &buffer(addr, len)?, At::Current, IoFlags::empty())
}

pub(super) fn sys_pread64(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: usize,
    offset: i64,
) -> SysResult<usize> {
    let at = At::offset(offset)?;
    let file = readable(task, fd, &at)?;
    do_read(task, &file, buffer(addr, len)?, at, IoFlags::empty())
}

pub(super) fn sys_pwrite64(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: usize,
    offset: i64,
) -> SysResult<usize> {
    let at = At::offset(offset)?;
    let file = writable(task, fd, &at)?;
    do_write(task, &file, &buffer(addr, len)?, at, IoFlags::empty())
}

pub(super) fn sys_readv(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
) -> SysResult<usize> {
    let file = readable(task, fd, &At::Current)?;
    let iovecs = read_iovecs(task, iov, count)?;
    do_read(task, &file, iovecs, At::Current, IoFlags::empty())
}

pub(super) fn sys_writev(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
) -> SysResult<usize> {
    let file = writable(task, fd, &At::Current)?;
    let iovecs = read_iovecs(task, iov, count)?;
    do_write(task, &file, &iovecs, At::Current, IoFlags::empty())
}

/// The upper half of the offset is for 32-bit systems.
pub(super) fn sys_preadv(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
    offset: i64,
    _high: u64,
) -> SysResult<usize> {
    let at = At::offset(offset)?;
    let file = readable(task, fd, &at)?;
    let iovecs = read_iovecs(task, iov, count)?;
    do_read(task, &file, iovecs, at, IoFlags::empty())
}

pub(super) fn sys_pwritev(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
    offset: i64,
    _high: u64,
) -> SysResult<usize> {
    let at = At::offset(offset)?;
    let file = writable(task, fd, &at)?;
    let iovecs = read_iovecs(task, iov, count)?;
    do_write(task, &file, &iovecs, at, IoFlags::empty())
}

/// RWF_ flags; `EOPNOTSUPP` for unknown ones, RWF_ATOMIC among them.
fn io_flags(flags: u32) -> SysResult<IoFlags> {
    let flags = IoFlags::from_bits(flags).ok_or(Errno::EOPNOTSUPP)?;
    if flags.contains(IoFlags::APPEND | IoFlags::NOAPPEND) {
        return err!(EINVAL);
    }
    Ok(flags)
}

pub(super) fn sys_preadv2(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
    offset: i64,
    _high: u64,
    flags: u32,
) -> SysResult<usize> {
    let at = At::offset_or_current(offset)?;
    let file = readable(task, fd, &at)?;
    let iovecs = read_iovecs(task, iov, count)?;
    do_read(task, &file, iovecs, at, io_flags(flags)?)
}

pub(super) fn sys_pwritev2(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
    offset: i64,
    _high: u64,
    flags: u32,
) -> SysResult<usize> {
    let at = At::offset_or_current(offset)?;
    let file = writable(task, fd, &at)?;
    let iovecs = read_iovecs(task, iov, count)?;
    do_write(task, &file, &iovecs, at, io_flags(flags)?)
}

pub(super) fn sys_lseek(
    task: &mut CurrentTask,
    fd: Fd,
    offset: i64,
    whence: u32,
) -> SysResult<u64> {
    let file = task.file(fd)?;
    let absolute = u64::try_from(offset);
    let to = match whence as i32 {
        libc::SEEK_SET => SeekFrom::Start(absolute.map_err(|_| Errno::EINVAL)?),
        libc::SEEK_CUR => SeekFrom::Current(offset),
        libc::SEEK_END => SeekFrom::End(offset),
        libc::SEEK_DATA => SeekFrom::Data(absolute.map_err(|_| Errno::ENXIO)?),
        libc::SEEK_HOLE => SeekFrom::Hole(absolute.map_err(|_| Errno::ENXIO)?),
        _ => return err!(EINVAL),
    };
    // Streams refuse it themselves (`ESPIPE`); some files without a position just agree.
    let mut position = file.offset.lock();
    let new = file.ops().seek(&file, *position, to)?;
    *position = new;
    Ok(new)
}
