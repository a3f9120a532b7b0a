//! UDP and UDP-Lite: datagrams that go straight into their receiver's queue.

use std::{
    any::Any,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ranked_sync::Mutex;
use smallvec::SmallVec;
use zerocopy::IntoBytes;

use super::{
    address::{Endpoint, source_for},
    ancillary::{Header, SendOptions, describe},
    options::InetOptions,
    ports::{BindRequest, Binding, Ports},
};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    lock_order,
    socket::{
        Common, Control, RecvMsg, SendMsg, Shutdown, SockAddr, SocketOps,
        buffer::{Packet, ReceiveQueue, true_size},
    },
    vfs::FileDescription,
    wait::{EventMask, PollTable},
};

/// The largest datagram: what an IP packet holds behind its headers.
const MAX_V4: usize = 65_507;
const MAX_V6: usize = 65_527;

/// What a datagram carries besides its bytes.
#[derive(Debug)]
struct Source {
    from: Endpoint,
    header: Header,
    sent_ns: u64,
}

/// A UDP or UDP-Lite socket.
pub(super) struct UdpSocket {
    common: Common,
    me: Weak<Self>,
    options: InetOptions,
    state: Mutex<lock_order::Socket, State>,
    receive: ReceiveQueue<Source>,
    read_closed: AtomicBool,
    write_closed: AtomicBool,
    released: AtomicBool,
}

struct State {
    binding: Option<Arc<Binding<UdpSocket>>>,
    local: Endpoint,
    /// Set by connect(2).
    remote: Option<Endpoint>,
    /// The local address was chosen by connect(2), and goes with the connection.
    local_is_chosen: bool,
    /// The port was not asked for.
    port_is_chosen: bool,
}

impl UdpSocket {
    pub(super) fn new(common: Common) -> Arc<Self> {
        let local = Endpoint::unspecified(common.family);
        Arc::new_cyclic(|me| Self {
            options: InetOptions::new(common.family),
            common,
            me: me.clone(),
            state: Mutex::new(State {
                binding: None,
                local,
                remote: None,
                local_is_chosen: false,
                port_is_chosen: false,
            }),
            receive: ReceiveQueue::default(),
            read_closed: AtomicBool::new(false),
            write_closed: AtomicBool::new(false),
            released: AtomicBool::new(false),
        })
    }

    /// The ports of this socket's protocol.
    fn ports(&self) -> &Ports<Self> {
        let network = &self.common.kernel.network;
        if self.is_lite() { &network.udplite } else { &network.udp }
    }

    fn is_lite(&self) -> bool {
        self.common.protocol == libc::IPPROTO_UDPLITE
    }

    fn bind_at(&self, at: Endpoint) -> SysResult<()> {
        let switches = &self.common.switches;
        let binding = self.ports().bind(BindRequest {
            at,
            v6_only: self.options.is_v6_only(),
            reuse_addr: switches.reuse_addr.load(Ordering::Relaxed),
            reuse_port: switches.reuse_port.load(Ordering::Relaxed),
            user: self.common.cred.uid,
            owner: self.me.clone(),
        })?;
        let mut state = self.state.lock();
        if state.binding.is_some() {
            drop(state);
            self.ports().unbind(&binding);
            return err!(EINVAL);
        }
        state.local = binding.at;
        state.port_is_chosen = at.port == 0;
        state.binding = Some(binding);
        Ok(())
    }

    /// Takes a port, unless there is one.
    fn ensure_bound(&self) -> SysResult<()> {
        if self.state.lock().binding.is_some() {
            return Ok(());
        }
        self.bind_at(Endpoint::unspecified(self.common.family))
    }

    /// How well a datagram from `from` to `to` fits; the more of its addresses the better.
    fn score(
        binding: &Binding<Self>,
        socket: &Arc<Self>,
        from: Endpoint,
        to: Endpoint,
    ) -> Option<u32> {
        let bound = binding.matches(to.ip)?;
        let state = socket.state.lock();
        match state.remote {
            Some(remote) if remote != from => None,
            Some(_) if !state.local.ip.is_unspecified() && state.local.ip != to.ip => None,
            Some(_) => Some(bound + 4),
            None => Some(bound),
        }
    }

    /// Where this datagram goes: its address, or the connection's.
    fn destination(&self, message: &SendMsg<'_, '_>) -> SysResult<(Endpoint, bool)> {
        let remote = self.state.lock().remote;
        match &message.to {
            Some(to) => {
                let to = Endpoint::parse(to, self.common.family)?;
                if to.port == 0 {
                    return err!(EINVAL);
                }
                if self.options.is_v6_only() && to.ip.is_ipv4() {
                    return err!(ENETUNREACH);
                }
                self.check_broadcast(to.ip)?;
                let to = to.destination()?;
                Ok((to, remote == Some(to)))
            }
            None => Ok((remote.ok_or(Errno::EDESTADDRREQ)?, true)),
        }
    }

    /// Broadcasts must be asked for.
    fn check_broadcast(&self, ip: IpAddr) -> SysResult<()> {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if broadcast && !self.common.switches.broadcast.load(Ordering::Relaxed) {
            return err!(EACCES);
        }
        Ok(())
    }

    fn do_send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        if message.flags.has(libc::MSG_OOB) {
            return err!(EOPNOTSUPP);
        }
        if let Some(errno) = self.common.take_error() {
            return Err(errno.into());
        }
        if self.write_closed.load(Ordering::SeqCst) {
            return err!(EPIPE);
        }
        let len = message.src.len();
        let (to, connected) = self.destination(message)?;
        if len > if to.ip.is_ipv4() { MAX_V4 } else { MAX_V6 } {
            return err!(EMSGSIZE);
        }
        let asked = SendOptions::parse(&message.raw, self.common.family, to.ip)?;
        self.ensure_bound()?;
        let mut from = self.state.lock().local;
        if let Some(source) = asked.source {
            from.ip = source;
        } else if from.ip.is_unspecified() {
            from.ip = source_for(to.ip);
        }
        if from.ip.is_ipv4() != to.ip.is_ipv4() {
            return err!(ENETUNREACH);
        }
        let target = self.ports().find(to, u64::from(from.port), |binding, socket| {
            if socket.released.load(Ordering::SeqCst) {
                return None;
            }
            Self::score(binding, socket, from, to)
        });
        let Some(target) = target else {
            let mut sink = [0; 256];
            while !message.src.is_empty() {
                message.src.take(&mut sink)?;
            }
            // The answer "port unreachable" reaches those who asked for it.
            if connected || self.options.wants_errors() {
                self.common.set_error(Errno::ECONNREFUSED);
                self.common.queue.wake(EventMask::ERR);
            }
            return Ok(len);
        };
        let mut block = target.receive.new_block(len)?;
        if block.append(message.src, len)? < len {
            return err!(EFAULT);
        }
        let limit = target.common.receive_buffer.load(Ordering::Relaxed) as usize;
        let pending = target.receive.count();
        let used = target.receive.bytes().saturating_add(pending.saturating_mul(768));
        let partial = if self.is_lite() { self.options.partial_coverage(len) } else { None };
        // A full queue loses what comes, as ever with UDP.
        if used.saturating_add(true_size(len)) <= limit.max(true_size(len))
            && !target.read_closed.load(Ordering::SeqCst)
            && partial.is_none_or(|covered| target.options.takes_coverage(covered))
        {
            let sent_ns = self.common.kernel.clocks.realtime_ns();
            let (hops, class) = self.options.hops_and_class(to.ip.is_ipv4());
            let header = Header {
                to: to.ip,
                hops: asked.hops.unwrap_or(hops),
                class: asked.class.unwrap_or(class),
            };
            let extra = Source { from, header, sent_ns };
            target.receive.push(Packet { block, extra, charge: None });
            target.common.queue.wake(EventMask::READABLE);
        }
        Ok(len)
    }

    fn do_receive(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        message.complete = true;
        if message.flags.has(libc::MSG_OOB) {
            return err!(EOPNOTSUPP);
        }
        if let Some(errno) = self.common.take_error() {
            return Err(errno.into());
        }
        let reading = self.receive.start_reading();
        let Some(packet) = self.receive.take() else {
            drop(reading);
            return if self.read_closed.load(Ordering::SeqCst) { Ok(0) } else { err!(EAGAIN) };
        };
        let len = packet.block.len();
        let copied = message.dst.put(packet.block.data());
        self.describe(message, &packet.extra);
        if message.flags.has(libc::MSG_PEEK) {
            self.receive.put_back(packet, 0);
        } else {
            drop(self.receive.done_with(packet, len));
        }
        drop(reading);
        let copied = copied.map_err(|_| Errno::EFAULT)?;
        if copied < len {
            message.out_flags |= libc::MSG_TRUNC;
        }
        Ok(if message.flags.has(libc::MSG_TRUNC) { len } else { copied })
    }

    /// Who sent it, and the control messages that were asked for.
    fn describe(&self, message: &mut RecvMsg<'_, '_>, source: &Source) {
        if !message.takes_control {
            return;
        }
        message.from = Some(source.from.to_sockaddr(self.common.family));
        let switches = &self.common.switches;
        let (sec, nsec) = (source.sent_ns / 1_000_000_000, source.sent_ns % 1_000_000_000);
        let mut add = |level, kind, data: &[u8]| {
            message.control.push(Control::Raw(level, kind, SmallVec::from_slice(data)));
        };
        if switches.timestamp_ns.load(Ordering::Relaxed) {
            add(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, [sec, nsec].as_bytes());
        } else if switches.timestamp.load(Ordering::Relaxed) {
            add(libc::SOL_SOCKET, libc::SO_TIMESTAMP, [sec, nsec / 1000].as_bytes());
        }
        describe(&self.options, self.common.family, &source.header, &mut add);
    }
}

impl SocketOps for UdpSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    fn bind(&self, task: &mut CurrentTask, addr: &SockAddr) -> SysResult<()> {
        let at = Endpoint::parse(addr, self.common.family)?;
        super::check_bindable(task, at, self.options.is_v6_only())?;
        if self.state.lock().binding.is_some() {
            return err!(EINVAL);
        }
        self.bind_at(at)
    }

    fn connect(
        &self,
        _task: &mut CurrentTask,
        _file: &FileDescription,
        addr: &SockAddr,
        _nonblocking: bool,
    ) -> SysResult<()> {
        if addr.family() == Some(libc::AF_UNSPEC) {
            let mut state = self.state.lock();
            state.remote = None;
            if std::mem::take(&mut state.local_is_chosen) {
                state.local.ip = Endpoint::unspecified(self.common.family).ip;
            }
            // A port that no one asked for is given up as well.
            let binding = if state.port_is_chosen { state.binding.take() } else { None };
            if let Some(binding) = binding {
                state.local.port = 0;
                drop(state);
                self.ports().unbind(&binding);
            }
            return Ok(());
        }
        let to = Endpoint::parse(addr, self.common.family)?;
        if self.options.is_v6_only() && to.ip.is_ipv4() {
            return err!(ENETUNREACH);
        }
        self.check_broadcast(to.ip)?;
        let to = to.destination()?;
        self.ensure_bound()?;
        let mut state = self.state.lock();
        if state.local.ip.is_unspecified() {
            state.local.ip = source_for(to.ip);
            state.local_is_chosen = true;
        }
        state.remote = Some(to);
        Ok(())
    }

    fn local_name(&self) -> SysResult<SockAddr> {
        Ok(self.state.lock().local.to_sockaddr(self.common.family))
    }

    fn peer_name(&self) -> SysResult<SockAddr> {
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(remote.to_sockaddr(self.common.family))
    }

    fn send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        self.do_send(message)
    }

    fn recv(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        self.do_receive(message)
    }

    fn shutdown(&self, how: Shutdown) -> SysResult<()> {
        let connected = self.state.lock().remote.is_some();
        if how.read {
            self.read_closed.store(true, Ordering::SeqCst);
        }
        if how.write {
            self.write_closed.store(true, Ordering::SeqCst);
        }
        self.common.queue.wake(EventMask::all());
        if connected { Ok(()) } else { err!(ENOTCONN) }
    }

    fn poll(&self, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.common.queue);
        let read_closed = self.read_closed.load(Ordering::SeqCst);
        let write_closed = self.write_closed.load(Ordering::SeqCst);
        let mut mask = EventMask::WRITABLE | EventMask::WRBAND;
        mask.set(EventMask::ERR, self.common.has_error());
        mask.set(EventMask::RDHUP, read_closed);
        mask.set(EventMask::HUP, read_closed && write_closed);
        mask.set(EventMask::READABLE, read_closed || !self.receive.is_empty());
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
            return Ok(0_i32.to_ne_bytes().to_vec());
        }
        self.options.get(&self.common, (level, name))
    }

    fn queued(&self, outgoing: bool) -> SysResult<usize> {
        if outgoing {
            return Ok(0);
        }
        Ok(self.receive.lock().list.front().map_or(0, |packet| packet.block.len()))
    }

    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        let binding = self.state.lock().binding.take();
        if let Some(binding) = binding {
            self.ports().unbind(&binding);
        }
        drop(self.receive.purge());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UdpSocket")
    }
}
