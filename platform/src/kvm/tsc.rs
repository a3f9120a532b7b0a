//! The time-stamp counter that vCPUs read: the host's own, so that the code of the host's vDSO, run by
//! guests on the host's data, says the host's time.

#![allow(unsafe_code, reason = "a request of KVM's that kvm-ioctls has for other processors only")]

use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_device_attr};
use kvm_ioctls::VcpuFd;
use linux_abi::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use crate::host;

/// `KVM_SET_DEVICE_ATTR` (`include/uapi/linux/kvm.h`).
const SET_DEVICE_ATTR: Opcode = opcode::write::<kvm_device_attr>(0xae, 0xe1);

/// Makes a vCPU's counter the host's. Linux 5.16 is the first that can.
pub(super) fn use_hosts(vcpu: &VcpuFd) -> Result<(), Errno> {
    let offset = 0u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: (&raw const offset).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: the descriptor is open as long as `vcpu`; the request takes this structure, and KVM reads one u64
    // at its address, which lives until then.
    unsafe {
        let fd = BorrowedFd::borrow_raw(vcpu.as_raw_fd());
        ioctl(fd, Setter::<SET_DEVICE_ATTR, _>::new(attribute))
    }
    .map_err(host::errno)
}

/// So many cycles between two looks: a millisecond or so.
const LOOK_EVERY: u64 = 1 << 22;
/// How well two clocks that are read one after the other agree, in nanoseconds.
const TOLERANCE: u64 = 1_000_000;

/// Notices that the host slept. Its counter may have begun anew then, which KVM hides from vCPUs by an offset
/// (`kvm_arch_enable_virtualization_cpu` in `arch/x86/kvm/x86.c`); the host's vDSO knows.
#[derive(Debug, Default)]
pub(super) struct SleepWatch {
    looked: u64,
    /// How long the host had slept by then.
    slept: u64,
}

impl SleepWatch {
    /// True when the host has slept since this was last called.
    pub(super) fn has_slept(&mut self) -> bool {
        self.look(host::cycles(), host::slept_ns)
    }

    fn look(&mut self, now: u64, slept: impl FnOnce() -> u64) -> bool {
        // A counter that began anew is far away as well.
        if now.wrapping_sub(self.looked) < LOOK_EVERY {
            return false;
        }
        self.looked = now;
        let slept = slept();
        let differs = slept.abs_diff(self.slept) > TOLERANCE;
        self.slept = slept;
        differs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_host_is_noticed_once() {
        let mut watch = SleepWatch::default();
        let hour = 3_600_000_000_000;
        assert!(!watch.look(LOOK_EVERY, || 0));
        assert!(!watch.look(LOOK_EVERY + 1, || unreachable!("looked too soon")));
        assert!(!watch.look(3 * LOOK_EVERY, || TOLERANCE));
        // The counter begins anew.
        assert!(watch.look(1, || hour));
        assert!(!watch.look(LOOK_EVERY + 2, || hour));
        // It went on.
        assert!(watch.look(u64::MAX / 2, || 2 * hour));
    }
}
