//! Connecting unix sockets.

use std::sync::{Arc, Weak};

use ranked_sync::Mutex;

use super::{Phase, UnixSocket, names};
use crate::{
    Restart, SysError, SysResult, err,
    kernel::CurrentTask,
    socket::{Common, SockAddr},
    wait::EventMask,
};

impl UnixSocket {
    /// Two sockets connected to each other (socketpair(2)).
    pub fn pair(task: &CurrentTask, kind: i32) -> (Arc<Self>, Arc<Self>) {
        let (a, b) = (Self::new(task, kind), Self::new(task, kind));
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut state = one.state.lock();
            state.phase = Phase::Connected;
            state.peer = Some(other.clone());
            drop(state);
            *one.common.peer.lock() = Some((task.pid(), task.cred()));
        }
        (a, b)
    }

    pub(super) fn connect_stream(
        &self,
        task: &mut CurrentTask,
        addr: &SockAddr,
        nonblocking: bool,
    ) -> SysResult<()> {
        if self.common.passes_credentials() {
            names::autobind(self)?;
        }
        let deadline = self.common.deadline(EventMask::WRITABLE);
        loop {
            let listener = names::find(task, addr, self.common.kind)?;
            match self.try_connect(&listener) {
                Err(error) if error.is_again() && !nonblocking => {}
                result => return result,
            }
            let waker = task.waker().clone();
            let room = task.block_until(
                deadline,
                |_| listener.drain.register(waker, EventMask::WRITABLE),
                |_| Ok(listener.has_backlog_room().then_some(())),
            );
            match room {
                Ok(Some(())) => {}
                Ok(None) => return err!(EAGAIN),
                Err(SysError::Restart(_)) if deadline.is_some() => return err!(EINTR),
                Err(SysError::Restart(_)) => return Err(Restart::IfSaRestart.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Something will come of another try: there is room, or no listener any more.
    fn has_backlog_room(&self) -> bool {
        let state = self.state.lock();
        state.phase != Phase::Listening || state.pending.len() <= state.backlog
    }

    fn try_connect(&self, listener: &Arc<Self>) -> SysResult<()> {
        let Some(me) = self.me.upgrade() else { return err!(EINVAL) };
        match self.state.lock().phase {
            Phase::Unconnected => {}
            Phase::Connected => return err!(EISCONN),
            Phase::Listening => return err!(EINVAL),
        }
        if std::ptr::eq(self, &**listener) {
            return err!(ECONNREFUSED);
        }
        let listener_common = &listener.common;
        let child = Self::with_common(Common::new(
            listener_common.kernel.clone(),
            listener_common.cred.clone(),
            libc::AF_UNIX,
            self.common.kind,
            0,
        ));
        child.common.inherit(listener_common);
        *child.common.peer.lock() = Some(Self::own_credentials());
        {
            let (mut own, mut other) = Mutex::lock_pair(&self.state, &listener.state);
            if other.phase != Phase::Listening || listener.reads_no_more() {
                return err!(ECONNREFUSED);
            }
            if own.phase != Phase::Unconnected {
                return err!(EISCONN);
            }
            if other.pending.len() > other.backlog {
                return err!(EAGAIN);
            }
            {
                // New and unknown to anyone: no one can hold this one and want the others.
                let mut state = child.state.lock_nested();
                state.phase = Phase::Connected;
                state.peer = Some(me);
                state.name = other.name.clone();
            }
            own.phase = Phase::Connected;
            own.peer = Some(child.clone());
            other.pending.push_back(child);
        }
        let listener_credentials = listener_common.peer.lock().clone();
        *self.common.peer.lock() = listener_credentials;
        listener.common.queue.wake(EventMask::READABLE);
        self.common.queue.wake(EventMask::all());
        Ok(())
    }

    pub(super) fn connect_datagram(
        &self,
        task: &mut CurrentTask,
        addr: &SockAddr,
    ) -> SysResult<()> {
        if addr.family() == Some(libc::AF_UNSPEC) {
            self.disconnect();
            return Ok(());
        }
        let target = names::find(task, addr, self.common.kind)?;
        if self.common.passes_credentials() {
            names::autobind(self)?;
        }
        let targets_peer = target.peer();
        if targets_peer.is_some_and(|other| !std::ptr::eq(&*other, self)) {
            return err!(EPERM);
        }
        let old = {
            let mut state = self.state.lock();
            state.phase = Phase::Connected;
            state.full_target = Weak::new();
            state.peer.replace(target)
        };
        self.left(old);
        Ok(())
    }

    /// A datagram socket's peer is forgotten.
    pub(super) fn disconnect(&self) {
        let old = {
            let mut state = self.state.lock();
            state.phase = Phase::Unconnected;
            state.peer.take()
        };
        self.left(old);
    }

    /// The old peer's datagrams are lost, which it hears if it was connected back.
    fn left(&self, old: Option<Arc<Self>>) {
        let Some(old) = old else { return };
        let lost = self.receive.purge();
        if !lost.is_empty() && !old.is_released() && old.is_peered_with(self) {
            old.common.set_error(crate::Errno::ECONNRESET);
            old.common.queue.wake(EventMask::all());
        }
        drop(lost);
        self.drain.wake(EventMask::WRITABLE);
    }
}
