//! Extended attributes (xattr(7)).

use std::path::PathBuf;

use gofer_wire::{MAX_XATTR, TreePath};
use linux_abi::Errno;
use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};

use crate::{
    attr::errno,
    tree::{Handle, Tree},
};

/// What the client may change: what belongs to a file's owner. `security.` and
/// `trusted.` attributes (file capabilities, labels) mean something to the host, and
/// the client has no say in that.
fn check_changeable(name: &[u8]) -> Result<(), Errno> {
    let acl = matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    if name.starts_with(b"user.") || acl { Ok(()) } else { Err(Errno::EPERM) }
}

/// The file, and a path to it for calls which take no descriptor of this kind.
fn target<'t>(tree: &'t Tree, path: TreePath<'_>) -> Result<(Handle<'t>, PathBuf), Errno> {
    let node = tree.node(path)?;
    let path = tree.descriptor_path(&node);
    Ok((node, path))
}

pub(super) fn get(tree: &Tree, path: TreePath<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let (_node, path) = target(tree, path)?;
    let mut value = vec![0; MAX_XATTR];
    let len = getxattr(path, name, &mut value[..]).map_err(errno)?;
    value.truncate(len);
    Ok(value)
}

pub(super) fn set(
    tree: &Tree,
    path: TreePath<'_>,
    name: &[u8],
    value: &[u8],
    flags: u32,
) -> Result<(), Errno> {
    tree.check_writable()?;
    let flags = XattrFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    check_changeable(name)?;
    let (_node, path) = target(tree, path)?;
    setxattr(path, name, value, flags).map_err(errno)
}

pub(super) fn list(tree: &Tree, path: TreePath<'_>) -> Result<Vec<u8>, Errno> {
    let (_node, path) = target(tree, path)?;
    let mut names = vec![0; MAX_XATTR];
    let len = listxattr(path, &mut names[..]).map_err(errno)?;
    names.truncate(len);
    Ok(names)
}

pub(super) fn remove(tree: &Tree, path: TreePath<'_>, name: &[u8]) -> Result<(), Errno> {
    tree.check_writable()?;
    check_changeable(name)?;
    let (_node, path) = target(tree, path)?;
    removexattr(path, name).map_err(errno)
}
