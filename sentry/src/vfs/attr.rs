//! Changes of attributes, and who may make them (`fs/attr.c`, `fs/open.c`, `fs/utimes.c`).

use super::{
    AccessMask, FileDescription, FileType, Metadata, SetAttr, TimeUpdate, VfsPath,
    notify::{FsEvent, notify},
    permission::{
        is_owner_or_capable, permission, want_write, without_set_ids, write_drops_set_ids,
    },
    policed,
};
use crate::{
    SysResult, err,
    kernel::{Capability, Credentials},
    policy::Access,
};

/// chmod(2).
pub fn chmod(path: &VfsPath, cred: &Credentials, mode: u32) -> SysResult<()> {
    policed::may(path, Access::WRITE)?;
    want_write(&path.mount)?;
    let meta = path.inode().metadata()?;
    if path.dentry.kind() == Some(FileType::Symlink) {
        return err!(EOPNOTSUPP);
    }
    if !is_owner_or_capable(&meta, cred) {
        return err!(EPERM);
    }
    let mut mode = mode & 0o7777;
    if !cred.in_group(meta.gid) && !cred.has(Capability::FSETID) {
        mode &= !libc::S_ISGID;
    }
    apply(path, &SetAttr { mode: Some(mode), ..SetAttr::default() })
}

/// chown(2); `None` leaves one alone.
pub fn chown(
    path: &VfsPath,
    cred: &Credentials,
    uid: Option<u32>,
    gid: Option<u32>,
) -> SysResult<()> {
    policed::may(path, Access::WRITE)?;
    want_write(&path.mount)?;
    let meta = path.inode().metadata()?;
    let owner = cred.fsuid == meta.uid;
    let capable = cred.has(Capability::CHOWN);
    if let Some(uid) = uid
        && !(capable || (owner && uid == meta.uid))
    {
        return err!(EPERM);
    }
    if let Some(gid) = gid
        && !(capable || (owner && (gid == meta.gid || cred.in_group(gid))))
    {
        return err!(EPERM);
    }
    let mode = if meta.is_dir() { None } else { without_set_ids(&meta, cred) };
    apply(path, &SetAttr { mode, uid, gid, ..SetAttr::default() })
}

/// utimensat(2): access and modification time; `None` leaves one alone. `touch`: both were
/// asked to be now, which write permission is enough for.
pub fn set_times(
    path: &VfsPath,
    cred: &Credentials,
    atime: Option<TimeUpdate>,
    mtime: Option<TimeUpdate>,
    touch: bool,
) -> SysResult<()> {
    policed::may(path, Access::WRITE)?;
    want_write(&path.mount)?;
    let meta = path.inode().metadata()?;
    if !is_owner_or_capable(&meta, cred) {
        if !touch {
            return err!(EPERM);
        }
        path.inode().check_access(cred, AccessMask::WRITE)?;
    }
    apply(path, &SetAttr { atime, mtime, ..SetAttr::default() })
}

/// truncate(2): `EISDIR`, `EINVAL` for other kinds; the caller has checked the length and RLIMIT_FSIZE.
pub fn truncate(path: &VfsPath, cred: &Credentials, size: u64) -> SysResult<()> {
    policed::may(path, Access::WRITE)?;
    match path.dentry.kind() {
        Some(FileType::Directory) => return err!(EISDIR),
        Some(FileType::Regular) => {}
        _ => return err!(EINVAL),
    }
    want_write(&path.mount)?;
    permission(path, cred, AccessMask::WRITE)?;
    path.dentry.get_write_access()?;
    let done = set_size(path, cred, size);
    path.dentry.put_write_access();
    done
}

/// ftruncate(2): `EINVAL` unless it is a regular file open for writing.
pub fn truncate_file(file: &FileDescription, cred: &Credentials, size: u64) -> SysResult<()> {
    if file.path().dentry.kind() != Some(FileType::Regular) || !file.is_writable() {
        return err!(EINVAL);
    }
    set_size(file.path(), cred, size)
}

fn set_size(path: &VfsPath, cred: &Credentials, size: u64) -> SysResult<()> {
    let mode = write_drops_set_ids(&path.inode().metadata()?, cred);
    path.inode().set_attr(&SetAttr { size: Some(size), mode, ..SetAttr::default() })?;
    notify(&path.dentry, FsEvent::Modify);
    Ok(())
}

/// A write to `file` by `cred` is about to happen: takes away set-user-ID and set-group-ID
/// bits where it must (`file_remove_privs`).
pub fn drop_set_ids(file: &FileDescription, cred: &Credentials) -> SysResult<()> {
    if cred.has(Capability::FSETID) || file.path().dentry.kind() != Some(FileType::Regular) {
        return Ok(());
    }
    let meta: Metadata = file.metadata()?;
    match write_drops_set_ids(&meta, cred) {
        Some(mode) => {
            file.path().inode().set_attr(&SetAttr { mode: Some(mode), ..SetAttr::default() })
        }
        None => Ok(()),
    }
}

/// access(2): may `cred` do `want` with the file? (`do_faccessat`)
pub fn access(path: &VfsPath, cred: &Credentials, want: AccessMask) -> SysResult<()> {
    let is_dir = path.dentry.is_dir();
    let mut asked = if want.is_empty() { Access::STAT } else { Access::empty() };
    let read = if is_dir { Access::LIST } else { Access::READ };
    asked.set(read, want.contains(AccessMask::READ));
    asked.set(Access::WRITE, want.contains(AccessMask::WRITE));
    let exec = if is_dir { Access::STAT } else { Access::EXEC };
    asked.set(exec, asked.contains(exec) || want.contains(AccessMask::EXEC));
    policed::may(path, asked)?;
    let is_file = path.dentry.kind() == Some(FileType::Regular);
    let noexec = path.mount.flags().contains(super::MountFlags::NOEXEC);
    if want.contains(AccessMask::EXEC) && is_file && noexec {
        return err!(EACCES);
    }
    path.inode().check_access(cred, want)?;
    // Mode bits first: EACCES comes before EROFS.
    permission(path, cred, want)
}

fn apply(path: &VfsPath, change: &SetAttr) -> SysResult<()> {
    path.inode().set_attr(change)?;
    notify(&path.dentry, FsEvent::Attrib);
    Ok(())
}
