//! The thread that sees stub processes end, and keeps spare ones ready.
//!
//! It is the zygote's parent as far as the kernel is concerned: the zygote, and through
//! it all stub processes, die with this thread, and so with the sentry.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use linux_abi::Errno;
use ranked_sync::Mutex;
use rustix::{
    event::{EventfdFlags, epoll},
    time::Timespec,
};

use super::{control::Control, process::Shared};
use crate::{host, lock_order::ReaperTable};

/// The reaper's side that others see.
#[derive(Debug)]
pub(super) struct Reaper {
    epoll: OwnedFd,
    wake: OwnedFd,
    stop: AtomicBool,
    /// It will look after kicked contexts within a second.
    looking: AtomicBool,
    next_key: AtomicU64,
    table: Mutex<ReaperTable, BTreeMap<u64, Arc<Shared>>>,
}

/// The epoll key of the wake-up descriptor; processes count from 1.
const WAKE: u64 = 0;

const LOOK_PERIOD: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

impl Reaper {
    pub(super) fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(host::errno)?;
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(host::errno)?;
        let key = epoll::EventData::new_u64(WAKE);
        epoll::add(&epoll, &wake, key, epoll::EventFlags::IN).map_err(host::errno)?;
        let next_key = AtomicU64::new(WAKE + 1);
        Ok(Self {
            epoll,
            wake,
            stop: AtomicBool::new(false),
            looking: AtomicBool::new(false),
            next_key,
            table: Mutex::default(),
        })
    }

    /// Watches over a process.
    pub(super) fn watch(&self, process: Arc<Shared>) -> Result<(), Errno> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        let data = epoll::EventData::new_u64(key);
        epoll::add(&self.epoll, process.pidfd.as_fd(), data, epoll::EventFlags::IN)
            .map_err(host::errno)?;
        table.insert(key, process);
        Ok(())
    }

    /// Makes the thread look what there is to do.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// A context was kicked; see that it gets out.
    pub(super) fn look_soon(&self) {
        if !self.looking.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Looks after kicked contexts; goes on looking while there are any.
    fn look(&self) {
        let processes: Vec<_> = self.table.lock().values().cloned().collect();
        let outstanding = processes.iter().filter(|process| process.look()).count();
        self.looking.store(outstanding > 0, Ordering::SeqCst);
    }

    /// Makes the thread end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The thread's work. Calls `replenish` after each wake-up.
    pub(super) fn run(&self, control: &Control, mut replenish: impl FnMut()) {
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(WAKE),
        }; 32];
        while !self.stop.load(Ordering::SeqCst) {
            let timeout = self.looking.load(Ordering::SeqCst).then_some(&LOOK_PERIOD);
            let ready = match epoll::wait(&self.epoll, events.as_mut_slice(), timeout) {
                Ok(0) => {
                    self.look();
                    continue;
                }
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!("the reaper cannot wait: {error}");
                    return;
                }
            };
            for event in events.iter().take(ready) {
                let key = event.data.u64();
                if key == WAKE {
                    let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                    continue;
                }
                let ended = self.table.lock().remove(&key);
                if let Some(process) = ended {
                    let _ = epoll::delete(&self.epoll, process.pidfd.as_fd());
                    process.ended(control);
                }
            }
            if !self.stop.load(Ordering::SeqCst) {
                replenish();
            }
        }
    }
}
