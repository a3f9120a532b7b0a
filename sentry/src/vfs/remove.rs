//! Names that go: unlink, rmdir, rename (`fs/namei.c`).

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::{
    AccessMask, Dentry, Last, LookupFlags, NameBuf, ParentPath, PathCx, RenameFlags, VfsPath,
    notify::{FsEvent, notify, notify_entry},
    permission::{may_create, may_delete, want_write},
    policed, resolve_parent,
    superblock::Ahead,
};
use crate::{Errno, SysResult, err, policy::Access};

/// unlink(2).
pub fn unlink(cx: &PathCx, start: &VfsPath, path: &[u8]) -> SysResult<()> {
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let Last::Name(name) = &parent.last else { return err!(EISDIR) };
    want_write(&parent.dir.mount)?;
    let dir = &parent.dir.dentry;
    let superblock = parent.dir.mount.superblock();
    let guard = dir.lock_names().ok_or(Errno::ENOTDIR)?;
    let victim =
        superblock.lookup_locked(dir, &guard, name, &Ahead::UNKNOWN)?.ok_or(Errno::ENOENT)?;
    policed::may_at(&parent.dir.mount, &victim, Access::DELETE)?;
    if parent.must_be_dir {
        return if victim.is_dir() { err!(EISDIR) } else { err!(ENOTDIR) };
    }
    may_delete(dir, &victim, false, &cx.cred)?;
    if victim.may_be_mountpoint() {
        return err!(EBUSY);
    }
    let ops = dir.dir_ops().ok_or(Errno::ENOTDIR)?;
    ops.unlink(name, victim.inode())?;
    superblock.remove(&victim);
    drop(guard);
    notify_gone(dir, name, &victim);
    Ok(())
}

/// rmdir(2).
pub fn rmdir(cx: &PathCx, start: &VfsPath, path: &[u8]) -> SysResult<()> {
    let parent = resolve_parent(cx, start, path, LookupFlags::empty())?;
    let name = match &parent.last {
        Last::Name(name) => name,
        Last::Dot => return err!(EINVAL),
        Last::DotDot => return err!(ENOTEMPTY),
        Last::Root => return err!(EBUSY),
    };
    want_write(&parent.dir.mount)?;
    let dir = &parent.dir.dentry;
    let superblock = parent.dir.mount.superblock();
    let guard = dir.lock_names().ok_or(Errno::ENOTDIR)?;
    let victim =
        superblock.lookup_locked(dir, &guard, name, &Ahead::UNKNOWN)?.ok_or(Errno::ENOENT)?;
    policed::may_at(&parent.dir.mount, &victim, Access::DELETE)?;
    may_delete(dir, &victim, true, &cx.cred)?;
    if victim.may_be_mountpoint() {
        return err!(EBUSY);
    }
    let ops = dir.dir_ops().ok_or(Errno::ENOTDIR)?;
    ops.rmdir(name, victim.inode())?;
    superblock.remove(&victim);
    drop(guard);
    notify_gone(dir, name, &victim);
    Ok(())
}

/// In the order of `vfs_unlink` and `d_delete_notify`.
fn notify_gone(dir: &Dentry, name: &[u8], victim: &Dentry) {
    notify_name_lost(victim);
    notify_entry(dir, name, victim.is_dir(), FsEvent::Delete);
}

/// To the watchers of what lost a name.
fn notify_name_lost(victim: &Dentry) {
    if victim.watches_if_any().is_none() {
        return;
    }
    if !victim.is_dir() {
        notify(victim, FsEvent::LinkCount);
    }
    if victim.is_dir() || victim.inode().metadata().is_ok_and(|meta| meta.nlink == 0) {
        notify(victim, FsEvent::DeleteSelf);
    }
}

/// One side of a rename.
struct Side<'a> {
    dir: &'a Arc<Dentry>,
    name: &'a NameBuf,
    must_be_dir: bool,
}

/// renameat2(2).
pub fn rename(
    cx: &PathCx,
    (old_start, old_path): (&VfsPath, &[u8]),
    (new_start, new_path): (&VfsPath, &[u8]),
    flags: RenameFlags,
) -> SysResult<()> {
    let exclusive = RenameFlags::NOREPLACE | RenameFlags::WHITEOUT;
    if flags.contains(RenameFlags::EXCHANGE) && flags.intersects(exclusive) {
        return err!(EINVAL);
    }
    let old = resolve_parent(cx, old_start, old_path, LookupFlags::empty())?;
    let new = resolve_parent(cx, new_start, new_path, LookupFlags::empty())?;
    if !Arc::ptr_eq(&old.dir.mount, &new.dir.mount) {
        return err!(EXDEV);
    }
    let from = side(&old).ok_or(Errno::EBUSY)?;
    let in_the_way =
        if flags.contains(RenameFlags::NOREPLACE) { Errno::EEXIST } else { Errno::EBUSY };
    let to = side(&new).ok_or(in_the_way)?;
    want_write(&old.dir.mount)?;
    rename_locked(cx, &old.dir, &from, &to, flags)
}

fn side(parent: &ParentPath) -> Option<Side<'_>> {
    match &parent.last {
        Last::Name(name) => {
            Some(Side { dir: &parent.dir.dentry, name, must_be_dir: parent.must_be_dir })
        }
        _ => None,
    }
}

/// Takes the locks, finds both names and checks them.
fn rename_locked(
    cx: &PathCx,
    place: &VfsPath,
    from: &Side<'_>,
    to: &Side<'_>,
    flags: RenameFlags,
) -> SysResult<()> {
    let superblock = place.mount.superblock();
    let tree = superblock.rename.lock();
    let (one, two) = Dentry::lock_two(from.dir, to.dir).ok_or(Errno::ENOTDIR)?;
    let second = two.as_ref().unwrap_or(&one);
    let source = superblock
        .lookup_locked(from.dir, &one, from.name, &Ahead::UNKNOWN)?
        .ok_or(Errno::ENOENT)?;
    let target = superblock.lookup_locked(to.dir, second, to.name, &Ahead::UNKNOWN)?;
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    rules_allow(place, from, to, (&source, target.as_ref()), exchange)?;
    match &target {
        Some(_) if flags.contains(RenameFlags::NOREPLACE) => return err!(EEXIST),
        None if exchange => return err!(ENOENT),
        Some(target) if exchange && !target.is_dir() && to.must_be_dir => return err!(ENOTDIR),
        _ => {}
    }
    if !source.is_dir() && (from.must_be_dir || (to.must_be_dir && !exchange)) {
        return err!(ENOTDIR);
    }
    if to.dir.is_within(&source) {
        return err!(EINVAL);
    }
    if let Some(target) = &target
        && from.dir.is_within(target)
    {
        return if exchange { err!(EINVAL) } else { err!(ENOTEMPTY) };
    }
    if let Some(target) = &target
        && same_file(&source, target)
    {
        return Ok(());
    }
    may_rename(cx, from, to, (&source, target.as_ref()), exchange)?;
    policed::note_move(&place.mount);
    let ops = from.dir.dir_ops().ok_or(Errno::ENOTDIR)?;
    ops.rename(from.name, to.dir.inode(), to.name, flags)?;
    ops.renamed(source.inode(), to.dir.inode(), to.name);
    match &target {
        Some(target) if exchange => {
            if let Some(ops) = to.dir.dir_ops() {
                ops.renamed(target.inode(), from.dir.inode(), from.name);
            }
            target.move_to(from.dir, from.name);
        }
        Some(target) => superblock.remove(target),
        None => {}
    }
    source.move_to(to.dir, to.name);
    policed::note_move(&place.mount);
    drop((one, two, tree));
    if flags.contains(RenameFlags::WHITEOUT) {
        from.dir.forget_child(from.name);
    }
    notify_moved(from, to, &source, target.as_ref().filter(|_| !exchange));
    Ok(())
}

fn same_file(a: &Dentry, b: &Dentry) -> bool {
    if Arc::ptr_eq(a.inode(), b.inode()) {
        return true;
    }
    match (a.inode().metadata_seen(), b.inode().metadata_seen()) {
        (Ok(a), Ok(b)) => (a.dev, a.ino) == (b.dev, b.ino),
        _ => false,
    }
}

/// What the profile's rules say of a rename, both ways if it is an exchange.
fn rules_allow(
    place: &VfsPath,
    from: &Side<'_>,
    to: &Side<'_>,
    (source, target): (&Arc<Dentry>, Option<&Arc<Dentry>>),
    exchange: bool,
) -> SysResult<()> {
    if place.mount.superblock().policed().is_none() {
        return Ok(());
    }
    let moves = |file: &Arc<Dentry>, side: &Side<'_>| {
        policed::may_make(&place.sibling(side.dir.clone()), side.name)?;
        policed::may_move(&place.sibling(file.clone()), side.dir, side.name, Access::DELETE)
    };
    policed::may_at(&place.mount, source, Access::DELETE)?;
    policed::may_try_to_make(&place.sibling(to.dir.clone()), to.name)?;
    if let Some(target) = target {
        policed::may_at(&place.mount, target, Access::DELETE)?;
    }
    moves(source, to)?;
    match target {
        Some(target) if exchange => moves(target, from),
        _ => Ok(()),
    }
}

/// The permissions of `vfs_rename`.
fn may_rename(
    cx: &PathCx,
    from: &Side<'_>,
    to: &Side<'_>,
    (source, target): (&Arc<Dentry>, Option<&Arc<Dentry>>),
    exchange: bool,
) -> SysResult<()> {
    let cred = &cx.cred;
    may_delete(from.dir, source, source.is_dir(), cred)?;
    match target {
        None => may_create(to.dir, cred)?,
        Some(target) => {
            let as_dir = if exchange { target.is_dir() } else { source.is_dir() };
            may_delete(to.dir, target, as_dir, cred)?;
        }
    }
    // A directory that changes its parent has its `..` written.
    if !Arc::ptr_eq(from.dir, to.dir) {
        let moved = [Some(source), target.filter(|_| exchange)];
        for dentry in moved.into_iter().flatten().filter(|dentry| dentry.is_dir()) {
            dentry.inode().check_access(cred, AccessMask::WRITE)?;
        }
    }
    if source.may_be_mountpoint() || target.is_some_and(|target| target.may_be_mountpoint()) {
        return err!(EBUSY);
    }
    Ok(())
}

fn notify_moved(from: &Side<'_>, to: &Side<'_>, source: &Dentry, replaced: Option<&Arc<Dentry>>) {
    static COOKIE: AtomicU32 = AtomicU32::new(1);
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed);
    let is_dir = source.is_dir();
    let within = Arc::ptr_eq(from.dir, to.dir);
    notify_entry(from.dir, from.name, is_dir, FsEvent::MovedFrom { cookie, within });
    notify_entry(to.dir, to.name, is_dir, FsEvent::MovedTo { cookie });
    notify(source, FsEvent::MoveSelf);
    if let Some(replaced) = replaced {
        notify_name_lost(replaced);
    }
}
