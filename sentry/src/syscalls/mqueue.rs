//! POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2),
//! mq_getsetattr(2).

use std::sync::Arc;

use linux_abi::Signal;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{install::install_fd, timer::SigEvent};
use crate::{
    Errno, SysResult, err,
    fs::anon,
    kernel::{
        CurrentTask,
        mqueue::{Limits, Notification, NotifyBy, OpenRequest, PRIORITY_MAX, Queue, QueueFile},
    },
    socket::{Socket, netlink},
    time::Monotonic,
    user::{Fd, UserAddr, UserCStr, UserMemory, UserRef},
    vfs::{AccessMask, FileDescription, StatusFlags},
    wait::EventMask,
};

/// `struct mq_attr`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct MqAttr {
    flags: i64,
    max_messages: i64,
    message_size: i64,
    messages: i64,
    reserved: [i64; 4],
}

pub(super) fn sys_mq_open(
    task: &mut CurrentTask,
    name: UserCStr,
    flags: i32,
    mode: u32,
    attributes: UserRef<MqAttr>,
) -> SysResult<Fd> {
    let limits = match attributes.non_null() {
        Some(at) => {
            let asked = task.mm().read_obj(at)?;
            Limits { messages: asked.max_messages, size: asked.message_size }
        }
        None => Limits::default(),
    };
    let name = task.mm().read_path(name)?;
    let access = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => AccessMask::READ,
        libc::O_WRONLY => AccessMask::WRITE,
        libc::O_RDWR => AccessMask::READ | AccessMask::WRITE,
        _ => return err!(EINVAL),
    };
    let mode = mode & !task.path_cx().umask();
    let request = OpenRequest {
        name: &name,
        access,
        create: (flags & libc::O_CREAT != 0).then_some((mode, limits)),
        exclusive: flags & libc::O_EXCL != 0,
        max_bytes: task.rlimit(libc::RLIMIT_MSGQUEUE).0,
    };
    let queue = task.kernel().mqueues.open(request, task.cred_ref())?;
    let status = flags & (libc::O_ACCMODE | libc::O_NONBLOCK);
    let mut shown = b"/".to_vec();
    shown.extend_from_slice(&name);
    let file = anon::open_inode(
        Box::new(QueueFile(queue.clone())),
        queue.inode(),
        String::from_utf8_lossy(&shown).into_owned(),
        status as u32,
        task.cred(),
    );
    install_fd(task, file, true)
}

pub(super) fn sys_mq_unlink(task: &mut CurrentTask, name: UserCStr) -> SysResult<()> {
    let name = task.mm().read_path(name)?;
    task.kernel().mqueues.unlink(&name, task.cred_ref())
}

/// `EBADF` for what is no message queue.
fn queue_of(file: &FileDescription) -> SysResult<Arc<Queue>> {
    Ok(file.ops_as::<QueueFile>().ok_or(Errno::EBADF)?.0.clone())
}

/// When to stop waiting: `timeout` is a time of day.
fn deadline(task: &CurrentTask, timeout: UserRef<[i64; 2]>) -> SysResult<Option<Monotonic>> {
    let Some(at) = timeout.non_null() else { return Ok(None) };
    let [sec, nsec] = task.mm().read_obj(at)?;
    if sec < 0 || !(0..1_000_000_000).contains(&nsec) {
        return err!(EINVAL);
    }
    let at = (sec as u64).saturating_mul(1_000_000_000).saturating_add(nsec as u64);
    let clocks = &task.kernel().clocks;
    Ok(Some(clocks.monotonic().after(at.saturating_sub(clocks.realtime_ns()))))
}

pub(super) fn sys_mq_timedsend(
    task: &mut CurrentTask,
    fd: Fd,
    at: UserAddr,
    len: usize,
    priority: u32,
    timeout: UserRef<[i64; 2]>,
) -> SysResult<()> {
    let deadline = deadline(task, timeout)?;
    if priority >= PRIORITY_MAX {
        return err!(EINVAL);
    }
    let file = task.file(fd)?;
    let queue = queue_of(&file)?;
    if !file.is_writable() {
        return err!(EBADF);
    }
    if len as u64 > queue.limits().size as u64 {
        return err!(EMSGSIZE);
    }
    let mut text = vec![0; len];
    task.mm().copy_in(at, &mut text)?;
    wait(task, &file, &queue, deadline, EventMask::WRITABLE, || queue.send(&text, priority))
}

pub(super) fn sys_mq_timedreceive(
    task: &mut CurrentTask,
    fd: Fd,
    at: UserAddr,
    len: usize,
    priority_at: UserRef<u32>,
    timeout: UserRef<[i64; 2]>,
) -> SysResult<usize> {
    let deadline = deadline(task, timeout)?;
    let file = task.file(fd)?;
    let queue = queue_of(&file)?;
    if !file.is_readable() {
        return err!(EBADF);
    }
    if (len as u64) < queue.limits().size as u64 {
        return err!(EMSGSIZE);
    }
    let (text, priority) = match queue.receive() {
        Err(error) if error.is_again() => {
            queue.count_receiver(true);
            let received =
                wait(task, &file, &queue, deadline, EventMask::READABLE, || queue.receive());
            queue.count_receiver(false);
            received?
        }
        received => received?,
    };
    if let Some(at) = priority_at.non_null() {
        task.mm().write_obj(at, &priority)?;
    }
    task.mm().copy_out(at, &text)?;
    Ok(text.len())
}

/// Tries until it works; `ETIMEDOUT`.
fn wait<T>(
    task: &mut CurrentTask,
    file: &FileDescription,
    queue: &Queue,
    deadline: Option<Monotonic>,
    events: EventMask,
    attempt: impl Fn() -> SysResult<T>,
) -> SysResult<T> {
    let waker = task.waker().clone();
    let nonblocking = file.is_nonblocking();
    let done = task.block_until(
        deadline,
        |_| queue.wakeup().register(waker, events),
        |_| match attempt() {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_again() && !nonblocking => Ok(None),
            Err(error) => Err(error),
        },
    );
    done?.ok_or(Errno::ETIMEDOUT.into())
}

pub(super) fn sys_mq_notify(
    task: &mut CurrentTask,
    fd: Fd,
    event: UserRef<SigEvent>,
) -> SysResult<()> {
    let event = match event.non_null() {
        Some(at) => Some(task.mm().read_obj(at)?),
        None => None,
    };
    let by = match event {
        Some(event) => Some(notify_by(task, &event)?),
        None => None,
    };
    let queue = queue_of(&*task.file(fd)?)?;
    let group = task.thread_group();
    match by {
        Some(by) => queue.set_notification(Notification::new(group, by)),
        None => {
            queue.remove_notification(group.pid());
            Ok(())
        }
    }
}

fn notify_by(task: &CurrentTask, event: &SigEvent) -> SysResult<NotifyBy> {
    match event.notify {
        libc::SIGEV_NONE => Ok(NotifyBy::Nothing),
        libc::SIGEV_SIGNAL => {
            let signal = Signal::new(event.signo).ok_or(Errno::EINVAL)?;
            Ok(NotifyBy::Signal(signal, event.value))
        }
        // The C library's way: a netlink socket stands where the signal would, and the value points to what
        // is to be sent through it.
        libc::SIGEV_THREAD => {
            let cookie = task.mm().read_obj(UserAddr(event.value).as_ref())?;
            let socket = Socket::of(&*task.file(Fd(event.signo))?)?.clone();
            if !netlink::is_netlink(&*socket) {
                return err!(EINVAL);
            }
            Ok(NotifyBy::Thread(socket, cookie))
        }
        _ => err!(EINVAL),
    }
}

pub(super) fn sys_mq_getsetattr(
    task: &mut CurrentTask,
    fd: Fd,
    new: UserRef<MqAttr>,
    old: UserRef<MqAttr>,
) -> SysResult<()> {
    const NONBLOCK: i64 = libc::O_NONBLOCK as i64;
    let new = match new.non_null() {
        Some(at) => Some(task.mm().read_obj(at)?),
        None => None,
    };
    if new.is_some_and(|new| new.flags & !NONBLOCK != 0) {
        return err!(EINVAL);
    }
    let file = task.file(fd)?;
    let queue = queue_of(&file)?;
    let before = MqAttr {
        flags: if file.is_nonblocking() { NONBLOCK } else { 0 },
        max_messages: queue.limits().messages,
        message_size: queue.limits().size,
        messages: queue.len() as i64,
        reserved: [0; 4],
    };
    if let Some(new) = new {
        file.set_flag(StatusFlags::NONBLOCK, new.flags & NONBLOCK != 0);
    }
    if let Some(at) = old.non_null() {
        task.mm().write_obj(at, &before)?;
    }
    Ok(())
}
