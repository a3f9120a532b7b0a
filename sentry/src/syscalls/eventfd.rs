//! eventfd(2).

use crate::{
    SysResult, err,
    fs::{anon, eventfd::EventFd},
    kernel::CurrentTask,
    syscalls::install::install_fd,
    user::Fd,
};

pub(super) fn sys_eventfd(task: &mut CurrentTask, initial: u32) -> SysResult<Fd> {
    sys_eventfd2(task, initial, 0)
}

pub(super) fn sys_eventfd2(task: &mut CurrentTask, initial: u32, flags: i32) -> SysResult<Fd> {
    if flags & !(libc::EFD_SEMAPHORE | libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) != 0 {
        return err!(EINVAL);
    }
    let ops = Box::new(EventFd::new(initial, flags & libc::EFD_SEMAPHORE != 0));
    let status = (libc::O_RDWR | flags & libc::O_NONBLOCK) as u32;
    let file = anon::open_anon(ops, "eventfd", status, task.cred());
    install_fd(task, file, flags & libc::EFD_CLOEXEC != 0)
}
