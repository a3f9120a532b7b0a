//! dup(2), fcntl(2), flock(2).

use std::sync::Arc;

use super::{
    install::{install_fd, nofile_limit},
    record_lock::record_lock,
};
use crate::{
    Errno, SysError, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserAddr, UserMemory, UserRef},
    vfs::{FileDescription, FileType, StatusFlags, is_owner_or_capable, set_notice},
};

const CLOEXEC: u32 = libc::O_CLOEXEC as u32;

pub(super) fn sys_dup(task: &mut CurrentTask, fd: Fd) -> SysResult<Fd> {
    let file = task.fds().get_any(fd)?;
    install_fd(task, file, false)
}

pub(super) fn sys_dup2(task: &mut CurrentTask, old: Fd, new: Fd) -> SysResult<Fd> {
    if old == new {
        task.fds().get_any(old)?;
        return Ok(new);
    }
    sys_dup3(task, old, new, 0)
}

pub(super) fn sys_dup3(task: &mut CurrentTask, old: Fd, new: Fd, flags: u32) -> SysResult<Fd> {
    if flags & !CLOEXEC != 0 || old == new {
        return err!(EINVAL);
    }
    if u64::try_from(new.0).map_or(true, |new| new >= nofile_limit(task)) {
        return err!(EBADF);
    }
    let file = task.fds().get_any(old)?;
    if let Some(closed) = task.fds().replace(new, file, flags & CLOEXEC != 0)? {
        task.close_entry(closed);
    }
    Ok(new)
}

/// Commands that libc has no names for.
const F_DUPFD_QUERY: i32 = 1027;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_NOTIFY: i32 = 1026;

pub(super) fn sys_fcntl(task: &mut CurrentTask, fd: Fd, command: i32, arg: u64) -> SysResult<u64> {
    let file = task.fds().get_any(fd)?;
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let min = i32::try_from(arg as u32).map_err(|_| Errno::EINVAL)?;
            let limit = nofile_limit(task);
            if u64::try_from(min).map_or(true, |min| min >= limit) {
                return err!(EINVAL);
            }
            let cloexec = command == libc::F_DUPFD_CLOEXEC;
            let new = task.fds().insert(file, cloexec, min, limit)?;
            return Ok(new.0 as u64);
        }
        F_DUPFD_QUERY => {
            let other = task.fds().get_any(Fd(arg as i32))?;
            return Ok(u64::from(Arc::ptr_eq(&file, &other)));
        }
        libc::F_GETFD => return Ok(u64::from(task.fds().entry(fd)?.cloexec)),
        libc::F_SETFD => {
            task.fds().set_cloexec(fd, arg & libc::FD_CLOEXEC as u64 != 0)?;
            return Ok(0);
        }
        libc::F_GETFL => return Ok(file.open_flags().into()),
        _ if file.is_path() => return err!(EBADF),
        _ => {}
    }
    fcntl_opened(task, fd, &file, command, arg)
}

/// The commands that an O_PATH descriptor does not take.
fn fcntl_opened(
    task: &mut CurrentTask,
    fd: Fd,
    file: &Arc<FileDescription>,
    command: i32,
    arg: u64,
) -> SysResult<u64> {
    let (owner, signal) = file.owner();
    match command {
        libc::F_SETFL => set_flags(task, fd, file, arg as u32).map(|()| 0),
        libc::F_GETLK
        | libc::F_SETLK
        | libc::F_SETLKW
        | libc::F_OFD_GETLK
        | libc::F_OFD_SETLK
        | libc::F_OFD_SETLKW => record_lock(task, file, command, UserRef::new(arg)).map(|()| 0),
        libc::F_GETOWN => Ok(i64::from(owner) as u64),
        libc::F_SETOWN => {
            let owner = arg as i32;
            if owner == i32::MIN {
                return err!(EINVAL);
            }
            check_owner(task, owner)?;
            file.set_owner(owner, signal, false);
            Ok(0)
        }
        F_GETOWN_EX | F_SETOWN_EX => owner_ex(task, file, command, UserRef::new(arg)),
        F_GETSIG => Ok(signal.into()),
        F_SETSIG if arg <= 64 => {
            file.set_owner(owner, arg as u32, file.owner_is_thread());
            Ok(0)
        }
        // Nothing here breaks leases, so none are given; no one holds one.
        libc::F_GETLEASE => Ok(libc::F_UNLCK as u64),
        libc::F_SETLEASE if arg == libc::F_UNLCK as u64 => err!(EAGAIN),
        libc::F_SETLEASE => err!(EINVAL),
        F_NOTIFY => set_notice(task, file, fd.0, arg as u32).map(|()| 0),
        _ => file.ops().fcntl(task, file, command as u32, arg),
    }
}

/// Is there such a process, or (negative) group? `ESRCH`; 0 stands for no one.
fn check_owner(task: &CurrentTask, owner: i32) -> SysResult<()> {
    let tasks = &task.kernel().tasks;
    let found = match owner {
        0 => true,
        1.. => tasks.task(owner).is_some(),
        _ => !tasks.process_group(owner.saturating_neg()).is_empty(),
    };
    if found { Ok(()) } else { err!(ESRCH) }
}

/// `struct f_owner_ex`: a thread (0), process (1) or process group (2).
fn owner_ex(
    task: &CurrentTask,
    file: &FileDescription,
    command: i32,
    arg: UserRef<[i32; 2]>,
) -> SysResult<u64> {
    let (owner, signal) = file.owner();
    if command == F_GETOWN_EX {
        let answer = match owner {
            ..0 => [2, owner.saturating_neg()],
            _ if file.owner_is_thread() => [0, owner],
            _ => [1, owner],
        };
        task.mm().write_obj(arg, &answer)?;
        return Ok(0);
    }
    let [kind, pid] = task.mm().read_obj(arg)?;
    if pid < 0 {
        return err!(ESRCH);
    }
    let owner = match kind {
        0 | 1 => pid,
        2 => pid.saturating_neg(),
        _ => return err!(EINVAL),
    };
    check_owner(task, owner)?;
    file.set_owner(owner, signal, kind == 0);
    Ok(0)
}

/// F_SETFL.
fn set_flags(task: &CurrentTask, fd: Fd, file: &FileDescription, flags: u32) -> SysResult<()> {
    let new = StatusFlags::from_bits_truncate(flags);
    let old = file.flags();
    let gains = new - old;
    if gains.contains(StatusFlags::NOATIME)
        && !is_owner_or_capable(&file.metadata()?, task.cred_ref())
    {
        return err!(EPERM);
    }
    let mut settable = new & StatusFlags::SETTABLE;
    if !file.ops().signals_readiness() {
        settable.remove(StatusFlags::ASYNC);
    }
    file.ops().set_flags(file, settable.bits())?;
    file.set_async(task, fd.0, settable.contains(StatusFlags::ASYNC));
    file.set_settable_flags(settable);
    Ok(())
}

/// Waits for the lock unless told not to; interrupted, it starts again only when a handler lets it.
pub(super) fn sys_flock(task: &mut CurrentTask, fd: Fd, operation: i32) -> SysResult<()> {
    let wait = operation & libc::LOCK_NB == 0;
    let kind = match operation & !libc::LOCK_NB {
        libc::LOCK_SH => Some(false),
        libc::LOCK_EX => Some(true),
        libc::LOCK_UN => None,
        _ => return err!(EINVAL),
    };
    let file = task.file(fd)?;
    let locks = file.locks()?.clone();
    if !wait || kind.is_none() {
        return if locks.flock(file.id(), kind) {
            Ok(())
        } else {
            Err(SysError::Errno(Errno::EAGAIN))
        };
    }
    let waker = task.waker().clone();
    task.block_until(
        None,
        |_| locks.queue().register(waker, crate::wait::EventMask::all()),
        |_| Ok(locks.flock(file.id(), kind).then_some(())),
    )
    .map(drop)
}

/// ioctl(2): what every file understands, and regular files' own; the rest is the file's.
pub(super) fn sys_ioctl(
    task: &mut CurrentTask,
    fd: Fd,
    request: u32,
    arg: UserAddr,
) -> SysResult<u64> {
    const FIGETBSZ: u32 = 2;
    const FICLONE: u32 = 0x4004_9409;
    const FICLONERANGE: u32 = 0x4020_940d;
    let file = task.file(fd)?;
    let is_regular = file.path().dentry.kind() == Some(FileType::Regular);
    match u64::from(request) {
        libc::FIOCLEX => task.fds().set_cloexec(fd, true)?,
        libc::FIONCLEX => task.fds().set_cloexec(fd, false)?,
        libc::FIONBIO => {
            let on: i32 = task.mm().read_obj(arg.as_ref())?;
            file.set_flag(StatusFlags::NONBLOCK, on != 0);
        }
        libc::FIOASYNC => {
            let on: i32 = task.mm().read_obj(arg.as_ref())?;
            if on != 0 && !file.ops().signals_readiness() {
                return err!(ENOTTY);
            }
            file.ops().set_flags(&file, with_async(&file, on != 0))?;
            file.set_async(task, fd.0, on != 0);
        }
        libc::FIONREAD if is_regular => {
            let position = *file.offset.lock();
            let left = (file.metadata()?.size as i64).wrapping_sub(position as i64);
            task.mm().write_obj(arg.as_ref(), &(left as i32))?;
        }
        _ if request == FIGETBSZ && is_regular => {
            let size = file.metadata()?.blksize;
            task.mm().write_obj(arg.as_ref(), &size)?;
        }
        _ if request == FICLONE => return clone_range(task, &file, Fd(arg.0 as i32)),
        _ if request == FICLONERANGE => {
            let [source, _, _, _]: [i64; 4] = task.mm().read_obj(arg.as_ref())?;
            return clone_range(task, &file, Fd(source as i32));
        }
        _ => return file.ops().ioctl(task, &file, request, arg),
    }
    Ok(0)
}

/// FICLONE and FICLONERANGE, which no file system here can do (ioctl_ficlone(2)).
fn clone_range(task: &CurrentTask, target: &FileDescription, source: Fd) -> SysResult<u64> {
    let source = task.file(source)?;
    let kinds = [source.path().dentry.kind(), target.path().dentry.kind()];
    if kinds.contains(&Some(FileType::Directory)) {
        return err!(EISDIR);
    }
    if kinds.iter().any(|kind| *kind != Some(FileType::Regular)) {
        return err!(EINVAL);
    }
    if !source.is_readable() || !target.is_writable() {
        return err!(EBADF);
    }
    err!(EOPNOTSUPP)
}

fn with_async(file: &FileDescription, on: bool) -> u32 {
    let mut flags = file.flags() & StatusFlags::SETTABLE;
    flags.set(StatusFlags::ASYNC, on);
    flags.bits()
}
