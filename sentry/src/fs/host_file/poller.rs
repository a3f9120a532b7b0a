//! Wakes tasks that wait for host descriptors.

use std::{
    collections::HashMap,
    fmt,
    os::fd::BorrowedFd,
    sync::{Arc, OnceLock},
};

use platform::host::poller::Poller;
use ranked_sync::Mutex;

use crate::{
    Errno, lock_order,
    wait::{EventMask, WaitQueue},
};

/// One host thread that sleeps until a watched descriptor's readiness changes. It starts with the
/// first descriptor that someone waits for.
#[derive(Default)]
pub struct HostPoller {
    host: OnceLock<Option<Poller>>,
    queues: Mutex<lock_order::Leaf, Queues>,
}

#[derive(Default)]
struct Queues {
    next: u64,
    by_token: HashMap<u64, WaitQueue>,
}

impl HostPoller {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Wakes `queue` whenever readiness of `fd` changes: the token for [`Self::unwatch`].
    /// `EPERM`: it is always ready.
    pub fn watch(self: &Arc<Self>, fd: BorrowedFd<'_>, queue: &WaitQueue) -> Result<u64, Errno> {
        let host = self.host.get_or_init(|| self.start()).as_ref().ok_or(Errno::ENOMEM)?;
        let token = {
            let mut queues = self.queues.lock();
            queues.next += 1;
            let token = queues.next;
            queues.by_token.insert(token, queue.clone());
            token
        };
        host.watch(fd, token).inspect_err(|_| self.forget(token))?;
        Ok(token)
    }

    /// Ends it.
    pub fn unwatch(&self, fd: BorrowedFd<'_>, token: u64) {
        if let Some(Some(host)) = self.host.get() {
            host.unwatch(fd);
        }
        self.forget(token);
    }

    fn forget(&self, token: u64) {
        let queue = self.queues.lock().by_token.remove(&token);
        drop(queue);
    }

    fn start(self: &Arc<Self>) -> Option<Poller> {
        let host = Poller::new().ok()?;
        let poller = self.clone();
        std::thread::Builder::new()
            .name("host-poll".into())
            .spawn(move || {
                let Some(host) = poller.host.wait() else { return };
                while host.wait(&mut |token, events| poller.wake(token, events)).is_ok() {}
            })
            .ok()?;
        Some(host)
    }

    fn wake(&self, token: u64, events: u32) {
        let queue = self.queues.lock().by_token.get(&token).cloned();
        if let Some(queue) = queue {
            let events = EventMask::from_bits_truncate(events);
            let mut all = events;
            all.set(EventMask::RDNORM, events.contains(EventMask::IN));
            all.set(EventMask::WRNORM, events.contains(EventMask::OUT));
            queue.wake(all);
        }
    }
}

impl fmt::Debug for HostPoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostPoller")
    }
}
