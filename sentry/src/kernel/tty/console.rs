//! The sandbox's console: a terminal whose master is the launcher's real one.

use std::{fmt, sync::Arc};

use linux_abi::WindowSize;

use super::{TtyTable, job_control, pair::Tty};
use crate::{
    SysResult,
    wait::{EventMask, Notify},
};

/// Takes what the console prints. May block; called from one thread at a time.
pub type ConsoleSink = Box<dyn FnMut(&[u8]) + Send>;

/// The master's end of the console.
pub struct Console {
    tty: Arc<Tty>,
    table: Arc<TtyTable>,
}

impl Console {
    /// A new terminal in `table` (its first gets number 0), the node `owner`'s, which prints to `sink` from a thread of its own.
    ///
    /// # Errors
    /// `ENOSPC` when there are too many terminals, `EAGAIN` when the host has no thread left.
    pub fn new(
        table: &Arc<TtyTable>,
        owner: (u32, u32),
        window: WindowSize,
        sink: ConsoleSink,
    ) -> SysResult<Arc<Self>> {
        let tty = table.create_for(owner)?;
        tty.change(|state| {
            state.locked = false;
            state.window = window;
        });
        let printer = Printer { tty: tty.clone(), parker: Arc::default() };
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || printer.run(sink))
            .map_err(|_| crate::Errno::EAGAIN)?;
        Ok(Arc::new(Self { tty, table: table.clone() }))
    }

    /// The terminal programs see.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// The user typed this; how much of it was taken. The rest may be given again when
    /// [`Self::on_room`] says so.
    pub fn input(&self, bytes: &[u8]) -> usize {
        self.tty.type_in(bytes)
    }

    /// Tells `target` when more can be typed.
    pub fn on_room(&self, target: Arc<dyn Notify>) -> crate::wait::Registration {
        self.tty.master_queue.register(target, EventMask::WRITABLE)
    }

    /// The user's terminal has a new size.
    pub fn resize(&self, window: WindowSize) {
        self.tty.resize(window);
    }

    /// The user's terminal is gone: hangs up.
    pub fn hang_up(&self) {
        self.table.remove(self.tty.number());
        job_control::hang_up(&self.tty);
    }

    /// Has all that programs printed gone to the sink's thread?
    pub fn is_drained(&self) -> bool {
        self.tty.state.lock().discipline.output.is_empty()
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({:?})", self.tty)
    }
}

#[derive(Debug, Default)]
struct Wakes(platform::host::Parker);

impl Notify for Wakes {
    fn notify(&self, _events: EventMask) {
        self.0.unpark();
    }
}

/// The thread that carries what is printed to the sink.
struct Printer {
    tty: Arc<Tty>,
    parker: Arc<Wakes>,
}

impl Printer {
    fn run(self, mut sink: ConsoleSink) {
        let target: Arc<dyn Notify> = self.parker.clone();
        let _registration = self.tty.master_queue.register(target, EventMask::READABLE);
        loop {
            while let Some(bytes) = self.tty.take_printed(4096) {
                sink(&bytes);
            }
            if !self.tty.state.lock().master_open {
                return;
            }
            self.parker.0.park(None);
        }
    }
}
