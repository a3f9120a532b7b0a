//! Receiving on a unix socket.

use std::sync::{Arc, atomic::Ordering};

use linux_abi::socket::Ucred;

use super::{Extra, Phase, UnixSocket, names, names::Name};
use crate::{
    Errno, SysResult, err,
    socket::{Control, RecvMsg, buffer::Packet, message::NOBODY},
    wait::EventMask,
};

impl UnixSocket {
    fn is_connected(&self) -> bool {
        self.state.lock().phase == Phase::Connected
    }

    /// What a read of an empty queue gives: the pending error, the end, or `EAGAIN`.
    fn nothing_there(&self) -> SysResult<usize> {
        if let Some(errno) = self.common.take_error() {
            return Err(errno.into());
        }
        if self.reads_no_more() { Ok(0) } else { err!(EAGAIN) }
    }

    pub(super) fn receive_stream(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        if !self.is_connected() {
            return err!(EINVAL);
        }
        if message.flags.has(libc::MSG_OOB) {
            return self.receive_urgent(message);
        }
        if message.dst.is_empty() {
            return Ok(0);
        }
        if message.flags.has(libc::MSG_PEEK) {
            return self.peek_stream(message);
        }
        let reading = self.receive.start_reading();
        let mut copied = 0;
        let mut from = None;
        let mut ids = None;
        while !message.dst.is_empty() {
            let Some(mut packet) = self.receive.take() else {
                if copied > 0 {
                    break;
                }
                drop(reading);
                return self.nothing_there();
            };
            if copied > 0 && self.differs(ids, &packet) {
                self.receive.put_back(packet, 0);
                message.complete = true;
                break;
            }
            if copied == 0 {
                ids = packet.extra.credentials;
                from = packet.extra.from.clone();
            }
            let len = packet.block.len();
            let got = match message.dst.put(packet.block.data()) {
                Ok(got) => got,
                Err(errno) => {
                    self.receive.put_back(packet, 0);
                    if copied > 0 {
                        break;
                    }
                    return Err(errno.into());
                }
            };
            copied += got;
            packet.block.consume(got);
            let rights = packet.extra.rights.take();
            let had_rights = rights.is_some();
            if packet.block.is_empty() {
                drop(self.receive.done_with(packet, len));
            } else {
                self.receive.put_back(packet, got);
            }
            if let Some(rights) = rights
                && message.takes_control
            {
                message.control.push(Control::Rights(rights.into_files()));
            }
            if had_rights {
                message.complete = true;
                break;
            }
        }
        drop(reading);
        // What was read lies no more before the place to peek at.
        let offset = self.peek_offset.load(Ordering::Relaxed);
        if offset > 0 {
            let back = offset.saturating_sub(copied as i32).max(0);
            self.peek_offset.store(back, Ordering::Relaxed);
        }
        self.describe(message, ids, from);
        Ok(copied)
    }

    /// Bytes from different processes are not glued together when the reader asked who sent them.
    fn differs(&self, ids: Option<Ucred>, packet: &Packet<Extra>) -> bool {
        self.common.passes_credentials() && packet.extra.credentials != ids
    }

    /// MSG_OOB: the urgent byte. `EINVAL` when there is none.
    fn receive_urgent(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        message.complete = true;
        let byte = {
            let mut urgent = self.urgent.lock();
            let byte = urgent.ok_or(Errno::EINVAL)?;
            if !message.flags.has(libc::MSG_PEEK) {
                *urgent = None;
            }
            byte
        };
        message.out_flags |= libc::MSG_OOB;
        Ok(message.dst.put(&[byte])?)
    }

    fn peek_stream(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        let reading = self.receive.start_reading();
        let mut copied = 0;
        let mut ids = None;
        let offset = self.peek_offset.load(Ordering::Relaxed);
        let mut skip = usize::try_from(offset).unwrap_or(0);
        {
            // The copies are made with the queue locked: peeking is rare.
            let packets = self.receive.lock();
            for packet in &packets.list {
                if message.dst.is_empty() || (copied > 0 && self.differs(ids, packet)) {
                    break;
                }
                let data = packet.block.data();
                if skip >= data.len() {
                    skip -= data.len();
                    continue;
                }
                ids = packet.extra.credentials;
                match message.dst.put(data.get(std::mem::take(&mut skip)..).unwrap_or(&[])) {
                    Ok(got) => copied += got,
                    Err(_) if copied > 0 => break,
                    Err(errno) => return Err(errno.into()),
                }
                if let Some(rights) = &packet.extra.rights {
                    if message.takes_control {
                        message.control.push(Control::Rights(rights.files().to_vec()));
                    }
                    break;
                }
            }
        }
        drop(reading);
        if copied == 0 {
            return self.nothing_there();
        }
        if offset >= 0 {
            self.peek_offset.fetch_add(copied as i32, Ordering::Relaxed);
        }
        message.complete = true;
        self.describe(message, ids, None);
        Ok(copied)
    }

    /// Credentials and name of the sender, as far as the receiver asked for them.
    fn describe(&self, message: &mut RecvMsg<'_, '_>, ids: Option<Ucred>, from: Option<Arc<Name>>) {
        if self.common.passes_credentials() && message.takes_control {
            message.control.insert(0, Control::Credentials(ids.unwrap_or(NOBODY)));
        }
        if let Some(name) = from {
            message.from = Some(names::address(Some(&name)));
        }
    }

    pub(super) fn receive_datagram(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        if message.flags.has(libc::MSG_OOB) {
            return err!(EOPNOTSUPP);
        }
        if self.is_connection_based() && !self.is_connected() {
            return err!(ENOTCONN);
        }
        message.complete = true;
        let peeks = message.flags.has(libc::MSG_PEEK);
        let reading = self.receive.start_reading();
        let Some(mut packet) = self.receive.take() else {
            drop(reading);
            // A connection's end; for datagrams shutdown(2) said that nothing more comes.
            return self.nothing_there();
        };
        let len = packet.block.len();
        let copied = message.dst.put(packet.block.data());
        let ids = packet.extra.credentials;
        let from = packet.extra.from.clone();
        let files = if peeks {
            packet.extra.rights.as_ref().map(|rights| rights.files().to_vec())
        } else {
            None
        };
        let rights = if peeks { None } else { packet.extra.rights.take() };
        if peeks {
            self.receive.put_back(packet, 0);
            drop(reading);
        } else {
            let rest = self.receive.done_with(packet, len);
            drop(reading);
            drop(rest);
            self.drain.wake(EventMask::WRITABLE);
        }
        let copied = copied.map_err(|_| Errno::EFAULT)?;
        let files = files.or_else(|| rights.map(|rights| rights.into_files()));
        if let Some(files) = files
            && message.takes_control
        {
            message.control.push(Control::Rights(files));
        }
        self.describe(message, ids, from);
        if copied < len {
            message.out_flags |= libc::MSG_TRUNC;
        }
        Ok(if message.flags.has(libc::MSG_TRUNC) { len } else { copied })
    }
}
