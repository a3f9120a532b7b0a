//! The virtual machine of a sandbox: its memory, its processor's features, its vCPUs.

#![allow(unsafe_code, reason = "takes over the descriptor of /dev/kvm")]

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
};

use kvm_bindings::CpuId;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use linux_abi::Errno;
use rustix::io::DupFlags;

use super::{
    features::{self, Features},
    files::Files,
    layout::*,
    pool::Pool,
    remains::Remains,
    slots::Slots,
    system_area::SystemArea,
    tables::{Batch, Command},
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
    pub(super) remains: Remains,
    pub(super) memory: Arc<MemoryFile>,
    cpuid: CpuId,
    pub(super) features: Features,
    pub(super) format: ExtendedFormat,
    /// A SYSCALL raises a page fault at its target, on hosts where ring 0 is emulated.
    pub(super) syscall_faults: AtomicBool,
    /// Guests see what this process stores into page tables, once their vCPU has loaded CR3.
    pub(super) stores_show: AtomicBool,
    /// vCPUs are to read the host's time-stamp counter.
    pub(super) has_host_tsc: AtomicBool,
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
            remains: Remains::default(),
            memory,
            cpuid,
            features,
            format,
            syscall_faults: AtomicBool::new(true),
            stores_show: AtomicBool::new(false),
            has_host_tsc: AtomicBool::new(false),
            next_space: AtomicU64::new(1),
        }))
    }

    /// Makes way in number `entry`, for the vCPU whose pages are at `pages`.
    pub(super) fn add_entry(&self, entry: u64, pages: u64) {
        self.system.add_entry(entry, pages);
    }

    /// Shows guests what is at `address` in this process, for good, from [`HOST_VDSO`] on. `is_code` says which pages
    /// may be executed.
    pub(super) fn show_vdso(
        &self,
        address: u64,
        len: u64,
        is_code: impl Fn(u64) -> bool,
    ) -> Result<(), PlatformError> {
        self.slots.add_read_only(&self.vm, VDSO_GPA, len, address)?;
        for number in 0..len / PAGE {
            let offset = number * PAGE;
            self.system.add_vdso_page(number, VDSO_GPA + offset, is_code(offset));
        }
        Ok(())
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

    /// The page-table entries that a command is about.
    fn entries(&self, (address, count): Command) -> &[AtomicU64] {
        let gpa = address.wrapping_sub(SYSTEM_VA).wrapping_add(SYSTEM_GPA);
        let start = (gpa % PAGE / 8) as usize;
        self.page(gpa & !(PAGE - 1)).get(start..start + count as usize).unwrap_or_default()
    }

    /// Clears page-table entries. What TLBs hold of them is the caller's to see to.
    pub(super) fn clear(&self, commands: &[Command]) -> Result<(), PlatformError> {
        if !self.stores_show.load(Ordering::Relaxed) {
            return self.pool.clear(self, commands);
        }
        for entry in commands.iter().flat_map(|command| self.entries(*command)) {
            entry.store(0, Ordering::Relaxed);
        }
        // Before anybody is told to load CR3.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// A page of zeros in the system area.
    pub(super) fn new_page(&self) -> Result<u64, PlatformError> {
        self.used_again(SystemArea::take_page)?.map_or_else(|| self.new_pages(1), Ok)
    }

    /// What `take` finds once enough remains are cleared; `None`: it finds nothing.
    fn used_again(
        &self,
        take: impl Fn(&SystemArea) -> Option<u64>,
    ) -> Result<Option<u64>, PlatformError> {
        loop {
            if let Some(found) = take(&self.system) {
                return Ok(Some(found));
            }
            let Some(batch) = self.remains.take() else { return Ok(None) };
            self.clear(&batch.commands)?;
            self.give_back(&batch);
        }
    }

    pub(super) fn new_pages(&self, count: u64) -> Result<u64, PlatformError> {
        self.system.new_pages(&self.vm, &self.slots, count)
    }

    pub(super) fn new_root(&self) -> Result<u64, PlatformError> {
        let used = self.used_again(SystemArea::take_root)?;
        used.map_or_else(|| self.system.new_root(&self.vm, &self.slots), Ok)
    }

    /// Takes back tables that have been cleared.
    pub(super) fn give_back(&self, cleared: &Batch) {
        self.system.give_back(&cleared.tables, &cleared.roots);
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
