//! execve(2), execveat(2).

use super::Outcome;
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserCStr, UserMemory, UserRef},
    vfs::LookupFlags,
};

/// The longest argument, with its NUL (MAX_ARG_STRLEN).
const STRING_MAX: usize = 128 << 10;
/// More than the loader ever takes (three quarters of the default stack), so that reading stops.
const TOTAL_MAX: usize = 6 << 20;

pub(super) fn sys_execve(
    task: &mut CurrentTask,
    path: UserCStr,
    argv: UserRef<u64>,
    envp: UserRef<u64>,
) -> SysResult<Outcome> {
    sys_execveat(task, Fd::CWD, path, argv, envp, 0)
}

pub(super) fn sys_execveat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    argv: UserRef<u64>,
    envp: UserRef<u64>,
    flags: i32,
) -> SysResult<Outcome> {
    if flags & !(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) != 0 {
        return err!(EINVAL);
    }
    let path = task.mm().read_path(path)?;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH == 0 {
        return err!(ENOENT);
    }
    let mut room = TOTAL_MAX;
    let argv = read_strings(task, argv, &mut room)?;
    let envp = read_strings(task, envp, &mut room)?;
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & libc::AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(LookupFlags::EMPTY, flags & libc::AT_EMPTY_PATH != 0);
    let cx = task.path_cx();
    let start = task.walk_start(&cx, dir, &path)?;
    let shown = shown_path(dir, &path);
    task.exec_at(&start, &path, lookup, shown, argv, envp)
}

/// What the program is told it was called by (AT_EXECFN).
fn shown_path(dir: Fd, path: &[u8]) -> Vec<u8> {
    if dir == Fd::CWD || path.first() == Some(&b'/') {
        return path.to_vec();
    }
    let mut shown = format!("/dev/fd/{}", dir.0).into_bytes();
    if !path.is_empty() {
        shown.push(b'/');
        shown.extend_from_slice(path);
    }
    shown
}

/// A NULL-terminated array of strings; NULL itself is an empty one.
fn read_strings(
    task: &CurrentTask,
    array: UserRef<u64>,
    room: &mut usize,
) -> SysResult<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if array.is_null() {
        return Ok(strings);
    }
    for index in 0.. {
        let at = task.mm().read_obj(array.at(index)?)?;
        if at == 0 {
            break;
        }
        let at = UserCStr(crate::user::UserAddr(at));
        let string = task
            .mm()
            .read_cstr(at, STRING_MAX)
            .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::E2BIG } else { errno })?;
        *room = room.checked_sub(string.len() + 9).ok_or(Errno::E2BIG)?;
        strings.push(string);
    }
    Ok(strings)
}
