//! stat(2), statx(2), statfs(2), access(2) and their relatives.

use std::sync::Arc;

use linux_abi::stat::{Stat, Statfs, Statx, StatxTimestamp};

use super::path_args::{at_flags, find, find_for, find_metadata};
use crate::{
    Errno, SysResult, err,
    kernel::{CapabilitySet, Credentials, CurrentTask},
    policy::Access,
    user::{Fd, UserCStr, UserMemory, UserRef},
    vfs::{
        AccessMask, LookupFlags, Metadata, Mount, MountFlags, PathCx, TimeSpec, VfsPath, access,
    },
};

const NO_AUTOMOUNT: u32 = libc::AT_NO_AUTOMOUNT as u32;
const NOFOLLOW: u32 = libc::AT_SYMLINK_NOFOLLOW as u32;
const EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;

fn to_stat(meta: &Metadata) -> Stat {
    let time = |time: TimeSpec| [time.sec, i64::from(time.nsec)];
    Stat {
        dev: meta.dev,
        ino: meta.ino,
        nlink: meta.nlink.into(),
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        rdev: meta.rdev,
        size: i64::try_from(meta.size).unwrap_or(i64::MAX),
        blksize: meta.blksize.into(),
        blocks: i64::try_from(meta.blocks).unwrap_or(i64::MAX),
        atime: time(meta.atime),
        mtime: time(meta.mtime),
        ctime: time(meta.ctime),
        ..Stat::default()
    }
}

pub(super) fn sys_stat(
    task: &mut CurrentTask,
    path: UserCStr,
    out: UserRef<Stat>,
) -> SysResult<()> {
    sys_newfstatat(task, Fd::CWD, path, out, 0)
}

pub(super) fn sys_lstat(
    task: &mut CurrentTask,
    path: UserCStr,
    out: UserRef<Stat>,
) -> SysResult<()> {
    sys_newfstatat(task, Fd::CWD, path, out, NOFOLLOW)
}

pub(super) fn sys_fstat(task: &mut CurrentTask, fd: Fd, out: UserRef<Stat>) -> SysResult<()> {
    let meta = task.fds().get_any(fd)?.metadata()?;
    Ok(task.mm().write_obj(out, &to_stat(&meta))?)
}

pub(super) fn sys_newfstatat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    out: UserRef<Stat>,
    flags: u32,
) -> SysResult<()> {
    let lookup = at_flags(flags, NOFOLLOW | NO_AUTOMOUNT | EMPTY_PATH)?;
    let cx = task.path_cx();
    let (_, meta) = find_metadata(task, &cx, dir, path, lookup)?;
    Ok(task.mm().write_obj(out, &to_stat(&meta))?)
}

pub(super) fn sys_statx(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    flags: u32,
    mask: u32,
    out: UserRef<Statx>,
) -> SysResult<()> {
    const SYNC_TYPE: u32 = libc::AT_STATX_SYNC_TYPE as u32;
    if mask & libc::STATX__RESERVED as u32 != 0 || flags & SYNC_TYPE == SYNC_TYPE {
        return err!(EINVAL);
    }
    let lookup = at_flags(flags, NOFOLLOW | NO_AUTOMOUNT | EMPTY_PATH | SYNC_TYPE)?;
    let cx = task.path_cx();
    let (place, meta) = find_metadata(task, &cx, dir, path, lookup)?;
    let statx = to_statx(&place, &meta, mask);
    Ok(task.mm().write_obj(out, &statx)?)
}

/// All that is known is reported, asked for or not, as Linux does; the mount's id when it is asked for.
fn to_statx(place: &VfsPath, meta: &Metadata, mask: u32) -> Statx {
    const MOUNT_ROOT: u64 = libc::STATX_ATTR_MOUNT_ROOT as u64;
    const MNT_ID_UNIQUE: u32 = 0x4000;
    let time = |time: TimeSpec| StatxTimestamp { sec: time.sec, nsec: time.nsec, reserved: 0 };
    let btime = if meta.btime.is_some() { libc::STATX_BTIME } else { 0 };
    let unique = mask & MNT_ID_UNIQUE;
    let mnt_id = if unique != 0 { MNT_ID_UNIQUE } else { libc::STATX_MNT_ID };
    Statx {
        mask: libc::STATX_BASIC_STATS | btime | mnt_id,
        blksize: meta.blksize,
        attributes: if place.is_mount_root() { MOUNT_ROOT } else { 0 },
        nlink: meta.nlink,
        uid: meta.uid,
        gid: meta.gid,
        mode: meta.mode as u16,
        ino: meta.ino,
        size: meta.size,
        blocks: meta.blocks,
        attributes_mask: MOUNT_ROOT,
        atime: time(meta.atime),
        btime: meta.btime.map(time).unwrap_or_default(),
        ctime: time(meta.ctime),
        mtime: time(meta.mtime),
        rdev_major: libc::major(meta.rdev),
        rdev_minor: libc::minor(meta.rdev),
        dev_major: libc::major(meta.dev),
        dev_minor: libc::minor(meta.dev),
        mnt_id: place.mount.id(),
        ..Statx::default()
    }
}

fn to_statfs(mount: &Arc<Mount>) -> SysResult<Statfs> {
    let stat = mount.fs().statfs()?;
    let dev = mount.fs().dev();
    Ok(Statfs {
        kind: stat.magic as i64,
        bsize: stat.block_size as i64,
        blocks: stat.blocks,
        bfree: stat.blocks_free,
        bavail: stat.blocks_available,
        files: stat.files,
        ffree: stat.files_free,
        fsid: [dev as i32, (dev >> 32) as i32],
        namelen: stat.name_max as i64,
        frsize: stat.block_size as i64,
        flags: mount_stat_flags(mount.flags()),
        ..Statfs::default()
    })
}

/// `f_flags`, with `ST_VALID`.
fn mount_stat_flags(flags: MountFlags) -> i64 {
    const TABLE: [(MountFlags, i64); 8] = [
        (MountFlags::RDONLY, 1),
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 0x400),
        (MountFlags::NODIRATIME, 0x800),
        (MountFlags::RELATIME, 0x1000),
        (MountFlags::NOSYMFOLLOW, 0x2000),
    ];
    let set = TABLE.iter().filter(|(flag, _)| flags.contains(*flag));
    set.fold(0x20, |sum, (_, bit)| sum | bit)
}

pub(super) fn sys_statfs(
    task: &mut CurrentTask,
    path: UserCStr,
    out: UserRef<Statfs>,
) -> SysResult<()> {
    let cx = task.path_cx();
    let place = find_for(task, &cx, Fd::CWD, path, LookupFlags::FOLLOW, Access::STAT)?;
    Ok(task.mm().write_obj(out, &to_statfs(&place.mount)?)?)
}

pub(super) fn sys_fstatfs(task: &mut CurrentTask, fd: Fd, out: UserRef<Statfs>) -> SysResult<()> {
    let file = task.fds().get_any(fd)?;
    Ok(task.mm().write_obj(out, &to_statfs(&file.path().mount)?)?)
}

pub(super) fn sys_access(task: &mut CurrentTask, path: UserCStr, mode: u32) -> SysResult<()> {
    sys_faccessat2(task, Fd::CWD, path, mode, 0)
}

pub(super) fn sys_faccessat(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    mode: u32,
) -> SysResult<()> {
    sys_faccessat2(task, dir, path, mode, 0)
}

pub(super) fn sys_faccessat2(
    task: &mut CurrentTask,
    dir: Fd,
    path: UserCStr,
    mode: u32,
    flags: u32,
) -> SysResult<()> {
    const EACCESS: u32 = libc::AT_EACCESS as u32;
    let want = AccessMask::from_bits(mode).ok_or(Errno::EINVAL)?;
    let lookup = at_flags(flags, EACCESS | NOFOLLOW | EMPTY_PATH)?;
    let mut cx = task.path_cx();
    if flags & EACCESS == 0 {
        cx = PathCx { cred: real_credentials(&cx.cred), fs: cx.fs };
    }
    let place = find(task, &cx, dir, path, lookup)?;
    access(&place, &cx.cred, want)
}

/// Files as the real user would see them (`access_override_creds`).
fn real_credentials(cred: &Arc<Credentials>) -> Arc<Credentials> {
    let same_user = cred.fsuid == cred.uid && cred.fsgid == cred.gid;
    let wanted = if cred.uid == 0 { cred.permitted } else { CapabilitySet::empty() };
    if same_user && cred.effective == wanted {
        return cred.clone();
    }
    let mut real = Credentials::clone(cred);
    real.fsuid = cred.uid;
    real.fsgid = cred.gid;
    real.effective = wanted;
    Arc::new(real)
}
