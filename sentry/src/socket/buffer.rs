//! Receive queues: packets of bytes on their way from one socket to another, and who pays
//! for them (`struct sk_buff`, `sk_wmem_alloc`).
//!
//! The bytes are copied from the sender's memory into a block and from there to the receiver's, both
//! with no queue lock held, so that the two ends work at the same time.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use platform::host;
use ranked_sync::{Mutex, MutexGuard};
use smallvec::SmallVec;

use crate::{
    Errno, lock_order,
    vfs::IoSrc,
    wait::{EventMask, WaitQueue},
};

/// Bytes a stream puts into one packet at most.
pub const STREAM_BLOCK: usize = 32 << 10;
/// Blocks of this size and up are kept for the next packet.
const REUSED_BLOCK: usize = 512;
/// How many are kept.
const SPARE_BLOCKS: usize = 4;

/// What a socket has sent that was not read yet.
#[derive(Debug)]
pub struct SendMemory {
    used: AtomicUsize,
    /// SO_SNDBUF, doubled.
    limit: AtomicUsize,
    /// The sender's waiters.
    queue: WaitQueue,
}

impl SendMemory {
    pub fn new(queue: WaitQueue, limit: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit: AtomicUsize::new(limit), queue })
    }

    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.queue.wake(EventMask::WRITABLE);
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// May more be sent at all?
    pub fn has_room(&self) -> bool {
        self.used() < self.limit()
    }

    /// Ready for poll(2): at most a quarter is used.
    pub fn is_writable(&self) -> bool {
        self.used().saturating_mul(4) <= self.limit()
    }

    /// Pays for a packet of `len` bytes.
    pub fn charge(self: &Arc<Self>, len: usize) -> Charge {
        let bytes = true_size(len);
        self.used.fetch_add(bytes, Ordering::SeqCst);
        Charge { memory: self.clone(), bytes }
    }
}

/// What a packet costs, as Linux counts it (`skb->truesize`).
pub fn true_size(len: usize) -> usize {
    match len {
        0..=192 => 768,
        193..=704 => 1280,
        705..=1728 => 2304,
        1729..=3776 => 4352,
        _ => len.next_multiple_of(4096) + 768,
    }
}

/// Given back when the packet is gone; wakes the sender. To be dropped with no lock held.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<SendMemory>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::SeqCst);
        if self.memory.is_writable() {
            self.memory.queue.wake(EventMask::WRITABLE);
        }
    }
}

/// Bytes in a buffer that is used again.
#[derive(Debug, Default)]
pub struct Block {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Block {
    /// The bytes.
    pub fn data(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or(&[])
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the first `count` bytes.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Bytes that can still be appended.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// Appends bytes for which there is [`Self::room`].
    pub fn extend(&mut self, from: &[u8]) {
        let end = self.end + from.len();
        if let Some(to) = self.bytes.get_mut(self.end..end) {
            to.copy_from_slice(from);
            self.end = end;
        }
    }

    /// Takes up to `max` bytes of `src` behind those that are there: how many.
    pub fn append(&mut self, src: &mut IoSrc<'_>, max: usize) -> Result<usize, Errno> {
        let max = max.min(src.len()).min(self.room());
        let end = self.end;
        let got = src.take(self.bytes.get_mut(end..end + max).ok_or(Errno::EINVAL)?)?;
        self.end += got;
        Ok(got)
    }
}

/// A message, or a piece of a stream.
#[derive(Debug)]
pub struct Packet<X> {
    pub block: Block,
    /// What the family adds.
    pub extra: X,
    /// Who paid.
    pub charge: Option<Charge>,
}

/// Packets waiting to be read.
#[derive(Debug)]
pub struct Packets<X> {
    pub list: VecDeque<Packet<X>>,
    /// Bytes in the list, and of a packet that a reader has in hand.
    pub bytes: usize,
    /// Packets in the list, and in a reader's hand.
    pub count: usize,
    spare: SmallVec<[Vec<u8>; SPARE_BLOCKS]>,
}

/// A socket's receive queue.
#[derive(Debug)]
pub struct ReceiveQueue<X> {
    packets: Mutex<lock_order::SocketPeer, Packets<X>>,
    /// Held by whoever takes packets out.
    reading: Mutex<lock_order::SocketRead, ()>,
}

impl<X> Default for ReceiveQueue<X> {
    fn default() -> Self {
        let packets = Packets { list: VecDeque::new(), bytes: 0, count: 0, spare: SmallVec::new() };
        Self { packets: Mutex::new(packets), reading: Mutex::new(()) }
    }
}

impl<X> ReceiveQueue<X> {
    /// The queue itself. Nothing that it gives may be dropped while it is held.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, lock_order::SocketPeer, Packets<X>> {
        self.packets.lock()
    }

    /// The right to take packets.
    #[track_caller]
    pub fn start_reading(&self) -> MutexGuard<'_, lock_order::SocketRead, ()> {
        self.reading.lock()
    }

    /// A block with room for `len` bytes.
    pub fn new_block(&self, len: usize) -> Result<Block, Errno> {
        let spare = if len >= REUSED_BLOCK / 8 {
            let spare = &mut self.packets.lock().spare;
            let fits = spare.iter().position(|bytes| bytes.len() >= len && bytes.len() <= len * 8);
            fits.map(|at| spare.swap_remove(at))
        } else {
            None
        };
        let bytes = match spare {
            Some(bytes) => bytes,
            None if host::heap_is_full() => return Err(Errno::ENOBUFS),
            None => {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(len).map_err(|_| Errno::ENOBUFS)?;
                bytes.resize(len, 0);
                bytes
            }
        };
        Ok(Block { bytes, start: 0, end: 0 })
    }

    /// Puts a packet in.
    pub fn push(&self, packet: Packet<X>) {
        let mut packets = self.packets.lock();
        packets.bytes += packet.block.len();
        packets.count += 1;
        packets.list.push_back(packet);
    }

    /// Takes the first packet in hand; it still counts until [`Self::put_back`] or [`Self::done_with`].
    pub fn take(&self) -> Option<Packet<X>> {
        self.packets.lock().list.pop_front()
    }

    /// The packet in hand goes back to the front; `consumed` bytes of it were read.
    pub fn put_back(&self, packet: Packet<X>, consumed: usize) {
        let mut packets = self.packets.lock();
        packets.bytes -= consumed;
        packets.list.push_front(packet);
    }

    /// The packet in hand, which held `len` bytes when it was taken, is gone: its extra and charge.
    pub fn done_with(&self, packet: Packet<X>, len: usize) -> (X, Option<Charge>) {
        let Packet { block, extra, charge } = packet;
        let mut packets = self.packets.lock();
        packets.bytes -= len;
        packets.count -= 1;
        if block.bytes.len() >= REUSED_BLOCK && packets.spare.len() < SPARE_BLOCKS {
            packets.spare.push(block.bytes);
        }
        (extra, charge)
    }

    /// Takes all; for the end of a socket. The caller drops them with no lock held.
    pub fn purge(&self) -> VecDeque<Packet<X>> {
        let mut packets = self.packets.lock();
        let list = std::mem::take(&mut packets.list);
        let bytes: usize = list.iter().map(|packet| packet.block.len()).sum();
        packets.bytes -= bytes.min(packets.bytes);
        packets.count -= list.len().min(packets.count);
        list
    }

    pub fn is_empty(&self) -> bool {
        self.packets.lock().count == 0
    }

    pub fn count(&self) -> usize {
        self.packets.lock().count
    }

    pub fn bytes(&self) -> usize {
        self.packets.lock().bytes
    }
}
