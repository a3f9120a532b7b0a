//! epoll_create(2), epoll_ctl(2), epoll_wait(2).

use linux_abi::{SigSet, event::EpollEvent};
use zerocopy::IntoBytes;

use super::{install::install_fd, timeout::Timeout, wait_mask::set_wait_mask};
use crate::{
    SysError, SysResult, err,
    fs::{
        anon,
        epoll::{Epoll, EpollSet, Interest, InterestFlags},
    },
    kernel::CurrentTask,
    user::{Fd, UserMemory, UserRef},
    wait::EventMask,
};

/// More than this many events at once is `EINVAL` (`EP_MAX_EVENTS`).
const MAX_EVENTS: i32 = i32::MAX / size_of::<EpollEvent>() as i32;

pub(super) fn sys_epoll_create(task: &mut CurrentTask, size: i32) -> SysResult<Fd> {
    if size <= 0 { err!(EINVAL) } else { sys_epoll_create1(task, 0) }
}

pub(super) fn sys_epoll_create1(task: &mut CurrentTask, flags: i32) -> SysResult<Fd> {
    if flags & !libc::EPOLL_CLOEXEC != 0 {
        return err!(EINVAL);
    }
    let file =
        anon::open_anon(Box::new(Epoll::new()), "eventpoll", libc::O_RDWR as u32, task.cred());
    install_fd(task, file, flags & libc::EPOLL_CLOEXEC != 0)
}

pub(super) fn sys_epoll_ctl(
    task: &mut CurrentTask,
    epfd: Fd,
    op: i32,
    fd: Fd,
    event_at: UserRef<EpollEvent>,
) -> SysResult<()> {
    let event = match op {
        libc::EPOLL_CTL_DEL => EpollEvent::default(),
        _ => task.mm().read_obj(event_at)?,
    };
    let epoll = task.file(epfd)?;
    let target = task.file(fd)?;
    if !target.ops().is_pollable() {
        return err!(EPERM);
    }
    if std::sync::Arc::ptr_eq(&epoll, &target) {
        return err!(EINVAL);
    }
    let set = Epoll::of(&epoll)?;
    let interest = Interest {
        events: EventMask::from_bits_truncate(event.events),
        flags: InterestFlags::from_bits_truncate(event.events),
        data: event.data(),
    };
    if op != libc::EPOLL_CTL_DEL && interest.flags.contains(InterestFlags::EXCLUSIVE) {
        let allowed = (EventMask::IN | EventMask::OUT | EventMask::ALWAYS).bits()
            | (libc::EPOLLEXCLUSIVE | libc::EPOLLET | libc::EPOLLWAKEUP) as u32;
        let nested = target.ops_as::<Epoll>().is_some();
        if op == libc::EPOLL_CTL_MOD || nested || event.events & !allowed != 0 {
            return err!(EINVAL);
        }
    }
    match op {
        libc::EPOLL_CTL_ADD => set.add(task, fd, &target, interest),
        libc::EPOLL_CTL_MOD => set.modify(fd, &target, interest),
        libc::EPOLL_CTL_DEL => set.remove(fd, &target),
        _ => err!(EINVAL),
    }
}

fn do_epoll_wait(
    task: &mut CurrentTask,
    epfd: Fd,
    events_at: UserRef<EpollEvent>,
    max: i32,
    timeout: Timeout,
) -> SysResult<usize> {
    if max <= 0 || max > MAX_EVENTS {
        return err!(EINVAL);
    }
    let file = task.file(epfd)?;
    let set = Epoll::of(&file)?;
    if timeout.is_zero() {
        return collect(task, set, events_at, max as usize);
    }
    let waker = task.waker().clone();
    let done = task.block_until(
        timeout.deadline(),
        |_| set.queue().register(waker, EventMask::READABLE),
        |task| {
            let count = collect(task, set, events_at, max as usize)?;
            Ok((count > 0).then_some(count))
        },
    );
    match done {
        Ok(count) => Ok(count.unwrap_or(0)),
        // Never restarted (signal(7)).
        Err(SysError::Restart(_)) => err!(EINTR),
        Err(error) => Err(error),
    }
}

/// Takes what is ready now and copies it out.
fn collect(
    task: &CurrentTask,
    set: &EpollSet,
    events_at: UserRef<EpollEvent>,
    max: usize,
) -> SysResult<usize> {
    let events = set.take_events(max);
    task.mm().copy_out(events_at.addr(), events.as_slice().as_bytes())?;
    Ok(events.len())
}

pub(super) fn sys_epoll_wait(
    task: &mut CurrentTask,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    timeout_ms: i32,
) -> SysResult<usize> {
    let timeout = Timeout::from_ms(task, timeout_ms);
    do_epoll_wait(task, epfd, events, max, timeout)
}

pub(super) fn sys_epoll_pwait(
    task: &mut CurrentTask,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    timeout_ms: i32,
    mask: UserRef<SigSet>,
    mask_size: usize,
) -> SysResult<usize> {
    let timeout = Timeout::from_ms(task, timeout_ms);
    set_wait_mask(task, mask, mask_size)?;
    do_epoll_wait(task, epfd, events, max, timeout)
}

pub(super) fn sys_epoll_pwait2(
    task: &mut CurrentTask,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    timeout_at: UserRef<[i64; 2]>,
    mask: UserRef<SigSet>,
    mask_size: usize,
) -> SysResult<usize> {
    let timeout = Timeout::from_timespec(task, timeout_at)?;
    set_wait_mask(task, mask, mask_size)?;
    do_epoll_wait(task, epfd, events, max, timeout)
}
