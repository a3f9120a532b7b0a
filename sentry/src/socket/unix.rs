//! AF_UNIX (unix(7); `net/unix/af_unix.c`).
//!
//! The two ends of a connection hold each other until each is released; a receive queue belongs
//! to the socket that reads from it. Datagrams go straight into the target's queue.

mod connect;
mod names;
mod receive;
mod rights;
mod send;

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
};

use linux_abi::socket::Ucred;
use ranked_sync::Mutex;

pub use self::names::{BoundSocket, UnixNamespace};
use self::{names::Name, rights::Rights};
use super::{
    Common, RecvMsg, SendMsg, Shutdown, SockAddr, SocketOps, buffer::ReceiveQueue,
    message::current_ids,
};
use crate::{
    Errno, SysResult, err,
    kernel::{CurrentTask, served},
    lock_order,
    vfs::FileDescription,
    wait::{EventMask, PollTable, WaitQueue},
};

/// Datagrams that may wait in a socket's queue (`net.unix.max_dgram_qlen`), less one.
const MAX_DATAGRAMS: usize = 10;
/// The most listen(2) gives (`net.core.somaxconn`).
const MAX_BACKLOG: usize = 4096;

/// What a packet carries besides its bytes.
#[derive(Debug, Default)]
struct Extra {
    /// The sender's name, for recvfrom(2).
    from: Option<Arc<Name>>,
    /// Set when one of the two ends asked for it.
    credentials: Option<Ucred>,
    rights: Option<Box<Rights>>,
}

/// A unix socket.
pub struct UnixSocket {
    common: Common,
    me: Weak<Self>,
    state: Mutex<lock_order::Socket, State>,
    receive: ReceiveQueue<Extra>,
    shut_read: AtomicBool,
    shut_write: AtomicBool,
    released: AtomicBool,
    /// Urgent data that was not read.
    urgent: Mutex<lock_order::Leaf, Option<u8>>,
    /// SO_PEEK_OFF; -1: off.
    peek_offset: AtomicI32,
    /// Those who wait for room in this socket's queue: datagram senders, connecting sockets.
    drain: WaitQueue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unconnected,
    Listening,
    Connected,
}

struct State {
    phase: Phase,
    name: Option<Arc<Name>>,
    peer: Option<Arc<UnixSocket>>,
    /// Accepted by no one yet.
    pending: VecDeque<Arc<UnixSocket>>,
    backlog: usize,
    /// Whose queue was full when a datagram was last sent: poll waits for that one too.
    full_target: Weak<UnixSocket>,
}

/// socket(2).
pub(super) fn create(
    task: &CurrentTask,
    kind: i32,
    protocol: i32,
) -> SysResult<Arc<dyn SocketOps>> {
    if protocol != 0 && protocol != libc::PF_UNIX {
        return err!(EPROTONOSUPPORT);
    }
    let kind = match kind {
        // BSD has it so.
        libc::SOCK_RAW => libc::SOCK_DGRAM,
        libc::SOCK_STREAM | libc::SOCK_DGRAM | libc::SOCK_SEQPACKET => kind,
        _ => return err!(ESOCKTNOSUPPORT),
    };
    Ok(UnixSocket::new(task, kind))
}

impl UnixSocket {
    /// `kind`: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
    pub fn new(task: &CurrentTask, kind: i32) -> Arc<Self> {
        let common = Common::new(task.kernel().clone(), task.cred(), libc::AF_UNIX, kind, 0);
        Self::with_common(common)
    }

    fn with_common(common: Common) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            common,
            me: me.clone(),
            state: Mutex::new(State {
                phase: Phase::Unconnected,
                name: None,
                peer: None,
                pending: VecDeque::new(),
                backlog: 0,
                full_target: Weak::new(),
            }),
            receive: ReceiveQueue::default(),
            shut_read: AtomicBool::new(false),
            shut_write: AtomicBool::new(false),
            released: AtomicBool::new(false),
            urgent: Mutex::new(None),
            peek_offset: AtomicI32::new(-1),
            drain: WaitQueue::new(),
        })
    }

    fn is_stream(&self) -> bool {
        self.common.kind == libc::SOCK_STREAM
    }

    fn is_connection_based(&self) -> bool {
        self.common.kind != libc::SOCK_DGRAM
    }

    fn namespace(&self) -> &UnixNamespace {
        &self.common.kernel.unix
    }

    fn peer(&self) -> Option<Arc<Self>> {
        self.state.lock().peer.clone()
    }

    fn name(&self) -> Option<Arc<Name>> {
        self.state.lock().name.clone()
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    fn reads_no_more(&self) -> bool {
        self.shut_read.load(Ordering::SeqCst)
    }

    fn writes_no_more(&self) -> bool {
        self.shut_write.load(Ordering::SeqCst)
    }

    fn add_shutdown(&self, how: Shutdown) {
        if how.read {
            self.shut_read.store(true, Ordering::SeqCst);
        }
        if how.write {
            self.shut_write.store(true, Ordering::SeqCst);
        }
        self.common.queue.wake(EventMask::all());
    }

    /// Datagrams: is there no room in its queue for one from `sender`?
    fn is_full_for(&self, sender: &Self) -> bool {
        self.receive.count() > MAX_DATAGRAMS && !self.is_peered_with(sender)
    }

    fn is_peered_with(&self, other: &Self) -> bool {
        let peer = self.state.lock().peer.as_ref().map(Arc::as_ptr);
        peer.is_some_and(|peer| std::ptr::eq(peer, other))
    }
}

impl SocketOps for UnixSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &mut CurrentTask, addr: &SockAddr) -> SysResult<()> {
        names::bind(self, task, addr)
    }

    fn listen(&self, _task: &mut CurrentTask, backlog: i32) -> SysResult<()> {
        if !self.is_connection_based() {
            return err!(EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.name.is_none() || state.phase == Phase::Connected {
            return err!(EINVAL);
        }
        state.phase = Phase::Listening;
        // A negative backlog is a huge unsigned one.
        state.backlog = usize::try_from(backlog).unwrap_or(MAX_BACKLOG).min(MAX_BACKLOG);
        drop(state);
        let pid = served().map_or(0, |task| task.pid());
        let cred = served().map_or_else(|| self.common.cred.clone(), |task| task.cred());
        *self.common.peer.lock() = Some((pid, cred));
        self.drain.wake(EventMask::WRITABLE);
        self.common.queue.wake(EventMask::all());
        Ok(())
    }

    fn accept(&self) -> SysResult<Arc<dyn SocketOps>> {
        if !self.is_connection_based() {
            return err!(EOPNOTSUPP);
        }
        let mut state = self.state.lock();
        if state.phase != Phase::Listening {
            return err!(EINVAL);
        }
        let Some(child) = state.pending.pop_front() else {
            return if self.reads_no_more() { err!(EINVAL) } else { err!(EAGAIN) };
        };
        drop(state);
        self.drain.wake(EventMask::WRITABLE);
        Ok(child)
    }

    fn connect(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        addr: &SockAddr,
        nonblocking: bool,
    ) -> SysResult<()> {
        if self.is_connection_based() {
            self.connect_stream(task, addr, nonblocking)
        } else {
            self.connect_datagram(task, addr)
        }
    }

    fn local_name(&self) -> SysResult<SockAddr> {
        Ok(names::address(self.name().as_deref()))
    }

    fn peer_name(&self) -> SysResult<SockAddr> {
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        Ok(names::address(peer.name().as_deref()))
    }

    fn prepare_send(&self, task: &mut CurrentTask, message: &mut SendMsg<'_, '_>) -> SysResult<()> {
        if let Some(to) = message.to.as_ref().filter(|_| !self.is_connection_based()) {
            message.target = Some(names::find(task, to, self.common.kind)?);
        }
        if self.common.passes_credentials() && self.name().is_none() {
            names::autobind(self)?;
        }
        Ok(())
    }

    fn send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        match self.common.kind {
            libc::SOCK_STREAM => self.send_stream(message),
            _ => self.send_datagram(message),
        }
    }

    fn recv(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        match self.common.kind {
            libc::SOCK_STREAM => self.receive_stream(message),
            _ => self.receive_datagram(message),
        }
    }

    fn shutdown(&self, how: Shutdown) -> SysResult<()> {
        self.add_shutdown(how);
        if self.is_connection_based()
            && let Some(peer) = self.peer()
        {
            peer.add_shutdown(Shutdown { read: how.write, write: how.read });
        }
        Ok(())
    }

    fn poll(&self, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.common.queue);
        let (phase, peer, pending, full_target) = {
            let state = self.state.lock();
            let full = if table.registers() { state.full_target.upgrade() } else { None };
            (state.phase, state.peer.clone(), !state.pending.is_empty(), full)
        };
        let mut mask = EventMask::empty();
        mask.set(EventMask::ERR, self.common.has_error());
        mask.set(EventMask::PRI, self.urgent.lock().is_some());
        mask.set(EventMask::HUP, self.reads_no_more() && self.writes_no_more());
        mask.set(EventMask::RDHUP | EventMask::READABLE, self.reads_no_more());
        if pending || !self.receive.is_empty() {
            mask |= EventMask::READABLE;
        }
        if self.is_connection_based() && phase == Phase::Unconnected {
            mask |= EventMask::HUP;
        }
        let mut writable = phase != Phase::Listening && self.common.send_memory.is_writable();
        if !self.is_stream()
            && let Some(peer) = &peer
            && !peer.is_peered_with(self)
        {
            table.wait_on(&peer.drain);
            writable &= !peer.is_full_for(self);
        }
        if let Some(target) = full_target {
            table.wait_on(&target.drain);
        }
        mask.set(EventMask::WRITABLE | EventMask::WRBAND, writable);
        mask
    }

    fn get_option(&self, _task: &mut CurrentTask, level: i32, name: i32) -> SysResult<Vec<u8>> {
        if level == libc::SOL_SOCKET && name == libc::SO_ACCEPTCONN {
            let listens = self.state.lock().phase == Phase::Listening;
            return Ok(i32::from(listens).to_ne_bytes().to_vec());
        }
        if level == libc::SOL_SOCKET && name == libc::SO_PEEK_OFF {
            return Ok(self.peek_offset.load(Ordering::Relaxed).to_ne_bytes().to_vec());
        }
        if level == libc::SOL_SOCKET { err!(ENOPROTOOPT) } else { err!(EOPNOTSUPP) }
    }

    fn set_option(
        &self,
        _task: &mut CurrentTask,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> SysResult<()> {
        if level == libc::SOL_SOCKET && name == libc::SO_PEEK_OFF && self.is_stream() {
            let offset = super::options::int(value)?;
            self.peek_offset.store(offset.max(-1), Ordering::Relaxed);
            return Ok(());
        }
        if level == libc::SOL_SOCKET { err!(ENOPROTOOPT) } else { err!(EOPNOTSUPP) }
    }

    fn queued(&self, outgoing: bool) -> SysResult<usize> {
        if self.state.lock().phase == Phase::Listening {
            return err!(EINVAL);
        }
        if outgoing {
            return Ok(self.common.send_memory.used());
        }
        let packets = self.receive.lock();
        // A datagram at a time; all of a stream.
        let first = packets.list.front().map_or(0, |packet| packet.block.len());
        Ok(if self.common.kind == libc::SOCK_DGRAM { first } else { packets.bytes })
    }

    fn release(&self) {
        self.close(false);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl UnixSocket {
    /// The end of a socket; `embryo`: of one that was never accepted.
    fn close(&self, embryo: bool) {
        if self.released.swap(true, Ordering::SeqCst) {
            return;
        }
        self.shut_read.store(true, Ordering::SeqCst);
        self.shut_write.store(true, Ordering::SeqCst);
        let (name, peer, pending) = {
            let mut state = self.state.lock();
            state.phase = Phase::Unconnected;
            (state.name.take(), state.peer.take(), std::mem::take(&mut state.pending))
        };
        if let Some(name) = name {
            names::unbind(self, &name);
        }
        for child in pending {
            child.close(true);
        }
        if let Some(peer) = peer
            && self.is_connection_based()
        {
            if embryo || !self.receive.is_empty() {
                peer.common.set_error(Errno::ECONNRESET);
            }
            peer.add_shutdown(Shutdown::BOTH);
        }
        let packets = self.receive.purge();
        drop(packets);
        self.common.queue.wake(EventMask::all());
        self.drain.wake(EventMask::all());
    }

    /// SO_PEERCRED's answer about this side: the calling process.
    fn own_credentials() -> (i32, Arc<crate::kernel::Credentials>) {
        match served() {
            Some(task) => (task.pid(), task.cred()),
            None => (current_ids().pid, crate::kernel::Credentials::root()),
        }
    }
}

impl fmt::Debug for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixSocket(type {})", self.common.kind)
    }
}
