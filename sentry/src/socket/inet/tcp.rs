//! TCP: pairs of sockets joined to each other.
//!
//! Each end has its own receive queue; closing, resetting and shutting down change the other
//! end at once, as packets on a loopback interface would.

mod connect;
mod transfer;

use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ranked_sync::Mutex;

use super::{
    Network,
    address::Endpoint,
    options::InetOptions,
    ports::{BindRequest, Binding},
};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    lock_order,
    socket::{Common, RecvMsg, SendMsg, Shutdown, SockAddr, SocketOps, buffer::ReceiveQueue},
    vfs::FileDescription,
    wait::{EventMask, PollTable, WaitQueue},
};

/// What may be under way to the other end unless SO_SNDBUF says otherwise.
const SEND_BUFFER: usize = 512 << 10;
/// What SO_RCVBUF reports of a new socket (`net.ipv4.tcp_rmem`).
const RECEIVE_BUFFER: i32 = 131_072;
/// The most listen(2) gives.
const MAX_BACKLOG: usize = 4096;

/// A TCP socket.
pub(super) struct TcpSocket {
    common: Common,
    me: Weak<Self>,
    options: InetOptions,
    state: Mutex<lock_order::Socket, State>,
    receive: ReceiveQueue<()>,
    /// Nothing more comes: the other end closed, or this one shut reading down.
    read_closed: AtomicBool,
    /// The other end said that it sends no more (FIN).
    got_fin: AtomicBool,
    write_closed: AtomicBool,
    released: AtomicBool,
    /// A blocking connect waits here for room in a listener's queue.
    drain: WaitQueue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Listening,
    /// Waits for room in a listener's queue.
    Connecting,
    Connected,
    /// Was connected, and was reset.
    Reset,
}

struct State {
    phase: Phase,
    binding: Option<Arc<Binding<TcpSocket>>>,
    local: Endpoint,
    remote: Option<Endpoint>,
    peer: Option<Arc<TcpSocket>>,
    /// Connected, and accepted by no one yet.
    pending: VecDeque<Arc<TcpSocket>>,
    /// For which there was no room.
    waiting: VecDeque<Weak<TcpSocket>>,
    backlog: usize,
    /// A non-blocking connect was started and its end not reported by another connect yet.
    unreported: bool,
    /// Urgent data that was not read.
    urgent: Option<u8>,
}

impl TcpSocket {
    pub(super) fn new(common: Common) -> Arc<Self> {
        common.send_memory.set_limit(SEND_BUFFER);
        common.receive_buffer.store(RECEIVE_BUFFER, Ordering::Relaxed);
        let local = Endpoint::unspecified(common.family);
        Arc::new_cyclic(|me| Self {
            options: InetOptions::new(common.family),
            common,
            me: me.clone(),
            state: Mutex::new(State {
                phase: Phase::Closed,
                binding: None,
                local,
                remote: None,
                peer: None,
                pending: VecDeque::new(),
                waiting: VecDeque::new(),
                backlog: 0,
                unreported: false,
                urgent: None,
            }),
            receive: ReceiveQueue::default(),
            read_closed: AtomicBool::new(false),
            got_fin: AtomicBool::new(false),
            write_closed: AtomicBool::new(false),
            released: AtomicBool::new(false),
            drain: WaitQueue::new(),
        })
    }

    fn network(&self) -> &Network {
        &self.common.kernel.network
    }

    fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    fn is_read_closed(&self) -> bool {
        self.read_closed.load(Ordering::SeqCst)
    }

    fn is_write_closed(&self) -> bool {
        self.write_closed.load(Ordering::SeqCst)
    }

    fn bind_request(&self, at: Endpoint) -> BindRequest<Self> {
        let switches = &self.common.switches;
        BindRequest {
            at,
            v6_only: self.options.is_v6_only(),
            reuse_addr: switches.reuse_addr.load(Ordering::Relaxed),
            reuse_port: switches.reuse_port.load(Ordering::Relaxed),
            user: self.common.cred.uid,
            owner: self.me.clone(),
        }
    }

    /// Takes a port of its own, unless there is one already.
    fn ensure_bound(&self, ip: std::net::IpAddr) -> SysResult<()> {
        if self.state.lock().binding.is_some() {
            return Ok(());
        }
        let binding = self.network().tcp.bind(self.bind_request(Endpoint { ip, port: 0 }))?;
        self.take_binding(binding)
    }

    /// `EINVAL` when there is one already.
    fn take_binding(&self, binding: Arc<Binding<Self>>) -> SysResult<()> {
        let mut state = self.state.lock();
        if state.binding.is_some() {
            drop(state);
            self.network().tcp.unbind(&binding);
            return err!(EINVAL);
        }
        state.local = binding.at;
        state.binding = Some(binding);
        Ok(())
    }

    /// The other end is gone without a goodbye.
    fn reset(&self, errno: Errno) {
        self.common.set_error(errno);
        self.read_closed.store(true, Ordering::SeqCst);
        self.write_closed.store(true, Ordering::SeqCst);
        self.state.lock().phase = Phase::Reset;
        self.common.queue.wake(EventMask::all());
    }

    /// The other end sends no more.
    fn receive_fin(&self) {
        self.got_fin.store(true, Ordering::SeqCst);
        self.read_closed.store(true, Ordering::SeqCst);
        self.common.queue.wake(EventMask::READABLE | EventMask::RDHUP | EventMask::HUP);
    }

    /// `tcpi_state` of TCP_INFO.
    fn linux_state(&self) -> u8 {
        match self.phase() {
            Phase::Closed | Phase::Reset => 7,
            Phase::Listening => 10,
            Phase::Connecting => 2,
            Phase::Connected => {
                let fin = self.got_fin.load(Ordering::SeqCst);
                match (self.is_write_closed(), fin) {
                    (false, false) => 1,
                    (false, true) => 8,
                    (true, false) => 5,
                    (true, true) => 7,
                }
            }
        }
    }
}

impl SocketOps for TcpSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &mut CurrentTask, addr: &SockAddr) -> SysResult<()> {
        let at = Endpoint::parse(addr, self.common.family)?;
        super::check_bindable(task, at, self.options.is_v6_only())?;
        {
            let state = self.state.lock();
            if state.binding.is_some() || state.phase != Phase::Closed {
                return err!(EINVAL);
            }
        }
        let binding = self.network().tcp.bind(self.bind_request(at))?;
        self.take_binding(binding)
    }

    fn listen(&self, _task: &mut CurrentTask, backlog: i32) -> SysResult<()> {
        match self.phase() {
            Phase::Closed | Phase::Listening => {}
            _ => return err!(EINVAL),
        }
        self.ensure_bound(Endpoint::unspecified(self.common.family).ip)?;
        let binding = self.state.lock().binding.clone();
        let binding = binding.ok_or(Errno::EINVAL)?;
        self.network().tcp.listen(&binding)?;
        let mut state = self.state.lock();
        state.phase = Phase::Listening;
        state.backlog = usize::try_from(backlog).unwrap_or(MAX_BACKLOG).min(MAX_BACKLOG);
        drop(state);
        self.common.queue.wake(EventMask::all());
        Ok(())
    }

    fn accept(&self) -> SysResult<Arc<dyn SocketOps>> {
        let child = {
            let mut state = self.state.lock();
            if state.phase != Phase::Listening {
                return err!(EINVAL);
            }
            state.pending.pop_front().ok_or(Errno::EAGAIN)?
        };
        self.admit_waiting();
        Ok(child)
    }

    fn connect(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        addr: &SockAddr,
        nonblocking: bool,
    ) -> SysResult<()> {
        self.do_connect(task, addr, nonblocking)
    }

    fn local_name(&self) -> SysResult<SockAddr> {
        Ok(self.state.lock().local.to_sockaddr(self.common.family))
    }

    fn peer_name(&self) -> SysResult<SockAddr> {
        let state = self.state.lock();
        match (state.phase, state.remote) {
            (Phase::Connected, Some(remote)) => Ok(remote.to_sockaddr(self.common.family)),
            // Accepted just after it was reset: accept(2) still says whom.
            (Phase::Reset, Some(remote)) if self.common.inode() == 0 => {
                Ok(remote.to_sockaddr(self.common.family))
            }
            _ => err!(ENOTCONN),
        }
    }

    fn send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        self.do_send(message)
    }

    fn recv(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        self.do_receive(message)
    }

    fn shutdown(&self, how: Shutdown) -> SysResult<()> {
        let (phase, peer) = {
            let state = self.state.lock();
            (state.phase, state.peer.clone())
        };
        match phase {
            Phase::Connected => {}
            // Listening ends; those who wait are refused.
            Phase::Listening if how.read => {
                self.stop_listening();
                return Ok(());
            }
            Phase::Listening => return Ok(()),
            _ => return err!(ENOTCONN),
        }
        if how.read {
            self.read_closed.store(true, Ordering::SeqCst);
        }
        if how.write
            && !self.write_closed.swap(true, Ordering::SeqCst)
            && let Some(peer) = peer
        {
            peer.receive_fin();
        }
        self.common.queue.wake(EventMask::all());
        Ok(())
    }

    fn poll(&self, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.common.queue);
        let (phase, pending, urgent) = {
            let state = self.state.lock();
            (state.phase, !state.pending.is_empty(), state.urgent.is_some())
        };
        let mut mask = EventMask::empty();
        match phase {
            Phase::Listening => {
                mask.set(EventMask::READABLE, pending);
                return mask;
            }
            Phase::Connecting => {
                mask.set(EventMask::ERR, self.common.has_error());
                return mask;
            }
            Phase::Closed | Phase::Reset => mask |= EventMask::HUP,
            Phase::Connected => {}
        }
        let (read_closed, write_closed) = (self.is_read_closed(), self.is_write_closed());
        mask.set(EventMask::ERR, self.common.has_error());
        mask.set(EventMask::PRI, urgent);
        mask.set(EventMask::HUP, mask.contains(EventMask::HUP) || (read_closed && write_closed));
        mask.set(EventMask::RDHUP, read_closed);
        mask.set(EventMask::READABLE, read_closed || !self.receive.is_empty());
        mask.set(EventMask::WRITABLE, write_closed || self.common.send_memory.is_writable());
        mask
    }

    fn set_option(
        &self,
        task: &mut CurrentTask,
        level: i32,
        name: i32,
        value: &[u8],
    ) -> SysResult<()> {
        let bound = self.state.lock().binding.is_some();
        self.options.set(task, &self.common, (level, name), value, bound)
    }

    fn get_option(&self, _task: &mut CurrentTask, level: i32, name: i32) -> SysResult<Vec<u8>> {
        if (level, name) == (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) {
            let listens = self.phase() == Phase::Listening;
            return Ok(i32::from(listens).to_ne_bytes().to_vec());
        }
        if (level, name) == (libc::IPPROTO_TCP, libc::TCP_INFO) {
            return Ok(self.info());
        }
        self.options.get(&self.common, (level, name))
    }

    fn queued(&self, outgoing: bool) -> SysResult<usize> {
        if self.phase() == Phase::Listening {
            return err!(EINVAL);
        }
        Ok(if outgoing {
            self.state.lock().peer.as_ref().map_or(0, |peer| peer.receive.bytes())
        } else {
            self.receive.bytes()
        })
    }

    fn release(&self) {
        self.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl TcpSocket {
    /// The end: of a listener, with all that it has not handed out; of a connection.
    fn close(&self) {
        if self.released.swap(true, Ordering::SeqCst) {
            return;
        }
        self.stop_listening();
        let (binding, peer, phase) = {
            let mut state = self.state.lock();
            let phase = std::mem::replace(&mut state.phase, Phase::Closed);
            (state.binding.take(), state.peer.take(), phase)
        };
        let unread = self.receive.purge();
        let aborts = !unread.is_empty() || self.common.linger.load(Ordering::Relaxed) == 0;
        if let Some(binding) = binding {
            // Who closes first keeps the port for a while.
            let first = phase == Phase::Connected && !self.got_fin.load(Ordering::SeqCst);
            if first && !aborts {
                self.network().tcp.unbind_later(binding);
            } else {
                self.network().tcp.unbind(&binding);
            }
        }
        if let Some(peer) = peer
            && phase == Phase::Connected
        {
            if aborts {
                let told = self.write_closed.swap(true, Ordering::SeqCst);
                peer.reset(if told { Errno::EPIPE } else { Errno::ECONNRESET });
            } else if !self.write_closed.swap(true, Ordering::SeqCst) {
                peer.receive_fin();
            }
        }
        drop(unread);
        self.common.queue.wake(EventMask::all());
    }

    /// Resets those that wait to be accepted, and refuses those that wait for room.
    fn stop_listening(&self) {
        let (pending, waiting, binding) = {
            let mut state = self.state.lock();
            if state.phase != Phase::Listening {
                return;
            }
            state.phase = Phase::Closed;
            let pending = std::mem::take(&mut state.pending);
            (pending, std::mem::take(&mut state.waiting), state.binding.clone())
        };
        if let Some(binding) = binding {
            binding.listening.store(false, Ordering::SeqCst);
        }
        for child in pending {
            child.common.linger.store(0, Ordering::Relaxed);
            child.close();
        }
        for client in waiting {
            if let Some(client) = client.upgrade() {
                client.refuse();
            }
        }
        self.common.queue.wake(EventMask::all());
    }

    /// `struct tcp_info`: its first fields; what a connection without packets does not have is 0.
    fn info(&self) -> Vec<u8> {
        const BYTES: usize = 104;
        let mut info = vec![0; BYTES];
        let words: [(usize, u32); 5] =
            [(8, 200_000), (16, 65_483), (20, 65_483), (68, 50), (80, 10)];
        for (at, value) in words {
            if let Some(place) = info.get_mut(at..at + 4) {
                place.copy_from_slice(&value.to_ne_bytes());
            }
        }
        if let Some(state) = info.first_mut() {
            *state = self.linux_state();
        }
        info
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpSocket")
    }
}
