//! Bytes of a TCP connection.

use std::sync::{Arc, atomic::Ordering};

use super::{Phase, TcpSocket};
use crate::{
    Errno, SysResult, err,
    socket::{
        RecvMsg, SendMsg,
        buffer::{Packet, STREAM_BLOCK},
    },
    wait::EventMask,
};

/// Writes up to this size are put into the room that the last packet has.
const SMALL: usize = 1024;
/// Room of a packet made for a small write.
const SMALL_BLOCK: usize = 4096;

impl TcpSocket {
    pub(super) fn do_send(&self, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        let (phase, peer) = {
            let state = self.state.lock();
            (state.phase, state.peer.clone())
        };
        if let Some(errno) = self.common.take_error() {
            return Err(errno.into());
        }
        match phase {
            _ if self.is_write_closed() => return err!(EPIPE),
            Phase::Connected => {}
            Phase::Connecting => return err!(EAGAIN),
            Phase::Closed | Phase::Listening | Phase::Reset => return err!(EPIPE),
        }
        let peer = peer.ok_or(Errno::EPIPE)?;
        let urgent = message.flags.has(libc::MSG_OOB);
        let mut sent = 0;
        while !message.src.is_empty() {
            if peer.is_released() {
                return self.send_to_no_one(message, sent);
            }
            let step = if urgent && message.src.len() == 1 {
                self.send_urgent(&peer, message)
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

    /// The other end is closed: what is sent is answered with a reset, which later calls see.
    fn send_to_no_one(&self, message: &mut SendMsg<'_, '_>, sent: usize) -> SysResult<usize> {
        let len = message.src.len();
        message.src.advance(len);
        let after_fin = self.got_fin.load(Ordering::SeqCst);
        self.reset(if after_fin { Errno::EPIPE } else { Errno::ECONNRESET });
        Ok(sent + len)
    }

    /// The last byte of a send with MSG_OOB.
    fn send_urgent(&self, peer: &Arc<Self>, message: &mut SendMsg<'_, '_>) -> SysResult<usize> {
        let mut byte = [0];
        message.src.take(&mut byte)?;
        peer.state.lock().urgent = Some(byte[0]);
        peer.common.queue.wake(EventMask::PRI);
        Ok(1)
    }

    fn send_piece(
        &self,
        peer: &Arc<Self>,
        message: &mut SendMsg<'_, '_>,
        urgent: bool,
    ) -> SysResult<usize> {
        let memory = &self.common.send_memory;
        // The last byte of urgent data goes another way.
        let len = (message.src.len() - usize::from(urgent)).min(STREAM_BLOCK);
        if len <= SMALL
            && let Some(got) = Self::append_to_last(peer, message, len)?
        {
            peer.common.queue.wake(EventMask::READABLE);
            return Ok(got);
        }
        if !memory.has_room() {
            return err!(EAGAIN);
        }
        let room = if len <= SMALL { SMALL_BLOCK } else { len };
        let mut block = peer.receive.new_block(room)?;
        let got = block.append(message.src, len)?;
        let charge = Some(memory.charge(room));
        peer.receive.push(Packet { block, extra: (), charge });
        peer.common.queue.wake(EventMask::READABLE);
        Ok(got)
    }

    /// Puts a small write behind the bytes that are not read yet, when there is room.
    fn append_to_last(
        peer: &Arc<Self>,
        message: &mut SendMsg<'_, '_>,
        len: usize,
    ) -> SysResult<Option<usize>> {
        // A copy on the stack first: user memory is not touched with the queue locked.
        let mut bytes = [0; SMALL];
        let bytes = bytes.get_mut(..len).ok_or(Errno::EINVAL)?;
        let got = message.src.peek(bytes)?;
        let mut packets = peer.receive.lock();
        let Some(last) = packets.list.back_mut().filter(|last| last.block.room() >= got) else {
            return Ok(None);
        };
        let bytes = bytes.get(..got).ok_or(Errno::EINVAL)?;
        last.block.extend(bytes);
        packets.bytes += got;
        drop(packets);
        message.src.advance(got);
        Ok(Some(got))
    }

    /// What a read of an empty queue gives.
    fn nothing_there(&self) -> SysResult<usize> {
        if self.got_fin.load(Ordering::SeqCst) {
            return Ok(0);
        }
        if let Some(errno) = self.common.take_error() {
            return Err(errno.into());
        }
        if self.is_read_closed() {
            return Ok(0);
        }
        match self.phase() {
            Phase::Connected | Phase::Connecting => err!(EAGAIN),
            Phase::Reset => Ok(0),
            Phase::Closed | Phase::Listening => err!(ENOTCONN),
        }
    }

    pub(super) fn do_receive(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        if message.flags.has(libc::MSG_OOB) {
            return self.receive_urgent(message);
        }
        if self.phase() == Phase::Listening {
            return err!(ENOTCONN);
        }
        if message.flags.has(libc::MSG_PEEK) {
            return self.peek(message);
        }
        let discards = message.flags.has(libc::MSG_TRUNC);
        let reading = self.receive.start_reading();
        let mut copied = 0;
        while !message.dst.is_empty() {
            let Some(mut packet) = self.receive.take() else { break };
            let len = packet.block.len();
            let got = if discards {
                let got = len.min(message.dst.len());
                message.dst.advance(got);
                Ok(got)
            } else {
                message.dst.put(packet.block.data())
            };
            let got = match got {
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
            if packet.block.is_empty() {
                drop(self.receive.done_with(packet, len));
            } else {
                self.receive.put_back(packet, got);
            }
        }
        drop(reading);
        if copied > 0 || message.dst.is_empty() { Ok(copied) } else { self.nothing_there() }
    }

    fn peek(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        let reading = self.receive.start_reading();
        let mut copied = 0;
        {
            let packets = self.receive.lock();
            for packet in &packets.list {
                if message.dst.is_empty() {
                    break;
                }
                match message.dst.put(packet.block.data()) {
                    Ok(got) => copied += got,
                    Err(_) if copied > 0 => break,
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        drop(reading);
        message.complete = true;
        if copied > 0 { Ok(copied) } else { self.nothing_there() }
    }

    /// MSG_OOB: the urgent byte. `EINVAL` when there is none.
    fn receive_urgent(&self, message: &mut RecvMsg<'_, '_>) -> SysResult<usize> {
        message.complete = true;
        let mut state = self.state.lock();
        if state.phase != Phase::Connected {
            return err!(ENOTCONN);
        }
        let byte = state.urgent.ok_or(Errno::EINVAL)?;
        if !message.flags.has(libc::MSG_PEEK) {
            state.urgent = None;
        }
        drop(state);
        message.out_flags |= libc::MSG_OOB;
        Ok(message.dst.put(&[byte])?)
    }
}
