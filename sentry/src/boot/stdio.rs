//! The command's standard streams: the launcher's own, or a console of the sandbox where those are
//! a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use linux_abi::WindowSize;
use platform::host::Parker;

use super::{BootError, Config, Terminal};
use crate::{
    Errno, SysResult,
    fs::host_file::HostFile,
    kernel::{
        ControllingTty, Credentials, Kernel,
        tty::{self, TtyTable},
    },
    vfs::{self, FdTable, FileDescription, PathCx},
    wait::{EventMask, Notify},
};

/// The streams, ready for the first process.
pub(super) struct Streams {
    pub(super) fds: Arc<FdTable>,
    pub(super) console: Option<Console>,
    pub(super) controlling: Option<Arc<dyn ControllingTty>>,
}

/// The sandbox's terminal, joined to the user's.
#[derive(Debug)]
pub(super) struct Console(Arc<tty::Console>);

impl Console {
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        self.0.resize(window(rows, columns));
    }

    /// Waits, but not for ever, until the user has seen all that was printed.
    pub(super) fn drain(&self) {
        for _ in 0..200 {
            if self.0.is_drained() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn window(rows: u16, columns: u16) -> WindowSize {
    WindowSize { rows, columns, ..WindowSize::default() }
}

/// Opens descriptors 0 to 2.
pub(super) fn open(
    kernel: &Arc<Kernel>,
    host: [OwnedFd; 3],
    config: &Config,
    cred: &Arc<Credentials>,
) -> Result<Streams, BootError> {
    let fds = FdTable::new();
    let failed = |number| move |errno| BootError::Stdio { number, errno };
    for (number, fd) in host.into_iter().enumerate() {
        if !config.stdio_open.get(number).copied().unwrap_or(false) {
            continue;
        }
        let file = HostFile::describe(kernel, fd, None, cred.clone()).map_err(failed(number))?;
        fds.replace(crate::user::Fd(number as i32), file, false).map_err(failed(number))?;
    }
    Ok(Streams { fds, console: None, controlling: None })
}
