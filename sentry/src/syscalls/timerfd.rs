//! timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).

use linux_abi::time::Itimerspec;

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    fs::{anon, timerfd::TimerFd},
    kernel::{Capability, CurrentTask},
    user::{Fd, UserMemory, UserRef},
};

pub(super) fn sys_timerfd_create(task: &mut CurrentTask, clock: i32, flags: i32) -> SysResult<Fd> {
    if flags & !(libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) != 0 {
        return err!(EINVAL);
    }
    match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME => {}
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => {
            if !task.cred_ref().has(Capability::WAKE_ALARM) {
                return err!(EPERM);
            }
        }
        _ => return err!(EINVAL),
    }
    let ops = Box::new(TimerFd::new(task.kernel().clone(), clock));
    let status = (libc::O_RDWR | flags & libc::O_NONBLOCK) as u32;
    let file = anon::open_anon(ops, "timerfd", status, task.cred());
    install_fd(task, file, flags & libc::TFD_CLOEXEC != 0)
}

/// TFD_TIMER_CANCEL_ON_SET is accepted; the clock is never set inside.
pub(super) fn sys_timerfd_settime(
    task: &mut CurrentTask,
    fd: Fd,
    flags: i32,
    new: UserRef<Itimerspec>,
    old: UserRef<Itimerspec>,
) -> SysResult<()> {
    let spec = task.mm().read_obj(new)?;
    if flags & !(libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET) != 0
        || spec.value.to_ns().is_none()
        || spec.interval.to_ns().is_none()
    {
        return err!(EINVAL);
    }
    let file = task.file(fd)?;
    let timer = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    let before = timer.set(flags as u32, spec)?;
    if let Some(old) = old.non_null() {
        task.mm().write_obj(old, &before)?;
    }
    Ok(())
}

pub(super) fn sys_timerfd_gettime(
    task: &mut CurrentTask,
    fd: Fd,
    now: UserRef<Itimerspec>,
) -> SysResult<()> {
    let file = task.file(fd)?;
    let timer = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    Ok(task.mm().write_obj(now, &timer.get())?)
}
