//! Host attributes as the wire has them.

use std::os::fd::AsFd;

use gofer_wire::{Attr, Device, FileType, StatFs, Timestamp};
use linux_abi::Errno;
use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, fstatfs, fstatvfs, statx};

/// The error number of a failed host call.
pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// The error number that a C library call left.
pub(crate) fn io_errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The attributes of an open file.
pub(crate) fn of(file: impl AsFd) -> Result<Attr, Errno> {
    stat(file, b"", AtFlags::EMPTY_PATH)
}

/// The attributes of `name` in `dir`, of the link itself if it is one.
pub(crate) fn of_name(dir: impl AsFd, name: &[u8]) -> Result<Attr, Errno> {
    stat(dir, name, AtFlags::empty())
}

fn stat(dir: impl AsFd, name: &[u8], flags: AtFlags) -> Result<Attr, Errno> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, mask).map(|stat| convert(&stat)).map_err(errno)
}

fn time(from: StatxTimestamp) -> Timestamp {
    // A broken file system's nanoseconds must not make the reply malformed.
    Timestamp { sec: from.tv_sec, nsec: from.tv_nsec.min(999_999_999) }
}

fn convert(stat: &Statx) -> Attr {
    let has = |flag: StatxFlags| stat.stx_mask & flag.bits() != 0;
    Attr {
        mode: u32::from(stat.stx_mode),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        ino: stat.stx_ino,
        dev: Device { major: stat.stx_dev_major, minor: stat.stx_dev_minor },
        rdev: Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        size: stat.stx_size.min(i64::MAX.unsigned_abs()),
        blocks: stat.stx_blocks,
        blksize: stat.stx_blksize,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: has(StatxFlags::BTIME).then(|| time(stat.stx_btime)),
        attributes: stat.stx_attributes.bits(),
        attributes_mask: stat.stx_attributes_mask.bits(),
        mount_id: if has(StatxFlags::MNT_ID) { stat.stx_mnt_id } else { 0 },
    }
}

/// The type in a directory entry.
pub(crate) fn entry_type(kind: rustix::fs::FileType) -> FileType {
    FileType::from_mode(kind.as_raw_mode())
}

/// The file system that an open file is on.
pub(crate) fn file_system(file: impl AsFd) -> Result<StatFs, Errno> {
    let magic = magic(file.as_fd())?;
    let stat = fstatvfs(file).map_err(errno)?;
    Ok(StatFs {
        magic,
        block_size: stat.f_bsize,
        fragment_size: stat.f_frsize,
        blocks: stat.f_blocks,
        blocks_free: stat.f_bfree,
        blocks_available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        fsid: stat.f_fsid,
        name_max: stat.f_namemax,
        flags: stat.f_flag.bits(),
    })
}

/// `f_type` of statfs(2): a 32-bit number, whatever the field's sign and size.
fn magic(file: impl AsFd) -> Result<u64, Errno> {
    let stat = fstatfs(file).map_err(errno)?;
    Ok(u64::from_ne_bytes(i64::to_ne_bytes(stat.f_type)) & 0xffff_ffff)
}

/// File systems whose files are doors into the host kernel, not data
/// (`include/uapi/linux/magic.h`).
pub(crate) fn is_kernel_file_system(
    file: impl AsFd,
    allow_all_but_proc: bool,
) -> Result<bool, Errno> {
    const PROC: u64 = 0x9fa0;
    const OTHERS: [u64; 20] = [
        0x6265_6572, // sysfs
        0x1cd1,      // devpts
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xf97c_ff8c, // selinuxfs
        0x4341_5d53, // smackfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0xcafe_4a11, // bpf
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x4249_4e4d, // binfmt_misc
        0x1980_0202, // mqueue
        0xde5e_81e4, // efivarfs
        0x6165_676c, // pstorefs
        0x6e73_6673, // nsfs
        0x6c6f_6f70, // binderfs
        0x0765_5821, // resctrl
        0x0187,      // autofs
    ];
    let magic = magic(file)?;
    Ok(magic == PROC || (!allow_all_but_proc && OTHERS.contains(&magic)))
}
