//! Opening regular files, to be donated.

use std::os::fd::{AsFd, OwnedFd};

use gofer_wire::{Access, Attr, FileType, OpenFlags, OpenHow, TreePath, TreePaths};
use linux_abi::Errno;
use rustix::fs::{Mode, OFlags, openat};

use crate::{
    attr::{self, errno},
    connection::Reply,
    tree::{Handle, OPEN, Tree},
};

/// What open(2) is asked for.
pub(super) fn host_flags(how: OpenHow) -> OFlags {
    let mut flags = match how.access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::ReadWrite => OFlags::RDWR,
    };
    for (asked, flag) in [
        (OpenFlags::TRUNCATE, OFlags::TRUNC),
        (OpenFlags::APPEND, OFlags::APPEND),
        (OpenFlags::DIRECT, OFlags::DIRECT),
        (OpenFlags::NO_ATIME, OFlags::NOATIME),
        (OpenFlags::SYNC, OFlags::SYNC),
        (OpenFlags::DATA_SYNC, OFlags::DSYNC),
    ] {
        if how.flags.contains(asked) {
            flags |= flag;
        }
    }
    flags
}

/// `Ok` for a regular file, else what is answered to an open of it.
pub(super) fn check_regular(attr: &Attr) -> Result<(), Errno> {
    match attr.file_type() {
        FileType::Regular => Ok(()),
        FileType::Directory => Err(Errno::EISDIR),
        FileType::Symlink => Err(Errno::ELOOP),
        _ => Err(Errno::ENXIO),
    }
}

/// Opens the regular file at `path`.
pub(super) fn open(
    tree: &Tree,
    path: TreePath<'_>,
    how: OpenHow,
) -> Result<(OwnedFd, Attr), Errno> {
    if how.writes() {
        tree.check_writable()?;
    }
    if path.is_root() {
        let before = attr::of(tree.root())?;
        check_regular(&before)?;
        return finish(tree, tree.reopen(tree.root(), host_flags(how))?, None);
    }
    let (dir, name) = tree.parent(path)?;
    let before = attr::of_name(&dir, name)?;
    open_name(tree, &dir, name, how, &before)
}

/// Opens the regular files `files`, given from the directory at `base`, for reading.
pub(super) fn open_many(
    tree: &Tree,
    base: TreePath<'_>,
    files: TreePaths<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Errno> {
    // Files of one directory come one after the other.
    let mut dir: Option<(TreePath<'_>, Result<Handle<'_>, Errno>)> = None;
    for file in files.iter() {
        let (above, name) = file.split_last().ok_or(Errno::EINVAL)?;
        if dir.as_ref().is_none_or(|(last, _)| *last != above) {
            let mut path = base.to_owned_path();
            above.names().try_for_each(|name| path.push(name))?;
            dir = Some((above, tree.searched(path.as_path())));
        }
        let opened = match &dir {
            Some((_, Ok(dir))) => attr::of_name(dir, name)
                .and_then(|before| open_name(tree, dir, name, OpenHow::READ, &before)),
            Some((_, Err(errno))) => Err(*errno),
            None => Err(Errno::EIO),
        };
        match opened {
            Ok((file, attr)) => {
                reply.put_option(Some(&attr));
                reply.donate(file);
            }
            Err(errno) => {
                reply.put_option::<Attr>(None);
                reply.put(&errno);
            }
        }
    }
    Ok(())
}

/// Opens `name` of `dir`, whose attributes were `before` a moment ago.
pub(super) fn open_name(
    tree: &Tree,
    dir: impl AsFd,
    name: &[u8],
    how: OpenHow,
    before: &Attr,
) -> Result<(OwnedFd, Attr), Errno> {
    // Looked at first, since the mere opening of a device can do something.
    check_regular(before)?;
    if how.writes() {
        tree.check_writable()?;
    }
    let file = openat(dir, name, OPEN | host_flags(how), Mode::empty()).map_err(errno)?;
    finish(tree, file, Some(before))
}

/// Makes sure that what was opened is what may be donated.
fn finish(tree: &Tree, file: OwnedFd, before: Option<&Attr>) -> Result<(OwnedFd, Attr), Errno> {
    let attr = attr::of(&file)?;
    check_regular(&attr)?;
    // A single file can be bind-mounted from anywhere, and another can have taken the name.
    let suspect = before.is_none_or(|before| before.dev != attr.dev)
        || attr.attributes & rustix::fs::StatxAttributes::MOUNT_ROOT.bits() != 0;
    if suspect && tree.is_sealed(file.as_fd())? {
        return Err(Errno::EACCES);
    }
    Ok((file, attr))
}
