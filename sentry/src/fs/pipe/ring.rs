//! A pipe's buffer: a ring of page-sized slots, filled as Linux fills its pipe buffers
//! (`pipe_write` and `pipe_read` in `fs/pipe.c`), so that a guest which counts how many
//! bytes fit sees the same numbers.
//!
//! All pages lie in one vector: neighbouring full slots are copied in one piece.

use linux_abi::Errno;
use platform::host;

use crate::vfs::{IoDst, IoSrc};

/// Bytes in a slot; also the largest write that is atomic (PIPE_BUF).
pub(super) const SLOT_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    start: usize,
    len: usize,
    /// Written with O_DIRECT: a read takes it whole, or loses the rest.
    packet: bool,
}

/// The slots in use are `tail..head`, counted without wrapping; slot N is at `N % capacity`.
#[derive(Debug)]
pub(super) struct Ring {
    /// `slots.len()` pages; empty until the first write.
    pages: Vec<u8>,
    slots: Vec<Slot>,
    capacity: usize,
    head: usize,
    tail: usize,
    bytes: usize,
}

impl Ring {
    /// Of `capacity` slots, at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { pages: Vec::new(), slots: Vec::new(), capacity, head: 0, tail: 0, bytes: 0 }
    }

    /// Slots in all.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes waiting to be read.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// No slot is free (the last one may still have room for a small write).
    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.capacity
    }

    fn used(&self) -> usize {
        self.head - self.tail
    }

    /// Slots nothing is in.
    pub(super) fn free_slots(&self) -> usize {
        self.capacity - self.used()
    }

    /// Another number of slots, keeping the contents. `EBUSY` when they do not fit.
    pub(super) fn resize(&mut self, capacity: usize) -> Result<(), Errno> {
        let capacity = capacity.max(1);
        if self.used() > capacity {
            return Err(Errno::EBUSY);
        }
        let mut new = Self::new(capacity);
        if !self.is_empty() {
            new.allocate()?;
            for from in self.tail..self.head {
                let (page, slot) = (self.page(from), self.slots[from % self.capacity]);
                let to = new.head * SLOT_BYTES;
                new.pages[to..to + SLOT_BYTES]
                    .copy_from_slice(&self.pages[page..page + SLOT_BYTES]);
                new.slots[new.head] = slot;
                new.head += 1;
            }
            new.bytes = self.bytes;
        }
        *self = new;
        Ok(())
    }

    fn allocate(&mut self) -> Result<(), Errno> {
        if self.slots.is_empty() {
            if host::heap_is_full() {
                return Err(Errno::ENOMEM);
            }
            self.pages.try_reserve_exact(self.capacity * SLOT_BYTES).map_err(|_| Errno::ENOMEM)?;
            self.pages.resize(self.capacity * SLOT_BYTES, 0);
            self.slots.resize(self.capacity, Slot::default());
        }
        Ok(())
    }

    /// Where the page of slot number `at` begins.
    fn page(&self, at: usize) -> usize {
        (at % self.capacity) * SLOT_BYTES
    }

    /// Puts in as much of `src` as fits. `packets`: each page is a packet of its own.
    /// 0 when full; `EFAULT` when nothing could be copied.
    pub(super) fn write(&mut self, src: &mut IoSrc<'_>, packets: bool) -> Result<usize, Errno> {
        self.allocate()?;
        let mut done = self.append_to_last(src)?;
        while !src.is_empty() && !self.is_full() {
            let first = self.head % self.capacity;
            let together = self.free_slots().min(self.capacity - first);
            let want = src.len().min(together * SLOT_BYTES);
            let at = first * SLOT_BYTES;
            let got = match src.take(&mut self.pages[at..at + want]) {
                Ok(got) => got,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            };
            let mut left = got;
            while left > 0 {
                let len = left.min(SLOT_BYTES);
                let index = self.head % self.capacity;
                self.slots[index] = Slot { start: 0, len, packet: packets };
                self.head += 1;
                left -= len;
            }
            done += got;
            self.bytes += got;
            if got < want {
                break;
            }
        }
        Ok(done)
    }

    /// The odd bytes of a write go into the last slot, if they fit there as a whole.
    fn append_to_last(&mut self, src: &mut IoSrc<'_>) -> Result<usize, Errno> {
        let odd = src.len() % SLOT_BYTES;
        if odd == 0 || self.is_empty() {
            return Ok(0);
        }
        let last = self.head - 1;
        let index = last % self.capacity;
        let slot = self.slots[index];
        let end = slot.start + slot.len;
        if slot.packet || end + odd > SLOT_BYTES {
            return Ok(0);
        }
        let at = self.page(last) + end;
        let got = src.take(&mut self.pages[at..at + odd])?;
        self.slots[index].len += got;
        self.bytes += got;
        Ok(got)
    }

    /// Moves out as much as `dst` takes; one packet at most. `EFAULT` when nothing could be copied.
    pub(super) fn read(&mut self, dst: &mut IoDst<'_>) -> Result<usize, Errno> {
        let mut done = 0;
        while !self.is_empty() && !dst.is_empty() {
            let (at, run, packet) = self.next_run();
            let want = run.min(dst.len());
            let got = match dst.put(&self.pages[at..at + want]) {
                Ok(got) => got,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            };
            self.consume(got);
            done += got;
            if got < want {
                break;
            }
            if packet {
                // What did not fit of a packet is lost.
                self.consume(run - got);
                break;
            }
        }
        Ok(done)
    }

    /// As [`Self::read`], but leaves all in place (tee(2)).
    pub(super) fn peek(&self, dst: &mut IoDst<'_>) -> Result<usize, Errno> {
        let mut done = 0;
        for at in self.tail..self.head {
            let slot = self.slots[at % self.capacity];
            let start = self.page(at) + slot.start;
            let got = dst.put(&self.pages[start..start + slot.len])?;
            done += got;
            if got < slot.len {
                break;
            }
        }
        Ok(done)
    }

    /// The first bytes which lie together: where, how many, and whether they are a packet.
    fn next_run(&self) -> (usize, usize, bool) {
        let first = self.slots[self.tail % self.capacity];
        let at = self.page(self.tail) + first.start;
        let mut len = first.len;
        let mut end = first.start + first.len;
        let mut next = self.tail + 1;
        while !first.packet
            && end == SLOT_BYTES
            && next < self.head
            && !next.is_multiple_of(self.capacity)
        {
            let slot = self.slots[next % self.capacity];
            if slot.packet || slot.start != 0 {
                break;
            }
            len += slot.len;
            end = slot.len;
            next += 1;
        }
        (at, len, first.packet)
    }

    /// Drops the first bytes; there are as many.
    pub(super) fn consume(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let index = self.tail % self.capacity;
            let slot = &mut self.slots[index];
            let here = count.min(slot.len);
            slot.start += here;
            slot.len -= here;
            count -= here;
            if slot.len == 0 {
                self.tail += 1;
            }
        }
        if self.is_empty() {
            // Start over at the first page: it is still in the cache.
            (self.head, self.tail) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(ring: &mut Ring, len: usize) -> usize {
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        ring.write(&mut IoSrc::kernel(&bytes), false).unwrap()
    }

    fn read(ring: &mut Ring, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let got = ring.read(&mut IoDst::kernel(&mut bytes)).unwrap();
        bytes.truncate(got);
        bytes
    }

    #[test]
    fn holds_as_many_bytes_as_its_slots() {
        let mut ring = Ring::new(4);
        assert_eq!(write(&mut ring, 100_000), 4 * SLOT_BYTES);
        assert!(ring.is_full());
        assert_eq!(read(&mut ring, 1).len(), 1);
        assert!(ring.is_full(), "a slot is free only when all of it was read");
        assert_eq!(read(&mut ring, SLOT_BYTES - 1).len(), SLOT_BYTES - 1);
        assert_eq!(ring.free_slots(), 1);
    }

    #[test]
    fn single_bytes_share_a_slot() {
        let mut ring = Ring::new(2);
        for _ in 0..2 * SLOT_BYTES {
            assert_eq!(write(&mut ring, 1), 1);
        }
        assert_eq!(write(&mut ring, 1), 0);
        assert_eq!(ring.bytes(), 2 * SLOT_BYTES);
    }

    #[test]
    fn bytes_come_out_in_order_across_the_wrap() {
        let mut ring = Ring::new(3);
        write(&mut ring, SLOT_BYTES);
        write(&mut ring, SLOT_BYTES);
        read(&mut ring, SLOT_BYTES);
        assert_eq!(write(&mut ring, 2 * SLOT_BYTES), 2 * SLOT_BYTES);
        let got = read(&mut ring, 10 * SLOT_BYTES);
        let expected: Vec<u8> =
            (0..SLOT_BYTES).chain(0..2 * SLOT_BYTES).map(|at| at as u8).collect();
        assert_eq!(got, expected);
        assert!(ring.is_empty());
    }

    #[test]
    fn packets_keep_their_bounds() {
        let mut ring = Ring::new(4);
        ring.write(&mut IoSrc::kernel(b"first"), true).unwrap();
        ring.write(&mut IoSrc::kernel(b"second"), true).unwrap();
        assert_eq!(read(&mut ring, 2), b"fi");
        assert_eq!(read(&mut ring, 100), b"second");
    }

    #[test]
    fn resizing_keeps_the_contents() {
        let mut ring = Ring::new(4);
        write(&mut ring, 2 * SLOT_BYTES);
        assert_eq!(ring.resize(1), Err(Errno::EBUSY));
        ring.resize(2).unwrap();
        assert!(ring.is_full());
        assert_eq!(read(&mut ring, 100_000).len(), 2 * SLOT_BYTES);
    }
}
