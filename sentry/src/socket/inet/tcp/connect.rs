//! Connecting, and being connected to.

use std::sync::{Arc, atomic::Ordering};

use super::{Phase, TcpSocket};
use crate::{
    Errno, Restart, SysError, SysResult, err,
    kernel::CurrentTask,
    socket::{
        Common, SockAddr,
        inet::address::{Endpoint, source_for},
    },
    wait::EventMask,
};

impl TcpSocket {
    pub(super) fn do_connect(
        &self,
        task: &mut CurrentTask,
        addr: &SockAddr,
        nonblocking: bool,
    ) -> SysResult<()> {
        if addr.family() == Some(libc::AF_UNSPEC) {
            return self.disconnect();
        }
        match self.phase() {
            Phase::Closed => {}
            Phase::Listening => return err!(EISCONN),
            Phase::Connected | Phase::Connecting | Phase::Reset => {
                if let Some(result) = self.report_earlier(nonblocking) {
                    return result;
                }
                return self.wait_connected(task);
            }
        }
        if let Some(result) = self.report_failure() {
            return result;
        }
        let to = Endpoint::parse(addr, self.common.family)?.destination()?;
        if self.options.is_v6_only() && to.ip.is_ipv4() {
            return err!(ENETUNREACH);
        }
        self.ensure_bound(source_for(to.ip))?;
        self.common.take_error();
        match self.start(to) {
            Ok(true) | Err(Errno::ECONNREFUSED) if nonblocking => {
                // The answer of the other end comes after the call, even on a loopback interface.
                self.state.lock().unreported = true;
                err!(EINPROGRESS)
            }
            Ok(true) => Ok(()),
            Ok(false) if nonblocking => {
                self.state.lock().unreported = true;
                err!(EINPROGRESS)
            }
            Ok(false) => self.wait_connected(task),
            Err(errno) => {
                self.common.take_error();
                Err(errno.into())
            }
        }
    }

    /// The end of a non-blocking connect, told to the next one.
    fn report_earlier(&self, nonblocking: bool) -> Option<SysResult<()>> {
        let mut state = self.state.lock();
        let phase = state.phase;
        match phase {
            Phase::Connecting if nonblocking => Some(err!(EALREADY)),
            Phase::Connecting => None,
            _ if std::mem::take(&mut state.unreported) => Some(Ok(())),
            _ => Some(err!(EISCONN)),
        }
    }

    /// A non-blocking connect was refused, and no one was told yet.
    fn report_failure(&self) -> Option<SysResult<()>> {
        let unreported = std::mem::take(&mut self.state.lock().unreported);
        if !unreported {
            return None;
        }
        // SO_ERROR may have told already; then this one starts afresh.
        self.common.take_error().map(|errno| Err(errno.into()))
    }

    /// Blocks until a listener has room.
    fn wait_connected(&self, task: &mut CurrentTask) -> SysResult<()> {
        let deadline = self.common.deadline(EventMask::WRITABLE);
        let waker = task.waker().clone();
        let done = task.block_until(
            deadline,
            |_| self.drain.register(waker, EventMask::all()),
            |_| match self.phase() {
                Phase::Connecting => Ok(None),
                Phase::Connected => Ok(Some(())),
                _ => Err(self.common.take_error().unwrap_or(Errno::ECONNREFUSED).into()),
            },
        );
        match done {
            Ok(Some(())) => Ok(()),
            Ok(None) => {
                self.state.lock().unreported = true;
                err!(EINPROGRESS)
            }
            Err(SysError::Restart(_)) if deadline.is_some() => err!(EINTR),
            Err(SysError::Restart(_)) => Err(Restart::IfSaRestart.into()),
            Err(error) => Err(error),
        }
    }

    /// True when connected, false when it waits for room. `ECONNREFUSED`.
    fn start(&self, to: Endpoint) -> Result<bool, Errno> {
        let me = self.me.upgrade().ok_or(Errno::EINVAL)?;
        let local = {
            let mut state = self.state.lock();
            if state.local.ip.is_unspecified() {
                state.local.ip = source_for(to.ip);
            }
            state.local
        };
        if local == to {
            return self.connect_to_self(&me, to);
        }
        let listener = self.network().tcp.find(to, u64::from(local.port), |binding, socket| {
            if !binding.listening.load(Ordering::SeqCst) || socket.is_released() {
                return None;
            }
            binding.matches(to.ip)
        });
        let Some(listener) = listener else {
            self.common.set_error(Errno::ECONNREFUSED);
            self.common.queue.wake(EventMask::all());
            return Err(Errno::ECONNREFUSED);
        };
        self.state.lock().remote = Some(to);
        match listener.admit(&me) {
            Some(connected) => Ok(connected),
            None => {
                self.common.set_error(Errno::ECONNREFUSED);
                Err(Errno::ECONNREFUSED)
            }
        }
    }

    /// A socket that connects to its own address is its own peer ("simultaneous open").
    fn connect_to_self(&self, me: &Arc<Self>, to: Endpoint) -> Result<bool, Errno> {
        let mut state = self.state.lock();
        state.phase = Phase::Connected;
        state.remote = Some(to);
        state.peer = Some(me.clone());
        Ok(true)
    }

    /// On a listener: takes the client in, or lets it wait (false). `None`: it listens no more.
    fn admit(&self, client: &Arc<Self>) -> Option<bool> {
        let client_end = {
            let state = client.state.lock();
            (state.local, state.remote?)
        };
        let child = self.new_child(client_end);
        let mut state = self.state.lock();
        if state.phase != Phase::Listening {
            drop(state);
            child.forget();
            return None;
        }
        if state.pending.len() > state.backlog {
            state.waiting.push_back(Arc::downgrade(client));
            {
                let mut client_state = client.state.lock_nested();
                // Listener before client, always: a client never becomes a listener while it connects.
                client_state.phase = Phase::Connecting;
            }
            drop(state);
            child.forget();
            return Some(false);
        }
        {
            let mut child_state = child.state.lock_nested();
            child_state.phase = Phase::Connected;
            child_state.peer = Some(client.clone());
        }
        {
            let mut client_state = client.state.lock_nested();
            client_state.phase = Phase::Connected;
            client_state.peer = Some(child.clone());
        }
        state.pending.push_back(child);
        drop(state);
        self.common.queue.wake(EventMask::READABLE);
        client.common.queue.wake(EventMask::all());
        client.drain.wake(EventMask::all());
        Some(true)
    }

    /// The listener's end of a connection from `client` to `to`.
    fn new_child(&self, (client, to): (Endpoint, Endpoint)) -> Arc<Self> {
        let of = &self.common;
        let child = Self::new(Common::new(
            of.kernel.clone(),
            of.cred.clone(),
            of.family,
            of.kind,
            of.protocol,
        ));
        child.common.inherit(of);
        child.options.inherit(&self.options);
        let binding = self.network().tcp.share(child.bind_request(to));
        let mut state = child.state.lock();
        state.local = to;
        state.remote = Some(client);
        state.binding = Some(binding);
        drop(state);
        child
    }

    /// Of a child that was not needed: gives its port back.
    fn forget(&self) {
        let binding = self.state.lock().binding.take();
        if let Some(binding) = binding {
            self.network().tcp.unbind(&binding);
        }
    }

    /// On a listener with room: lets in who waited for it.
    pub(super) fn admit_waiting(&self) {
        loop {
            let client = {
                let mut state = self.state.lock();
                if state.pending.len() > state.backlog {
                    return;
                }
                state.waiting.pop_front()
            };
            let Some(client) = client else { return };
            let Some(client) = client.upgrade().filter(|client| !client.is_released()) else {
                continue;
            };
            if client.phase() == Phase::Connecting && self.admit(&client).is_none() {
                client.refuse();
            }
        }
    }

    /// No one listens any more where this one waited.
    pub(super) fn refuse(&self) {
        self.state.lock().phase = Phase::Closed;
        self.common.set_error(Errno::ECONNREFUSED);
        self.common.queue.wake(EventMask::all());
        self.drain.wake(EventMask::all());
    }

    /// connect(2) with AF_UNSPEC: the connection is given up, the socket can be used again.
    fn disconnect(&self) -> SysResult<()> {
        self.stop_listening();
        let (peer, phase) = {
            let mut state = self.state.lock();
            let phase = std::mem::replace(&mut state.phase, Phase::Closed);
            state.remote = None;
            (state.peer.take(), phase)
        };
        if let Some(peer) = peer
            && phase == Phase::Connected
        {
            peer.reset(Errno::ECONNRESET);
        }
        let unread = self.receive.purge();
        drop(unread);
        for flag in [&self.read_closed, &self.write_closed, &self.got_fin] {
            flag.store(false, Ordering::SeqCst);
        }
        match phase {
            // The next call hears that the connection is gone.
            Phase::Connected | Phase::Connecting => self.common.set_error(Errno::ECONNRESET),
            _ => drop(self.common.take_error()),
        }
        Ok(())
    }
}
