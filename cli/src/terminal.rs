//! The user's terminal: raw while the sandbox has it, as before afterwards.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::{
    stdio,
    termios::{self, OptionalActions, Termios},
};
use sentry::boot;

/// The terminal, and how it was.
#[derive(Debug)]
pub(crate) struct Terminal {
    fd: OwnedFd,
    saved: Termios,
    streams: [bool; 3],
}

impl Terminal {
    /// The terminal among the standard streams, if there is one.
    pub(crate) fn find() -> Option<Self> {
        let streams = [stdio::stdin(), stdio::stdout(), stdio::stderr()];
        let is_tty = streams.map(termios::isatty);
        let first = streams.into_iter().zip(is_tty).find(|(_, tty)| *tty)?.0;
        Some(Self {
            fd: rustix::io::fcntl_dupfd_cloexec(first, 3).ok()?,
            saved: termios::tcgetattr(first).ok()?,
            streams: is_tty,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// For the sentry.
    pub(crate) fn describe(&self) -> boot::Terminal {
        let (rows, columns) = self.size();
        boot::Terminal {
            streams: self.streams,
            foreground: self.is_foreground() && self.streams[0],
            rows,
            columns,
        }
    }

    /// Rows and columns.
    pub(crate) fn size(&self) -> (u16, u16) {
        termios::tcgetwinsize(self.fd()).map_or((24, 80), |size| (size.ws_row, size.ws_col))
    }

    /// Does this process's group have the terminal?
    pub(crate) fn is_foreground(&self) -> bool {
        termios::tcgetpgrp(self.fd()).is_ok_and(|group| group == rustix::process::getpgrp())
    }

    /// Bytes go through as they are typed: the sandbox's own terminal gives them meaning. Only when
    /// the command reads from the terminal and this process may set it.
    pub(crate) fn make_raw(&self) {
        if self.streams[0] && self.is_foreground() {
            let mut raw = self.saved.clone();
            raw.make_raw();
            let _ = termios::tcsetattr(self.fd(), OptionalActions::Now, &raw);
        }
    }

    /// As it was before.
    pub(crate) fn restore(&self) {
        if self.is_foreground() {
            let _ = termios::tcsetattr(self.fd(), OptionalActions::Drain, &self.saved);
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}
