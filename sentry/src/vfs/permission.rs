//! Who may do what to which file (path_resolution(7), `fs/namei.c`, `fs/attr.c`).

use super::{AccessMask, Dentry, FileType, Metadata, Mount, VfsPath};
use crate::{
    SysResult, err,
    kernel::{Capability, Credentials},
};

/// Owner, or CAP_FOWNER (`inode_owner_or_capable`).
pub(crate) fn is_owner_or_capable(meta: &Metadata, cred: &Credentials) -> bool {
    cred.fsuid == meta.uid || cred.has(Capability::FOWNER)
}

/// `EROFS` where nothing may change (`mnt_want_write`).
pub(crate) fn want_write(mount: &Mount) -> SysResult<()> {
    if mount.is_read_only() { err!(EROFS) } else { Ok(()) }
}

/// Permission for the file at `path` (`inode_permission`): special files may be written on a read-only mount.
pub(crate) fn permission(path: &VfsPath, cred: &Credentials, want: AccessMask) -> SysResult<()> {
    let is_data = matches!(
        path.dentry.kind(),
        Some(FileType::Regular | FileType::Directory | FileType::Symlink)
    );
    if want.contains(AccessMask::WRITE) && is_data {
        want_write(&path.mount)?;
    }
    path.inode().check_access(cred, want)
}

/// May a name be made in `dir`? (`may_create`)
pub(super) fn may_create(dir: &Dentry, cred: &Credentials) -> SysResult<()> {
    if dir.is_unlinked() {
        return err!(ENOENT);
    }
    dir.inode().check_access(cred, AccessMask::WRITE | AccessMask::EXEC)
}

/// May the name of `victim` in `dir` be taken away? `as_dir`: by rmdir, or a rename of a directory
/// over it (`may_delete`).
pub(super) fn may_delete(
    dir: &Dentry,
    victim: &Dentry,
    as_dir: bool,
    cred: &Credentials,
) -> SysResult<()> {
    dir.inode().check_access(cred, AccessMask::WRITE | AccessMask::EXEC)?;
    let dir_meta = dir.inode().metadata_seen()?;
    if dir_meta.mode & libc::S_ISVTX != 0 && !cred.has(Capability::FOWNER) {
        let victim_meta = victim.inode().metadata_seen()?;
        if cred.fsuid != victim_meta.uid && cred.fsuid != dir_meta.uid {
            return err!(EPERM);
        }
    }
    match (as_dir, victim.is_dir()) {
        (true, false) => err!(ENOTDIR),
        (false, true) => err!(EISDIR),
        _ if dir.is_unlinked() => err!(ENOENT),
        _ => Ok(()),
    }
}

/// The mode without the set-user-ID and set-group-ID bits that a change by `cred` takes away, if
/// any (`setattr_should_drop_suidgid`; the caller knows that it applies).
pub(super) fn without_set_ids(meta: &Metadata, cred: &Credentials) -> Option<u32> {
    let mut mode = meta.mode & 0o7777;
    mode &= !libc::S_ISUID;
    if mode & libc::S_ISGID != 0 {
        let member = cred.in_group(meta.gid) || cred.has(Capability::FSETID);
        if mode & libc::S_IXGRP != 0 || !member {
            mode &= !libc::S_ISGID;
        }
    }
    (mode != meta.mode & 0o7777).then_some(mode)
}

/// As [`without_set_ids`], for a write or truncation: only of regular files, and not by those
/// with CAP_FSETID.
pub(super) fn write_drops_set_ids(meta: &Metadata, cred: &Credentials) -> Option<u32> {
    let set = meta.mode & (libc::S_ISUID | libc::S_ISGID);
    if set == 0 || meta.file_type() != Some(FileType::Regular) || cred.has(Capability::FSETID) {
        return None;
    }
    without_set_ids(meta, cred)
}
