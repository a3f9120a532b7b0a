//! mount(2), umount2(2), pivot_root(2), sysfs(2).

use super::path_args::{find, find_for};
use crate::{
    Errno, SysResult, err,
    fs::proc::FILE_SYSTEMS,
    kernel::{Capability, CurrentTask},
    policy::Access,
    user::{Fd, UserAddr, UserCStr, UserMemory},
    vfs::{self, LookupFlags, MountFlags, PathCx, VfsPath},
};

/// Bits of mount(2) that do not ask for an operation of their own.
const MS_REMOUNT: u64 = libc::MS_REMOUNT;
const MS_BIND: u64 = libc::MS_BIND;
const MS_MOVE: u64 = libc::MS_MOVE;
const MS_REC: u64 = libc::MS_REC;
const MS_STRICTATIME: u64 = libc::MS_STRICTATIME;
const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;

fn may_mount(cx: &PathCx) -> SysResult<()> {
    if cx.cred.has(Capability::SYS_ADMIN) { Ok(()) } else { err!(EPERM) }
}

/// What of the flags stays with the mount.
fn mount_flags(flags: u64) -> MountFlags {
    let mut kept = MountFlags::from_bits_truncate(flags as u32);
    let relatime = !kept.contains(MountFlags::NOATIME) && flags & MS_STRICTATIME == 0;
    kept.set(MountFlags::RELATIME, relatime);
    kept
}

/// A string argument that may be null.
fn string(task: &CurrentTask, at: UserCStr) -> SysResult<Vec<u8>> {
    if at.0.is_null() { Ok(Vec::new()) } else { Ok(task.mm().read_path(at)?) }
}

/// The options: up to a page, up to the first NUL.
fn options(task: &CurrentTask, at: UserAddr) -> SysResult<Vec<u8>> {
    if at.is_null() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; platform::PAGE_SIZE as usize];
    let n = task.mm().copy_in_partial(at, &mut bytes)?;
    bytes.truncate(n);
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(n);
    bytes.truncate(end);
    Ok(bytes)
}

pub(super) fn sys_mount(
    task: &mut CurrentTask,
    source: UserCStr,
    target: UserCStr,
    fs_type: UserCStr,
    mut flags: u64,
    data: UserAddr,
) -> SysResult<()> {
    const MAGIC: u64 = 0xc0ed_0000;
    if flags & 0xffff_0000 == MAGIC {
        flags &= !0xffff_0000;
    }
    let fs_type = string(task, fs_type)?;
    let source = string(task, source)?;
    let data = options(task, data)?;
    let cx = task.path_cx();
    let found = find_for(task, &cx, Fd::CWD, target, LookupFlags::FOLLOW, Access::STAT)?;
    let target = found.topmost();
    may_mount(&cx)?;
    let namespace = cx.namespace();
    match flags {
        _ if flags & (MS_REMOUNT | MS_BIND) == MS_REMOUNT | MS_BIND => {
            remount(&cx, &target, flags, None)
        }
        _ if flags & MS_REMOUNT != 0 => remount(&cx, &target, flags, Some(&data)),
        _ if flags & MS_BIND != 0 => {
            let from = from_path(&cx, &source)?;
            namespace.bind(&from, target, flags & MS_REC != 0).map(drop)
        }
        _ if flags & PROPAGATION != 0 => propagation(&cx, &target, flags),
        _ if flags & MS_MOVE != 0 => {
            let from = from_path(&cx, &source)?;
            namespace.move_mount(&from, target)
        }
        _ => {
            if fs_type.is_empty() {
                return err!(EINVAL);
            }
            let fs = namespace.types().find(&fs_type)?.mount(&cx, &source, &data)?;
            let source = if source.is_empty() { &b"none"[..] } else { &source };
            namespace.mount(fs, target, mount_flags(flags), source).map(drop)
        }
    }
}

/// The path of a bind or move: what is mounted on it last.
fn from_path(cx: &PathCx, source: &[u8]) -> SysResult<VfsPath> {
    if source.is_empty() {
        return err!(EINVAL);
    }
    let found = vfs::resolve(cx, cx.cwd(), source, LookupFlags::FOLLOW)?.topmost();
    vfs::policed::may(&found, Access::STAT)?;
    Ok(found)
}

/// MS_REMOUNT: other flags for the mount and, unless it is of a bind mount alone, options for the file system.
fn remount(cx: &PathCx, target: &VfsPath, flags: u64, data: Option<&[u8]>) -> SysResult<()> {
    if !target.is_mount_root() || !cx.namespace().contains(&target.mount) {
        return err!(EINVAL);
    }
    if let Some(data) = data {
        target.mount.fs().remount(data)?;
    }
    target.mount.set_flags(mount_flags(flags));
    Ok(())
}

/// Mounts do not propagate here, so all are private, and a slave of no one is private too; shared ones
/// are refused.
fn propagation(cx: &PathCx, target: &VfsPath, flags: u64) -> SysResult<()> {
    let kind = flags & PROPAGATION;
    if kind.count_ones() != 1 || flags & !(PROPAGATION | MS_REC | libc::MS_SILENT) != 0 {
        return err!(EINVAL);
    }
    if !target.is_mount_root() || !cx.namespace().contains(&target.mount) {
        return err!(EINVAL);
    }
    if kind & (libc::MS_PRIVATE | libc::MS_SLAVE) != 0 { Ok(()) } else { err!(EINVAL) }
}

pub(super) fn sys_umount2(task: &mut CurrentTask, target: UserCStr, flags: u32) -> SysResult<()> {
    const FORCE: u32 = libc::MNT_FORCE as u32;
    const DETACH: u32 = libc::MNT_DETACH as u32;
    const NOFOLLOW: u32 = libc::UMOUNT_NOFOLLOW as u32;
    // MNT_EXPIRE is not there.
    if flags & !(FORCE | DETACH | NOFOLLOW) != 0 {
        return err!(EINVAL);
    }
    let cx = task.path_cx();
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, flags & NOFOLLOW == 0);
    let target = find(task, &cx, Fd::CWD, target, lookup)?.topmost();
    may_mount(&cx)?;
    cx.namespace().unmount(&target, flags & DETACH != 0)
}

pub(super) fn sys_pivot_root(
    task: &mut CurrentTask,
    new_root: UserCStr,
    put_old: UserCStr,
) -> SysResult<()> {
    let cx = task.path_cx();
    may_mount(&cx)?;
    let lookup = LookupFlags::FOLLOW | LookupFlags::DIRECTORY;
    let new_root = find(task, &cx, Fd::CWD, new_root, lookup)?;
    let put_old = find(task, &cx, Fd::CWD, put_old, lookup)?;
    cx.namespace().pivot_root(cx.root(), &new_root, &put_old)
}

/// No file handles: as for file systems that cannot be exported.
pub(super) fn sys_name_to_handle_at(
    _task: &mut CurrentTask,
    _dir: Fd,
    _path: UserCStr,
    _handle: UserAddr,
    _mount_id: UserAddr,
    _flags: u32,
) -> SysResult<()> {
    err!(EOPNOTSUPP)
}

/// sysfs(2): numbers and names of the kinds of file systems.
pub(super) fn sys_sysfs(
    task: &mut CurrentTask,
    option: i32,
    first: u64,
    buffer: UserAddr,
) -> SysResult<usize> {
    const NAME_MAX: usize = 4096;
    match option {
        1 => {
            let name = task.mm().read_cstr(UserCStr(UserAddr(first)), NAME_MAX)?;
            let found = FILE_SYSTEMS.iter().position(|known| known.as_bytes() == name);
            Ok(found.ok_or(Errno::EINVAL)?)
        }
        2 => {
            let index = usize::try_from(first as u32).map_err(|_| Errno::EINVAL)?;
            let name = FILE_SYSTEMS.get(index).ok_or(Errno::EINVAL)?;
            task.mm().copy_out(buffer, &[name.as_bytes(), &[0]].concat())?;
            Ok(0)
        }
        3 => Ok(FILE_SYSTEMS.len()),
        _ => err!(EINVAL),
    }
}
