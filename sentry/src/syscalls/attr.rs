//! Attributes of files: chmod(2), chown(2), utimensat(2), truncate(2) and their relatives.

use super::{
    io_limits::check_size,
    path_args::{at_flags, find},
};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserCStr, UserMemory, UserRef},
    vfs::{self, LookupFlags, TimeSpec, TimeUpdate, VfsPath},
};

const NOFOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW as u32;
const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;

pub(super) fn sys_chmod(task: &mut CurrentTask, path: UserCStr, mode: u32) -> SysResult<()> {
    sys_fchmodat2(task, Fd::CWD, path, mode, 0)
}

pub(super) fn sys_fchmod(task: &mut CurrentTask, fd: Fd, mode: u32) -> SysResult<()> {
    vfs::chmod(task.file(fd)?.path(), task.cred_ref(), mode)
}

pub(super) fn sys_fchmodat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    mode: u32,
) -> SysResult<()> {
    sys_fchmodat2(task, dir, path, mode, 0)
}

pub(super) fn sys_fchmodat2(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    mode: u32,
    flags: u32,
) -> SysResult<()> {
    let lookup = at_flags(flags, NOFOLLOW | EMPTY_PATH)?;
    let cx = task.path_cx();
    vfs::chmod(&find(task, &cx, dir, path, lookup)?, &cx.cred, mode)
}

/// -1 leaves an id alone.
fn id(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

pub(super) fn sys_chown(
    task: &mut CurrentTask,
    path: UserCStr,
    uid: u32,
    gid: u32,
) -> SysResult<()> {
    sys_fchownat(task, Fd::CWD, path, uid, gid, 0)
}

pub(super) fn sys_lchown(
    task: &mut CurrentTask,
    path: UserCStr,
    uid: u32,
    gid: u32,
) -> SysResult<()> {
    sys_fchownat(task, Fd::CWD, path, uid, gid, NOFOLLOW)
}

pub(super) fn sys_fchown(task: &mut CurrentTask, fd: Fd, uid: u32, gid: u32) -> SysResult<()> {
    vfs::chown(task.file(fd)?.path(), task.cred_ref(), id(uid), id(gid))
}

pub(super) fn sys_fchownat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> SysResult<()> {
    let lookup = at_flags(flags, NOFOLLOW | EMPTY_PATH)?;
    let cx = task.path_cx();
    vfs::chown(&find(task, &cx, dir, path, lookup)?, &cx.cred, id(uid), id(gid))
}

/// Access and modification time to set.
#[derive(Clone, Copy)]
struct Times {
    atime: Option<TimeUpdate>,
    mtime: Option<TimeUpdate>,
    /// Both are to be now.
    touch: bool,
}

impl Times {
    const NOW: Self =
        Self { atime: Some(TimeUpdate::Now), mtime: Some(TimeUpdate::Now), touch: true };

    /// From two `struct timespec`s: UTIME_NOW, UTIME_OMIT, or a time.
    fn from_timespecs([atime, mtime]: [[i64; 2]; 2]) -> SysResult<Self> {
        let update = |[sec, nsec]: [i64; 2]| match nsec {
            libc::UTIME_NOW => Ok(Some(TimeUpdate::Now)),
            libc::UTIME_OMIT => Ok(None),
            0..1_000_000_000 => Ok(Some(TimeUpdate::To(TimeSpec { sec, nsec: nsec as u32 }))),
            _ => Err(Errno::EINVAL),
        };
        let (atime, mtime) = (update(atime)?, update(mtime)?);
        let now = Some(TimeUpdate::Now);
        Ok(Self { atime, mtime, touch: atime == now && mtime == now })
    }

    /// From two `struct timeval`s.
    fn from_timevals(times: [[i64; 2]; 2]) -> SysResult<Self> {
        let update = |[sec, usec]: [i64; 2]| match usec {
            0..1_000_000 => Ok(Some(TimeUpdate::To(TimeSpec { sec, nsec: usec as u32 * 1000 }))),
            _ => Err(Errno::EINVAL),
        };
        let [atime, mtime] = times.map(update);
        Ok(Self { atime: atime?, mtime: mtime?, touch: false })
    }

    fn apply(self, task: &CurrentTask, place: &VfsPath) -> SysResult<()> {
        if self.atime.is_none() && self.mtime.is_none() {
            return Ok(());
        }
        vfs::set_times(place, task.cred_ref(), self.atime, self.mtime, self.touch)
    }
}

/// A null path means the file that `dir` is, for futimens(3).
pub(super) fn sys_utimensat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    times: UserRef<[[i64; 2]; 2]>,
    flags: u32,
) -> SysResult<()> {
    let times = match times.non_null() {
        Some(times) => Times::from_timespecs(task.mm().read_obj(times)?)?,
        None => Times::NOW,
    };
    if times.atime.is_none() && times.mtime.is_none() {
        return Ok(());
    }
    if path.0.is_null() && dir != Fd::CWD {
        if flags & !EMPTY_PATH != 0 {
            return err!(EINVAL);
        }
        return times.apply(task, task.file(dir)?.path());
    }
    let lookup = at_flags(flags, NOFOLLOW | EMPTY_PATH)?;
    let cx = task.path_cx();
    if path.0.is_null() {
        return err!(EFAULT);
    }
    times.apply(task, &find(task, &cx, dir, path, lookup)?)
}

pub(super) fn sys_futimesat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    times: UserRef<[[i64; 2]; 2]>,
) -> SysResult<()> {
    let times = match times.non_null() {
        Some(times) => Times::from_timevals(task.mm().read_obj(times)?)?,
        None => Times::NOW,
    };
    if path.0.is_null() && dir != Fd::CWD {
        return times.apply(task, task.file(dir)?.path());
    }
    let cx = task.path_cx();
    times.apply(task, &find(task, &cx, dir, path, LookupFlags::FOLLOW)?)
}

pub(super) fn sys_utimes(
    task: &mut CurrentTask,
    path: UserCStr,
    times: UserRef<[[i64; 2]; 2]>,
) -> SysResult<()> {
    sys_futimesat(task, Fd::CWD, path, times)
}

pub(super) fn sys_utime(
    task: &mut CurrentTask,
    path: UserCStr,
    times: UserRef<[i64; 2]>,
) -> SysResult<()> {
    let times = match times.non_null() {
        Some(times) => {
            let [atime, mtime] = task.mm().read_obj(times)?;
            Times::from_timevals([[atime, 0], [mtime, 0]])?
        }
        None => Times::NOW,
    };
    let cx = task.path_cx();
    times.apply(task, &find(task, &cx, Fd::CWD, path, LookupFlags::FOLLOW)?)
}

pub(super) fn sys_truncate(task: &mut CurrentTask, path: UserCStr, size: i64) -> SysResult<()> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let cx = task.path_cx();
    let place = find(task, &cx, Fd::CWD, path, LookupFlags::FOLLOW)?;
    check_size(task, size)?;
    vfs::truncate(&place, &cx.cred, size)
}

pub(super) fn sys_ftruncate(task: &mut CurrentTask, fd: Fd, size: i64) -> SysResult<()> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let file = task.file(fd)?;
    if !file.is_writable() {
        return err!(EINVAL);
    }
    check_size(task, size)?;
    vfs::truncate_file(&file, task.cred_ref(), size)
}
