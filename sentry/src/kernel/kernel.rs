//! The kernel object: everything in a sandbox hangs on it.

use std::sync::Arc;

use platform::{Platform, memory::MemoryFile};
use ranked_sync::Mutex;

use crate::{fs::host_file::HostPoller, lock_order, time::Clocks};

/// One sandbox.
#[derive(Debug)]
pub struct Kernel {
    platform: Arc<dyn Platform>,
    memory: Arc<MemoryFile>,
    pub clocks: Clocks,
    /// Held while an epoll set is put into another one, so that two such changes cannot
    /// make a circle together.
    pub epoll_nesting: Mutex<lock_order::EpollNesting, ()>,
    /// Tells tasks that wait for host descriptors when those become ready.
    pub host_poller: Arc<HostPoller>,
}

impl Kernel {
    /// A kernel with no task and no file system yet.
    pub fn new(platform: Arc<dyn Platform>, memory: Arc<MemoryFile>) -> Arc<Self> {
        Arc::new(Self {
            platform,
            memory,
            clocks: Clocks::new(),
            epoll_nesting: Mutex::new(()),
            host_poller: HostPoller::new(),
        })
    }

    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }
}
