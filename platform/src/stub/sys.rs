//! Host calls which neither rustix nor nix have, behind safe faces.

#![allow(unsafe_code, reason = "raw system calls")]

use std::{
    mem,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use linux_abi::Errno;
use rustix::event::{PollFd, PollFlags, Timespec};

/// `struct seccomp_notif` (seccomp_unotify(2)).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// Thread id of the caller in our pid namespace.
    pub(crate) pid: u32,
    pub(crate) flags: u32,
    pub(crate) number: i32,
    pub(crate) arch: u32,
    /// Behind the system-call instruction.
    pub(crate) ip: u64,
    pub(crate) args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const fn iowr(number: u32, size: usize) -> u32 {
    0xc000_0000 | (size as u32) << 16 | (b'!' as u32) << 8 | number
}

const RECV: u32 = iowr(0, size_of::<Notification>());
const SEND: u32 = iowr(1, size_of::<Response>());
const ID_VALID: u32 = 0x4008_2102;
const SET_FLAGS: u32 = 0x4008_2104;
const SYNC_WAKE_UP: u64 = 1;

fn check(result: i64) -> Result<i64, Errno> {
    if result < 0 { Err(Errno::from(std::io::Error::last_os_error())) } else { Ok(result) }
}

/// Waits for the next call that a filter with this listener hands over.
pub(crate) fn notification_receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    let mut notification = Notification::default();
    // SAFETY: the structure is the one this ioctl writes, zeroed as it demands.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), RECV as libc::Ioctl, ptr::from_mut(&mut notification))
    };
    check(result.into()).map(|_| notification)
}

/// Answers a call with `value` as its result.
pub(crate) fn notification_send(
    listener: BorrowedFd<'_>,
    id: u64,
    value: u64,
) -> Result<(), Errno> {
    let mut response = Response { id, value: value as i64, error: 0, flags: 0 };
    // SAFETY: the structure is the one this ioctl reads.
    let result = unsafe {
        libc::ioctl(listener.as_raw_fd(), SEND as libc::Ioctl, ptr::from_mut(&mut response))
    };
    check(result.into()).map(drop)
}

/// True when the descriptor is a seccomp listener, without changing anything.
pub(crate) fn is_listener(fd: i32) -> bool {
    let id = u64::MAX;
    // SAFETY: the ioctl reads one u64; a descriptor of another kind refuses it.
    let result = unsafe { libc::ioctl(fd, ID_VALID as libc::Ioctl, ptr::from_ref(&id)) };
    check(result.into()) == Err(Errno::ENOENT)
}

/// Makes both sides of the listener run on one core in turn, or wherever the scheduler
/// likes (Linux 6.6). True when the host can.
pub(crate) fn notification_sync_wake_up(listener: BorrowedFd<'_>, on: bool) -> bool {
    let flags = if on { SYNC_WAKE_UP } else { 0 };
    // SAFETY: the ioctl takes its argument by value.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS as libc::Ioctl, flags) };
    result == 0
}

/// Sends a signal to one thread of a process; 0 only checks that it is there.
pub(crate) fn tgkill(process: i32, thread: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    check(result).map(drop)
}

/// futex(2) between processes: waits while the word has the value; at most `timeout`.
pub(crate) fn futex_wait_shared(word: &AtomicU32, value: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as i64,
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // SAFETY: word and timeout live through the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            ptr::from_ref(&timeout),
        )
    };
}

/// futex(2) between processes: stores the value and wakes who waits on the word.
pub(crate) fn futex_post_shared(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // SAFETY: the word lives through the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

thread_local! {
    static THREAD_ID: i32 = rustix::thread::gettid().as_raw_nonzero().get();
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    THREAD_ID.with(|id| *id)
}

/// The signal that interrupts a thread of ours in a host call; its handler does nothing.
pub(crate) const INTERRUPT_SIGNAL: i32 = libc::SIGURG;

/// Installs the handler of [`INTERRUPT_SIGNAL`].
pub(crate) fn install_interrupt_handler() -> Result<(), Errno> {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    // Without SA_RESTART: the interrupted call must return.
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    // SAFETY: the handler does nothing, so it may run anywhere.
    let result = unsafe { libc::sigaction(INTERRUPT_SIGNAL, &action, ptr::null_mut()) };
    check(result.into()).map(drop)
}

/// True when the processor's FS and GS bases can be set by programs (`HWCAP2_FSGSBASE`).
pub(crate) fn has_fsgsbase() -> bool {
    // SAFETY: getauxval only reads.
    (unsafe { libc::getauxval(libc::AT_HWCAP2) }) & 2 != 0
}

/// Whether the kernel takes these seccomp flags. Asking with a null filter tells:
/// EFAULT when it does, EINVAL when it does not.
pub(crate) fn seccomp_takes(flags: u32) -> bool {
    // SAFETY: the null filter makes the call fail before it does anything.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            ptr::null::<libc::sock_fprog>(),
        )
    };
    check(result) == Err(Errno::EFAULT)
}

/// Has the listener no thread left that could call?
pub(crate) fn is_hung_up(listener: BorrowedFd<'_>) -> bool {
    poll(listener, 0) & libc::POLLHUP != 0
}

/// poll(2) for input; returns the events.
pub(crate) fn poll(fd: BorrowedFd<'_>, timeout_ms: u64) -> i16 {
    let timeout = Timespec::try_from(Duration::from_millis(timeout_ms)).ok();
    let mut entry = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    match rustix::event::poll(&mut entry, timeout.as_ref()) {
        Ok(1..) => entry[0].revents().bits() as i16,
        _ => 0,
    }
}

/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux 5.19).
pub(crate) const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The version of the host's Landlock interface, when it is on.
pub(crate) fn landlock_abi() -> Option<u32> {
    const CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no structure and only returns the version.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(result).ok()
}

/// True when a child in namespaces of its own may mount there, as the jail does; for the superuser, without a
/// user namespace if need be.
pub(crate) fn can_make_namespaces() -> bool {
    [libc::CLONE_NEWUSER, 0].into_iter().any(|user| can_mount_in(user | libc::CLONE_NEWNS))
}

fn can_mount_in(namespaces: i32) -> bool {
    let flags = namespaces | libc::SIGCHLD;
    // SAFETY: without CLONE_VM the child has its own copy of everything, as after fork; it
    // makes two plain system calls and ends.
    unsafe {
        let child = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as i32;
        if child == 0 {
            let none = ptr::null::<libc::c_char>();
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            let failed = libc::mount(none, c"/".as_ptr(), none, flags, ptr::null());
            libc::_exit(i32::from(failed != 0));
        }
        let mut status = 0;
        child > 0 && libc::waitpid(child, &mut status, 0) == child && status == 0
    }
}
