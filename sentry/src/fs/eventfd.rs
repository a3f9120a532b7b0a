//! eventfd(2).

use std::any::Any;

use linux_abi::Errno;
use ranked_sync::Mutex;

use crate::{
    SysResult, err, lock_order,
    vfs::{FileDescription, FileOps, IoDst, IoSrc, SeekFrom},
    wait::{EventMask, PollTable, WaitQueue},
};

/// The largest value the counter takes.
const MAX: u64 = u64::MAX - 1;

/// A counter that can be waited for.
#[derive(Debug)]
pub struct EventFd {
    count: Mutex<lock_order::Leaf, u64>,
    queue: WaitQueue,
    /// EFD_SEMAPHORE: a read takes 1, not all.
    semaphore: bool,
}

impl EventFd {
    pub fn new(initial: u32, semaphore: bool) -> Self {
        Self { count: Mutex::new(initial.into()), queue: WaitQueue::new(), semaphore }
    }

    /// Adds to the counter, up to its maximum, from inside the kernel (aio).
    pub fn signal(&self, add: u64) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(add).min(MAX);
        }
        self.queue.wake(EventMask::READABLE);
    }
}

impl FileOps for EventFd {
    fn read(&self, _file: &FileDescription, _offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        if dst.len() < 8 {
            return err!(EINVAL);
        }
        let taken = {
            let mut count = self.count.lock();
            if *count == 0 {
                return err!(EAGAIN);
            }
            let taken = if self.semaphore { 1 } else { *count };
            *count -= taken;
            taken
        };
        self.queue.wake(EventMask::WRITABLE);
        // As in Linux, the value is gone even when the copy fails.
        if dst.put(&taken.to_ne_bytes())? == 8 { Ok(8) } else { Err(Errno::EFAULT.into()) }
    }

    fn write(
        &self,
        _file: &FileDescription,
        _offset: u64,
        src: &mut IoSrc<'_>,
    ) -> SysResult<usize> {
        if src.len() < 8 {
            return err!(EINVAL);
        }
        let mut bytes = [0; 8];
        if src.peek(&mut bytes)? != 8 {
            return err!(EFAULT);
        }
        let add = u64::from_ne_bytes(bytes);
        if add == u64::MAX {
            return err!(EINVAL);
        }
        {
            let mut count = self.count.lock();
            if MAX - *count < add {
                return err!(EAGAIN);
            }
            *count += add;
        }
        src.advance(8);
        self.queue.wake(EventMask::READABLE);
        Ok(8)
    }

    /// It has no position, and says so politely (`noop_llseek`).
    fn seek(&self, _file: &FileDescription, current: u64, _to: SeekFrom) -> SysResult<u64> {
        Ok(current)
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.queue);
        let count = *self.count.lock();
        let mut mask = EventMask::empty();
        mask.set(EventMask::IN, count > 0);
        mask.set(EventMask::OUT, count < MAX);
        mask
    }

    fn fdinfo(&self, _file: &FileDescription) -> String {
        format!(
            "eventfd-count: {:16x}\neventfd-semaphore: {}\n",
            *self.count.lock(),
            u8::from(self.semaphore)
        )
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
