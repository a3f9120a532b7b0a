//! Directories: getdents(2), getcwd(2), chdir(2), chroot(2), mkdir(2), rmdir(2).

use zerocopy::IntoBytes;

use super::path_args::{PathArg, find_for};
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask},
    policy::Access,
    user::{Fd, UserAddr, UserCStr, UserMemory},
    vfs::{
        AccessMask, DirEntry, FileType, LookupFlags, VfsPath, mkdir,
        notify::{FsEvent, notify_file},
        path_name,
        policed::Listing,
        rmdir,
    },
};

/// How much of the user's buffer is filled in one go.
const DIRENT_BUFFER_MAX: usize = 64 << 10;

/// The two layouts of directory entries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: the type is the last byte.
    Old,
    /// `struct linux_dirent64`: the type comes before the name.
    New,
}

impl Layout {
    /// Appends an entry, its length a multiple of 8; false when it does not fit.
    fn put(self, out: &mut Vec<u8>, entry: &DirEntry<'_>, room: usize) -> bool {
        let header = if self == Self::New { 19 } else { 18 };
        let tail = if self == Self::New { 1 } else { 2 };
        let len = (header + entry.name.len() + tail).next_multiple_of(8);
        if out.len() + len > room {
            return false;
        }
        let start = out.len();
        let kind = entry.kind.map_or(libc::DT_UNKNOWN, FileType::dirent_type);
        out.extend_from_slice(entry.ino.as_bytes());
        out.extend_from_slice(entry.next.as_bytes());
        out.extend_from_slice((len as u16).as_bytes());
        if self == Self::New {
            out.push(kind);
        }
        out.extend_from_slice(entry.name);
        out.resize(start + len, 0);
        if self == Self::Old
            && let Some(last) = out.last_mut()
        {
            *last = kind;
        }
        true
    }
}

/// Entries are gathered below the description's lock and copied out after: a failed copy loses
/// none, for the position only moves then.
fn do_getdents(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: u32,
    layout: Layout,
) -> SysResult<usize> {
    let file = task.file(fd)?;
    if !file.path().dentry.is_dir() {
        return err!(ENOTDIR);
    }
    let room = usize::try_from(len).map_or(DIRENT_BUFFER_MAX, |len| len.min(DIRENT_BUFFER_MAX));
    let mut out = Vec::new();
    let mut too_small = false;
    let mut position = file.offset.lock();
    if file.path().dentry.is_unlinked() {
        return err!(ENOENT);
    }
    let hidden = Listing::of(file.path());
    let next = file.ops().iterate(&file, *position, &mut |entry| {
        if hidden.as_ref().is_some_and(|list| list.leaves_out(entry.name, entry.kind)) {
            return true;
        }
        let fits = layout.put(&mut out, &entry, room);
        too_small |= !fits && out.is_empty();
        fits
    })?;
    if too_small {
        return err!(EINVAL);
    }
    task.mm().copy_out(addr, &out)?;
    *position = next;
    drop(position);
    notify_file(&file, FsEvent::Access);
    Ok(out.len())
}

pub(super) fn sys_getdents(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: u32,
) -> SysResult<usize> {
    do_getdents(task, fd, addr, len, Layout::Old)
}

pub(super) fn sys_getdents64(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: u32,
) -> SysResult<usize> {
    do_getdents(task, fd, addr, len, Layout::New)
}

/// The result counts the terminator, unlike the C function's.
pub(super) fn sys_getcwd(task: &mut CurrentTask, addr: UserAddr, size: usize) -> SysResult<usize> {
    let cx = task.path_cx();
    let name = path_name(cx.cwd(), cx.root());
    if name.deleted {
        return err!(ENOENT);
    }
    let mut text = if name.reachable { Vec::new() } else { b"(unreachable)".to_vec() };
    text.extend_from_slice(&name.text);
    text.push(0);
    if text.len() > libc::PATH_MAX as usize {
        return err!(ENAMETOOLONG);
    }
    if text.len() > size {
        return err!(ERANGE);
    }
    task.mm().copy_out(addr, &text)?;
    Ok(text.len())
}

/// Search permission for a directory that becomes a working directory or root.
fn may_enter(task: &CurrentTask, place: &VfsPath) -> SysResult<()> {
    if !place.dentry.is_dir() {
        return err!(ENOTDIR);
    }
    place.inode().check_access(task.cred_ref(), AccessMask::EXEC)
}

pub(super) fn sys_chdir(task: &mut CurrentTask, path: UserCStr) -> SysResult<()> {
    let cx = task.path_cx();
    let lookup = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let place = find_for(task, &cx, Fd::CWD, path, lookup, Access::STAT)?;
    may_enter(task, &place)?;
    task.fs().set_cwd(place);
    Ok(())
}

pub(super) fn sys_fchdir(task: &mut CurrentTask, fd: Fd) -> SysResult<()> {
    let place = task.fds().get_any(fd)?.path().clone();
    may_enter(task, &place)?;
    task.fs().set_cwd(place);
    Ok(())
}

pub(super) fn sys_chroot(task: &mut CurrentTask, path: UserCStr) -> SysResult<()> {
    let cx = task.path_cx();
    let lookup = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let place = find_for(task, &cx, Fd::CWD, path, lookup, Access::STAT)?;
    may_enter(task, &place)?;
    if !cx.cred.has(Capability::SYS_CHROOT) {
        return Err(Errno::EPERM.into());
    }
    task.fs().set_root(place);
    Ok(())
}

pub(super) fn sys_umask(task: &mut CurrentTask, mask: u32) -> SysResult<u32> {
    Ok(task.fs().set_umask(mask))
}

pub(super) fn sys_mkdir(task: &mut CurrentTask, path: UserCStr, mode: u32) -> SysResult<()> {
    sys_mkdirat(task, Fd::CWD, path, mode)
}

pub(super) fn sys_mkdirat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    mode: u32,
) -> SysResult<()> {
    let cx = task.path_cx();
    let arg = PathArg::read(task, &cx, dir, path)?;
    mkdir(&cx, &arg.start, &arg.path, mode)
}

pub(super) fn sys_rmdir(task: &mut CurrentTask, path: UserCStr) -> SysResult<()> {
    let cx = task.path_cx();
    let arg = PathArg::read(task, &cx, Fd::CWD, path)?;
    rmdir(&cx, &arg.start, &arg.path)
}
