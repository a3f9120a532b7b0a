//! The virtual machine of a sandbox: its memory, its processor's features, its vCPUs.

#![allow(unsafe_code, reason = "takes over the descriptor of /dev/kvm")]

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use kvm_bindings::CpuId;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use linux_abi::Errno;
use rustix::io::DupFlags;

use super::{
    features::{self, Features},
    files::Files,
    pool::Pool,
    slots::Slots,
    system_area::SystemArea,
};
use crate::{PlatformError, extended::ExtendedFormat, memory::MemoryFile};

/// What `KVM_GET_API_VERSION` has said since 2007.
const API_VERSION: i32 = 12;
/// So many vCPUs at least and at most, and for each processor.
const VCPUS_MIN: usize = 64;
const VCPUS_MAX: usize = 256;
const VCPUS_PER_CPU: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    // Dropped in this order: the VM goes before the memory it uses.
    pub(super) pool: Pool,
    vm: VmFd,
    system: SystemArea,
    pub(super) files: Files,
    slots: Slots,
    pub(super) memory: Arc<MemoryFile>,
    cpuid: CpuId,
    pub(super) features: Features,
    pub(super) format: ExtendedFormat,
    /// A SYSCALL raises a page fault at its target, on hosts where ring 0 is emulated.
    pub(super) syscall_faults: AtomicBool,
    pub(super) next_space: AtomicU64,
}

fn lacks(what: &str) -> PlatformError {
    PlatformError::Unsupported(format!("this host's KVM lacks {what}"))
}

/// What a KVM call said no to.
pub(super) fn refused(what: &'static str) -> impl Fn(vmm_error::Error) -> PlatformError {
    move |error| PlatformError::Host { what, errno: Errno::from_raw(error.errno()) }
}

/// The error type of kvm-ioctls.
pub(super) mod vmm_error {
    pub(crate) use kvm_ioctls::Error;
}

impl Machine {
    /// `device`: `/dev/kvm`; the virtual machine takes the place of that descriptor, and no other can be made.
    /// `vcpus`: at most so many, if not as many as the host is good for.
    pub(super) fn new(
        device: OwnedFd,
        memory: Arc<MemoryFile>,
        vcpus: Option<usize>,
    ) -> Result<Arc<Self>, PlatformError> {
        let no_descriptor = |error| PlatformError::Host {
            what: "a descriptor for the virtual machine",
            errno: crate::host::errno(error),
        };
        let own = rustix::io::fcntl_dupfd_cloexec(&device, 3).map_err(no_descriptor)?;
        // SAFETY: an open descriptor that nobody else owns; that it is KVM's is asked next.
        let kvm = unsafe { Kvm::from_raw_fd(own.into_raw_fd()) };
        if kvm.get_api_version() != API_VERSION {
            return Err(PlatformError::Unsupported("/dev/kvm is not KVM's".into()));
        }
        for (cap, name) in [
            (Cap::UserMemory, "memory slots"),
            (Cap::ImmediateExit, "immediate exits (Linux 4.13)"),
            (Cap::SyncRegs, "registers in shared memory (Linux 4.16)"),
            (Cap::Xsave, "XSAVE state"),
            (Cap::Xcrs, "XCR0"),
            (Cap::DestroyMemoryRegionWorks, "memory slots that can be changed"),
        ] {
            if !kvm.check_extension(cap) {
                return Err(lacks(name));
            }
        }
        let supported = kvm
            .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
            .map_err(refused("KVM's processor features"))?;
        let (cpuid, features) = features::choose(supported)?;
        let format = ExtendedFormat::from_features(features.xcr0)
            .ok_or_else(|| lacks("an extended state of a known size"))?;
        let vm = kvm.create_vm().map_err(refused("a virtual machine"))?;
        let mut place = device;
        // SAFETY: it is open as long as `vm`.
        let descriptor = unsafe { BorrowedFd::borrow_raw(vm.as_raw_fd()) };
        rustix::io::dup3(descriptor.as_fd(), &mut place, DupFlags::CLOEXEC)
            .map_err(no_descriptor)?;
        // SAFETY: the descriptor is the virtual machine's, and is given away.
        let vm = unsafe { kvm.create_vmfd_from_rawfd(place.into_raw_fd()) }
            .map_err(refused("the size of a vCPU"))?;
        let (slots, files) = Slots::new(features.address_bits);
        let system = SystemArea::new(&vm, &slots)?;
        let cpus = crate::host::cpu_count();
        let wanted = vcpus.unwrap_or_else(|| (cpus * VCPUS_PER_CPU).clamp(VCPUS_MIN, VCPUS_MAX));
        // One is the commander's.
        let pool = Pool::new(wanted.min(kvm.get_max_vcpus().saturating_sub(1)).max(1));
        Ok(Arc::new(Self {
            pool,
            vm,
            system,
            files: Files::new(files)?,
            slots,
            memory,
            cpuid,
            features,
            format,
            syscall_faults: AtomicBool::new(true),
            next_space: AtomicU64::new(1),
        }))
    }

    pub(super) fn create_vcpu(&self, number: u64) -> Result<VcpuFd, PlatformError> {
        self.vm.create_vcpu(number).map_err(refused("a vCPU"))
    }

    pub(super) fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }

    /// The words of a page of the system area.
    pub(super) fn page(&self, gpa: u64) -> &[AtomicU64] {
        self.system.page(gpa)
    }

    /// A page of zeros in the system area.
    pub(super) fn new_page(&self) -> Result<u64, PlatformError> {
        self.new_pages(1)
    }

    pub(super) fn new_pages(&self, count: u64) -> Result<u64, PlatformError> {
        self.system.new_pages(&self.vm, &self.slots, count)
    }

    pub(super) fn new_root(&self) -> Result<u64, PlatformError> {
        self.system.new_root(&self.vm, &self.slots)
    }

    /// Takes back tables that the stub has cleared.
    pub(super) fn give_back(&self, pages: &[u64]) {
        self.system.give_back(pages);
    }

    pub(super) fn give_back_root(&self, root: u64) {
        self.system.give_back_root(root);
    }

    #[cfg(test)]
    pub(super) fn pages_made(&self) -> u64 {
        self.system.pages_made()
    }

    pub(super) fn add_slot(&self, gpa: u64, len: u64, address: u64) -> Result<(), PlatformError> {
        self.slots.add(&self.vm, gpa, len, address)
    }

    /// Where the byte at `offset` of the memory file is.
    pub(super) fn memory_gpa(&self, offset: u64) -> Result<u64, PlatformError> {
        self.slots.memory(&self.vm, &self.memory, offset)
    }
}
