//! Sockets.
//!
//! A socket descriptor is a [`Socket`]: the [`FileOps`] of every family, over that family's
//! [`SocketOps`]. What all sockets have (options, pending error, waiters) is in [`Common`].
//! The handlers of `syscalls::{socket,socket_msg,sockopt}` do the blocking; nothing here waits but
//! `connect`, which is handed the task.
//!
//! # Lock order
//! `SocketNames`, `SocketRead`, `Socket`, `SocketPeer` (a receive queue, or the other end).
//! User memory is copied with none but `SocketRead` held. Files that travel in messages
//! are dropped with no lock held.

pub mod address;
pub mod buffer;
pub mod common;
pub mod inet;
mod interfaces;
pub mod message;
pub mod netlink;
pub mod options;
pub mod unix;

use std::{any::Any, fmt, sync::Arc};

pub use self::{
    address::SockAddr,
    common::{Common, Shutdown},
    message::{Control, MsgFlags, RawControl, RecvMsg, SendMsg},
};
use crate::{
    Errno, SysResult, err,
    fs::anon::{self, AnonInode},
    kernel::{Credentials, CurrentTask},
    user::{UserAddr, UserMemory},
    vfs::{FileDescription, FileOps, FileType, IoDst, IoSrc},
    wait::{EventMask, PollTable},
};

/// What a family's socket does. As with files, nothing waits: `EAGAIN` says that the caller has to;
/// `connect` alone may wait, through its task.
pub trait SocketOps: Send + Sync + Any + fmt::Debug {
    /// What all sockets have.
    fn common(&self) -> &Common;

    fn bind(&self, task: &mut CurrentTask, addr: &SockAddr) -> SysResult<()>;

    /// `backlog` is as the guest gave it.
    fn listen(&self, _task: &mut CurrentTask, _backlog: i32) -> SysResult<()> {
        err!(EOPNOTSUPP)
    }

    /// A connection that is waiting: the new socket. Its peer's name comes from it.
    fn accept(&self) -> SysResult<Arc<dyn SocketOps>> {
        err!(EOPNOTSUPP)
    }

    /// Waits only when the file is not `nonblocking`.
    fn connect(
        &self,
        task: &mut CurrentTask,
        file: &FileDescription,
        addr: &SockAddr,
        nonblocking: bool,
    ) -> SysResult<()>;

    /// getsockname(2).
    fn local_name(&self) -> SysResult<SockAddr>;

    /// getpeername(2): `ENOTCONN`.
    fn peer_name(&self) -> SysResult<SockAddr>;

    /// Sends as much as there is room for: the bytes sent.
    fn send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize>;

    /// Looks up what a send needs from outside (path names of unix sockets), once, before the sends.
    fn prepare_send(
        &self,
        _task: &mut CurrentTask,
        _message: &mut SendMsg<'_, '_>,
    ) -> SysResult<()> {
        Ok(())
    }

    /// Receives what there is: the bytes received, or with MSG_TRUNC of the message.
    fn recv(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize>;

    fn shutdown(&self, how: Shutdown) -> SysResult<()>;

    /// What is ready now; waits on [`Common::queue`] at least.
    fn poll(&self, table: &mut PollTable) -> EventMask;

    /// Options beyond those of [`Common`]. `ENOPROTOOPT`.
    fn set_option(
        &self,
        _task: &mut CurrentTask,
        _level: i32,
        _name: i32,
        _value: &[u8],
    ) -> SysResult<()> {
        err!(ENOPROTOOPT)
    }

    /// The value of an option beyond those of [`Common`].
    fn get_option(&self, _task: &mut CurrentTask, _level: i32, _name: i32) -> SysResult<Vec<u8>> {
        err!(ENOPROTOOPT)
    }

    /// Bytes that can be read (FIONREAD) or are not read by the peer yet (TIOCOUTQ).
    fn queued(&self, outgoing: bool) -> SysResult<usize>;

    /// The last descriptor was closed.
    fn release(&self);

    fn as_any(&self) -> &dyn Any;
}

/// A new socket, as socket(2) makes it; `kind` without flags. Errors as there.
pub fn create(
    task: &mut CurrentTask,
    family: i32,
    kind: i32,
    protocol: i32,
) -> SysResult<Arc<dyn SocketOps>> {
    /// One more than the largest `AF_` and `SOCK_` numbers.
    const FAMILIES: i32 = 46;
    const KINDS: i32 = 11;
    if !(0..FAMILIES).contains(&family) {
        return err!(EAFNOSUPPORT);
    }
    if !(0..KINDS).contains(&kind) {
        return err!(EINVAL);
    }
    match family {
        libc::AF_UNIX => unix::create(task, kind, protocol),
        libc::AF_INET | libc::AF_INET6 => inet::create(task, family, kind, protocol),
        libc::AF_NETLINK => netlink::create(task, kind, protocol),
        // As for those who may not: raw access to a network that is not there.
        libc::AF_PACKET => err!(EPERM),
        _ => err!(EAFNOSUPPORT),
    }
}

/// An open socket.
pub struct Socket(Arc<dyn SocketOps>);

impl Socket {
    /// A description for a socket. `flags`: O_NONBLOCK or 0.
    pub fn describe(
        ops: Arc<dyn SocketOps>,
        flags: u32,
        cred: Arc<Credentials>,
    ) -> Arc<FileDescription> {
        let inode = AnonInode::with_mode(FileType::Socket.mode_bits() | 0o777, &cred);
        let name = format!("socket:[{}]", inode.number());
        ops.common().set_inode(inode.number());
        anon::open_inode(Box::new(Self(ops)), inode, name, libc::O_RDWR as u32 | flags, cred)
    }

    /// The socket behind a description; `ENOTSOCK`.
    pub fn of(file: &FileDescription) -> SysResult<&Arc<dyn SocketOps>> {
        Ok(&file.ops_as::<Self>().ok_or(Errno::ENOTSOCK)?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl FileOps for Socket {
    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        self.0.recv(&mut RecvMsg::plain(dst))
    }

    fn write(
        &self,
        _file: &FileDescription,
        _offset: u64,
        src: &mut IoSrc<'_>,
    ) -> SysResult<usize> {
        self.0.send(&mut SendMsg::plain(src))
    }

    fn writes_all(&self) -> bool {
        self.0.common().kind == libc::SOCK_STREAM
    }

    fn wait_limit(&self, events: EventMask) -> Option<u64> {
        self.0.common().wait_limit(events)
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        self.0.poll(table)
    }

    fn ioctl(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        request: u32,
        arg: UserAddr,
    ) -> SysResult<u64> {
        let value = match u64::from(request) {
            libc::FIONREAD => self.0.queued(false)? as i32,
            libc::TIOCOUTQ => self.0.queued(true)? as i32,
            SIOCATMARK => 0,
            _ => return interfaces::ioctl(task, request, arg),
        };
        task.mm().write_obj(arg.as_ref(), &value)?;
        Ok(0)
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// "Is the next byte the urgent one?"
const SIOCATMARK: u64 = 0x8905;

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
