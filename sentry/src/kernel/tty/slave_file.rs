//! What descriptors of a terminal do: `/dev/pts/N`, `/dev/tty`, `/dev/console`.

use std::{any::Any, sync::Arc};

use super::{ioctl, job_control, pair::Tty, termios::cc};
use crate::{
    Restart, SysResult, err,
    kernel::CurrentTask,
    time::Monotonic,
    user::UserAddr,
    vfs::{FileDescription, FileOps, IoDst, IoSrc},
    wait::{EventMask, PollTable},
};

/// Bytes a single read or write handles at a time.
const CHUNK_BYTES: usize = 4096;

const DECISECOND_NS: u64 = 100_000_000;

/// An open terminal.
#[derive(Debug)]
pub struct SlaveFile {
    tty: Arc<Tty>,
    /// The flags of open(2), for what happens at its end.
    flags: u32,
}

/// How a raw read waits (termios(3), "Canonical and noncanonical mode").
struct Waits {
    minimum: usize,
    decisecs: u64,
}

impl SlaveFile {
    /// Opens the slave.
    ///
    /// # Errors
    /// `EIO` while it is locked or when the master is gone; `EBUSY` for an exclusive one.
    pub fn open(tty: Arc<Tty>, flags: u32) -> SysResult<Box<dyn FileOps>> {
        tty.change(|state| {
            if state.locked || !state.master_open {
                return err!(EIO);
            }
            if state.exclusive && !job_control::caller_is_admin() {
                return err!(EBUSY);
            }
            state.slaves += 1;
            state.slave_was_open = true;
            Ok(())
        })?;
        tty.master_queue.wake(EventMask::WRITABLE);
        Ok(Box::new(Self { tty, flags }))
    }

    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// `Some` for reads by VMIN and VTIME.
    fn raw_waits(&self) -> Option<Waits> {
        let state = self.tty.state.lock();
        let settings = &state.discipline.settings;
        (!settings.edits_lines()).then(|| Waits {
            minimum: usize::from(settings.char(cc::VMIN)),
            decisecs: u64::from(settings.char(cc::VTIME)),
        })
    }

    /// Takes what there is, at least `minimum` bytes in raw mode. `None`: nothing yet.
    fn take(&self, max: usize, minimum: usize) -> Option<Vec<u8>> {
        self.tty.change(|state| {
            if state.discipline.is_readable(minimum) {
                return state.discipline.read(max);
            }
            // Hung up: the end of the file, for good.
            (!state.master_open).then(Vec::new)
        })
    }

    fn buffered(&self) -> usize {
        self.tty.state.lock().discipline.input.len()
    }

    /// A read with VTIME: gives up when nothing was typed for so long.
    fn read_with_timer(
        &self,
        task: &mut CurrentTask,
        waits: &Waits,
        max: usize,
    ) -> SysResult<Vec<u8>> {
        let wait_ns = waits.decisecs * DECISECOND_NS;
        let want = waits.minimum.max(1).min(max);
        let now = |task: &CurrentTask| task.kernel().clocks.monotonic();
        // With VMIN the clock starts with the first byte, and again with each.
        let mut deadline: Option<Monotonic> =
            (waits.minimum == 0).then(|| now(task).after(wait_ns));
        let mut seen = 0;
        let waker = task.waker().clone();
        let _registration = self.tty.slave_queue.register(waker, EventMask::READABLE);
        loop {
            task.waker().prepare();
            if let Some(bytes) = self.take(max, want) {
                return Ok(bytes);
            }
            let have = self.buffered();
            if waits.minimum > 0 && have > seen {
                deadline = Some(now(task).after(wait_ns));
            }
            seen = have;
            match task.sleep(deadline) {
                crate::kernel::SleepEnd::Woken => {}
                end => {
                    if let Some(bytes) = self.take(max, 1) {
                        return Ok(bytes);
                    }
                    if end == crate::kernel::SleepEnd::TimedOut {
                        return Ok(Vec::new());
                    }
                    return Err(Restart::IfSaRestart.into());
                }
            }
        }
    }
}

impl FileOps for SlaveFile {
    fn open_wait(&self, task: &mut CurrentTask, file: &FileDescription) -> SysResult<()> {
        if self.flags & libc::O_NOCTTY as u32 == 0 {
            job_control::acquire_on_open(task, &self.tty, file.is_readable());
        }
        Ok(())
    }

    fn read(&self, file: &FileDescription, _: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        job_control::check_background(&self.tty, libc::SIGTTIN)?;
        if dst.is_empty() {
            return Ok(0);
        }
        let max = dst.len().min(CHUNK_BYTES);
        let waits = self.raw_waits();
        let minimum = match &waits {
            Some(waits) if !file.is_nonblocking() => waits.minimum.max(1).min(dst.len()),
            _ => 1,
        };
        match self.take(max, minimum) {
            Some(bytes) if bytes.is_empty() => Ok(0),
            Some(bytes) => Ok(dst.put(&bytes)?),
            // VMIN and VTIME 0: never waits, and never fails for want of bytes.
            None if waits.is_some_and(|waits| waits.minimum == 0 && waits.decisecs == 0) => Ok(0),
            None => err!(EAGAIN),
        }
    }

    fn read_timed(
        &self,
        task: &mut CurrentTask,
        _file: &FileDescription,
        max: usize,
    ) -> Option<SysResult<Vec<u8>>> {
        let waits = self.raw_waits().filter(|waits| waits.decisecs > 0 && max > 0)?;
        let allowed = job_control::check_background(&self.tty, libc::SIGTTIN);
        Some(allowed.and_then(|()| self.read_with_timer(task, &waits, max.min(CHUNK_BYTES))))
    }

    fn write(&self, _: &FileDescription, _: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        if self.tty.state.lock().discipline.settings.local(libc::TOSTOP) {
            job_control::check_background(&self.tty, libc::SIGTTOU)?;
        }
        if src.is_empty() {
            return Ok(0);
        }
        let mut hung_up = false;
        let mut total = 0;
        while !src.is_empty() {
            let mut chunk = [0; CHUNK_BYTES];
            let taken = src.drain_with(CHUNK_BYTES, &mut |slices| {
                let mut len = 0;
                for slice in slices {
                    len += slice.copy_to(chunk.get_mut(len..).unwrap_or_default());
                }
                Ok(self.tty.change(|state| {
                    hung_up = !state.master_open;
                    let settings = state.discipline.settings;
                    let bytes = chunk.get(..len).unwrap_or_default();
                    if hung_up { 0 } else { state.discipline.output.write(&settings, bytes) }
                }))
            });
            match taken {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        match total {
            0 if hung_up => err!(EIO),
            0 => err!(EAGAIN),
            total => Ok(total),
        }
    }

    fn writes_all(&self) -> bool {
        true
    }

    fn poll(&self, _: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.tty.slave_queue);
        let state = self.tty.state.lock();
        if !state.master_open {
            return EventMask::READABLE | EventMask::WRITABLE | EventMask::ERR | EventMask::HUP;
        }
        let mut ready = EventMask::empty();
        if state.discipline.is_readable(state.minimum_for_poll()) {
            ready |= EventMask::READABLE;
        }
        // Linux calls it writable while fewer than WAKEUP_CHARS (256) fit no more.
        if state.discipline.output.room() >= 256 {
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
        ioctl::slave(task, &self.tty, file, request, arg)
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for SlaveFile {
    fn drop(&mut self) {
        let last = self.tty.change(|state| {
            state.slaves = state.slaves.saturating_sub(1);
            state.slaves == 0
        });
        if last {
            self.tty.master_queue.wake(EventMask::HUP | EventMask::READABLE | EventMask::WRITABLE);
        }
    }
}
