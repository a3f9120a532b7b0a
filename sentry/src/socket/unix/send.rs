//! Sending on a unix socket.

use std::sync::Arc;

use super::{Extra, Phase, UnixSocket, rights::Rights};
use crate::{
    Errno, SysResult, err,
    socket::{
        SendMsg,
        buffer::{Packet, STREAM_BLOCK},
        message::current_ids,
    },
    wait::EventMask,
};

impl UnixSocket {
    pub(super) fn send_stream(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        let urgent = message.flags.has(libc::MSG_OOB);
        let (phase, peer) = {
            let state = self.state.lock();
            (state.phase, state.peer.clone())
        };
        if message.to.is_some() {
            return if phase == Phase::Connected { err!(EISCONN) } else { err!(EOPNOTSUPP) };
        }
        let peer = peer.ok_or(Errno::ENOTCONN)?;
        if self.writes_no_more() {
            return err!(EPIPE);
        }
        let mut sent = 0;
        while !message.src.is_empty() {
            let step = if urgent && message.src.len() == 1 {
                Self::send_urgent(&peer, message)
            } else {
                self.send_piece(&peer, message, urgent)
            };
            match step {
                Ok(got) => sent += got,
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// The last byte of a send with MSG_OOB: it is received apart.
    fn send_urgent(peer: &Arc<Self>, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        if peer.is_released() || peer.reads_no_more() {
            return err!(EPIPE);
        }
        let mut byte = [0];
        message.src.take(&mut byte)?;
        *peer.urgent.lock() = Some(byte[0]);
        peer.common.queue.wake(EventMask::PRI);
        Ok(1)
    }

    /// One packet of a stream.
    fn send_piece(
        &self,
        peer: &Arc<Self>,
        message: &mut SendMsg<'_, '_>,
        urgent: bool,
    ) -> SysResult<usize> {
        let memory = &self.common.send_memory;
        if peer.is_released() || peer.reads_no_more() {
            return err!(EPIPE);
        }
        if !memory.has_room() {
            return err!(EAGAIN);
        }
        let most = (memory.limit() / 2).saturating_sub(64).clamp(1, STREAM_BLOCK);
        // The last byte of urgent data goes another way.
        let len = (message.src.len() - usize::from(urgent)).min(most);
        let mut block = peer.receive.new_block(len)?;
        let extra = self.extra(peer, message, false)?;
        let got = block.append(message.src, len)?;
        let charge = Some(memory.charge(got));
        peer.receive.push(Packet { block, extra, charge });
        peer.common.queue.wake(EventMask::READABLE);
        Ok(got)
    }

    /// What goes with the packet. Takes the files out of the message.
    fn extra(&self, peer: &Self, message: &mut SendMsg<'_, '_>, named: bool) -> SysResult<Extra> {
        let wants_ids = self.common.passes_credentials() || peer.common.passes_credentials();
        let credentials = match message.credentials {
            Some(ids) => Some(ids),
            None if wants_ids => Some(current_ids()),
            None => None,
        };
        let rights = if message.rights.is_empty() {
            None
        } else {
            let files = std::mem::take(&mut message.rights);
            Some(Box::new(Rights::new(&self.common.kernel, files)?))
        };
        Ok(Extra { from: if named { self.name() } else { None }, credentials, rights })
    }

    pub(super) fn send_datagram(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        if message.flags.has(libc::MSG_OOB) {
            return err!(EOPNOTSUPP);
        }
        if let Some(errno) = self.common.take_error() {
            return Err(errno.into());
        }
        let connected = self.peer();
        let target = match message.target.clone().and_then(|any| any.downcast::<Self>().ok()) {
            Some(target) => target,
            None => connected.clone().ok_or(Errno::ENOTCONN)?,
        };
        if self.writes_no_more() {
            return err!(EPIPE);
        }
        let memory = &self.common.send_memory;
        let len = message.src.len();
        if len > memory.limit().saturating_sub(32) {
            return err!(EMSGSIZE);
        }
        if !memory.has_room() {
            return err!(EAGAIN);
        }
        self.check_target(&target, connected.as_ref())?;
        let mut block = target.receive.new_block(len)?;
        if block.append(message.src, len)? < len {
            return err!(EFAULT);
        }
        let extra = self.extra(&target, message, true)?;
        let charge = Some(memory.charge(len));
        target.receive.push(Packet { block, extra, charge });
        target.common.queue.wake(EventMask::READABLE);
        Ok(len)
    }

    /// Does the target take datagrams from here now?
    fn check_target(&self, target: &Arc<Self>, connected: Option<&Arc<Self>>) -> SysResult<()> {
        if target.is_released() {
            if self.is_connection_based() {
                return err!(EPIPE);
            }
            if connected.is_some_and(|peer| Arc::ptr_eq(peer, target)) {
                self.disconnect();
            }
            return err!(ECONNREFUSED);
        }
        let other = target.peer();
        if other.is_some_and(|other| !std::ptr::eq(&*other, self)) {
            return err!(EPERM);
        }
        if target.reads_no_more() {
            return err!(EPIPE);
        }
        if !std::ptr::eq(&**target, self) && target.is_full_for(self) {
            self.state.lock().full_target = Arc::downgrade(target);
            return err!(EAGAIN);
        }
        Ok(())
    }
}
