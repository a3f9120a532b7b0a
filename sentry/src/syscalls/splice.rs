//! Moving bytes between files inside the kernel: splice(2), tee(2), vmsplice(2), sendfile(2).
//!
//! Pages are not handed over: bytes are copied through a buffer.

use std::sync::Arc;

use super::{install::send_sigpipe, read_write::read_iovecs};
use crate::{
    Errno, SysResult, err,
    fs::pipe::{Pipe, PipeEnd},
    kernel::CurrentTask,
    user::{Fd, UserMemory, UserRef},
    vfs::{
        FileDescription, IoDst, IoSrc, StatusFlags,
        notify::{FsEvent, notify_file},
    },
    wait::{EventMask, PollTable},
};

const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_ALL: u32 = 0xf;
/// Bytes copied at a time.
const CHUNK: usize = 128 << 10;
/// The most one call moves.
const MAX_BYTES: usize = 0x7fff_f000;

type File = Arc<FileDescription>;

fn pipe_of(file: &FileDescription) -> Option<&Arc<Pipe>> {
    file.ops_as::<PipeEnd>().map(PipeEnd::pipe)
}

fn buffer(len: usize) -> SysResult<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// Tries until it does not say `EAGAIN`, or once.
fn wait_on<T>(
    task: &mut CurrentTask,
    file: &File,
    events: EventMask,
    nonblocking: bool,
    mut attempt: impl FnMut() -> SysResult<T>,
) -> SysResult<T> {
    match attempt() {
        Err(error) if error.is_again() && !nonblocking => {}
        result => return result,
    }
    let waker = task.waker().clone();
    let done = task.block_until(
        None,
        |_| {
            let mut table = PollTable::register(waker, events);
            file.ops().poll(file, &mut table);
            table.into_registrations()
        },
        |_| match attempt() {
            Err(error) if error.is_again() => Ok(None),
            result => result.map(Some),
        },
    )?;
    done.ok_or(Errno::EAGAIN.into())
}

/// Reads once, at `at` or at the file's position.
fn read_some(
    task: &mut CurrentTask,
    file: &File,
    bytes: &mut [u8],
    at: Option<u64>,
    nonblocking: bool,
) -> SysResult<usize> {
    let n = if !file.ops().is_seekable() {
        wait_on(task, file, EventMask::READABLE, nonblocking, || {
            file.ops().read(file, 0, &mut IoDst::kernel(bytes))
        })?
    } else if let Some(at) = at {
        file.ops().read(file, at, &mut IoDst::kernel(bytes))?
    } else {
        let mut position = file.offset.lock();
        let n = file.ops().read(file, *position, &mut IoDst::kernel(bytes))?;
        *position = position.saturating_add(n as u64);
        n
    };
    if n > 0 {
        notify_file(file, FsEvent::Access);
    }
    Ok(n)
}

/// Writes all of `bytes` that can be written: less only at an error or when interrupted.
fn write_all(
    task: &mut CurrentTask,
    file: &File,
    bytes: &[u8],
    at: Option<u64>,
    nonblocking: bool,
) -> SysResult<usize> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = bytes.get(done..).ok_or(Errno::EINVAL)?;
        let result = if !file.ops().is_seekable() {
            wait_on(task, file, EventMask::WRITABLE, nonblocking, || {
                file.ops().write(file, 0, &mut IoSrc::kernel(rest))
            })
        } else if let Some(at) = at {
            file.ops().write(file, at.saturating_add(done as u64), &mut IoSrc::kernel(rest))
        } else {
            let mut position = file.offset.lock();
            let result = file.ops().write(file, *position, &mut IoSrc::kernel(rest));
            if let Ok(n) = result {
                *position = position.saturating_add(n as u64);
            }
            result
        };
        match result {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(_) if done > 0 => break,
            Err(error) => {
                if error == Errno::EPIPE.into() {
                    send_sigpipe(task);
                }
                return Err(error);
            }
        }
    }
    if done > 0 {
        notify_file(file, FsEvent::Modify);
    }
    Ok(done)
}

/// An offset argument: NULL is the file's position. `ESPIPE` or `EINVAL` for files that have none.
fn read_offset(task: &CurrentTask, at: UserRef<i64>) -> SysResult<Option<u64>> {
    let Some(at) = at.non_null() else { return Ok(None) };
    let offset = task.mm().read_obj(at)?;
    Ok(Some(u64::try_from(offset).map_err(|_| Errno::EINVAL)?))
}

fn write_offset(
    task: &CurrentTask,
    at: UserRef<i64>,
    before: Option<u64>,
    moved: usize,
) -> SysResult<()> {
    if let (Some(at), Some(before)) = (at.non_null(), before) {
        task.mm().write_obj(at, &(before.saturating_add(moved as u64) as i64))?;
    }
    Ok(())
}

pub(super) fn sys_splice(
    task: &mut CurrentTask,
    fd_in: Fd,
    off_in: UserRef<i64>,
    fd_out: Fd,
    off_out: UserRef<i64>,
    len: usize,
    flags: u32,
) -> SysResult<usize> {
    if len == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_F_ALL != 0 {
        return err!(EINVAL);
    }
    let (input, output) = (task.file(fd_in)?, task.file(fd_out)?);
    if !input.is_readable() || !output.is_writable() {
        return err!(EBADF);
    }
    let len = len.min(MAX_BYTES);
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0;
    let (from_pipe, to_pipe) = (pipe_of(&input).cloned(), pipe_of(&output).cloned());
    if (from_pipe.is_some() && !off_in.is_null()) || (to_pipe.is_some() && !off_out.is_null()) {
        return err!(ESPIPE);
    }
    match (from_pipe, to_pipe) {
        (None, None) => err!(EINVAL),
        (Some(from), Some(to)) => {
            if Arc::ptr_eq(&from, &to) {
                return err!(EINVAL);
            }
            let nonblocking = nonblocking || input.is_nonblocking() || output.is_nonblocking();
            pipe_to_pipe(task, (&input, &from), (&output, &to), len, nonblocking, true)
        }
        (Some(from), None) => {
            if !off_out.is_null() && !output.ops().is_seekable() {
                return err!(EINVAL);
            }
            if output.flags().contains(StatusFlags::APPEND) {
                return err!(EINVAL);
            }
            let at = read_offset(task, off_out)?;
            let moved = pipe_to_file(task, (&input, &from), (&output, at), len, nonblocking)?;
            write_offset(task, off_out, at, moved)?;
            Ok(moved)
        }
        (None, Some(to)) => {
            if !off_in.is_null() && !input.ops().is_seekable() {
                return err!(EINVAL);
            }
            let at = read_offset(task, off_in)?;
            let moved = file_to_pipe(task, (&input, at), (&output, &to), len, nonblocking)?;
            write_offset(task, off_in, at, moved)?;
            Ok(moved)
        }
    }
}

/// Waits until the pipe has room: the bytes that fit. `EPIPE` with SIGPIPE when no one reads.
fn wait_for_room(
    task: &mut CurrentTask,
    (file, pipe): (&File, &Arc<Pipe>),
    nonblocking: bool,
) -> SysResult<usize> {
    let room = wait_on(task, file, EventMask::WRITABLE, nonblocking, || {
        if !pipe.has_readers() {
            return err!(EPIPE);
        }
        match pipe.room() {
            0 => err!(EAGAIN),
            room => Ok(room),
        }
    });
    if room == err!(EPIPE) {
        send_sigpipe(task);
    }
    room
}

/// Moves (or with `take` false, tee(2), copies) what there is.
fn pipe_to_pipe(
    task: &mut CurrentTask,
    (input, from): (&File, &Arc<Pipe>),
    (output, to): (&File, &Arc<Pipe>),
    len: usize,
    nonblocking: bool,
    take: bool,
) -> SysResult<usize> {
    let available = wait_on(task, input, EventMask::READABLE, nonblocking, || from.readable())?;
    if available == 0 {
        return Ok(0);
    }
    let room = wait_for_room(task, (output, to), nonblocking)?;
    let mut bytes = buffer(len.min(room).min(available))?;
    let got = match if take {
        from.read(&mut IoDst::kernel(&mut bytes))
    } else {
        from.peek(&mut IoDst::kernel(&mut bytes))
    } {
        Err(error) if error.is_again() => return err!(EAGAIN),
        got => got?,
    };
    let bytes = bytes.get(..got).ok_or(Errno::EINVAL)?;
    // What was taken must go somewhere: this may wait even when the caller does not want to.
    write_all(task, output, bytes, None, nonblocking && !take)
}

fn pipe_to_file(
    task: &mut CurrentTask,
    (input, from): (&File, &Arc<Pipe>),
    (output, at): (&File, Option<u64>),
    len: usize,
    nonblocking: bool,
) -> SysResult<usize> {
    let waits_not = nonblocking || input.is_nonblocking();
    let mut moved = 0;
    while moved < len {
        let available = if moved == 0 {
            wait_on(task, input, EventMask::READABLE, waits_not, || from.readable())?
        } else {
            from.len()
        };
        if available == 0 {
            break;
        }
        let mut bytes = buffer((len - moved).min(available).min(CHUNK))?;
        let got = from.peek(&mut IoDst::kernel(&mut bytes)).unwrap_or(0);
        if got == 0 {
            break;
        }
        let at = at.map(|at| at.saturating_add(moved as u64));
        let bytes = bytes.get(..got).ok_or(Errno::EINVAL)?;
        let waits_not = nonblocking || output.is_nonblocking();
        match write_all(task, output, bytes, at, waits_not) {
            Ok(written) => {
                from.discard(written);
                moved += written;
                if written < got {
                    break;
                }
            }
            Err(_) if moved > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(moved)
}

fn file_to_pipe(
    task: &mut CurrentTask,
    (input, at): (&File, Option<u64>),
    (output, to): (&File, &Arc<Pipe>),
    len: usize,
    nonblocking: bool,
) -> SysResult<usize> {
    let waits_not = nonblocking || output.is_nonblocking();
    let room = wait_for_room(task, (output, to), waits_not)?;
    let mut bytes = buffer(len.min(room))?;
    let waits_not = nonblocking || input.is_nonblocking();
    let got = read_some(task, input, &mut bytes, at, waits_not)?;
    let bytes = bytes.get(..got).ok_or(Errno::EINVAL)?;
    write_all(task, output, bytes, None, false)
}

pub(super) fn sys_tee(
    task: &mut CurrentTask,
    fd_in: Fd,
    fd_out: Fd,
    len: usize,
    flags: u32,
) -> SysResult<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return err!(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (input, output) = (task.file(fd_in)?, task.file(fd_out)?);
    if !input.is_readable() || !output.is_writable() {
        return err!(EBADF);
    }
    let from = pipe_of(&input).ok_or(Errno::EINVAL)?.clone();
    let to = pipe_of(&output).ok_or(Errno::EINVAL)?.clone();
    if Arc::ptr_eq(&from, &to) {
        return err!(EINVAL);
    }
    let nonblocking =
        flags & SPLICE_F_NONBLOCK != 0 || input.is_nonblocking() || output.is_nonblocking();
    pipe_to_pipe(task, (&input, &from), (&output, &to), len.min(MAX_BYTES), nonblocking, false)
}

pub(super) fn sys_vmsplice(
    task: &mut CurrentTask,
    fd: Fd,
    iov: UserRef<[u64; 2]>,
    count: usize,
    flags: u32,
) -> SysResult<usize> {
    if flags & !SPLICE_F_ALL != 0 {
        return err!(EINVAL);
    }
    let file = task.file(fd)?;
    let pipe = pipe_of(&file).ok_or(Errno::EBADF)?.clone();
    let iovecs = read_iovecs(task, iov, count)?;
    if iovecs.iter().all(|(_, len)| *len == 0) {
        return Ok(0);
    }
    let mm = task.mm().clone();
    let nonblocking = flags & SPLICE_F_NONBLOCK != 0 || file.is_nonblocking();
    if file.is_writable() {
        let result = wait_on(task, &file, EventMask::WRITABLE, nonblocking, || {
            pipe.write(&mut IoSrc::user(&mm, iovecs.clone()), false)
        });
        if result == err!(EPIPE) {
            send_sigpipe(task);
        }
        return result;
    }
    wait_on(task, &file, EventMask::READABLE, nonblocking, || {
        pipe.read(&mut IoDst::user(&mm, iovecs.clone()))
    })
}

pub(super) fn sys_sendfile(
    task: &mut CurrentTask,
    fd_out: Fd,
    fd_in: Fd,
    offset: UserRef<i64>,
    count: usize,
) -> SysResult<usize> {
    let at = read_offset(task, offset)?;
    let input = task.file(fd_in)?;
    if !input.is_readable() {
        return err!(EBADF);
    }
    if at.is_some() && !input.ops().is_seekable() {
        return err!(ESPIPE);
    }
    let output = task.file(fd_out)?;
    if !output.is_writable() {
        return err!(EBADF);
    }
    let regular = input.path().dentry.kind() == Some(crate::vfs::FileType::Regular);
    if (!input.ops().is_seekable() && !regular) || output.flags().contains(StatusFlags::APPEND) {
        return err!(EINVAL);
    }
    let count = count.min(MAX_BYTES);
    let mut bytes = buffer(count.min(CHUNK))?;
    let mut moved = 0;
    while moved < count {
        let want = (count - moved).min(bytes.len());
        let place = at.map(|at| at.saturating_add(moved as u64));
        let chunk = bytes.get_mut(..want).ok_or(Errno::EINVAL)?;
        let got = match read_some(task, &input, chunk, place, false) {
            Ok(0) => break,
            Ok(got) => got,
            Err(_) if moved > 0 => break,
            Err(error) => return Err(error),
        };
        let chunk = bytes.get(..got).ok_or(Errno::EINVAL)?;
        let written = write_all(task, &output, chunk, None, output.is_nonblocking());
        let sent = *written.as_ref().unwrap_or(&0);
        if sent < got && at.is_none() && input.ops().is_seekable() {
            // Only what arrived counts as read.
            let mut position = input.offset.lock();
            *position = position.saturating_sub((got - sent) as u64);
        }
        moved += sent;
        match written {
            Ok(sent) if sent == got => {}
            Err(error) if moved == 0 => return Err(error),
            _ => break,
        }
    }
    write_offset(task, offset, at, moved)?;
    Ok(moved)
}
