//! Ranges of files: fsync(2), sync_file_range(2), fallocate(2), posix_fadvise(2), readahead(2),
//! copy_file_range(2).

use super::io_limits::{check_size, writable_len};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserMemory, UserRef},
    vfs::{
        FileDescription, FileType, IoDst, IoSrc, StatusFlags, drop_set_ids,
        notify::{FsEvent, notify_file},
    },
};

pub(super) fn sys_fsync(task: &mut CurrentTask, fd: Fd) -> SysResult<()> {
    let file = task.file(fd)?;
    file.ops().sync(&file, false)
}

pub(super) fn sys_fdatasync(task: &mut CurrentTask, fd: Fd) -> SysResult<()> {
    let file = task.file(fd)?;
    file.ops().sync(&file, true)
}

pub(super) fn sys_sync(task: &mut CurrentTask) -> SysResult<()> {
    for fs in task.path_cx().namespace().file_systems() {
        // sync(2) cannot fail.
        let _ = fs.sync();
    }
    Ok(())
}

pub(super) fn sys_syncfs(task: &mut CurrentTask, fd: Fd) -> SysResult<()> {
    task.file(fd)?.path().mount.fs().sync()
}

fn kind_of(file: &FileDescription) -> Option<FileType> {
    file.path().dentry.kind()
}

/// Bytes from `offset` on, both non-negative; `EINVAL` else, and when the end overflows.
fn range(offset: i64, len: i64) -> SysResult<(u64, u64)> {
    let (start, len) = (u64::try_from(offset), u64::try_from(len));
    let (start, len) = (start.map_err(|_| Errno::EINVAL)?, len.map_err(|_| Errno::EINVAL)?);
    start.checked_add(len).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
    Ok((start, len))
}

pub(super) fn sys_sync_file_range(
    task: &mut CurrentTask,
    fd: Fd,
    offset: i64,
    len: i64,
    flags: u32,
) -> SysResult<()> {
    const ALL: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let file = task.file(fd)?;
    if flags & !ALL != 0 {
        return err!(EINVAL);
    }
    range(offset, len)?;
    match kind_of(&file) {
        Some(
            FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink,
        ) => {}
        _ => return err!(ESPIPE),
    }
    if flags == 0 { Ok(()) } else { file.ops().sync(&file, true) }
}

/// Advice is checked and, as it may be, not taken.
pub(super) fn sys_fadvise64(
    task: &mut CurrentTask,
    fd: Fd,
    _offset: i64,
    len: i64,
    advice: i32,
) -> SysResult<()> {
    let file = task.file(fd)?;
    if kind_of(&file) == Some(FileType::Fifo) {
        return err!(ESPIPE);
    }
    if len < 0 || !(libc::POSIX_FADV_NORMAL..=libc::POSIX_FADV_NOREUSE).contains(&advice) {
        return err!(EINVAL);
    }
    Ok(())
}

pub(super) fn sys_readahead(
    task: &mut CurrentTask,
    fd: Fd,
    _offset: i64,
    _count: usize,
) -> SysResult<()> {
    let file = task.file(fd)?;
    if !file.is_readable() {
        return err!(EBADF);
    }
    match kind_of(&file) {
        Some(FileType::Regular | FileType::BlockDevice) => Ok(()),
        _ => err!(EINVAL),
    }
}

/// Which modes go together (`vfs_fallocate`).
fn check_allocate_mode(mode: u32) -> SysResult<()> {
    const KEEP_SIZE: u32 = libc::FALLOC_FL_KEEP_SIZE as u32;
    const PUNCH_HOLE: u32 = libc::FALLOC_FL_PUNCH_HOLE as u32;
    const COLLAPSE: u32 = libc::FALLOC_FL_COLLAPSE_RANGE as u32;
    const ZERO: u32 = libc::FALLOC_FL_ZERO_RANGE as u32;
    const INSERT: u32 = libc::FALLOC_FL_INSERT_RANGE as u32;
    const UNSHARE: u32 = libc::FALLOC_FL_UNSHARE_RANGE as u32;
    match mode & !KEEP_SIZE {
        0 | ZERO | UNSHARE => Ok(()),
        PUNCH_HOLE if mode & KEEP_SIZE != 0 => Ok(()),
        COLLAPSE | INSERT if mode & KEEP_SIZE == 0 => Ok(()),
        COLLAPSE | INSERT => err!(EINVAL),
        _ => err!(EOPNOTSUPP),
    }
}

pub(super) fn sys_fallocate(
    task: &mut CurrentTask,
    fd: Fd,
    mode: u32,
    offset: i64,
    len: i64,
) -> SysResult<()> {
    let file = task.file(fd)?;
    let (Ok(start), Ok(bytes)) = (u64::try_from(offset), u64::try_from(len)) else {
        return err!(EINVAL);
    };
    if bytes == 0 {
        return err!(EINVAL);
    }
    check_allocate_mode(mode)?;
    if !file.is_writable() {
        return err!(EBADF);
    }
    match kind_of(&file) {
        Some(FileType::Regular | FileType::BlockDevice) => {}
        Some(FileType::Fifo) => return err!(ESPIPE),
        Some(FileType::Directory) => return err!(EISDIR),
        _ => return err!(ENODEV),
    }
    let end = start.checked_add(bytes).filter(|&end| end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    let grows = mode & (libc::FALLOC_FL_KEEP_SIZE as u32) == 0;
    if grows && end > file.metadata()?.size {
        check_size(task, end)?;
    }
    drop_set_ids(&file, task.cred_ref())?;
    file.ops().allocate(&file, mode, start, bytes)?;
    notify_file(&file, FsEvent::Modify);
    Ok(())
}

/// How much is copied through the sentry in one go.
const COPY_BUFFER: usize = 256 << 10;

/// Where a copy reads or writes: at an offset of its own, or at the description's.
struct Place {
    at: u64,
    own: Option<UserRef<i64>>,
}

impl Place {
    fn new(task: &CurrentTask, file: &FileDescription, own: UserRef<i64>) -> SysResult<Self> {
        let own = own.non_null();
        let at = match own {
            Some(at) => u64::try_from(task.mm().read_obj(at)?).map_err(|_| Errno::EINVAL)?,
            None => *file.offset.lock(),
        };
        Ok(Self { at, own })
    }

    fn finish(&self, task: &CurrentTask, file: &FileDescription, done: u64) -> SysResult<()> {
        let end = self.at.saturating_add(done);
        match self.own {
            Some(own) => Ok(task.mm().write_obj(own, &(end as i64))?),
            None => {
                *file.offset.lock() = end;
                Ok(())
            }
        }
    }
}

fn check_copy(input: &FileDescription, output: &FileDescription) -> SysResult<()> {
    let dir = Some(FileType::Directory);
    if kind_of(input) == dir || kind_of(output) == dir {
        return err!(EISDIR);
    }
    let regular = Some(FileType::Regular);
    if kind_of(input) != regular || kind_of(output) != regular {
        return err!(EINVAL);
    }
    let appends = output.flags().contains(StatusFlags::APPEND);
    if !input.is_readable() || !output.is_writable() || appends {
        return err!(EBADF);
    }
    Ok(())
}

pub(super) fn sys_copy_file_range(
    task: &mut CurrentTask,
    in_fd: Fd,
    in_offset: UserRef<i64>,
    out_fd: Fd,
    out_offset: UserRef<i64>,
    len: usize,
    flags: u32,
) -> SysResult<u64> {
    let (input, output) = (task.file(in_fd)?, task.file(out_fd)?);
    let from = Place::new(task, &input, in_offset)?;
    let to = Place::new(task, &output, out_offset)?;
    if flags != 0 {
        return err!(EINVAL);
    }
    check_copy(&input, &output)?;
    let (in_meta, out_meta) = (input.metadata()?, output.metadata()?);
    if in_meta.dev != out_meta.dev {
        return err!(EXDEV);
    }
    let len = (len as u64).min(super::io_limits::MAX_RW_COUNT as u64);
    if from.at.checked_add(len).is_none() || to.at.checked_add(len).is_none() {
        return err!(EOVERFLOW);
    }
    let len = len.min(in_meta.size.saturating_sub(from.at));
    let apart = from.at.abs_diff(to.at) >= len;
    if in_meta.ino == out_meta.ino && !apart && len > 0 {
        return err!(EINVAL);
    }
    let len = writable_len(task, &output, to.at, len as usize)?;
    drop_set_ids(&output, task.cred_ref())?;
    let done = copy(&input, from.at, &output, to.at, len)?;
    from.finish(task, &input, done)?;
    to.finish(task, &output, done)?;
    if done > 0 {
        notify_file(&input, FsEvent::Access);
        notify_file(&output, FsEvent::Modify);
    }
    Ok(done)
}

/// Copies up to `len` bytes; an error only when there are none.
fn copy(
    input: &FileDescription,
    from: u64,
    output: &FileDescription,
    to: u64,
    len: usize,
) -> SysResult<u64> {
    let mut buffer = vec![0; len.min(COPY_BUFFER)];
    let mut done = 0;
    while done < len {
        let at = done as u64;
        let piece = buffer.len().min(len - done);
        let Some(piece) = buffer.get_mut(..piece) else { break };
        let step = input.ops().read(input, from + at, &mut IoDst::kernel(piece)).and_then(|n| {
            let bytes = piece.get(..n).unwrap_or_default();
            if n == 0 {
                Ok(0)
            } else {
                output.ops().write(output, to + at, &mut IoSrc::kernel(bytes))
            }
        });
        match step {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done as u64)
}
