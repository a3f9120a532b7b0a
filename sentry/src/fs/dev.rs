//! Devices: what is behind device nodes, and what a fresh `/dev` holds.
//!
//! `/dev` itself is a tmpfs which [`populate`] fills, so that names can be made and removed there as usual.
//! A device node on any file system opens through [`open_device`].

mod memory;
mod populate;
mod random;

pub use populate::{device_number, populate};

use crate::{
    SysResult, err,
    vfs::{FileOps, FileType, VfsPath},
};

/// Major numbers (`Documentation/admin-guide/devices.txt`).
pub const MEM_MAJOR: u32 = 1;
pub const TTYAUX_MAJOR: u32 = 5;
pub const PTY_SLAVE_MAJOR: u32 = 136;

/// Opens the device of that kind and number. `path` is the node, `flags` those of open(2).
///
/// # Errors
/// `ENXIO` where there is no such device.
pub fn open_device(
    kind: FileType,
    rdev: u64,
    _path: &VfsPath,
    _flags: u32,
) -> SysResult<Box<dyn FileOps>> {
    if kind != FileType::CharDevice {
        return err!(ENXIO);
    }
    Ok(match (libc::major(rdev), libc::minor(rdev)) {
        (MEM_MAJOR, 3) => Box::new(memory::Null),
        (MEM_MAJOR, 5) => Box::new(memory::Zero),
        (MEM_MAJOR, 7) => Box::new(memory::Full),
        (MEM_MAJOR, 8) => Box::new(random::Random { pollable: true }),
        (MEM_MAJOR, 9) => Box::new(random::Random { pollable: false }),
        _ => return err!(ENXIO),
    })
}
