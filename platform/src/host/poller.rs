//! Readiness of host descriptors, and I/O on them that never waits.
//!
//! The descriptors (the launcher's stdin and stdout, say) are shared with other processes, so
//! their O_NONBLOCK flag is left alone: `RWF_NOWAIT` asks for the same, call by call. Where a file
//! does not know that flag (terminals), poll(2) says first whether the call would wait.

use std::os::fd::{BorrowedFd, OwnedFd};

use linux_abi::Errno;
use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    fs::{SeekFrom, Stat, seek},
};

use super::{errno, io, readv, writev};
use crate::memory::VolatileSlice;

/// At most this much is written to a file that only poll(2) can say is ready: a terminal's buffer
/// holds it.
const CAUTIOUS_BYTES: usize = 2048;

/// Which of the `events` (POLLIN …) hold for `fd` now, and errors and hang-ups.
pub fn poll_now(fd: BorrowedFd<'_>, events: u16) -> u16 {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::from_bits_retain(events))];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => fds[0].revents().bits(),
        Err(_) => 0,
    }
}

/// Reads what is there. `EAGAIN` when nothing is.
pub fn read_now(fd: BorrowedFd<'_>, to: &[VolatileSlice<'_>]) -> Result<usize, Errno> {
    match io::read(fd, to, None, libc::RWF_NOWAIT) {
        Err(Errno::EOPNOTSUPP) if poll_now(fd, libc::POLLIN as u16) == 0 => Err(Errno::EAGAIN),
        Err(Errno::EOPNOTSUPP) => readv(fd, to),
        done => done,
    }
}

/// Writes what fits. `EAGAIN` when nothing does.
pub fn write_now(fd: BorrowedFd<'_>, from: &[VolatileSlice<'_>]) -> Result<usize, Errno> {
    match io::write(fd, from, None, libc::RWF_NOWAIT) {
        Err(Errno::EOPNOTSUPP) if poll_now(fd, libc::POLLOUT as u16) == 0 => Err(Errno::EAGAIN),
        Err(Errno::EOPNOTSUPP) => match from.iter().find(|slice| !slice.is_empty()) {
            Some(first) => writev(fd, &[first.sub(0, CAUTIOUS_BYTES)]),
            None => Ok(0),
        },
        done => done,
    }
}

/// lseek(2) on a descriptor whose position is shared with others.
pub fn seek_shared(fd: BorrowedFd<'_>, to: SeekFrom) -> Result<u64, Errno> {
    seek(fd, to).map_err(errno)
}

/// What fcntl(2) F_GETFL says.
pub fn status_flags(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    rustix::fs::fcntl_getfl(fd).map(|flags| flags.bits()).map_err(errno)
}

/// Another descriptor for the same open file, closed on exec.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(errno)
}

/// ftruncate(2).
pub fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    rustix::fs::ftruncate(fd, size).map_err(errno)
}

/// fstat(2).
pub fn stat(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    rustix::fs::fstat(fd).map_err(errno)
}

/// Bytes that a read would return now (ioctl_tty(2), FIONREAD). `ENOTTY` where the file does not know.
pub fn bytes_readable(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    rustix::io::ioctl_fionread(fd).map_err(errno)
}

/// Waits for many descriptors; one thread does the waiting.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub fn new() -> Result<Self, Errno> {
        epoll::create(epoll::CreateFlags::CLOEXEC).map(|epoll| Self { epoll }).map_err(errno)
    }

    /// From now on changes of readiness of `fd` are reported as `token` (edge-triggered). `EPERM`:
    /// it is always ready.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        use epoll::EventFlags as E;
        let events = E::IN | E::OUT | E::PRI | E::RDHUP | E::ET;
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), events).map_err(errno)
    }

    /// No more reports of `fd`.
    pub fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Sleeps until something changes, then calls `report` with each token and its events
    /// (EPOLLIN …).
    pub fn wait(&self, report: &mut dyn FnMut(u64, u32)) -> Result<(), Errno> {
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 16];
        match epoll::wait(&self.epoll, &mut events, None) {
            Ok((ready, _)) => {
                for event in ready {
                    let (data, flags) = (event.data, event.flags);
                    report(data.u64(), flags.bits());
                }
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(errno(error)),
        }
    }
}
