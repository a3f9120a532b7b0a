//! Getting a thread out of its vCPU: KVM looks at a byte of shared memory before it enters the
//! guest, and a signal makes it leave.

#![allow(unsafe_code, reason = "a byte that KVM shares, and a signal handler")]

use std::{
    mem, ptr,
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use kvm_ioctls::VcpuFd;
use linux_abi::Errno;
use ranked_sync::Mutex;

use crate::{
    Kick,
    lock_order::KvmKick,
    stub::{layout::KICK_SIGNAL, sys},
};

/// How often to look before a vCPU that does not leave is interrupted again.
const YIELDS: u32 = 200;

/// What others know of a vCPU. It lives in the vCPU, which is never taken apart while the platform is there.
#[derive(Debug)]
pub(super) struct VcpuSign {
    pub(super) number: u64,
    /// `kvm_run.immediate_exit`.
    immediate_exit: *const AtomicU8,
    process: i32,
    /// The thread that runs it, or 0; and the last one.
    thread: AtomicI32,
    last_thread: AtomicI32,
    /// The address space whose code may be running, or 0.
    pub(super) space: AtomicU64,
    /// How often it left the guest.
    pub(super) exits: AtomicU64,
}

// SAFETY: the pointer is to a byte that is only accessed atomically.
unsafe impl Send for VcpuSign {}
// SAFETY: as above.
unsafe impl Sync for VcpuSign {}

impl VcpuSign {
    /// The caller keeps `vcpu` as long as there may be others with the sign.
    pub(super) fn new(number: u64, vcpu: &mut VcpuFd) -> Self {
        let run = ptr::from_mut(vcpu.get_kvm_run());
        // SAFETY: the field of a structure that stays mapped as long as the vCPU.
        let immediate_exit = unsafe { &raw mut (*run).immediate_exit };
        Self {
            number,
            immediate_exit: immediate_exit.cast(),
            process: rustix::process::getpid().as_raw_nonzero().get(),
            thread: AtomicI32::new(0),
            last_thread: AtomicI32::new(0),
            space: AtomicU64::new(0),
            exits: AtomicU64::new(0),
        }
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: mapped as long as the vCPU, by the contract of `new`.
        unsafe { &*self.immediate_exit }
    }

    /// The calling thread is about to run it.
    pub(super) fn enter(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
        let thread = sys::thread_id();
        self.thread.store(thread, Ordering::SeqCst);
        self.last_thread.store(thread, Ordering::Relaxed);
    }

    /// Requests up to now are served.
    pub(super) fn go_on(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }

    /// The calling thread no longer runs it.
    pub(super) fn leave(&self) {
        self.space.store(0, Ordering::SeqCst);
        self.thread.store(0, Ordering::SeqCst);
    }

    pub(super) fn is_running(&self) -> bool {
        self.thread.load(Ordering::SeqCst) != 0
    }

    /// Whether the calling thread was the last to run it.
    pub(super) fn was_here(&self) -> bool {
        self.last_thread.load(Ordering::Relaxed) == sys::thread_id()
    }

    /// Makes it leave the guest soon, if it is there.
    pub(super) fn interrupt(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            let _ = sys::tgkill(self.process, thread, KICK_SIGNAL);
        }
    }
}

impl VcpuSign {
    /// Makes it leave the guest if it may be running code of `space`, and waits until it has.
    pub(super) fn drive_out(&self, space: u64) {
        if self.space.load(Ordering::SeqCst) != space {
            return;
        }
        let exits = self.exits.load(Ordering::SeqCst);
        let is_inside = || {
            self.space.load(Ordering::SeqCst) == space && self.exits.load(Ordering::SeqCst) == exits
        };
        while is_inside() {
            self.interrupt();
            for _ in 0..YIELDS {
                if !is_inside() {
                    return;
                }
                std::thread::yield_now();
            }
        }
    }
}

/// The context is (about to be) in guest code.
const INSIDE: u32 = 1;
/// Someone kicked since the last return.
const KICKED: u32 = 2;

/// The handle on a context that others hold.
#[derive(Debug, Default)]
pub(super) struct KvmKicker {
    state: AtomicU32,
    vcpu: Mutex<KvmKick, Option<Arc<VcpuSign>>>,
}

impl KvmKicker {
    /// Names the vCPU that is to be interrupted.
    pub(super) fn aim(&self, vcpu: &Arc<VcpuSign>) {
        *self.vcpu.lock() = Some(vcpu.clone());
    }

    /// Before entering guest code. False when there was a kick: stay out.
    pub(super) fn enter(&self) -> bool {
        if self.state.swap(INSIDE, Ordering::SeqCst) & KICKED == 0 {
            return true;
        }
        self.state.store(0, Ordering::SeqCst);
        false
    }

    /// After leaving guest code. True when there was a kick, which is thereby served if the context returns.
    pub(super) fn leave(&self) -> bool {
        self.state.swap(0, Ordering::SeqCst) & KICKED != 0
    }
}

impl Kick for KvmKicker {
    fn kick(&self) {
        if self.state.fetch_or(KICKED, Ordering::SeqCst) == INSIDE {
            let vcpu = self.vcpu.lock().clone();
            if let Some(vcpu) = vcpu {
                vcpu.interrupt();
            }
        }
    }
}

/// Installs the handler of the signal, which does nothing. Host calls that it hits go on.
pub(super) fn install_handler() -> Result<(), Errno> {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the handler does nothing, so it may run anywhere.
    let result = unsafe { libc::sigaction(KICK_SIGNAL, &action, ptr::null_mut()) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
}
