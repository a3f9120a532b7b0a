//! The `ptrace` platform: each guest thread is traced by the sentry thread that serves it, and
//! stops at each system call (`PTRACE_SYSEMU`), fault and signal. It needs nothing of the host
//! but ptrace(2), and is the plain reference for the other platforms.
//!
//! Guest threads have no handlers that could run: every signal stops them and is suppressed.
//! While a thread has no tracer it waits inside the stub with all signals blocked.
//!
//! # Lock order
//! `IdleThreads`, `SpaceCommands`, then those of [`crate::stub`].

mod context;
mod decode;
mod placement;
mod space;
mod tracee;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use ranked_sync::Mutex;

use self::{placement::Placement, space::PtraceSpace};
use crate::{
    AddressSpace, Platform, PlatformError, VdsoImage,
    extended::ExtendedFormat,
    lock_order::SparePool,
    memory::MemoryFile,
    stub::{Kind, StubSystem, layout::USER_END},
    vdso,
};

/// The lowest guest address: what `vm.mmap_min_addr` allows everywhere.
const USER_START: u64 = 0x1_0000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ptrace {
    shared: Arc<Shared>,
    vdso: VdsoImage,
    /// An address space made to see whether it works; the first to be asked for.
    first: Mutex<SparePool, Option<Arc<PtraceSpace>>>,
}

/// What all address spaces use.
#[derive(Debug)]
struct Shared {
    memory: Arc<MemoryFile>,
    format: OnceLock<ExtendedFormat>,
    placement: Placement,
    /// Keeps the zygote alive.
    system: StubSystem,
}

impl Ptrace {
    /// Starts the zygote and its helpers, and tries whether this host allows tracing.
    pub(crate) fn new(memory: Arc<MemoryFile>) -> Result<Self, PlatformError> {
        let system = StubSystem::start(Kind::Ptrace)?;
        let vdso = vdso::image(system.host_vdso(), vdso::Functions::All);
        let placement = Placement::new();
        let shared = Arc::new(Shared { memory, format: OnceLock::new(), placement, system });
        let first = Arc::new(PtraceSpace::new(shared.clone())?);
        drop(first.clone().new_context()?);
        Ok(Self { shared, vdso, first: Mutex::new(Some(first)) })
    }
}

impl Platform for Ptrace {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn user_range(&self) -> Range<u64> {
        USER_START..USER_END
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let first = self.first.lock().take();
        Ok(match first {
            Some(first) => first,
            None => Arc::new(PtraceSpace::new(self.shared.clone())?),
        })
    }

    fn vdso(&self) -> &VdsoImage {
        &self.vdso
    }
}
