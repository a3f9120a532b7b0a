//! What descriptors of a master do: `/dev/ptmx`, opened (pts(4)).

use std::{any::Any, sync::Arc};

use super::{TtyTable, ioctl, job_control, pair::Tty};
use crate::{
    SysResult, err,
    kernel::CurrentTask,
    user::UserAddr,
    vfs::{FileDescription, FileOps, IoDst, IoSrc},
    wait::{EventMask, PollTable},
};

const CHUNK_BYTES: usize = 4096;

/// An open master. Closing it hangs the terminal up.
#[derive(Debug)]
pub struct MasterFile {
    tty: Arc<Tty>,
    table: Arc<TtyTable>,
}

impl MasterFile {
    /// A new terminal in `table`.
    ///
    /// # Errors
    /// `ENOSPC` when there are too many.
    pub fn open(table: &Arc<TtyTable>) -> SysResult<Box<dyn FileOps>> {
        let tty = table.create()?;
        Ok(Box::new(Self { tty, table: table.clone() }))
    }

    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    pub fn table(&self) -> &Arc<TtyTable> {
        &self.table
    }
}

impl FileOps for MasterFile {
    fn read(&self, _: &FileDescription, _: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        if dst.is_empty() {
            return Ok(0);
        }
        match self.tty.take_printed(dst.len().min(CHUNK_BYTES)) {
            Some(bytes) => Ok(dst.put(&bytes)?),
            None if self.tty.state.lock().slave_closed() => err!(EIO),
            None => err!(EAGAIN),
        }
    }

    fn write(&self, _: &FileDescription, _: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        if src.is_empty() {
            return Ok(0);
        }
        let mut total = 0;
        while !src.is_empty() {
            let mut chunk = [0; CHUNK_BYTES];
            let taken = src.drain_with(CHUNK_BYTES, &mut |slices| {
                let mut len = 0;
                for slice in slices {
                    len += slice.copy_to(chunk.get_mut(len..).unwrap_or_default());
                }
                Ok(self.tty.type_in(chunk.get(..len).unwrap_or_default()))
            });
            match taken {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        if total == 0 { err!(EAGAIN) } else { Ok(total) }
    }

    fn writes_all(&self) -> bool {
        true
    }

    fn poll(&self, _: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.tty.master_queue);
        let state = self.tty.state.lock();
        let mut ready = EventMask::empty();
        if !state.discipline.output.is_empty() {
            ready |= EventMask::READABLE;
        }
        if state.packet_mode && state.discipline.packet_events != 0 {
            ready |= EventMask::READABLE | EventMask::PRI;
        }
        if state.slave_closed() {
            ready |= EventMask::HUP;
        }
        if self.tty.accepts_typing(&state) {
            ready |= EventMask::WRITABLE;
        }
        ready
    }

    fn ioctl(
        &self,
        task: &mut CurrentTask,
        file: &FileDescription,
        request: u32,
        arg: UserAddr,
    ) -> SysResult<u64> {
        ioctl::master(task, self, file, request, arg)
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.table.remove(self.tty.number());
        job_control::hang_up(&self.tty);
    }
}
