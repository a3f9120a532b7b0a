//! signalfd(2).

use linux_abi::SigSet;

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    fs::{anon, signalfd::SignalFd},
    kernel::CurrentTask,
    user::{Fd, UserMemory, UserRef},
};

pub(super) fn sys_signalfd(
    task: &mut CurrentTask,
    fd: Fd,
    mask: UserRef<SigSet>,
    size: usize,
) -> SysResult<Fd> {
    sys_signalfd4(task, fd, mask, size, 0)
}

pub(super) fn sys_signalfd4(
    task: &mut CurrentTask,
    fd: Fd,
    mask: UserRef<SigSet>,
    size: usize,
    flags: i32,
) -> SysResult<Fd> {
    if size != size_of::<SigSet>() {
        return err!(EINVAL);
    }
    let wanted = task.mm().read_obj(mask)?;
    if flags & !(libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) != 0 {
        return err!(EINVAL);
    }
    if fd.0 == -1 {
        let status = (libc::O_RDWR | flags & libc::O_NONBLOCK) as u32;
        let ops = Box::new(SignalFd::new(wanted));
        let file = anon::open_anon(ops, "signalfd", status, task.cred());
        return install_fd(task, file, flags & libc::SFD_CLOEXEC != 0);
    }
    let file = task.file(fd)?;
    file.ops_as::<SignalFd>().ok_or(Errno::EINVAL)?.set(wanted);
    // Who waits for signals that are wanted only now looks again.
    task.thread_group().signal_queue.wake(crate::wait::EventMask::READABLE);
    Ok(fd)
}
