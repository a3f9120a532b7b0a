//! Names: link(2), unlink(2), symlink(2), readlink(2), rename(2), mknod(2).

use super::path_args::{PathArg, find};
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask},
    policy::Access,
    user::{Fd, UserAddr, UserCStr, UserMemory},
    vfs::{self, FileType, LookupFlags, RenameFlags},
};

pub(super) fn sys_link(task: &mut CurrentTask, old: UserCStr, new: UserCStr) -> SysResult<()> {
    sys_linkat(task, Fd::CWD, old, Fd::CWD, new, 0)
}

pub(super) fn sys_linkat(
    task: &mut CurrentTask,
    old_dir: Fd,
    old: UserCStr,
    new_dir: Fd,
    new: UserCStr,
    flags: u32,
) -> SysResult<()> {
    const FOLLOW: u32 = libc::AT_SYMLINK_FOLLOW as u32;
    const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
    if flags & !(FOLLOW | EMPTY_PATH) != 0 {
        return err!(EINVAL);
    }
    let cx = task.path_cx();
    let old_path = task.mm().read_path(old)?;
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & FOLLOW != 0);
    let old_start = if old_path.is_empty() && flags & EMPTY_PATH != 0 {
        // Whoever opened the file itself may link it; else it takes a capability.
        let file = task.fds().get_any(old_dir)?;
        let own = std::sync::Arc::ptr_eq(file.cred(), &cx.cred);
        if !own && !cx.cred.has(Capability::DAC_READ_SEARCH) {
            return err!(ENOENT);
        }
        lookup |= LookupFlags::EMPTY;
        file.path().clone()
    } else {
        task.walk_start(&cx, old_dir, &old_path)?
    };
    let new = PathArg::read(task, &cx, new_dir, new)?;
    vfs::link(&cx, (&old_start, &old_path), new.parts(), lookup)
}

pub(super) fn sys_unlink(task: &mut CurrentTask, path: UserCStr) -> SysResult<()> {
    sys_unlinkat(task, Fd::CWD, path, 0)
}

pub(super) fn sys_unlinkat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    flags: u32,
) -> SysResult<()> {
    const REMOVEDIR: u32 = libc::AT_REMOVEDIR as u32;
    if flags & !REMOVEDIR != 0 {
        return err!(EINVAL);
    }
    let cx = task.path_cx();
    let arg = PathArg::read(task, &cx, dir, path)?;
    if flags & REMOVEDIR != 0 {
        vfs::rmdir(&cx, &arg.start, &arg.path)
    } else {
        vfs::unlink(&cx, &arg.start, &arg.path)
    }
}

pub(super) fn sys_symlink(
    task: &mut CurrentTask,
    target: UserCStr,
    path: UserCStr,
) -> SysResult<()> {
    sys_symlinkat(task, target, Fd::CWD, path)
}

pub(super) fn sys_symlinkat(
    task: &mut CurrentTask,
    target: UserCStr,
    dir: Fd,
    path: UserCStr,
) -> SysResult<()> {
    let cx = task.path_cx();
    let target = task.mm().read_path(target)?;
    if target.is_empty() {
        return err!(ENOENT);
    }
    let arg = PathArg::read(task, &cx, dir, path)?;
    vfs::symlink(&cx, &target, &arg.start, &arg.path)
}

pub(super) fn sys_readlink(
    task: &mut CurrentTask,
    path: UserCStr,
    addr: UserAddr,
    size: i32,
) -> SysResult<usize> {
    sys_readlinkat(task, Fd::CWD, path, addr, size)
}

/// An empty path reads the link that `dir` was opened as (O_PATH with O_NOFOLLOW).
pub(super) fn sys_readlinkat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    addr: UserAddr,
    size: i32,
) -> SysResult<usize> {
    let size = usize::try_from(size).ok().filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
    let cx = task.path_cx();
    let empty = task.mm().read_path(path)?.is_empty();
    let place = find(task, &cx, dir, path, LookupFlags::EMPTY)?;
    if place.dentry.kind() != Some(FileType::Symlink) {
        return if empty { err!(ENOENT) } else { err!(EINVAL) };
    }
    vfs::policed::may(&place, Access::READ)?;
    let text = place.inode().read_link()?;
    let text = text.get(..size).unwrap_or(&text);
    task.mm().copy_out(addr, text)?;
    Ok(text.len())
}

pub(super) fn sys_rename(task: &mut CurrentTask, old: UserCStr, new: UserCStr) -> SysResult<()> {
    sys_renameat2(task, Fd::CWD, old, Fd::CWD, new, 0)
}

pub(super) fn sys_renameat(
    task: &mut CurrentTask,
    old_dir: Fd,
    old: UserCStr,
    new_dir: Fd,
    new: UserCStr,
) -> SysResult<()> {
    sys_renameat2(task, old_dir, old, new_dir, new, 0)
}

pub(super) fn sys_renameat2(
    task: &mut CurrentTask,
    old_dir: Fd,
    old: UserCStr,
    new_dir: Fd,
    new: UserCStr,
    flags: u32,
) -> SysResult<()> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let cx = task.path_cx();
    if flags.contains(RenameFlags::WHITEOUT) && !cx.cred.has(Capability::MKNOD) {
        return err!(EPERM);
    }
    let old = PathArg::read(task, &cx, old_dir, old)?;
    let new = PathArg::read(task, &cx, new_dir, new)?;
    vfs::rename(&cx, old.parts(), new.parts(), flags)
}

pub(super) fn sys_mknod(
    task: &mut CurrentTask,
    path: UserCStr,
    mode: u32,
    dev: u32,
) -> SysResult<()> {
    sys_mknodat(task, Fd::CWD, path, mode, dev)
}

pub(super) fn sys_mknodat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    mode: u32,
    dev: u32,
) -> SysResult<()> {
    let kind = match mode & libc::S_IFMT {
        0 | libc::S_IFREG => FileType::Regular,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFIFO => FileType::Fifo,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFDIR => return err!(EPERM),
        _ => return err!(EINVAL),
    };
    // `new_decode_dev`: 12 bits of major between 8 low and 12 high bits of minor.
    let rdev = match kind {
        FileType::CharDevice | FileType::BlockDevice => {
            libc::makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00))
        }
        _ => 0,
    };
    let cx = task.path_cx();
    let arg = PathArg::read(task, &cx, dir, path)?;
    vfs::mknod(&cx, &arg.start, &arg.path, (kind, rdev), mode)
}
