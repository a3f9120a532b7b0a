//! New names: files, directories, special files, symbolic and hard links (`fs/namei.c`).

use std::{any::Any, sync::Arc};

use super::{
    Creation, Dentry, DirOps, FileType, Inode, Last, LookupFlags, Metadata, NameBuf, ParentPath,
    PathCx, VfsPath,
    dentry::DirGuard,
    notify::{FsEvent, notify, notify_entry},
    permission::{may_create, want_write},
    policed, resolve, resolve_parent,
    superblock::Ahead,
};
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, Credentials},
    policy::Access,
};

/// Makes the inode of a new name.
pub(super) type Maker<'a> = dyn Fn(&dyn DirOps, &[u8], &Creation) -> SysResult<Arc<dyn Inode>> + 'a;

/// Mode and owner of a new file in a directory (`inode_init_owner`, `mode_strip_sgid`).
pub(super) fn attributes(
    dir: &Metadata,
    kind: FileType,
    mut mode: u32,
    cred: &Credentials,
) -> Creation {
    let mut gid = cred.fsgid;
    if dir.mode & libc::S_ISGID != 0 {
        gid = dir.gid;
        let group_exec = libc::S_ISGID | libc::S_IXGRP;
        if kind == FileType::Directory {
            mode |= libc::S_ISGID;
        } else if mode & group_exec == group_exec
            && !cred.in_group(gid)
            && !cred.has(Capability::FSETID)
        {
            mode &= !libc::S_ISGID;
        }
    }
    Creation { mode, uid: cred.fsuid, gid }
}

/// A new regular file, whose name was found to be free; see [`create_kind`].
pub(super) fn create(
    cx: &PathCx,
    dir: &VfsPath,
    name: &[u8],
    mode: u32,
    make: &Maker<'_>,
) -> SysResult<Arc<Dentry>> {
    policed::may_try_to_make(dir, name)?;
    let superblock = dir.mount.superblock();
    let guard = dir.dentry.lock_names().ok_or(Errno::ENOTDIR)?;
    if superblock.lookup_to_make(&dir.dentry, &guard, name)?.is_some() {
        return err!(EEXIST);
    }
    let new = (FileType::Regular, mode & !cx.umask());
    let dentry = create_locked(cx, dir, &guard, name, new, make)?;
    drop(guard);
    notify_entry(&dir.dentry, name, false, FsEvent::Create);
    Ok(dentry)
}

/// Makes `name` in `dir`. `EEXIST` when it is there, `EROFS`, `EACCES` …
fn create_kind(
    cx: &PathCx,
    dir: &VfsPath,
    name: &[u8],
    kind: FileType,
    mode: u32,
    make: &Maker<'_>,
) -> SysResult<Arc<Dentry>> {
    policed::may_try_to_make(dir, name)?;
    let superblock = dir.mount.superblock();
    let guard = dir.dentry.lock_names().ok_or(Errno::ENOTDIR)?;
    if superblock.lookup_locked(&dir.dentry, &guard, name, &Ahead::UNKNOWN)?.is_some() {
        return err!(EEXIST);
    }
    let dentry = create_locked(cx, dir, &guard, name, (kind, mode), make)?;
    drop(guard);
    notify_entry(&dir.dentry, name, kind == FileType::Directory, FsEvent::Create);
    Ok(dentry)
}

/// Makes a name that is free.
fn create_locked(
    cx: &PathCx,
    dir: &VfsPath,
    _guard: &DirGuard<'_>,
    name: &[u8],
    (kind, mode): (FileType, u32),
    make: &Maker<'_>,
) -> SysResult<Arc<Dentry>> {
    if dir.mount.fs().refuses_new_names() {
        return err!(ENOENT);
    }
    policed::may_make(dir, name)?;
    want_write(&dir.mount)?;
    may_create(&dir.dentry, &cx.cred)?;
    let ops = dir.dentry.dir_ops().ok_or(Errno::ENOTDIR)?;
    let new = attributes(&dir.inode().metadata_seen()?, kind, mode, &cx.cred);
    let inode = make(ops, name, &new)?;
    Ok(dir.mount.superblock().add(&dir.dentry, name, inode))
}

/// The name to make. `EEXIST` for `.`, `..` and `/`; `ENOENT` for `name/` unless it will be a directory.
fn new_name(parent: &ParentPath, is_dir: bool) -> SysResult<&NameBuf> {
    let Last::Name(name) = &parent.last else { return err!(EEXIST) };
    if parent.must_be_dir && !is_dir {
        policed::may_try_to_make(&parent.dir, name)?;
        let superblock = parent.dir.mount.superblock();
        let found = superblock.lookup(&parent.dir.dentry, name, &Ahead::UNKNOWN, false)?;
        return if found.is_some() { err!(EEXIST) } else { err!(ENOENT) };
    }
    Ok(name)
}

/// mkdir(2).
pub fn mkdir(cx: &PathCx, start: &VfsPath, path: &[u8], mode: u32) -> SysResult<()> {
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let name = new_name(&parent, true)?;
    let mode = mode & (0o777 | libc::S_ISVTX) & !cx.umask();
    create_kind(cx, &parent.dir, name, FileType::Directory, mode, &|dir, name, new| {
        dir.mkdir(name, new)
    })
    .map(drop)
}

/// mknod(2); `kind` is no directory or link. Devices need CAP_MKNOD.
pub fn mknod(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    (kind, rdev): (FileType, u64),
    mode: u32,
) -> SysResult<()> {
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let name = new_name(&parent, false)?;
    let is_whiteout = kind == FileType::CharDevice && rdev == 0;
    let is_device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
    let allowed = !is_device || is_whiteout || cx.cred.has(Capability::MKNOD);
    let mode = mode & 0o7777 & !cx.umask();
    create_kind(cx, &parent.dir, name, kind, mode, &|dir, name, new| {
        if !allowed {
            return err!(EPERM);
        }
        if kind == FileType::Regular {
            dir.create(name, new)
        } else {
            dir.mknod(name, kind, rdev, new)
        }
    })
    .map(drop)
}

/// bind(2) of an AF_UNIX socket to a path; `EADDRINUSE` when it is taken. `mode`: the socket's, as fchmod(2)
/// set it before.
pub fn bind_socket(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    mode: u32,
    socket: &Arc<dyn Any + Send + Sync>,
) -> SysResult<VfsPath> {
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let mode = mode & 0o7777 & !cx.umask();
    let made = new_name(&parent, false).and_then(|name| {
        create_kind(cx, &parent.dir, name, FileType::Socket, mode, &|dir, name, new| {
            dir.bind_socket(name, socket.clone(), new)
        })
    });
    match made {
        Ok(dentry) => Ok(parent.dir.sibling(dentry)),
        Err(error) if error == Errno::EEXIST.into() => err!(EADDRINUSE),
        Err(error) => Err(error),
    }
}

/// symlink(2).
pub fn symlink(cx: &PathCx, target: &[u8], start: &VfsPath, path: &[u8]) -> SysResult<()> {
    if target.is_empty() {
        return err!(ENOENT);
    }
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let name = new_name(&parent, false)?;
    create_kind(cx, &parent.dir, name, FileType::Symlink, 0o777, &|dir, name, new| {
        dir.symlink(name, target, new)
    })
    .map(drop)
}

/// linkat(2): another name for the file at `old`. `lookup`: FOLLOW, EMPTY.
pub fn link(
    cx: &PathCx,
    (old_start, old_path): (&VfsPath, &[u8]),
    (start, path): (&VfsPath, &[u8]),
    lookup: LookupFlags,
) -> SysResult<()> {
    let old = resolve(cx, old_start, old_path, lookup)?;
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let name = new_name(&parent, false)?;
    policed::may_try_to_make(&parent.dir, name)?;
    // Found first, as Linux does: EEXIST comes before EXDEV.
    let superblock = parent.dir.mount.superblock();
    if superblock.lookup(&parent.dir.dentry, name, &Ahead::UNKNOWN, false)?.is_some() {
        return err!(EEXIST);
    }
    if !Arc::ptr_eq(&old.mount, &parent.dir.mount) {
        return err!(EXDEV);
    }
    let guard = parent.dir.dentry.lock_names().ok_or(Errno::ENOTDIR)?;
    if superblock.lookup_locked(&parent.dir.dentry, &guard, name, &Ahead::UNKNOWN)?.is_some() {
        return err!(EEXIST);
    }
    policed::may_make(&parent.dir, name)?;
    policed::may_move(&old, &parent.dir.dentry, name, Access::CREATE)?;
    want_write(&parent.dir.mount)?;
    may_create(&parent.dir.dentry, &cx.cred)?;
    if old.dentry.is_dir() {
        return err!(EPERM);
    }
    let inode = old.inode();
    if inode.metadata()?.nlink == 0 && !old.dentry.is_linkable() {
        return err!(ENOENT);
    }
    let ops = parent.dir.dentry.dir_ops().ok_or(Errno::ENOTDIR)?;
    ops.link(name, inode)?;
    superblock.add(&parent.dir.dentry, name, inode.clone());
    drop(guard);
    notify(&old.dentry, FsEvent::Attrib);
    notify_entry(&parent.dir.dentry, name, false, FsEvent::Create);
    Ok(())
}
