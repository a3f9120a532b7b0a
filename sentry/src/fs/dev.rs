//! Devices: what is behind device nodes, and what a fresh `/dev` holds.
//!
//! `/dev` itself is a tmpfs which [`populate`] fills, so that names can be made and removed there as usual.
//! A device node on any file system opens through [`open_device`].

mod memory;
mod populate;
mod random;

pub use populate::{device_number, populate};

use std::sync::Arc;

use crate::{
    Errno, SysResult, err,
    kernel::{
        served,
        tty::{self, MasterFile, SlaveFile, Tty},
    },
    vfs::{FileOps, FileType, VfsPath},
};

/// Major numbers (`Documentation/admin-guide/devices.txt`).
pub const MEM_MAJOR: u32 = 1;
pub const TTYAUX_MAJOR: u32 = 5;
pub const PTY_SLAVE_MAJOR: u32 = 136;

/// A pseudo-terminal by number.
fn terminal(number: u32) -> SysResult<Arc<Tty>> {
    let task = served().ok_or(Errno::ENXIO)?;
    Ok(task.kernel().ttys.get(number).ok_or(Errno::ENXIO)?)
}

/// Opens the device of that kind and number. `path` is the node, `flags` those of open(2).
///
/// # Errors
/// `ENXIO` where there is no such device.
pub fn open_device(
    kind: FileType,
    rdev: u64,
    _path: &VfsPath,
    flags: u32,
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
        (TTYAUX_MAJOR, 0) => {
            let tty = served().and_then(|task| tty::controlling_tty(&task)).ok_or(Errno::ENXIO)?;
            // Opening one's own terminal again does not make it one's own.
            SlaveFile::open(tty, flags | libc::O_NOCTTY as u32)?
        }
        // The console is the sandbox's first terminal, where it has one.
        (TTYAUX_MAJOR, 1) => SlaveFile::open(terminal(0)?, flags | libc::O_NOCTTY as u32)?,
        (TTYAUX_MAJOR, 2) => MasterFile::open(&served().ok_or(Errno::ENXIO)?.kernel().ttys)?,
        (PTY_SLAVE_MAJOR, number) => SlaveFile::open(terminal(number)?, flags)?,
        _ => return err!(ENXIO),
    })
}
