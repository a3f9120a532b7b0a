//! The `kvm` platform: guest threads run in ring 3 of vCPUs of one virtual machine, over page tables
//! of our own. System calls, exceptions and faults come to a few instructions at ring 0, which
//! leave to the sentry at once.
//!
//! Guest-physical memory is the sentry's map of the memory file, and maps of donated files. There
//! are no host processes for guests, and nothing of the host's is in their address spaces.
//!
//! # Lock order
//! `KvmSpace`, `KvmFiles`, `KvmRemains`, `KvmCommander`, `KvmPool`, `KvmVcpus`, then the leaves `KvmSaved`,
//! `KvmKick`, `KvmSlots`, `KvmPages`.

mod answering;
mod clock;
mod context;
mod exception;
mod features;
mod files;
mod kick;
mod layout;
mod machine;
mod pool;
mod regions;
mod remains;
mod reserved;
mod saved;
mod slots;
mod space;
mod stub;
mod system_area;
mod tables;
#[cfg(test)]
mod tests;
mod trial;
mod tsc;
mod vcpu;

use std::{
    ops::Range,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering, mpsc},
    time::Duration,
};

use self::{machine::Machine, space::KvmSpace};
use crate::{
    AddressSpace, Platform, PlatformError, VdsoImage, host, memory::MemoryFile,
    round_trip::round_trip, stub::layout::USER_END, vdso,
};

/// The lowest guest address, as on the other platforms.
const USER_START: u64 = 0x1_0000;

/// See the module.
#[derive(Debug)]
pub(crate) struct KvmPlatform {
    machine: Arc<Machine>,
    vdso: VdsoImage,
}

/// Opens `/dev/kvm`.
///
/// # Errors
/// `Unsupported` says why it cannot be.
pub fn open_kvm() -> Result<OwnedFd, PlatformError> {
    use rustix::fs::{Mode, OFlags, open};
    open("/dev/kvm", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|error| {
        let errno = host::errno(error);
        PlatformError::Unsupported(format!("/dev/kvm cannot be opened: {errno}"))
    })
}

/// Whether it may be worth trying: on a processor that is itself a guest's, each exit is another
/// hypervisor's work.
pub fn kvm_may_be_fast() -> bool {
    const HYPERVISOR: u32 = 1 << 31;
    std::arch::x86_64::__cpuid(1).ecx & HYPERVISOR == 0
}

/// How long a trial may take: some hundredths of a second, but on a busy machine.
const TRIAL: Duration = Duration::from_secs(15);

/// The platform, and what a round trip costs; on a thread of its own, as there are hosts whose KVM does not come back.
pub(crate) fn create_in_time(
    device: OwnedFd,
    memory: Arc<MemoryFile>,
) -> Result<(Arc<dyn Platform>, Duration), PlatformError> {
    let (answer, answered) = mpsc::channel();
    let work = move || {
        let made = KvmPlatform::new(device, memory.clone()).and_then(|platform| {
            let cost = round_trip(&platform, &memory)?;
            Ok((Arc::new(platform) as Arc<dyn Platform>, cost))
        });
        let _ = answer.send(made);
    };
    let thread = std::thread::Builder::new().name("kvm-trial".into()).stack_size(256 << 10);
    thread.spawn(work).map_err(|error| PlatformError::Host {
        what: "a thread to try KVM",
        errno: error.into(),
    })?;
    answered.recv_timeout(TRIAL).unwrap_or_else(|_| {
        Err(PlatformError::Unsupported("this host's KVM does not come back from a trial".into()))
    })
}

impl KvmPlatform {
    /// Makes the virtual machine, and tries it.
    pub(crate) fn new(device: OwnedFd, memory: Arc<MemoryFile>) -> Result<Self, PlatformError> {
        Self::with_vcpus(device, memory, None)
    }

    fn with_vcpus(
        device: OwnedFd,
        memory: Arc<MemoryFile>,
        vcpus: Option<usize>,
    ) -> Result<Self, PlatformError> {
        kick::install_handler()
            .map_err(|errno| PlatformError::Host { what: "a signal handler", errno })?;
        let machine = Machine::new(device, memory, vcpus)?;
        let faults = trial::syscall_faults(&machine)?;
        machine.syscall_faults.store(faults, Ordering::Relaxed);
        // The one that was tried with.
        let mut vcpu = machine.pool.acquire(&machine, None)?;
        vcpu.answer_calls(&machine)?;
        machine.pool.release(vcpu);
        let stores_show = trial::stores_show(&machine)?;
        machine.stores_show.store(stores_show, Ordering::Relaxed);
        let clocks = clock::show(&machine)?;
        tracing::debug!(
            answers = !faults,
            stores_show,
            clocks = clocks.is_some(),
            "what this host's KVM is good for"
        );
        let vdso = vdso::image(clocks, vdso::Functions::Clocks);
        Ok(Self { machine, vdso })
    }
}

impl Platform for KvmPlatform {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn user_range(&self) -> Range<u64> {
        USER_START..USER_END
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(KvmSpace::new(self.machine.clone())?))
    }

    fn vdso(&self) -> &VdsoImage {
        &self.vdso
    }
}
