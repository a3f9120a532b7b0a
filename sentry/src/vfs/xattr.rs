//! Extended attributes, and who may see and change which (xattr(7), `fs/xattr.c`).

use super::{
    AccessMask, FileType, VfsPath, XattrSetMode,
    notify::{FsEvent, notify},
    permission::{is_owner_or_capable, permission, want_write},
    policed,
};
use crate::{
    SysResult, err,
    kernel::{Capability, Credentials},
    policy::Access,
};

/// The rules of each namespace (`xattr_permission`); the caller checks the mount for writes.
fn may_access(path: &VfsPath, cred: &Credentials, name: &[u8], write: bool) -> SysResult<()> {
    if [&b"user."[..], b"trusted.", b"security."].contains(&name) {
        return err!(EINVAL);
    }
    let want = if write { AccessMask::WRITE } else { AccessMask::READ };
    let is_kernels = name.starts_with(b"security.") || name.starts_with(b"system.");
    if is_kernels {
        return Ok(());
    }
    if name.starts_with(b"trusted.") {
        return match (cred.has(Capability::SYS_ADMIN), write) {
            (true, _) => Ok(()),
            (false, true) => err!(EPERM),
            (false, false) => err!(ENODATA),
        };
    }
    if name.starts_with(b"user.") {
        match path.dentry.kind() {
            Some(FileType::Regular) => {}
            Some(FileType::Directory) => {
                let meta = path.inode().metadata()?;
                let sticky = meta.mode & libc::S_ISVTX != 0;
                if sticky && write && !is_owner_or_capable(&meta, cred) {
                    return err!(EPERM);
                }
            }
            _ if write => return err!(EPERM),
            _ => return err!(ENODATA),
        }
    }
    permission(path, cred, want)
}

/// What else setting or removing `security.` attributes takes (`cap_inode_setxattr`).
fn may_change_security(cred: &Credentials, name: &[u8]) -> SysResult<()> {
    let needed = match name {
        b"security.capability" => Capability::SETFCAP,
        name if name.starts_with(b"security.") => Capability::SYS_ADMIN,
        _ => return Ok(()),
    };
    if cred.has(needed) { Ok(()) } else { err!(EPERM) }
}

/// getxattr(2).
pub fn get_xattr(path: &VfsPath, cred: &Credentials, name: &[u8]) -> SysResult<Vec<u8>> {
    policed::may(path, Access::READ)?;
    may_access(path, cred, name, false)?;
    path.inode().get_xattr(name)
}

/// setxattr(2).
pub fn set_xattr(
    path: &VfsPath,
    cred: &Credentials,
    (name, value): (&[u8], &[u8]),
    mode: XattrSetMode,
) -> SysResult<()> {
    policed::may(path, Access::WRITE)?;
    want_write(&path.mount)?;
    may_access(path, cred, name, true)?;
    may_change_security(cred, name)?;
    path.inode().set_xattr(name, value, mode)?;
    notify(&path.dentry, FsEvent::Attrib);
    Ok(())
}

/// removexattr(2).
pub fn remove_xattr(path: &VfsPath, cred: &Credentials, name: &[u8]) -> SysResult<()> {
    policed::may(path, Access::WRITE)?;
    want_write(&path.mount)?;
    may_access(path, cred, name, true)?;
    may_change_security(cred, name)?;
    path.inode().remove_xattr(name)?;
    notify(&path.dentry, FsEvent::Attrib);
    Ok(())
}

/// listxattr(2): names the caller may not read are left out.
pub fn list_xattr(path: &VfsPath, cred: &Credentials) -> SysResult<Vec<u8>> {
    policed::may(path, Access::STAT)?;
    let mut names = path.inode().list_xattr()?;
    if !cred.has(Capability::SYS_ADMIN) {
        let shown = names.split_inclusive(|&byte| byte == 0);
        names = shown.filter(|name| !name.starts_with(b"trusted.")).flatten().copied().collect();
    }
    Ok(names)
}
