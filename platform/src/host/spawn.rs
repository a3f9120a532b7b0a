//! Starting the processes of a sandbox: the same binary again, from a clean image.

#![allow(unsafe_code, reason = "clone, and raw calls between clone and exec")]

use std::{
    ffi::CString,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use bitflags::bitflags;
use linux_abi::Errno;

bitflags! {
    /// Namespaces for a new process (namespaces(7)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Namespaces: u64 {
        const USER = libc::CLONE_NEWUSER as u64;
        const MOUNT = libc::CLONE_NEWNS as u64;
        const PID = libc::CLONE_NEWPID as u64;
        const NET = libc::CLONE_NEWNET as u64;
        const IPC = libc::CLONE_NEWIPC as u64;
        const UTS = libc::CLONE_NEWUTS as u64;
        const CGROUP = libc::CLONE_NEWCGROUP as u64;
    }
}

/// A process to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// The program, open.
    pub exe: BorrowedFd<'a>,
    pub args: Vec<CString>,
    /// `fds[n]` becomes descriptor `n`; all others are closed.
    pub fds: Vec<BorrowedFd<'a>>,
    pub namespaces: Namespaces,
    /// With `Namespaces::USER`: the ids it keeps, written as its only mapping.
    pub ids: (u32, u32),
    /// The `cgroup.procs` of a control group that it is to be in; when that cannot be, it starts where this process is.
    pub group: Option<BorrowedFd<'a>>,
}

impl Spawn<'_> {
    /// Starts it: in a session of its own, with an empty environment, killed when this process dies.
    /// Returns a pidfd. To be called while the process has a single thread.
    pub fn start(&self) -> Result<OwnedFd, Errno> {
        let mut argv: Vec<*const libc::c_char> = self.args.iter().map(|arg| arg.as_ptr()).collect();
        argv.push(ptr::null());
        let (uid, gid) = self.ids;
        let maps = self.namespaces.contains(Namespaces::USER).then(|| {
            (format!("{uid} {uid} 1\n").into_bytes(), format!("{gid} {gid} 1\n").into_bytes())
        });

        let mut pidfd: i32 = -1;
        // Not by clone3, which default filters of containers refuse.
        let flags = self.namespaces.bits() | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64;
        // SAFETY: without CLONE_VM the child has its own copy of everything, as after fork; the
        // process has one thread, so that no lock is held by another at this moment.
        let pid =
            unsafe { libc::syscall(libc::SYS_clone, flags, 0, ptr::from_mut(&mut pidfd), 0, 0) };
        match pid {
            -1 => Err(last_errno()),
            0 => self.become_program(&argv, maps.as_ref()),
            // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
            _ => Ok(unsafe { OwnedFd::from_raw_fd(pidfd) }),
        }
    }

    /// The child's part. What it cannot do it reports by its exit status alone.
    fn become_program(&self, argv: &[*const libc::c_char], maps: Option<&(Vec<u8>, Vec<u8>)>) -> ! {
        const FAILED: i32 = 125;
        let envp = [ptr::null::<libc::c_char>()];
        if let Some((uid_map, gid_map)) = maps {
            // The order matters: gid_map may be written without privilege only then.
            write_file(c"/proc/self/setgroups", b"deny");
            write_file(c"/proc/self/gid_map", gid_map);
            write_file(c"/proc/self/uid_map", uid_map);
        }
        // SAFETY: plain system calls on values prepared before; no memory is shared with the parent.
        unsafe {
            if let Some(group) = self.group {
                libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1);
            }
            // Neither blocked nor ignored signals are passed on.
            let mut none = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::setsid();
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
            // Out of the way of the targets first, then into place.
            let base = 64 + self.fds.len() as i32;
            let exe = libc::fcntl(self.exe.as_raw_fd(), libc::F_DUPFD_CLOEXEC, base);
            let mut moved = [-1; 16];
            for (slot, fd) in moved.iter_mut().zip(&self.fds) {
                *slot = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, base);
            }
            for (target, fd) in moved.iter().take(self.fds.len()).enumerate() {
                if libc::dup2(*fd, target as i32) < 0 {
                    libc::_exit(FAILED);
                }
            }
            close_range(self.fds.len() as i32, exe - 1);
            close_range(exe + 1, i32::MAX);
            // What they hold in memory must not be left behind in a file.
            let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &no_core);
            libc::syscall(
                libc::SYS_execveat,
                exe,
                c"".as_ptr(),
                argv.as_ptr(),
                envp.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            libc::_exit(FAILED)
        }
    }
}

/// Closes the descriptors from `first` to `last`.
fn close_range(first: i32, last: i32) {
    // SAFETY: the child has a table of its own, and goes on to another program.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        // Before Linux 5.9. Limits can be lowered with descriptors open above them; the hard one seldom is.
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        let last = i32::try_from(limit.rlim_max).map_or(last, |count| last.min(count));
        for fd in first..=last {
            libc::close(fd);
        }
    }
}

fn write_file(path: &std::ffi::CStr, bytes: &[u8]) {
    // SAFETY: open, write and close on a path and buffer that live across the calls.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, bytes.as_ptr().cast(), bytes.len());
            libc::close(fd);
        }
    }
}

fn last_errno() -> Errno {
    std::io::Error::last_os_error().into()
}

/// Takes over descriptor `number`, which the parent passed by [`Spawn::fds`]. `None` when it is not open.
/// Each number is taken once, at the start of the program, before anything else is opened.
pub fn take_inherited_fd(number: i32) -> Option<OwnedFd> {
    // SAFETY: F_GETFD has no side effect.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and by this function's contract no one else owns it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
