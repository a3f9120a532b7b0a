//! Sending and receiving: sendto(2), sendmsg(2), sendmmsg(2), and their counterparts.

use std::sync::Arc;

use linux_abi::socket::{MMsgHdr, MsgHdr};
use smallvec::SmallVec;

use super::{
    install::send_sigpipe,
    socket_control::{self, ControlBuffer, Outgoing},
    timeout::Timeout,
};
use crate::{
    Errno, SysError, SysResult, err,
    kernel::CurrentTask,
    socket::{MsgFlags, RecvMsg, SendMsg, SockAddr, Socket, SocketOps},
    user::{Fd, UserAddr, UserMemory, UserRef},
    vfs::{FileDescription, IoDst, IoSrc, UserIovecs},
    wait::{EventMask, PollTable},
};

/// The most bytes one call moves (`MAX_RW_COUNT`).
const MAX_BYTES: usize = 0x7fff_f000;
/// The most buffers or messages one call takes (`UIO_MAXIOV`).
const MAX_IOV: u64 = 1024;

/// Reads the buffers of a message. `EMSGSIZE` when there are too many.
fn read_iovecs(task: &CurrentTask, at: u64, count: u64) -> SysResult<UserIovecs> {
    if count > MAX_IOV {
        return err!(EMSGSIZE);
    }
    super::read_write::read_iovecs(task, UserRef::new(at), count as usize)
}

fn one_buffer(addr: UserAddr, len: usize) -> UserIovecs {
    let mut iovecs = UserIovecs::new();
    iovecs.push((addr, len.min(MAX_BYTES)));
    iovecs
}

/// Everything a send needs, read from the guest.
struct SendRequest {
    iovecs: UserIovecs,
    to: Option<SockAddr>,
    control: Outgoing,
    flags: MsgFlags,
}

/// Sends, waiting as the flags say.
fn do_send(
    task: &mut CurrentTask,
    file: &Arc<FileDescription>,
    request: SendRequest,
) -> SysResult<usize> {
    let socket = Socket::of(file)?.clone();
    let mm = task.mm().clone();
    let mut src = IoSrc::user(&mm, request.iovecs);
    let mut message = SendMsg {
        src: &mut src,
        to: request.to,
        target: None,
        flags: request.flags,
        rights: request.control.rights,
        credentials: request.control.credentials,
        raw: request.control.raw,
    };
    socket.prepare_send(task, &mut message)?;
    let streams = socket.common().kind == libc::SOCK_STREAM;
    let nonblocking = request.flags.has(libc::MSG_DONTWAIT) || file.is_nonblocking();
    let mut total = 0;
    let result = wait_on_socket(task, file, &socket, EventMask::WRITABLE, nonblocking, &mut || {
        loop {
            total += socket.send(&mut message)?;
            if !streams || message.src.is_empty() {
                return Ok(());
            }
        }
    });
    match result {
        _ if total > 0 => Ok(total),
        Ok(()) => Ok(0),
        Err(error) => {
            if error == Errno::EPIPE.into()
                && socket.common().kind != libc::SOCK_DGRAM
                && !request.flags.has(libc::MSG_NOSIGNAL)
            {
                send_sigpipe(task);
            }
            Err(error)
        }
    }
}

/// Tries until it does not say `EAGAIN`, with the socket's own timeout.
fn wait_on_socket(
    task: &mut CurrentTask,
    file: &Arc<FileDescription>,
    socket: &Arc<dyn SocketOps>,
    events: EventMask,
    nonblocking: bool,
    attempt: &mut dyn FnMut() -> SysResult<()>,
) -> SysResult<()> {
    match attempt() {
        Err(error) if error.is_again() && !nonblocking => {}
        result => return result,
    }
    let deadline = socket.common().deadline(events);
    let waker = task.waker().clone();
    let done = task.block_until(
        deadline,
        |_| {
            let mut table = PollTable::register(waker, events);
            file.ops().poll(file, &mut table);
            table.into_registrations()
        },
        |_| match attempt() {
            Err(error) if error.is_again() => Ok(None),
            result => result.map(Some),
        },
    );
    match done {
        Ok(Some(())) => Ok(()),
        Ok(None) => err!(EAGAIN),
        // With a timeout it cannot start again (signal(7)).
        Err(SysError::Restart(_)) if deadline.is_some() => err!(EINTR),
        Err(error) => Err(error),
    }
}

pub(super) fn sys_sendto(
    task: &mut CurrentTask,
    fd: Fd,
    buffer: UserAddr,
    len: usize,
    flags: i32,
    addr: UserAddr,
    addr_len: i32,
) -> SysResult<usize> {
    let file = task.file(fd)?;
    Socket::of(&file)?;
    let to = if addr.is_null() { None } else { Some(SockAddr::read(task, addr, addr_len)?) };
    let request = SendRequest {
        iovecs: one_buffer(buffer, len),
        to: to.filter(|to| !to.is_empty()),
        control: Outgoing::default(),
        flags: MsgFlags(flags),
    };
    do_send(task, &file, request)
}

/// One `struct msghdr`.
fn send_header(
    task: &mut CurrentTask,
    file: &Arc<FileDescription>,
    header: &MsgHdr,
    flags: i32,
) -> SysResult<usize> {
    let family = Socket::of(file)?.common().family;
    let to = if header.name == 0 || header.name_len == 0 {
        None
    } else {
        // A length that is too long is cut, one that is negative refused (`copy_msghdr_from_user`).
        let len = i32::try_from(header.name_len).map_err(|_| Errno::EINVAL)?;
        Some(SockAddr::read(task, UserAddr(header.name), len.min(128))?)
    };
    let iovecs = read_iovecs(task, header.iov, header.iov_len)?;
    let control = ControlBuffer { at: UserAddr(header.control), len: header.control_len };
    let control = socket_control::read(task, &control, family)?;
    do_send(task, file, SendRequest { iovecs, to, control, flags: MsgFlags(flags) })
}

pub(super) fn sys_sendmsg(
    task: &mut CurrentTask,
    fd: Fd,
    header: UserRef<MsgHdr>,
    flags: i32,
) -> SysResult<usize> {
    let file = task.file(fd)?;
    Socket::of(&file)?;
    let header = task.mm().read_obj(header)?;
    send_header(task, &file, &header, flags)
}

pub(super) fn sys_sendmmsg(
    task: &mut CurrentTask,
    fd: Fd,
    headers: UserRef<MMsgHdr>,
    count: u32,
    flags: i32,
) -> SysResult<usize> {
    let file = task.file(fd)?;
    Socket::of(&file)?;
    let mut done = 0;
    while done < u64::from(count).min(MAX_IOV) as usize {
        let result = task.mm().read_obj(headers.at(done)?).map_err(SysError::from);
        let result = result.and_then(|message| {
            let sent = send_header(task, &file, &message.hdr, flags)?;
            write_len(task, headers.at(done)?, sent)
        });
        match result {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn write_len(task: &CurrentTask, at: UserRef<MMsgHdr>, len: usize) -> SysResult<()> {
    let at = at.addr().offset(std::mem::offset_of!(MMsgHdr, len) as u64)?;
    Ok(task.mm().write_obj(at.as_ref(), &(len as u32))?)
}

/// What a receive gave besides the bytes.
struct Received {
    bytes: usize,
    from: Option<SockAddr>,
    out_flags: i32,
    control: SmallVec<[crate::socket::Control; 2]>,
}

/// Receives, waiting as the flags say.
fn do_recv(
    task: &mut CurrentTask,
    file: &Arc<FileDescription>,
    iovecs: UserIovecs,
    flags: i32,
) -> SysResult<Received> {
    let socket = Socket::of(file)?.clone();
    let mm = task.mm().clone();
    let mut dst = IoDst::user(&mm, iovecs);
    let flags = MsgFlags(flags);
    // No errors are queued (IP_RECVERR), and nobody waits for one.
    if flags.has(libc::MSG_ERRQUEUE) && socket.common().is_internet() {
        return err!(EAGAIN);
    }
    let mut message = RecvMsg { flags, takes_control: true, ..RecvMsg::plain(&mut dst) };
    let nonblocking = flags.has(libc::MSG_DONTWAIT) || file.is_nonblocking();
    let waits_for_all = flags.has(libc::MSG_WAITALL)
        && !flags.has(libc::MSG_PEEK)
        && socket.common().kind == libc::SOCK_STREAM;
    let mut total = 0;
    let result = wait_on_socket(task, file, &socket, EventMask::READABLE, nonblocking, &mut || {
        loop {
            let got = socket.recv(&mut message)?;
            total += got;
            if !waits_for_all || got == 0 || message.complete || message.dst.is_empty() {
                return Ok(());
            }
        }
    });
    if total == 0 {
        result?;
    }
    let RecvMsg { from, out_flags, control, .. } = message;
    Ok(Received { bytes: total, from, out_flags, control })
}

pub(super) fn sys_recvfrom(
    task: &mut CurrentTask,
    fd: Fd,
    buffer: UserAddr,
    len: usize,
    flags: i32,
    addr: UserAddr,
    addr_len: UserRef<i32>,
) -> SysResult<usize> {
    let file = task.file(fd)?;
    let received = do_recv(task, &file, one_buffer(buffer, len), flags)?;
    if !addr.is_null() {
        let from = received.from.unwrap_or_default();
        from.write(task, addr, addr_len)?;
    }
    Ok(received.bytes)
}

/// One `struct msghdr`, whose fields are written back.
fn recv_header(
    task: &mut CurrentTask,
    file: &Arc<FileDescription>,
    at: UserRef<MsgHdr>,
    flags: i32,
) -> SysResult<usize> {
    let header = task.mm().read_obj(at)?;
    if i32::try_from(header.name_len).is_err() {
        return err!(EINVAL);
    }
    let iovecs = read_iovecs(task, header.iov, header.iov_len)?;
    let received = do_recv(task, file, iovecs, flags)?;
    let mut out = header;
    out.flags = (received.out_flags | flags & libc::MSG_CMSG_CLOEXEC) as u32;
    if header.name != 0 {
        let from = received.from.unwrap_or_default();
        let room = (header.name_len as usize).min(from.len());
        task.mm().copy_out(UserAddr(header.name), from.0.get(..room).unwrap_or(&[]))?;
        out.name_len = from.len() as u32;
    }
    let buffer = ControlBuffer { at: UserAddr(header.control), len: header.control_len };
    let cloexec = flags & libc::MSG_CMSG_CLOEXEC != 0;
    let (used, cut) = socket_control::write(task, &buffer, received.control, cloexec)?;
    out.control_len = used;
    if cut {
        out.flags |= libc::MSG_CTRUNC as u32;
    }
    // Only what the call changes is written: name length, control length, flags.
    let field = |offset: usize| at.addr().offset(offset as u64);
    if header.name != 0 {
        let name_len = field(std::mem::offset_of!(MsgHdr, name_len))?;
        task.mm().write_obj(name_len.as_ref(), &out.name_len)?;
    }
    let flags_at = field(std::mem::offset_of!(MsgHdr, flags))?;
    task.mm().write_obj(flags_at.as_ref(), &out.flags)?;
    let control_at = field(std::mem::offset_of!(MsgHdr, control_len))?;
    task.mm().write_obj(control_at.as_ref(), &out.control_len)?;
    Ok(received.bytes)
}

pub(super) fn sys_recvmsg(
    task: &mut CurrentTask,
    fd: Fd,
    header: UserRef<MsgHdr>,
    flags: i32,
) -> SysResult<usize> {
    let file = task.file(fd)?;
    Socket::of(&file)?;
    recv_header(task, &file, header, flags)
}

pub(super) fn sys_recvmmsg(
    task: &mut CurrentTask,
    fd: Fd,
    headers: UserRef<MMsgHdr>,
    count: u32,
    flags: i32,
    timeout_at: UserRef<[i64; 2]>,
) -> SysResult<usize> {
    let timeout = Timeout::from_timespec(task, timeout_at)?;
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?.clone();
    let mut flags = flags;
    let mut done = 0;
    while done < u64::from(count).min(MAX_IOV) as usize {
        // The message header is the first field.
        let at = headers.at(done)?;
        let result = recv_header(task, &file, at.addr().as_ref(), flags & !libc::MSG_WAITFORONE)
            .and_then(|got| write_len(task, at, got));
        match result {
            Ok(()) => done += 1,
            Err(_) if done == 0 => return result.map(|()| 0),
            Err(error) => {
                // For the next call, unless it only says to wait.
                if !error.is_again() && !matches!(error, SysError::Restart(_)) {
                    socket.common().set_error(error.errno());
                }
                break;
            }
        }
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        // The time is looked at only between messages (recvmmsg(2), BUGS).
        let now = task.kernel().clocks.monotonic();
        if timeout.is_zero() || timeout.deadline().is_some_and(|deadline| now >= deadline) {
            break;
        }
    }
    timeout.write_timespec(task, timeout_at);
    Ok(done)
}
