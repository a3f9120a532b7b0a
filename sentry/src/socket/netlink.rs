//! AF_NETLINK: just enough of NETLINK_ROUTE to list the loopback interface (rtnetlink(7)).

mod route;

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    Common, RecvMsg, SendMsg, Shutdown, SockAddr, SocketOps,
    buffer::{Packet, ReceiveQueue},
};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    vfs::{FileDescription, IoSrc},
    wait::{EventMask, PollTable},
};

/// Answers that may wait to be read.
const MAX_ANSWERS: usize = 256;
/// The longest request.
const MAX_REQUEST: usize = 64 << 10;

/// A netlink socket.
struct NetlinkSocket {
    common: Common,
    receive: ReceiveQueue<()>,
    /// Its address: 0 until bound.
    port: AtomicU32,
}

/// socket(2).
pub(super) fn create(
    task: &CurrentTask,
    kind: i32,
    protocol: i32,
) -> SysResult<Arc<dyn SocketOps>> {
    if kind != libc::SOCK_RAW && kind != libc::SOCK_DGRAM {
        return err!(ESOCKTNOSUPPORT);
    }
    if protocol != libc::NETLINK_ROUTE {
        return err!(EPROTONOSUPPORT);
    }
    let common = Common::new(task.kernel().clone(), task.cred(), libc::AF_NETLINK, kind, protocol);
    let (receive, port) = (ReceiveQueue::default(), AtomicU32::new(0));
    Ok(Arc::new(NetlinkSocket { common, receive, port }))
}

/// Is it of this family?
pub fn is_netlink(socket: &dyn SocketOps) -> bool {
    socket.as_any().is::<NetlinkSocket>()
}

/// Puts a message of the kernel's into a netlink socket. `EINVAL` for another; `ENOBUFS` when it is full.
pub fn deliver(socket: &dyn SocketOps, bytes: &[u8]) -> SysResult<()> {
    socket.as_any().downcast_ref::<NetlinkSocket>().ok_or(Errno::EINVAL)?.answer(bytes)
}

/// `struct sockaddr_nl`.
fn address(port: u32) -> SockAddr {
    let mut address = SockAddr::of_family(libc::AF_NETLINK);
    address.0.extend_from_slice(&[0; 2]);
    address.0.extend_from_slice(&port.to_ne_bytes());
    address.0.extend_from_slice(&[0; 4]);
    address
}

impl NetlinkSocket {
    /// Its port; chosen now if there is none.
    fn port(&self) -> u32 {
        let wanted = super::message::current_ids().pid as u32;
        match self.port.compare_exchange(0, wanted, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => wanted,
            Err(port) => port,
        }
    }

    fn answer(&self, bytes: &[u8]) -> SysResult<()> {
        if self.receive.count() >= MAX_ANSWERS {
            return err!(ENOBUFS);
        }
        let mut block = self.receive.new_block(bytes.len())?;
        block.append(&mut IoSrc::kernel(bytes), bytes.len())?;
        self.receive.push(Packet { block, extra: (), charge: None });
        self.common.queue.wake(EventMask::READABLE);
        Ok(())
    }
}

impl SocketOps for NetlinkSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, _task: &mut CurrentTask, addr: &SockAddr) -> SysResult<()> {
        if addr.len() < 12 || addr.family() != Some(libc::AF_NETLINK) {
            return err!(EINVAL);
        }
        let port = addr.0.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        match port {
            Some(0) | None => drop(self.port()),
            Some(port) => self.port.store(port, Ordering::SeqCst),
        }
        Ok(())
    }

    fn connect(
        &self,
        _task: &mut CurrentTask,
        _file: &FileDescription,
        addr: &SockAddr,
        _nonblocking: bool,
    ) -> SysResult<()> {
        if addr.len() < 12 { err!(EINVAL) } else { Ok(()) }
    }

    fn local_name(&self) -> SysResult<SockAddr> {
        Ok(address(self.port.load(Ordering::SeqCst)))
    }

    fn peer_name(&self) -> SysResult<SockAddr> {
        Ok(address(0))
    }

    fn send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        if message.src.len() > MAX_REQUEST {
            return err!(EMSGSIZE);
        }
        let port = self.port();
        let request = message.src.take_vec(MAX_REQUEST)?;
        for answer in route::answers(&request, port) {
            self.answer(&answer)?;
        }
        Ok(request.len())
    }

    fn recv(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        message.complete = true;
        let reading = self.receive.start_reading();
        let packet = self.receive.take().ok_or(Errno::EAGAIN)?;
        let len = packet.block.len();
        let copied = message.dst.put(packet.block.data());
        if message.flags.has(libc::MSG_PEEK) {
            self.receive.put_back(packet, 0);
        } else {
            drop(self.receive.done_with(packet, len));
        }
        drop(reading);
        let copied = copied.map_err(|_| Errno::EFAULT)?;
        message.from = Some(address(0));
        if copied < len {
            message.out_flags |= libc::MSG_TRUNC;
        }
        Ok(if message.flags.has(libc::MSG_TRUNC) { len } else { copied })
    }

    fn shutdown(&self, _how: Shutdown) -> SysResult<()> {
        err!(EOPNOTSUPP)
    }

    fn poll(&self, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.common.queue);
        let mut mask = EventMask::WRITABLE;
        mask.set(EventMask::READABLE, !self.receive.is_empty());
        mask
    }

    /// Those that ask for more detail are taken, and nothing comes of them.
    fn set_option(
        &self,
        _task: &mut CurrentTask,
        level: i32,
        _name: i32,
        _value: &[u8],
    ) -> SysResult<()> {
        if level == libc::SOL_NETLINK { Ok(()) } else { err!(ENOPROTOOPT) }
    }

    fn queued(&self, _outgoing: bool) -> SysResult<usize> {
        Ok(self.receive.bytes())
    }

    fn release(&self) {
        drop(self.receive.purge());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for NetlinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetlinkSocket")
    }
}
