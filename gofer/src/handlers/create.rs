//! Making files.

use std::os::fd::{AsFd, OwnedFd};

use gofer_wire::{
    Attr, FileType, OpenHow, Owner, TreePath,
    request::{NewNode, NodeKind},
};
use linux_abi::Errno;
use rustix::{
    fs::{
        AtFlags, FileType as HostType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, mkdirat,
        mknodat, openat, symlinkat,
    },
    io::Errno as HostError,
};

use super::open::host_flags;
use crate::{
    attr::{self, errno},
    tree::{NAME_ONLY, OPEN, Tree},
};

/// Set-id bits, which a change of owner clears.
const SET_ID: u32 = 0o6000;

/// An id that is one: -1 means "leave it" to chown(2).
pub(super) fn check_id(id: u32) -> Result<u32, Errno> {
    if id == u32::MAX { Err(Errno::EINVAL) } else { Ok(id) }
}

/// Which ids to change, if any.
fn change_of_owner(attr: &Attr, owner: Option<Owner>) -> Result<Option<(Uid, Gid)>, Errno> {
    let Some(owner) = owner else { return Ok(None) };
    let (uid, gid) = (check_id(owner.uid)?, check_id(owner.gid)?);
    if (uid, gid) == (attr.uid, attr.gid) {
        return Ok(None);
    }
    Ok(Some((Uid::from_raw(uid), Gid::from_raw(gid))))
}

/// Not being allowed to give a file away is no error: it then stays with the gofer's user.
fn forgive(result: rustix::io::Result<()>) -> Result<bool, Errno> {
    match result {
        Ok(()) => Ok(true),
        Err(HostError::PERM | HostError::INVAL) => Ok(false),
        Err(error) => Err(errno(error)),
    }
}

/// Makes and opens a regular file.
pub(super) fn create(
    tree: &Tree,
    node: &NewNode<'_>,
    how: OpenHow,
) -> Result<(OwnedFd, Attr), Errno> {
    let (dir, name) = exclusive_parent(tree, node.place.path)?;
    let mode = Mode::from_raw_mode(node.permissions);
    let flags = OPEN | host_flags(how) | OFlags::CREATE | OFlags::EXCL;
    let file = openat(&dir, name, flags, mode).map_err(errno)?;
    let mut attr = attr::of(&file)?;
    if let Some((uid, gid)) = change_of_owner(&attr, node.owner)? {
        let given = forgive(fchown(&file, Some(uid), Some(gid)))?;
        if given && node.permissions & SET_ID != 0 {
            fchmod(&file, mode).map_err(errno)?;
        }
        attr = attr::of(&file)?;
    }
    Ok((file, attr))
}

/// The root exists, so that making it is `EEXIST`.
fn exclusive_parent<'t, 'p>(
    tree: &'t Tree,
    path: TreePath<'p>,
) -> Result<(crate::tree::Handle<'t>, &'p [u8]), Errno> {
    tree.parent_to_change(path).map_err(|errno| match errno {
        Errno::EBUSY => Errno::EEXIST,
        other => other,
    })
}

/// Gives a file just made to its owner; its attributes then.
fn settle(
    tree: &Tree,
    dir: impl AsFd,
    name: &[u8],
    owner: Option<Owner>,
    permissions: u32,
) -> Result<Attr, Errno> {
    let file = openat(dir, name, NAME_ONLY, Mode::empty()).map_err(errno)?;
    let attr = attr::of(&file)?;
    let Some((uid, gid)) = change_of_owner(&attr, owner)? else { return Ok(attr) };
    let given = forgive(chownat(&file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH))?;
    let may_chmod = matches!(attr.file_type(), FileType::Regular | FileType::Directory);
    if given && may_chmod && permissions & SET_ID != 0 {
        tree.chmod(&file, permissions)?;
    }
    attr::of(&file)
}

/// Makes a directory.
pub(super) fn mkdir(tree: &Tree, node: &NewNode<'_>) -> Result<Attr, Errno> {
    let (dir, name) = exclusive_parent(tree, node.place.path)?;
    mkdirat(&dir, name, Mode::from_raw_mode(node.permissions)).map_err(errno)?;
    settle(tree, &dir, name, node.owner, node.permissions)
}

/// Makes a FIFO, a socket's name or an empty file; never a device.
pub(super) fn mknod(tree: &Tree, node: &NewNode<'_>, kind: NodeKind) -> Result<Attr, Errno> {
    let (dir, name) = exclusive_parent(tree, node.place.path)?;
    let kind = match kind {
        NodeKind::Regular => HostType::RegularFile,
        NodeKind::Fifo => HostType::Fifo,
        NodeKind::Socket => HostType::Socket,
    };
    mknodat(&dir, name, kind, Mode::from_raw_mode(node.permissions), 0).map_err(errno)?;
    settle(tree, &dir, name, node.owner, node.permissions)
}

/// Makes a symbolic link.
pub(super) fn symlink(
    tree: &Tree,
    path: TreePath<'_>,
    target: &[u8],
    owner: Option<Owner>,
) -> Result<Attr, Errno> {
    let (dir, name) = exclusive_parent(tree, path)?;
    symlinkat(target, &dir, name).map_err(errno)?;
    settle(tree, &dir, name, owner, 0)
}
