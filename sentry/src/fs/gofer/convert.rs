//! Between the wire's types and the VFS's.

use gofer_wire::{self as wire, Attr};

use crate::vfs::{FileType, Metadata, SetAttr, StatFs, TimeSpec, TimeUpdate};

/// `st_dev` of a host file: the tree's own number, and for files on other host file systems mounted
/// in it something that differs from that, so that (dev, ino) stays unique.
fn device(tree_dev: u64, root: wire::Device, file: wire::Device) -> u64 {
    if file == root {
        return tree_dev;
    }
    libc::makedev(0x400 | (tree_dev as u32 & 0xff), (file.major << 12) ^ file.minor)
}

pub(super) fn metadata(attr: &Attr, tree_dev: u64, root_dev: wire::Device) -> Metadata {
    Metadata {
        dev: device(tree_dev, root_dev, attr.dev),
        ino: attr.ino,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: libc::makedev(attr.rdev.major, attr.rdev.minor),
        size: attr.size,
        blksize: attr.blksize,
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        btime: attr.btime.map(time),
    }
}

/// `before`, with what fstat(2) tells.
pub(super) fn refreshed(before: &Attr, stat: &rustix::fs::Stat) -> Attr {
    let device = |dev| wire::Device { major: libc::major(dev), minor: libc::minor(dev) };
    let time = |sec, nsec: u64| wire::Timestamp { sec, nsec: u32::try_from(nsec).unwrap_or(0) };
    Attr {
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        ino: stat.st_ino,
        dev: device(stat.st_dev),
        rdev: device(stat.st_rdev),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(before.blksize),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        ..*before
    }
}

fn time(time: wire::Timestamp) -> TimeSpec {
    TimeSpec { sec: time.sec, nsec: time.nsec.min(999_999_999) }
}

pub(super) fn kind(kind: wire::FileType) -> Option<FileType> {
    FileType::from_mode(kind.to_mode())
}

pub(super) fn statfs(stat: &wire::StatFs) -> StatFs {
    StatFs {
        magic: stat.magic,
        block_size: stat.block_size,
        blocks: stat.blocks,
        blocks_free: stat.blocks_free,
        blocks_available: stat.blocks_available,
        files: stat.files,
        files_free: stat.files_free,
        name_max: stat.name_max,
    }
}

pub(super) fn set_attr(change: &SetAttr) -> wire::SetAttr {
    let time = |update: TimeUpdate| match update {
        TimeUpdate::Now => wire::SetTime::Now,
        TimeUpdate::To(to) => {
            wire::SetTime::To(wire::Timestamp { sec: to.sec, nsec: to.nsec.min(999_999_999) })
        }
    };
    wire::SetAttr {
        mode: change.mode,
        uid: change.uid,
        gid: change.gid,
        size: change.size,
        atime: change.atime.map(time),
        mtime: change.mtime.map(time),
    }
}
