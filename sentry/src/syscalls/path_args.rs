//! The path arguments of system calls.

use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    policy::Access,
    user::{Fd, UserCStr, UserMemory},
    vfs::{LookupFlags, Metadata, PathCx, VfsPath, policed, resolve},
};

/// A directory and a path relative to it, as the `…at` calls take them, already copied in.
#[derive(Debug)]
pub(super) struct PathArg {
    pub(super) start: VfsPath,
    pub(super) path: Vec<u8>,
}

impl PathArg {
    /// `EBADF` for a bad `dir`, unless the path is absolute.
    pub(super) fn read(
        task: &CurrentTask,
        cx: &PathCx,
        dir: Fd,
        path: UserCStr,
    ) -> SysResult<Self> {
        let path = task.mm().read_path(path)?;
        // Before the directory is looked at, as Linux does.
        if path.is_empty() {
            return err!(ENOENT);
        }
        let start = task.walk_start(cx, dir, &path)?;
        Ok(Self { start, path })
    }

    /// As the second half of a pair for `vfs`.
    pub(super) fn parts(&self) -> (&VfsPath, &[u8]) {
        (&self.start, &self.path)
    }
}

/// Finds the file that `dir` and `path` name. With [`LookupFlags::EMPTY`] an empty path stands for `dir`
/// itself, which may then be any file; so does a null `path`. What rules say of the file is left to the caller.
pub(super) fn find(
    task: &CurrentTask,
    cx: &PathCx,
    dir: Fd,
    path: UserCStr,
    flags: LookupFlags,
) -> SysResult<VfsPath> {
    find_for(task, cx, dir, path, flags, Access::empty())
}

/// As [`find`]; a file that a path leads to must be one that rules allow to be used so.
pub(super) fn find_for(
    task: &CurrentTask,
    cx: &PathCx,
    dir: Fd,
    path: UserCStr,
    flags: LookupFlags,
    access: Access,
) -> SysResult<VfsPath> {
    let may_be_empty = flags.contains(LookupFlags::EMPTY);
    if may_be_empty && path.0.is_null() {
        return task.dir_path(cx, dir);
    }
    let path = task.mm().read_path(path)?;
    if path.is_empty() {
        return if may_be_empty { task.dir_path(cx, dir) } else { err!(ENOENT) };
    }
    let start = task.walk_start(cx, dir, &path)?;
    let place = resolve(cx, &start, &path, flags)?;
    if !access.is_empty() {
        policed::may(&place, access)?;
    }
    Ok(place)
}

/// As [`find`], and what the file is like.
pub(super) fn find_metadata(
    task: &CurrentTask,
    cx: &PathCx,
    dir: Fd,
    path: UserCStr,
    flags: LookupFlags,
) -> SysResult<(VfsPath, Metadata)> {
    let place = find_for(task, cx, dir, path, flags, Access::STAT)?;
    // An empty path is no walk.
    let meta = if flags.contains(LookupFlags::EMPTY) {
        place.inode().metadata()?
    } else {
        place.inode().metadata_seen()?
    };
    Ok((place, meta))
}

/// The `AT_` flags that say how to find a file; `EINVAL` for others than `allowed`.
pub(super) fn at_flags(flags: u32, allowed: u32) -> SysResult<LookupFlags> {
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & libc::AT_SYMLINK_NOFOLLOW as u32 == 0);
    lookup.set(LookupFlags::EMPTY, flags & libc::AT_EMPTY_PATH as u32 != 0);
    Ok(lookup)
}
