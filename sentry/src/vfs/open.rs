//! open(2), openat2(2) (`do_filp_open` in `fs/namei.c`).

use std::{any::Any, sync::Arc};

use super::{
    AccessMask, Dentry, DirOps, FileDescription, FileOps, FileType, Intent, Last, LookupFlags,
    MountFlags, PathCx, SetAttr, VfsPath, create,
    lookup::{Walk, resolve_for},
    notify::{FsEvent, notify_file},
    permission::{is_owner_or_capable, permission, want_write, write_drops_set_ids},
    policed,
};
use crate::{Errno, SysError, SysResult, err, kernel::Credentials, policy::Access};

const ACCMODE: u32 = libc::O_ACCMODE as u32;
const CREAT: u32 = libc::O_CREAT as u32;
const EXCL: u32 = libc::O_EXCL as u32;
const TRUNC: u32 = libc::O_TRUNC as u32;
const DIRECTORY: u32 = libc::O_DIRECTORY as u32;
const NOFOLLOW: u32 = libc::O_NOFOLLOW as u32;
const PATH: u32 = libc::O_PATH as u32;
const NOATIME: u32 = libc::O_NOATIME as u32;
const NOCTTY: u32 = libc::O_NOCTTY as u32;
const CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const DSYNC: u32 = libc::O_DSYNC as u32;
const SYNC: u32 = libc::O_SYNC as u32;
/// `__O_TMPFILE`, without O_DIRECTORY.
const TMPFILE: u32 = 0o20000000;
const LARGEFILE: u32 = 0o100000;
const VALID: u32 = ACCMODE
    | CREAT
    | EXCL
    | TRUNC
    | DIRECTORY
    | NOFOLLOW
    | PATH
    | NOATIME
    | NOCTTY
    | CLOEXEC
    | SYNC
    | DSYNC
    | TMPFILE
    | LARGEFILE
    | libc::O_APPEND as u32
    | libc::O_NONBLOCK as u32
    | libc::O_ASYNC as u32
    | libc::O_DIRECT as u32;

/// What to open, checked: `struct open_flags`.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    flags: u32,
    /// Permission bits of a file that is made.
    mode: u32,
    resolve: LookupFlags,
}

impl OpenHow {
    /// As open(2) and openat(2) take them: what is not understood is ignored.
    pub fn open(flags: u32, mode: u32) -> SysResult<Self> {
        let mut flags = flags & VALID;
        if flags & PATH != 0 {
            flags &= PATH | DIRECTORY | NOFOLLOW | CLOEXEC;
        }
        let creates = flags & (CREAT | TMPFILE) != 0;
        let mode = if creates { mode & 0o7777 } else { 0 };
        Self::checked(flags, mode, LookupFlags::empty())
    }

    /// As openat2(2) takes them: what is not understood is `EINVAL`. `resolve`: RESOLVE_ bits.
    pub fn open2(flags: u64, mode: u64, resolve: u64) -> SysResult<Self> {
        let resolve_flags = resolve_flags(resolve)?;
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let creates = flags & (CREAT | TMPFILE) != 0;
        if flags & !VALID != 0 || mode & !0o7777 != 0 || (mode != 0 && !creates) {
            return err!(EINVAL);
        }
        if flags & PATH != 0 && flags & !(PATH | DIRECTORY | NOFOLLOW | CLOEXEC) != 0 {
            return err!(EINVAL);
        }
        let changes = flags & (TRUNC | CREAT | TMPFILE) != 0;
        if resolve_flags.contains(LookupFlags::CACHED) && changes {
            return err!(EAGAIN);
        }
        Self::checked(flags, mode as u32, resolve_flags)
    }

    fn checked(mut flags: u32, mode: u32, resolve: LookupFlags) -> SysResult<Self> {
        if flags & (CREAT | DIRECTORY) == CREAT | DIRECTORY {
            return err!(EINVAL);
        }
        if flags & TMPFILE != 0 && (flags & DIRECTORY == 0 || flags & ACCMODE == 0) {
            return err!(EINVAL);
        }
        // A file without a name is not a directory; O_DIRECTORY is there for old kernels to refuse.
        if flags & SYNC == SYNC {
            flags |= DSYNC;
        }
        Ok(Self { flags, mode, resolve })
    }

    pub fn flags(&self) -> u32 {
        self.flags
    }

    pub fn is_cloexec(&self) -> bool {
        self.flags & CLOEXEC != 0
    }

    /// Is the start a wall, which an absolute path does not leave?
    pub fn is_scoped(&self) -> bool {
        self.resolve.intersects(LookupFlags::SCOPED)
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn lookup_flags(&self) -> LookupFlags {
        let mut lookup = self.resolve;
        lookup.set(LookupFlags::DIRECTORY, self.has(DIRECTORY));
        let exclusive = self.flags & (CREAT | EXCL) == CREAT | EXCL;
        lookup.set(LookupFlags::FOLLOW, !self.has(NOFOLLOW) && !exclusive);
        lookup
    }

    /// What the file is looked up for.
    fn intent(&self) -> Intent {
        match self.flags & ACCMODE {
            // These have to be opened just so.
            _ if self.flags & (SYNC | DSYNC | libc::O_DIRECT as u32 | DIRECTORY) != 0 => {
                Intent::Look
            }
            0 => Intent::Read,
            _ => Intent::Write,
        }
    }

    /// The permissions that opening needs (`ACC_MODE`).
    fn wanted(&self) -> AccessMask {
        let mut want = match self.flags & ACCMODE {
            0 => AccessMask::READ,
            1 => AccessMask::WRITE,
            _ => AccessMask::READ | AccessMask::WRITE,
        };
        want.set(AccessMask::WRITE, want.contains(AccessMask::WRITE) || self.has(TRUNC));
        want
    }
}

/// RESOLVE_ bits of openat2(2) as lookup flags.
fn resolve_flags(resolve: u64) -> SysResult<LookupFlags> {
    const TABLE: [(u64, LookupFlags); 6] = [
        (libc::RESOLVE_NO_XDEV, LookupFlags::NO_XDEV),
        (libc::RESOLVE_NO_MAGICLINKS, LookupFlags::NO_MAGICLINKS),
        (libc::RESOLVE_NO_SYMLINKS, LookupFlags::NO_SYMLINKS),
        (libc::RESOLVE_BENEATH, LookupFlags::BENEATH),
        (libc::RESOLVE_IN_ROOT, LookupFlags::IN_ROOT),
        (libc::RESOLVE_CACHED, LookupFlags::CACHED),
    ];
    let mut flags = LookupFlags::empty();
    let mut rest = resolve;
    for (bit, flag) in TABLE {
        flags.set(flag, resolve & bit != 0);
        rest &= !bit;
    }
    if rest != 0 || flags.contains(LookupFlags::SCOPED) {
        return err!(EINVAL);
    }
    Ok(flags)
}

/// Opens what `path` names, from `start` on. The caller still has to let it wait
/// ([`FileOps::open_wait`]) before a descriptor is made.
pub fn open(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    how: &OpenHow,
) -> SysResult<Arc<FileDescription>> {
    if path.is_empty() {
        return err!(ENOENT);
    }
    if how.has(TMPFILE) {
        return open_unnamed(cx, start, path, how);
    }
    if how.has(PATH) {
        let place = super::resolve(cx, start, path, how.lookup_flags())?;
        policed::may(&place, Access::STAT)?;
        return Ok(FileDescription::new(Box::new(PathOnly), place, how.flags, cx.cred.clone()));
    }
    let mut walk = Walk::new(cx, start, path, how.lookup_flags(), how.intent())?;
    loop {
        let last = walk.until_last()?;
        let (found, created) = find_last(cx, &mut walk, &last, how)?;
        if created {
            let file = open_place(cx, found, how)?;
            return Ok(file);
        }
        if matches!(last, Last::Name(_)) && !walk.step_into(found)? {
            continue;
        }
        let place = walk.at.place.clone();
        let want_dir = walk.must_be_dir || how.has(DIRECTORY);
        return open_found(cx, place, want_dir, how);
    }
}

/// The file of the last name, made if it is to be; true when it was.
fn find_last(
    cx: &PathCx,
    walk: &mut Walk<'_>,
    last: &Last,
    how: &OpenHow,
) -> SysResult<(VfsPath, bool)> {
    let name = match last {
        Last::Name(name) => name,
        _ => {
            if *last == Last::DotDot {
                walk.at.up()?;
            }
            return Ok((walk.at.place.clone(), false));
        }
    };
    if !how.has(CREAT) {
        let found = walk.at.child(name, &Vec::new)?.ok_or(Errno::ENOENT)?;
        return Ok((found, false));
    }
    if walk.must_be_dir {
        return err!(EISDIR);
    }
    // Without the lock first: most files that are opened with O_CREAT exist.
    if let Some(found) = walk.at.child(name, &Vec::new)? {
        return Ok((found, false));
    }
    let dir = &walk.at.place;
    let made = create::create(cx, dir, name, how.mode & 0o7777, &|ops: &dyn DirOps, name, new| {
        ops.create(name, new)
    });
    match made {
        Ok(dentry) => Ok((dir.sibling(dentry), true)),
        // Someone was quicker.
        Err(SysError::Errno(Errno::EEXIST)) if !how.has(EXCL) => {
            let found = walk.at.child(name, &Vec::new)?.ok_or(Errno::ENOENT)?;
            Ok((found, false))
        }
        Err(error) => Err(error),
    }
}

/// Opens a file that was there before (`do_open`).
fn open_found(
    cx: &PathCx,
    place: VfsPath,
    want_dir: bool,
    how: &OpenHow,
) -> SysResult<Arc<FileDescription>> {
    if how.has(CREAT) {
        if how.has(EXCL) {
            return err!(EEXIST);
        }
        if place.dentry.is_dir() {
            return err!(EISDIR);
        }
    }
    if want_dir && !place.dentry.is_dir() {
        return err!(ENOTDIR);
    }
    let truncates = how.has(TRUNC) && place.dentry.kind() == Some(FileType::Regular);
    if truncates {
        want_write(&place.mount)?;
    }
    may_open(&place, &cx.cred, how.wanted(), how)?;
    let file = open_place(cx, place, how)?;
    if truncates {
        truncate_opened(&file, &cx.cred)?;
    }
    Ok(file)
}

/// O_TRUNC on a file that was just opened.
fn truncate_opened(file: &FileDescription, cred: &Credentials) -> SysResult<()> {
    let inode = file.path().inode();
    let mode = write_drops_set_ids(&inode.metadata()?, cred);
    inode.set_attr(&SetAttr { size: Some(0), mode, ..SetAttr::default() })?;
    notify_file(file, FsEvent::Modify);
    Ok(())
}

/// `may_open`.
fn may_open(place: &VfsPath, cred: &Credentials, want: AccessMask, how: &OpenHow) -> SysResult<()> {
    match place.dentry.kind() {
        Some(FileType::Symlink) => return err!(ELOOP),
        Some(FileType::Directory) if want.contains(AccessMask::WRITE) => return err!(EISDIR),
        Some(FileType::CharDevice | FileType::BlockDevice)
            if place.mount.flags().contains(MountFlags::NODEV) =>
        {
            return err!(EACCES);
        }
        _ => {}
    }
    let mut access = Access::empty();
    let read = if place.dentry.is_dir() { Access::LIST } else { Access::READ };
    access.set(read, want.contains(AccessMask::READ));
    access.set(Access::WRITE, want.contains(AccessMask::WRITE));
    policed::may(place, access)?;
    permission(place, cred, want)?;
    if how.has(NOATIME) && !is_owner_or_capable(&place.inode().metadata()?, cred) {
        return err!(EPERM);
    }
    Ok(())
}

/// The description, permissions being checked (`vfs_open`).
fn open_place(cx: &PathCx, place: VfsPath, how: &OpenHow) -> SysResult<Arc<FileDescription>> {
    if place.dentry.kind() == Some(FileType::Socket) {
        return err!(ENXIO);
    }
    let ops = place.inode().clone().open(&place, how.flags)?;
    let file = FileDescription::new(ops, place, how.flags, cx.cred.clone());
    if file.is_writable() && file.path().dentry.kind() == Some(FileType::Regular) {
        file.hold_write_access()?;
    }
    notify_file(&file, FsEvent::Open);
    Ok(file)
}

/// O_TMPFILE: a file in no directory.
fn open_unnamed(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    how: &OpenHow,
) -> SysResult<Arc<FileDescription>> {
    let lookup = how.lookup_flags() | LookupFlags::DIRECTORY;
    let dir = super::resolve(cx, start, path, lookup)?;
    want_write(&dir.mount)?;
    dir.inode().check_access(&cx.cred, AccessMask::WRITE | AccessMask::EXEC)?;
    let ops = dir.dentry.dir_ops().ok_or(Errno::ENOTDIR)?;
    let parent = dir.inode().metadata()?;
    let new = create::attributes(&parent, FileType::Regular, how.mode & !cx.umask(), &cx.cred);
    policed::may_make(&dir, b"#")?;
    let inode = ops.create_unnamed(&new)?;
    let name = format!("#{}", inode.metadata()?.ino).into_bytes();
    let linkable = !how.has(EXCL);
    let dentry = Dentry::unnamed(&dir.dentry, name, inode, linkable);
    open_place(cx, dir.sibling(dentry), how)
}

/// Opens a program for execve(2): a regular file, executable, on a mount that allows it; else
/// `EACCES`. `ETXTBSY` while it is open for writing; it cannot be while the description lives. `lookup`: FOLLOW or not, EMPTY for execveat(2).
pub fn open_exec(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    lookup: LookupFlags,
) -> SysResult<Arc<FileDescription>> {
    let place = resolve_for(cx, start, path, lookup, Intent::Read)?;
    match place.dentry.kind() {
        Some(FileType::Symlink) => return err!(ELOOP),
        Some(FileType::Regular) => {}
        _ => return err!(EACCES),
    }
    if place.mount.flags().contains(MountFlags::NOEXEC) {
        return err!(EACCES);
    }
    policed::may(&place, Access::EXEC)?;
    permission(&place, &cx.cred, AccessMask::EXEC)?;
    let how = OpenHow { flags: 0, mode: 0, resolve: LookupFlags::empty() };
    let file = open_place(cx, place, &how)?;
    file.deny_write_access()?;
    Ok(file)
}

/// Does executing this file give set-user-ID rights? `nosuid` mounts do not.
pub fn honours_set_ids(place: &VfsPath) -> bool {
    !place.mount.flags().contains(MountFlags::NOSUID)
}

/// What an O_PATH descriptor can do: nothing.
#[derive(Debug)]
struct PathOnly;

impl FileOps for PathOnly {
    fn read(&self, _: &FileDescription, _: u64, _: &mut super::IoDst<'_>) -> SysResult<usize> {
        err!(EBADF)
    }
    fn write(&self, _: &FileDescription, _: u64, _: &mut super::IoSrc<'_>) -> SysResult<usize> {
        err!(EBADF)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
