//! Making, naming and connecting sockets.

use std::sync::Arc;

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    socket::{self, Shutdown, SockAddr, Socket, SocketOps, unix::UnixSocket},
    user::{Fd, UserAddr, UserMemory, UserRef},
    wait::EventMask,
};

const TYPE_MASK: i32 = 0xf;
const FLAGS: i32 = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// The type, and whether the flags beside it are right (`EINVAL`).
fn split_type(kind: i32) -> SysResult<(i32, i32)> {
    let flags = kind & !TYPE_MASK;
    if flags & !FLAGS != 0 { err!(EINVAL) } else { Ok((kind & TYPE_MASK, flags)) }
}

fn install(task: &CurrentTask, ops: Arc<dyn SocketOps>, flags: i32) -> SysResult<Fd> {
    let status = (flags & libc::SOCK_NONBLOCK) as u32;
    let file = Socket::describe(ops, status, task.cred());
    install_fd(task, file, flags & libc::SOCK_CLOEXEC != 0)
}

pub(super) fn sys_socket(
    task: &mut CurrentTask,
    family: i32,
    kind: i32,
    protocol: i32,
) -> SysResult<Fd> {
    let (kind, flags) = split_type(kind)?;
    let ops = socket::create(task, family, kind, protocol)?;
    install(task, ops, flags)
}

pub(super) fn sys_socketpair(
    task: &mut CurrentTask,
    family: i32,
    kind: i32,
    protocol: i32,
    fds: UserRef<[i32; 2]>,
) -> SysResult<()> {
    let (kind, flags) = split_type(kind)?;
    // What can be made at all, first: its errors are socket(2)'s.
    let probe = socket::create(task, family, kind, protocol)?;
    if family != libc::AF_UNIX {
        probe.release();
        return err!(EOPNOTSUPP);
    }
    let (a, b) = UnixSocket::pair(task, probe.common().kind);
    let first = install(task, a, flags)?;
    let second = match install(task, b, flags) {
        Ok(fd) => fd,
        Err(error) => {
            drop(task.fds().remove(first));
            return Err(error);
        }
    };
    let copied = task.mm().write_obj(fds, &[first.0, second.0]);
    if copied.is_err() {
        drop(task.fds().remove(first));
        drop(task.fds().remove(second));
    }
    Ok(copied?)
}

pub(super) fn sys_bind(task: &mut CurrentTask, fd: Fd, addr: UserAddr, len: i32) -> SysResult<()> {
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?.clone();
    let addr = SockAddr::read(task, addr, len)?;
    socket.bind(task, &addr)
}

pub(super) fn sys_listen(task: &mut CurrentTask, fd: Fd, backlog: i32) -> SysResult<()> {
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?.clone();
    socket.listen(task, backlog)
}

pub(super) fn sys_connect(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len: i32,
) -> SysResult<()> {
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?.clone();
    let addr = SockAddr::read(task, addr, len)?;
    let nonblocking = file.is_nonblocking();
    socket.connect(task, &file, &addr, nonblocking)
}

pub(super) fn sys_accept(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len_at: UserRef<i32>,
) -> SysResult<Fd> {
    sys_accept4(task, fd, addr, len_at, 0)
}

pub(super) fn sys_accept4(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len_at: UserRef<i32>,
    flags: i32,
) -> SysResult<Fd> {
    if flags & !FLAGS != 0 {
        return err!(EINVAL);
    }
    let file = task.file(fd)?;
    let listener = Socket::of(&file)?.clone();
    let accepted = task.block_on_file(&file, EventMask::READABLE, None, |_| listener.accept())?;
    // From here on the new socket is closed when anything fails.
    let status = (flags & libc::SOCK_NONBLOCK) as u32;
    let new = Socket::describe(accepted.clone(), status, task.cred());
    if !addr.is_null() {
        let name = accepted.peer_name().map_err(|_| Errno::ECONNABORTED)?;
        name.write(task, addr, len_at)?;
    }
    install_fd(task, new, flags & libc::SOCK_CLOEXEC != 0)
}

pub(super) fn sys_getsockname(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len_at: UserRef<i32>,
) -> SysResult<()> {
    let file = task.file(fd)?;
    Socket::of(&file)?.local_name()?.write(task, addr, len_at)
}

pub(super) fn sys_getpeername(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    len_at: UserRef<i32>,
) -> SysResult<()> {
    let file = task.file(fd)?;
    Socket::of(&file)?.peer_name()?.write(task, addr, len_at)
}

pub(super) fn sys_shutdown(task: &mut CurrentTask, fd: Fd, how: i32) -> SysResult<()> {
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?;
    let how = Shutdown::from_how(how).ok_or(Errno::EINVAL)?;
    socket.shutdown(how)
}
