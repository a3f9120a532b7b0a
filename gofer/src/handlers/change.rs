//! Renaming, removing, and changing attributes.

use std::os::fd::AsFd;

use gofer_wire::{Attr, FileId, FileType, RenameFlags, SetAttr, SetTime, TreePath};
use linux_abi::Errno;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags as HostRename, Timespec, Timestamps, UTIME_NOW,
    UTIME_OMIT, Uid, chownat, fdatasync, fsync as host_fsync, linkat, openat, renameat_with,
    unlinkat, utimensat,
};

use super::create::check_id;
use crate::{
    attr::{self, errno},
    tree::{OPEN, Tree},
};

/// Gives the file at `from` the further name `to`.
pub(super) fn link(tree: &Tree, from: TreePath<'_>, to: TreePath<'_>) -> Result<Attr, Errno> {
    let (from_dir, from_name) = tree.parent_to_change(from)?;
    let (to_dir, to_name) = tree.parent(to)?;
    linkat(&from_dir, from_name, &to_dir, to_name, AtFlags::empty()).map_err(errno)?;
    attr::of_name(&to_dir, to_name)
}

/// Removes a file.
pub(super) fn unlink(tree: &Tree, path: TreePath<'_>) -> Result<(), Errno> {
    let (dir, name) = tree.parent_to_change(path)?;
    unlinkat(&dir, name, AtFlags::empty()).map_err(errno)
}

/// Removes an empty directory.
pub(super) fn rmdir(tree: &Tree, path: TreePath<'_>) -> Result<(), Errno> {
    let (dir, name) = tree.parent_to_change(path)?;
    unlinkat(&dir, name, AtFlags::REMOVEDIR).map_err(errno)
}

/// Moves a file.
pub(super) fn rename(
    tree: &Tree,
    from: TreePath<'_>,
    to: TreePath<'_>,
    flags: RenameFlags,
) -> Result<(), Errno> {
    let (from_dir, from_name) = tree.parent_to_change(from)?;
    let (to_dir, to_name) = tree.parent(to)?;
    let mut host = HostRename::empty();
    if flags.contains(RenameFlags::NO_REPLACE) {
        host |= HostRename::NOREPLACE;
    }
    if flags.contains(RenameFlags::EXCHANGE) {
        host |= HostRename::EXCHANGE;
    }
    renameat_with(&from_dir, from_name, &to_dir, to_name, host).map_err(errno)
}

/// Changes attributes, in the order that [`SetAttr`] promises.
pub(super) fn set_attr(
    tree: &Tree,
    path: TreePath<'_>,
    expect: Option<FileId>,
    changes: &SetAttr,
) -> Result<Attr, Errno> {
    tree.check_writable()?;
    let node = tree.node(path)?;
    if let Some(expect) = expect
        && attr::of(&node)?.id() != expect
    {
        return Err(Errno::ESTALE);
    }
    if let Some(size) = changes.size {
        truncate(tree, &node, size)?;
    }
    if changes.uid.is_some() || changes.gid.is_some() {
        let uid = changes.uid.map(check_id).transpose()?.map(Uid::from_raw);
        let gid = changes.gid.map(check_id).transpose()?.map(Gid::from_raw);
        chownat(&node, "", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)?;
    }
    if let Some(mode) = changes.mode {
        if mode > 0o7777 {
            return Err(Errno::EINVAL);
        }
        tree.chmod(&node, mode)?;
    }
    if changes.atime.is_some() || changes.mtime.is_some() {
        let times = Timestamps {
            last_access: host_time(changes.atime),
            last_modification: host_time(changes.mtime),
        };
        utimensat(&node, "", &times, AtFlags::EMPTY_PATH).map_err(errno)?;
    }
    attr::of(&node)
}

fn truncate(tree: &Tree, node: impl AsFd, size: u64) -> Result<(), Errno> {
    match attr::of(node.as_fd())?.file_type() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    let file = tree.reopen(node, OFlags::WRONLY)?;
    rustix::fs::ftruncate(file, size).map_err(errno)
}

fn host_time(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::To(time)) => Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() },
    }
}

/// Writes a file or directory to its device. In a tree which the client cannot
/// change there is nothing of its to write.
pub(super) fn fsync(tree: &Tree, path: TreePath<'_>, data_only: bool) -> Result<(), Errno> {
    let attr = tree.attr(path)?;
    if tree.config().read_only {
        return Ok(());
    }
    let file = match attr.file_type() {
        FileType::Directory => tree.open_directory(path)?.0,
        FileType::Regular if path.is_root() => tree.reopen(tree.root(), OFlags::RDONLY)?,
        FileType::Regular => {
            let (dir, name) = tree.parent(path)?;
            openat(&dir, name, OPEN | OFlags::RDONLY, Mode::empty()).map_err(errno)?
        }
        _ => return Err(Errno::EINVAL),
    };
    if data_only { fdatasync(file) } else { host_fsync(file) }.map_err(errno)
}
