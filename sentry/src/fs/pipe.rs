//! Pipes and fifos (pipe(7), fifo(7); `fs/pipe.c`).
//!
//! A [`Pipe`] is the buffer with its counts of ends; a [`PipeEnd`] is an open file on it.
//! A fifo's inode keeps a `Pipe` and opens ends with [`Pipe::open`].
//!
//! # Lock order
//! `Pipe`, then user memory (a copy may fault pages in). Nothing else is taken below it;
//! waiters are woken after it was given back.

mod gather;
mod inode;
mod ring;

use std::{
    any::Any,
    fmt,
    sync::{Arc, atomic::AtomicU32, atomic::Ordering},
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use self::gather::Gather;
pub use self::inode::PipeInode;
use self::ring::{Ring, SLOT_BYTES};
use crate::{
    SysError, SysResult, err,
    kernel::{Capability, CurrentTask},
    lock_order,
    user::{UserAddr, UserMemory},
    vfs::{FileDescription, FileOps, IoDst, IoSrc, StatusFlags},
    wait::{EventMask, PollTable, WaitQueue},
};

/// Slots of a new pipe: 64 KiB.
const DEFAULT_SLOTS: usize = 16;
/// The most F_SETPIPE_SZ gives without CAP_SYS_RESOURCE (`/proc/sys/fs/pipe-max-size`).
const MAX_BYTES: usize = 1 << 20;
/// The most it gives to anyone; Linux allows up to 2 GiB, which no one needs.
const MAX_BYTES_PRIVILEGED: usize = 64 << 20;

/// The buffer which pipe ends share.
pub struct Pipe {
    state: Mutex<lock_order::Pipe, State>,
    queue: WaitQueue,
    /// Is it a node of a file system? Opening one end then waits for the other.
    is_fifo: bool,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    readers: u32,
    writers: u32,
    /// How many readers and writers there ever were: what an open waits for.
    reader_opens: u32,
    writer_opens: u32,
    gather: Gather,
}

/// An open end: reading, writing, or both (a fifo opened O_RDWR).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// A reader that came first and did not wait: no hang-up is reported until the count of
    /// writers that ever were differs from this. 0 is never the count then.
    writers_seen: AtomicU32,
    /// The count of opens of the other end that `open_wait` waits to see changed.
    waits_for: Option<u32>,
}

impl Pipe {
    fn with_kind(is_fifo: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                ring: Ring::new(DEFAULT_SLOTS),
                readers: 0,
                writers: 0,
                reader_opens: 0,
                writer_opens: 0,
                gather: Gather::new(),
            }),
            queue: WaitQueue::new(),
            is_fifo,
        })
    }

    /// What pipe(2) makes.
    pub fn new() -> Arc<Self> {
        Self::with_kind(false)
    }

    /// What a fifo's inode keeps for as long as it lives.
    pub fn new_fifo() -> Arc<Self> {
        Self::with_kind(true)
    }

    /// Opens an end, as `flags` of open(2) say; for a fifo the caller then calls
    /// [`FileOps::open_wait`]. `ENXIO`: a non-blocking writer and no reader.
    pub fn open(self: &Arc<Self>, flags: u32) -> SysResult<Box<dyn FileOps>> {
        let access = flags & libc::O_ACCMODE as u32;
        let nonblock = flags & libc::O_NONBLOCK as u32 != 0;
        let reads = access != libc::O_WRONLY as u32;
        let writes = access != libc::O_RDONLY as u32;
        let mut end = PipeEnd {
            pipe: self.clone(),
            reads: false,
            writes: false,
            writers_seen: AtomicU32::new(0),
            waits_for: None,
        };
        {
            let mut state = self.state.lock();
            if self.is_fifo && writes && !reads && nonblock && state.readers == 0 {
                return err!(ENXIO);
            }
            if self.is_fifo && reads != writes {
                if reads && state.writers == 0 {
                    if nonblock {
                        end.writers_seen = AtomicU32::new(state.writer_opens);
                    } else {
                        end.waits_for = Some(state.writer_opens);
                    }
                } else if writes && state.readers == 0 {
                    end.waits_for = Some(state.reader_opens);
                }
            }
            if reads {
                state.readers += 1;
                state.reader_opens = state.reader_opens.wrapping_add(1).max(1);
            }
            if writes {
                state.writers += 1;
                state.writer_opens = state.writer_opens.wrapping_add(1).max(1);
            }
            (end.reads, end.writes) = (reads, writes);
        }
        self.queue.wake(EventMask::all());
        Ok(Box::new(end))
    }

    /// Bytes that can be read.
    pub fn len(&self) -> usize {
        self.state.lock().ring.bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// F_GETPIPE_SZ.
    pub fn capacity(&self) -> usize {
        self.state.lock().ring.capacity() * SLOT_BYTES
    }

    /// F_SETPIPE_SZ: the size really given.
    pub fn set_capacity(&self, task: &CurrentTask, bytes: u64) -> SysResult<usize> {
        if bytes > 1 << 31 {
            return err!(EINVAL);
        }
        let bytes = usize::try_from(bytes).map_err(|_| Errno::EINVAL)?;
        let rounded = bytes.max(SLOT_BYTES).next_power_of_two();
        let mut state = self.state.lock();
        let grows = rounded > state.ring.capacity() * SLOT_BYTES;
        if grows && rounded > MAX_BYTES && !task.cred().has(Capability::SYS_RESOURCE) {
            return err!(EPERM);
        }
        if rounded > MAX_BYTES_PRIVILEGED {
            return err!(ENOMEM);
        }
        state.ring.resize(rounded / SLOT_BYTES)?;
        drop(state);
        self.queue.wake(EventMask::WRITABLE);
        Ok(rounded)
    }

    /// Bytes that can be read; 0 at the end, `EAGAIN` when there are none yet.
    pub fn readable(&self) -> SysResult<usize> {
        let state = self.state.lock();
        match state.ring.bytes() {
            0 if state.writers > 0 => err!(EAGAIN),
            bytes => Ok(bytes),
        }
    }

    pub fn has_readers(&self) -> bool {
        self.state.lock().readers > 0
    }

    /// Drops the first `count` bytes, which were copied by [`Self::peek`].
    pub fn discard(&self, count: usize) {
        let mut state = self.state.lock();
        let was_full = state.ring.is_full();
        let count = count.min(state.ring.bytes());
        state.ring.consume(count);
        let freed = was_full && !state.ring.is_full();
        drop(state);
        if freed {
            self.queue.wake(EventMask::WRITABLE);
        }
    }

    /// Bytes that surely fit without waiting.
    pub fn room(&self) -> usize {
        self.state.lock().ring.free_slots() * SLOT_BYTES
    }

    /// Copies what is there without taking it (tee(2)). `EAGAIN` when empty, 0 at the end.
    pub fn peek(&self, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let state = self.state.lock();
        if state.ring.is_empty() {
            return if state.writers == 0 { Ok(0) } else { err!(EAGAIN) };
        }
        Ok(state.ring.peek(dst)?)
    }

    /// Reads, whatever end it is called on. `EAGAIN` when empty and there are writers.
    pub fn read(&self, dst: &mut IoDst<'_>) -> SysResult<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        let mut state = self.state.lock();
        if state.ring.is_empty() {
            return if state.writers == 0 { Ok(0) } else { err!(EAGAIN) };
        }
        state.gather.end();
        let was_full = state.ring.is_full();
        let got = state.ring.read(dst);
        let freed = was_full && !state.ring.is_full();
        drop(state);
        if freed {
            self.queue.wake(EventMask::WRITABLE);
        }
        Ok(got?)
    }

    /// Writes. `EPIPE` without readers, `EAGAIN` when nothing fits.
    pub fn write(&self, src: &mut IoSrc<'_>, packets: bool) -> SysResult<usize> {
        if src.is_empty() {
            return Ok(0);
        }
        let mut state = self.state.lock();
        if state.readers == 0 {
            return err!(EPIPE);
        }
        let put = state.ring.write(src, packets)?;
        let nearly_full = state.ring.free_slots() < state.ring.capacity().div_ceil(4);
        let wakes = state.gather.wrote(nearly_full);
        drop(state);
        if wakes {
            self.queue.wake(EventMask::READABLE);
        }
        if put == 0 { err!(EAGAIN) } else { Ok(put) }
    }
}

impl PipeEnd {
    /// The pipe it is an end of.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let (one_side_left, old) = {
            let mut state = self.pipe.state.lock();
            state.readers -= u32::from(self.reads);
            state.writers -= u32::from(self.writes);
            let none_left = state.readers == 0 && state.writers == 0;
            // With no end left there is no pipe: a fifo starts empty, with the usual size, again.
            let old =
                none_left.then(|| std::mem::replace(&mut state.ring, Ring::new(DEFAULT_SLOTS)));
            ((state.readers == 0) != (state.writers == 0), old)
        };
        drop(old);
        if one_side_left {
            self.pipe.queue.wake(EventMask::all());
        }
    }
}

impl FileOps for PipeEnd {
    fn open_wait(&self, task: &mut CurrentTask, _file: &FileDescription) -> SysResult<()> {
        let Some(before) = self.waits_for else { return Ok(()) };
        let waker = task.waker().clone();
        task.block_until(
            None,
            |_| self.pipe.queue.register(waker, EventMask::all()),
            |_| {
                let state = self.pipe.state.lock();
                let now = if self.reads { state.writer_opens } else { state.reader_opens };
                Ok((now != before).then_some(()))
            },
        )?;
        Ok(())
    }

    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        self.pipe.read(dst)
    }

    fn write(&self, file: &FileDescription, _offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        self.pipe.write(src, file.flags().contains(StatusFlags::DIRECT))
    }

    fn writes_all(&self) -> bool {
        true
    }

    fn sleep_limit(&self, events: EventMask) -> Option<u64> {
        if !events.contains(EventMask::IN) {
            return None;
        }
        let alone = self.pipe.queue.waiters() == 1;
        let mut state = self.pipe.state.lock();
        // What came since the caller looked would wake nobody.
        if state.ring.is_empty() { state.gather.wait(alone) } else { Some(0) }
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.pipe.queue);
        let mut state = self.pipe.state.lock();
        if table.registers() {
            state.gather.end();
        }
        let mut mask = EventMask::empty();
        if self.reads {
            mask.set(EventMask::READABLE, !state.ring.is_empty());
            let seen = self.writers_seen.load(Ordering::Relaxed);
            mask.set(EventMask::HUP, state.writers == 0 && seen != state.writer_opens);
        }
        if self.writes {
            mask.set(EventMask::WRITABLE, !state.ring.is_full());
            mask.set(EventMask::ERR, state.readers == 0);
        }
        mask
    }

    fn ioctl(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        request: u32,
        arg: UserAddr,
    ) -> SysResult<u64> {
        if u64::from(request) != libc::FIONREAD {
            return Err(SysError::Errno(Errno::ENOTTY));
        }
        task.mm().write_obj(arg.as_ref(), &(self.pipe.len() as i32))?;
        Ok(0)
    }

    fn fcntl(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        command: u32,
        arg: u64,
    ) -> SysResult<u64> {
        match command as i32 {
            libc::F_GETPIPE_SZ => Ok(self.pipe.capacity() as u64),
            libc::F_SETPIPE_SZ => {
                let bytes = u64::from(arg as u32);
                self.pipe.set_capacity(task, bytes).map(|size| size as u64)
            }
            _ => err!(EINVAL),
        }
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_fifo { "Fifo" } else { "Pipe" })
    }
}

impl fmt::Debug for PipeEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeEnd(reads {}, writes {})", self.reads, self.writes)
    }
}
