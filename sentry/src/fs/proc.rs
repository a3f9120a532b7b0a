//! procfs (proc(5)).
//!
//! * `root`: the top directory: one directory per process, links to one's own, and the rest;
//! * `process`: what is in `/proc/PID` and `/proc/PID/task/TID`;
//! * `system`: files about the whole system; `sysctl`: `/proc/sys`; `net`: `/proc/net`.
//!
//! Nothing is stored: inodes are made when they are looked up, with numbers that follow from what
//! they stand for, and content is made when it is read.

mod access;
mod net;
mod process;
mod root;
mod sysctl;
mod system;
mod sysvipc;

pub use process::process_of;
pub use root::{ProcFs, ProcType};
pub(in crate::fs) use system::memory_totals;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    Errno, SysResult,
    fs::pseudo::Tree,
    kernel::Kernel,
    vfs::{FileDescription, Inode},
};

/// Writes the text of a file about the system.
type Show = fn(&Kernel, &mut Vec<u8>) -> SysResult<()>;
/// Takes what was written to it.
type Store = fn(&Kernel, &FileDescription, &[u8]) -> SysResult<()>;

/// Makes the fixed nodes.
struct Builder {
    tree: Tree,
    kernel: Weak<Kernel>,
}

impl Builder {
    /// A read-only file.
    fn show(&self, perm: u32, show: Show) -> Arc<dyn Inode> {
        let kernel = self.kernel.clone();
        let generate = move |out: &mut Vec<u8>| show(&*upgrade(&kernel)?, out);
        self.tree.file(perm, crate::fs::pseudo::Generated(generate))
    }
}

/// The kernel, which outlives all but leaked mounts.
fn upgrade(kernel: &Weak<Kernel>) -> SysResult<Arc<Kernel>> {
    Ok(kernel.upgrade().ok_or(Errno::ESRCH)?)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Builder")
    }
}

/// `write!` into the text of a file, which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = write!($out, $($arg)*);
    }};
}
use put;
pub(crate) use system::FILE_SYSTEMS;
