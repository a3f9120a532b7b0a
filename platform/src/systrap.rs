//! The `systrap` platform: guest threads run under a seccomp filter that hands each
//! system call to the sentry as a user notification, with both sides taking turns on
//! one core. Faults, exceptions and kicks arrive through signal handlers in the stub.
//!
//! A system call costs two host calls here (answer, receive) and leaves the guest's
//! registers in the kernel; they are fetched only when the sentry asks for them.
//!
//! Two calls pass every seccomp filter on hosts that have them: `uretprobe` (335) raises
//! SIGILL and `uprobe` (336) fails, unless made from a probe's trampoline, and no guest
//! has one. That is what Linux does too, so nothing is done about it.
//!
//! # Lock order
//! `IdleThreads`, `SpaceCommands`, then those of [`crate::stub`].

mod attention;
mod call;
mod context;
mod extended;
mod frame;
mod hot_sites;
mod sites;
mod space;
mod thread;

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use self::{attention::Load, space::SystrapSpace};
use crate::{
    AddressSpace, Platform, PlatformError, VdsoImage,
    extended::ExtendedFormat,
    memory::MemoryFile,
    stub::{Kind, StubSystem, layout::USER_END},
    vdso,
};

/// The lowest guest address: what `vm.mmap_min_addr` allows everywhere.
pub(crate) const USER_START: u64 = 0x1_0000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Systrap {
    system: Arc<StubSystem>,
    memory: Arc<MemoryFile>,
    shared: Arc<Shared>,
    vdso: VdsoImage,
}

/// What all address spaces share.
#[derive(Debug)]
struct Shared {
    format: OnceLock<ExtendedFormat>,
    load: Arc<Load>,
}

impl Systrap {
    /// Starts the zygote and its helpers.
    pub(crate) fn new(memory: Arc<MemoryFile>) -> Result<Self, PlatformError> {
        let system = Arc::new(StubSystem::start(Kind::Notify)?);
        let vdso = vdso::image(system.host_vdso(), vdso::Functions::All);
        let shared = Arc::new(Shared { format: OnceLock::new(), load: Arc::new(Load::new()) });
        Ok(Self { system, memory, shared, vdso })
    }
}

impl Platform for Systrap {
    fn name(&self) -> &'static str {
        "systrap"
    }

    fn user_range(&self) -> Range<u64> {
        USER_START..USER_END
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        let (system, memory) = (self.system.clone(), self.memory.clone());
        Ok(Arc::new(SystrapSpace::new(system, memory, self.shared.clone())?))
    }

    fn vdso(&self) -> &VdsoImage {
        &self.vdso
    }
}
