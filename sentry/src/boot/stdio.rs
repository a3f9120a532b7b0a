//! The command's standard streams: the launcher's own, or a console of the sandbox where those are
//! a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use linux_abi::WindowSize;
use platform::host::Parker;
use rustix::event::{PollFd, PollFlags, poll};

use super::{BootError, Config, Terminal};
use crate::{
    Errno, SysResult,
    fs::host_file::HostFile,
    kernel::{ControllingTty, Credentials, Kernel, tty},
    vfs::{self, FdTable, FileDescription, OpenHow, PathCx},
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
pub(super) struct Console {
    tty: Arc<tty::Console>,
    /// Of the thread that passes on what the user types, where there is one.
    typing: Option<Arc<Typing>>,
}

impl Console {
    pub(super) fn resize(&self, rows: u16, columns: u16) {
        self.tty.resize(window(rows, columns));
    }

    /// Is what the user types for the sandbox, or for the user's shell?
    pub(super) fn set_typing(&self, on: bool) {
        if let Some(typing) = &self.typing {
            typing.set(on);
        }
    }

    /// Waits, but not for ever, until the user has seen all that was printed.
    pub(super) fn drain(&self) {
        for _ in 0..200 {
            if self.tty.is_drained() {
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
    cx: &PathCx,
    host: [OwnedFd; 3],
    config: &Config,
    cred: &Arc<Credentials>,
) -> Result<Streams, BootError> {
    let fds = FdTable::new();
    let failed = |number| move |errno| BootError::Stdio { number, errno };
    let mut console = None;
    let mut tty_file = None;
    if let Some(terminal) = &config.terminal {
        let (made, file) = open_console(kernel, cx, &host, terminal, cred)
            .map_err(|error| BootError::Stdio { number: 0, errno: error.errno() })?;
        console = Some(made);
        tty_file = Some(file);
    }
    let is_tty = config.terminal.map_or([false; 3], |terminal| terminal.streams);
    for (number, fd) in host.into_iter().enumerate() {
        if !config.stdio_open.get(number).copied().unwrap_or(false) {
            continue;
        }
        let file = match &tty_file {
            Some(file) if is_tty.get(number).copied().unwrap_or(false) => file.clone(),
            _ => HostFile::describe(kernel, fd, None, cred.clone()).map_err(failed(number))?,
        };
        fds.replace(crate::user::Fd(number as i32), file, false).map_err(failed(number))?;
    }
    let controlling =
        console.as_ref().map(|console| console.tty.tty().clone() as Arc<dyn ControllingTty>);
    Ok(Streams { fds, console, controlling })
}

fn open_console(
    kernel: &Arc<Kernel>,
    cx: &PathCx,
    host: &[OwnedFd; 3],
    terminal: &Terminal,
    cred: &Arc<Credentials>,
) -> SysResult<(Console, Arc<FileDescription>)> {
    let stream = |wanted: [usize; 3]| {
        let is_tty = |at: &usize| terminal.streams.get(*at).copied().unwrap_or(false);
        wanted.into_iter().find(is_tty).and_then(|at| host.get(at))
    };
    let output = stream([1, 2, 0]).ok_or(Errno::ENXIO)?.try_clone().map_err(Errno::from)?;
    let mut output = File::from(output);
    let sink = Box::new(move |bytes: &[u8]| {
        // A user's terminal that went away ends the launcher, and with it everything.
        let _ = output.write_all(bytes);
    });
    let owner = (cred.euid, cred.egid);
    let window = window(terminal.rows, terminal.columns);
    let console = tty::Console::new(&kernel.ttys, owner, window, sink)?;
    let mut typing = None;
    if terminal.streams[0] {
        let input = File::from(host[0].try_clone().map_err(Errno::from)?);
        typing = Some(type_in(console.clone(), input, terminal.foreground)?);
    }
    let path = format!("/dev/pts/{}", console.tty().number());
    let flags = (libc::O_RDWR | libc::O_NOCTTY) as u32;
    let file = vfs::open(cx, cx.root(), path.as_bytes(), &OpenHow::open(flags, 0)?)?;
    Ok((Console { tty: console, typing }, file))
}

/// What the thread waits for that passes on what the user types: room, and leave to read.
#[derive(Debug, Default)]
struct Typing {
    on: AtomicBool,
    parker: Parker,
}

impl Typing {
    fn set(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
        self.parker.unpark();
    }
}

impl Notify for Typing {
    fn notify(&self, _events: EventMask) {
        self.parker.unpark();
    }
}

/// Starts a thread that passes on what the user types. It reads only what is there, so that it takes
/// nothing from the user's shell while the sandbox is stopped.
fn type_in(console: Arc<tty::Console>, mut input: File, on: bool) -> SysResult<Arc<Typing>> {
    let typing = Arc::new(Typing { on: AtomicBool::new(on), ..Typing::default() });
    let theirs = typing.clone();
    let work = move || {
        let _registration = console.on_room(theirs.clone());
        let mut buffer = [0; 4096];
        while wait_readable(&input) {
            if !theirs.on.load(Ordering::SeqCst) {
                theirs.parker.park(None);
                continue;
            }
            let Ok(n @ 1..) = input.read(&mut buffer) else { break };
            let mut rest = buffer.get(..n).unwrap_or_default();
            while !rest.is_empty() {
                let taken = console.input(rest);
                rest = rest.get(taken..).unwrap_or_default();
                if taken == 0 {
                    theirs.parker.park(None);
                }
            }
        }
        console.hang_up();
    };
    std::thread::Builder::new()
        .name("console input".to_owned())
        .stack_size(128 << 10)
        .spawn(work)
        .map_err(|_| Errno::EAGAIN)?;
    Ok(typing)
}

/// Waits until a read would not wait; false when there is nothing to wait for.
fn wait_readable(input: &File) -> bool {
    let mut fds = [PollFd::new(input, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.is_ok(),
        }
    }
}
