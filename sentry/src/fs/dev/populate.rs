//! What a fresh `/dev` holds.

use super::{MEM_MAJOR, TTYAUX_MAJOR};
use crate::{
    SysResult, err,
    vfs::{Creation, FileType, Inode},
};

/// Name, major, minor, permissions.
const NODES: &[(&str, u32, u32, u32)] = &[
    ("null", MEM_MAJOR, 3, 0o666),
    ("zero", MEM_MAJOR, 5, 0o666),
    ("full", MEM_MAJOR, 7, 0o666),
    ("random", MEM_MAJOR, 8, 0o666),
    ("urandom", MEM_MAJOR, 9, 0o666),
    ("tty", TTYAUX_MAJOR, 0, 0o666),
    ("console", TTYAUX_MAJOR, 1, 0o620),
];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Places to mount devpts, a tmpfs and others on.
const DIRECTORIES: &[(&str, u32)] = &[("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)];

/// `st_rdev` of a device.
pub fn device_number(major: u32, minor: u32) -> u64 {
    libc::makedev(major, minor)
}

/// Makes the usual devices, links and mount points in the empty directory `root`.
///
/// # Errors
/// `ENOTDIR`, and what the directory's operations say.
pub fn populate(root: &dyn Inode) -> SysResult<()> {
    let Some(dir) = root.as_dir() else { return err!(ENOTDIR) };
    for &(name, major, minor, mode) in NODES {
        let rdev = device_number(major, minor);
        dir.mknod(name.as_bytes(), FileType::CharDevice, rdev, &roots(mode))?;
    }
    for &(name, target) in LINKS {
        dir.symlink(name.as_bytes(), target.as_bytes(), &roots(0o777))?;
    }
    for &(name, mode) in DIRECTORIES {
        dir.mkdir(name.as_bytes(), &roots(mode))?;
    }
    Ok(())
}

fn roots(mode: u32) -> Creation {
    Creation { mode, uid: 0, gid: 0 }
}
