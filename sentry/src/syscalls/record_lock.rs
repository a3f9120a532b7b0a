//! Record locks: F_GETLK, F_SETLK, F_SETLKW and their OFD_ forms (fcntl(2)).

use linux_abi::stat::Flock;

use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{UserMemory, UserRef},
    vfs::{FileDescription, LockOwner, RecordLock},
    wait::EventMask,
};

/// What F_SETLK is to do.
enum Wish {
    Lock(RecordLock),
    Unlock { owner: LockOwner, start: u64, end: u64 },
}

/// The range of a `struct flock`, both ends included (`flock64_to_posix_lock`).
fn range(file: &FileDescription, flock: &Flock) -> SysResult<(u64, u64)> {
    let base = match i32::from(flock.whence) {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => *file.offset.lock() as i64,
        libc::SEEK_END => i64::try_from(file.metadata()?.size).map_err(|_| Errno::EOVERFLOW)?,
        _ => return err!(EINVAL),
    };
    let start = base.checked_add(flock.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return err!(EINVAL);
    }
    let (start, end) = match flock.len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).filter(|&at| at >= 0).ok_or(Errno::EINVAL)?, start - 1),
    };
    Ok((start as u64, end as u64))
}

/// The command's owner and wish. `EBADF` when the description's mode does not allow the kind.
fn wish(task: &CurrentTask, file: &FileDescription, flock: &Flock, ofd: bool) -> SysResult<Wish> {
    let (start, end) = range(file, flock)?;
    let (owner, pid) = if ofd {
        if flock.pid != 0 {
            return err!(EINVAL);
        }
        (LockOwner::Description(file.id()), -1)
    } else {
        (task.fds().lock_owner(), task.pid())
    };
    let lock = |exclusive| Wish::Lock(RecordLock { owner, pid, exclusive, start, end });
    match i32::from(flock.kind) {
        libc::F_RDLCK => Ok(lock(false)),
        libc::F_WRLCK => Ok(lock(true)),
        libc::F_UNLCK => Ok(Wish::Unlock { owner, start, end }),
        _ => err!(EINVAL),
    }
}

/// All six commands.
pub(super) fn record_lock(
    task: &mut CurrentTask,
    file: &FileDescription,
    command: i32,
    arg: UserRef<Flock>,
) -> SysResult<()> {
    let flock = task.mm().read_obj(arg)?;
    let ofd = matches!(command, libc::F_OFD_GETLK | libc::F_OFD_SETLK | libc::F_OFD_SETLKW);
    let wish = wish(task, file, &flock, ofd)?;
    if matches!(command, libc::F_GETLK | libc::F_OFD_GETLK) {
        let Wish::Lock(wanted) = wish else { return err!(EINVAL) };
        let answer = report(file.locks()?.conflict(&wanted), &flock);
        return Ok(task.mm().write_obj(arg, &answer)?);
    }
    let wanted = match wish {
        Wish::Unlock { owner, start, end } => return file.locks()?.unlock(owner, start, end),
        Wish::Lock(wanted) => wanted,
    };
    if (wanted.exclusive && !file.is_writable()) || (!wanted.exclusive && !file.is_readable()) {
        return err!(EBADF);
    }
    if matches!(command, libc::F_SETLK | libc::F_OFD_SETLK) {
        return match file.locks()?.lock(wanted)? {
            Ok(()) => Ok(()),
            Err(_) => err!(EAGAIN),
        };
    }
    wait_for(task, file, wanted)
}

/// F_SETLKW.
fn wait_for(task: &mut CurrentTask, file: &FileDescription, wanted: RecordLock) -> SysResult<()> {
    let locks = file.locks()?.clone();
    let waker = task.waker().clone();
    let mut waiting = None;
    task.block_until(
        None,
        |_| locks.queue().register(waker, EventMask::all()),
        |_| {
            drop(waiting.take());
            match locks.lock(wanted)? {
                Ok(()) => Ok(Some(())),
                Err(other) => {
                    // Only processes can be seen to wait for each other.
                    if matches!(wanted.owner, LockOwner::Process(_)) {
                        waiting = Some(file.begin_lock_wait(wanted.owner, other.owner)?);
                    }
                    Ok(None)
                }
            }
        },
    )
    .map(drop)
}

/// What F_GETLK answers: the lock in the way, or the question with F_UNLCK.
fn report(found: Option<RecordLock>, asked: &Flock) -> Flock {
    let Some(lock) = found else { return Flock { kind: libc::F_UNLCK as i16, ..*asked } };
    let to_end = lock.end >= i64::MAX as u64;
    Flock {
        kind: if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as i16,
        whence: libc::SEEK_SET as i16,
        start: lock.start as i64,
        len: if to_end { 0 } else { (lock.end - lock.start + 1) as i64 },
        pid: lock.pid,
        ..*asked
    }
}
