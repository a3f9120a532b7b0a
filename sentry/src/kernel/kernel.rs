//! The kernel object: everything in a sandbox hangs on it.

use std::sync::Arc;

use platform::{Platform, memory::MemoryFile};

use crate::time::Clocks;

/// One sandbox.
#[derive(Debug)]
pub struct Kernel {
    platform: Arc<dyn Platform>,
    memory: Arc<MemoryFile>,
    pub clocks: Clocks,
}

impl Kernel {
    /// A kernel with no task and no file system yet.
    pub fn new(platform: Arc<dyn Platform>, memory: Arc<MemoryFile>) -> Arc<Self> {
        Arc::new(Self { platform, memory, clocks: Clocks::new() })
    }

    pub fn platform(&self) -> &Arc<dyn Platform> {
        &self.platform
    }

    pub fn memory(&self) -> &Arc<MemoryFile> {
        &self.memory
    }
}
