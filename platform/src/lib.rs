//! Runs guest code and hands control back at each system call, fault and signal.
//!
//! The three seams:
//! * [`Platform`] makes address spaces and contexts;
//! * [`AddressSpace`] maps, unmaps and protects guest memory;
//! * [`Context`] is one guest thread's registers; [`Context::switch`] enters
//!   guest code and says why it stopped.
//!
//! A platform never knows what a system call means; the sentry never knows which
//! platform it runs on. Everything that comes out of guest code (registers, trap
//! arguments, addresses) is hostile input.
//!
//! This is the one crate that may hold `unsafe`, in the modules that opt in.

#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

mod extended;
pub mod host;
mod kvm;
mod lock_order;
pub mod memory;
mod probe;
mod ptrace;
mod regs;
mod round_trip;
mod starting;
mod stub;
mod systrap;
mod trap;
mod vdso;
mod vector;

use std::{any::Any, fmt, ops::Range, os::fd::OwnedFd, sync::Arc};

use bitflags::bitflags;
use linux_abi::Errno;

pub use kvm::{kvm_may_be_fast, open_kvm};
pub use probe::{HostFacts, probe};
pub use regs::{Registers, XState};
pub use starting::{Starting, start};
pub use trap::{AccessKind, ExceptionInfo, Trap};

use memory::{FileRange, MemoryFile};

/// Bytes in a page; the only size this project runs on.
pub const PAGE_SIZE: u64 = 4096;

bitflags! {
    /// What guest code may do with a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Prot: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
    }
}

/// Where the bytes of a mapping are.
#[derive(Clone, Debug)]
pub enum Backing {
    /// In the memory file. Mapped shared; the length is the range's.
    Memory(FileRange),
    /// In a host file that the gofer donated, from `offset` (page aligned) on.
    /// `shared` false: mapped privately, and never with `Prot::WRITE`.
    Host { file: Arc<OwnedFd>, offset: u64, shared: bool },
}

/// One change of an address space. Addresses and lengths are whole pages inside
/// [`Platform::user_range`]; the caller has checked that.
#[derive(Clone, Debug)]
pub enum MapOp {
    /// Puts a mapping in place of whatever is there. `populate`: fill in the page
    /// tables now, for short ranges that will be touched at once.
    Map { addr: u64, len: u64, prot: Prot, backing: Backing, populate: bool },
    /// Leaves nothing there; touching it is a fault.
    Unmap { addr: u64, len: u64 },
    /// Changes what may be done with the mappings there.
    Protect { addr: u64, len: u64, prot: Prot },
}

/// Why a platform could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The guest process on the host is gone (killed from outside, or by the
    /// kernel for corrupting its own stub): the sentry ends that guest process.
    #[error("the stub process died unexpectedly: {0}")]
    StubDied(String),
    /// The host refused a resource.
    #[error("{what}: {errno}")]
    Host { what: &'static str, errno: Errno },
    /// This host cannot run the platform at all; `doctor` prints this.
    #[error("{0}")]
    Unsupported(String),
}

/// A system-call site that calls the platform instead of trapping: its code jumps to a detour,
/// which calls and comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The system-call instruction.
    pub site: u64,
    /// The first changed byte, and what to put there.
    pub patch_at: u64,
    pub patch: Vec<u8>,
    /// Where the detour's code goes, and that code.
    pub detour_at: u64,
    pub detour: Vec<u8>,
    /// How many bytes of the instruction behind the call were moved into the detour.
    pub moved: u8,
}

/// A way to run guest code. One per sandbox.
pub trait Platform: Send + Sync + fmt::Debug {
    /// `systrap`, `ptrace` or `kvm`.
    fn name(&self) -> &'static str;

    /// Guest addresses lie in `start..end`, page aligned.
    fn user_range(&self) -> Range<u64>;

    /// Waits until it can be used, where it is still being made.
    ///
    /// # Errors
    /// Why it cannot be used at all.
    fn wait_ready(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    /// An empty address space.
    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError>;

    /// Takes an address space that a process has left, to give it to another one, if it is fit for that
    /// and the caller was its last user.
    fn recycle(&self, _space: Arc<dyn AddressSpace>) {}

    /// The bytes of the vDSO image for this platform, and what to write into it.
    /// The loader maps it into each guest process.
    fn vdso(&self) -> &VdsoImage;
}

/// A vDSO image ready to be mapped: read and execute pages, already relocated for
/// this sandbox.
#[derive(Clone, Debug)]
pub struct VdsoImage {
    /// Whole pages of an ELF shared object.
    pub image: Arc<[u8]>,
    /// Where `rt_sigreturn` restorer code lies in it (`__kernel_rt_sigreturn`).
    pub sigreturn_offset: u64,
}

impl VdsoImage {
    /// Its bytes, but `getcpu` makes the system call: for guests whose processors are not the host's.
    pub fn with_getcpu_call(&self) -> Vec<u8> {
        vdso::with_getcpu_call(&self.image)
    }
}

/// One guest address space (one `mm_struct`): shared by the threads of a process.
pub trait AddressSpace: Any + Send + Sync + fmt::Debug {
    /// Does the changes in order, stopping at the first that fails. Concurrent
    /// calls are serialized here, but the caller (who keeps the VMAs) decides
    /// their order and so holds its own lock across this call.
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError>;

    /// Drops all mappings: for `execve`, so that the address space (and its host
    /// process) is used again. No context but the caller's may be in it.
    fn clear(&self) -> Result<(), PlatformError>;

    /// Makes it as good as new, with nothing of its last process left. False when it cannot be. It has no
    /// context.
    fn renew(&self) -> Result<bool, PlatformError> {
        Ok(false)
    }

    /// False when the host has ended it.
    fn is_alive(&self) -> bool {
        true
    }

    /// How to rewrite the system-call instruction at `site` so that it calls the platform
    /// instead of trapping. `code`: what is there, from the address `code_at` on, as far as
    /// it is one page and one mapping. `room`: whole pages near by which are to hold the detour. `None`: it has
    /// to stay.
    fn plan_rewrite(
        &self,
        site: u64,
        code_at: u64,
        code: &[u8],
        room: Range<u64>,
    ) -> Option<Rewrite> {
        let _ = (site, code_at, code, room);
        None
    }

    /// The rewritten code is in place.
    fn note_rewrite(&self, rewrite: &Rewrite) {
        let _ = rewrite;
    }

    /// What was rewritten in `range` is no longer there.
    fn forget_rewrites(&self, range: Range<u64>) {
        let _ = range;
    }

    /// What was rewritten in `parent` is rewritten here too.
    fn inherit_rewrites(&self, parent: &dyn AddressSpace) {
        let _ = parent;
    }

    /// Makes a context for a new guest thread in this address space. To be called
    /// by the host thread that will run it (ptrace and kvm need that).
    /// It starts with zero registers and the initial FPU state.
    fn new_context(self: Arc<Self>) -> Result<Box<dyn Context>, PlatformError>;
}

/// One guest thread: its registers, and the right to run them.
///
/// Owned by the one sentry thread that serves the guest thread.
///
/// Registers are lazy: after a [`Trap::Syscall`] a platform may know only the
/// number and arguments. [`Context::registers`] fetches the rest (this may cost a
/// switch); [`Context::set_return`] sets the result without fetching.
pub trait Context: Send {
    /// Enters guest code with the current registers, until it stops.
    /// A kick that arrived since the last return makes it return at once with
    /// [`Trap::Interrupted`].
    fn switch(&mut self) -> Result<Trap, PlatformError>;

    /// What the system call just trapped returns to the guest (`rax`).
    fn set_return(&mut self, value: u64);

    /// All general registers, FS and GS base; fetched from the guest if need be.
    /// After a [`Trap::Syscall`], `rip` is behind the system-call instruction,
    /// `rax` holds what `set_return` set (or the number, if it was not called),
    /// and `orig_rax` the number.
    fn registers(&mut self) -> Result<&mut Registers, PlatformError>;

    /// The FPU, SSE, AVX … state, as in a signal frame; fetched if need be.
    fn xstate(&mut self) -> Result<&mut XState, PlatformError>;

    /// Makes a running `switch` (or the next one) return soon. Any thread may call
    /// it at any time; cheap when the context is not in guest code.
    fn kicker(&self) -> Arc<dyn Kick>;

    /// Moves this thread to an address space of its own, for `execve` after
    /// `vfork`, keeping nothing of the old one. Registers become zero.
    fn move_to(&mut self, space: Arc<dyn AddressSpace>) -> Result<(), PlatformError>;

    /// What the platform may answer by itself from now on; `None`: nothing, each system call is
    /// a trap. Without effect on platforms that trap every call.
    fn set_answers(&mut self, answers: Option<Answers>) {
        let _ = answers;
    }

    /// The address of a system-call instruction which has become worth rewriting
    /// ([`AddressSpace::plan_rewrite`]) since this was last asked.
    fn take_hot_site(&mut self) -> Option<u64> {
        None
    }

    /// One instruction only, then [`Trap::Exception`] with SIGTRAP: for `ptrace`
    /// inside the sandbox. Holds until switched off.
    fn set_single_step(&mut self, on: bool) -> Result<(), PlatformError>;
}

/// What a guest thread may be told, or do, without asking the sentry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// In this order, what `getpid`, `gettid`, `getuid`, `getgid`, `geteuid` and `getegid` return.
    pub ids: [u32; 6],
    /// `sched_yield` is a matter between it and the host.
    pub yields: bool,
}

/// Interrupts a context; see [`Context::kicker`].
pub trait Kick: Send + Sync + fmt::Debug {
    /// Makes `switch` return.
    fn kick(&self);
}

/// Which platform to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformKind {
    /// The best that this host can run.
    Auto,
    Systrap,
    Ptrace,
    Kvm,
}

/// Makes the platform of a sandbox. To be called before the sentry gives up the host
/// calls that this needs; a helper thread stays. `kvm`: `/dev/kvm`, open, for the platform that needs it.
///
/// # Errors
/// `Unsupported` says in one sentence what this host lacks.
pub fn create(
    kind: PlatformKind,
    memory: Arc<MemoryFile>,
    kvm: Option<OwnedFd>,
) -> Result<Arc<dyn Platform>, PlatformError> {
    create_tried(kind, memory, kvm).map(|(platform, _)| platform)
}

/// A platform, and the address space in which it was tried, if it was.
type Tried = (Arc<dyn Platform>, Option<Arc<dyn AddressSpace>>);

fn create_tried(
    kind: PlatformKind,
    memory: Arc<MemoryFile>,
    kvm: Option<OwnedFd>,
) -> Result<Tried, PlatformError> {
    // Before any thread is held to a processor.
    host::cpu_count();
    match kind {
        PlatformKind::Systrap => Ok((Arc::new(systrap::Systrap::new(memory)?), None)),
        PlatformKind::Ptrace => Ok((Arc::new(ptrace::Ptrace::new(memory)?), None)),
        PlatformKind::Kvm => {
            let device = kvm.map_or_else(open_kvm, Ok)?;
            Ok((kvm::create_in_time(device, memory)?.0, None))
        }
        PlatformKind::Auto => match working_systrap(memory.clone()) {
            Ok(tried) => Ok(kvm.and_then(|kvm| cheaper(kvm, &tried.0, memory)).unwrap_or(tried)),
            Err(error) => {
                tracing::warn!("using ptrace, as systrap does not work on this host: {error}");
                Ok((Arc::new(ptrace::Ptrace::new(memory)?), None))
            }
        },
    }
}

/// KVM, if it works and one round trip is cheaper than with `other`.
fn cheaper(device: OwnedFd, other: &Arc<dyn Platform>, memory: Arc<MemoryFile>) -> Option<Tried> {
    let theirs = round_trip::round_trip(&**other, &memory).ok()?;
    match kvm::create_in_time(device, memory) {
        Ok((platform, ours)) => {
            tracing::debug!(?ours, ?theirs, "one round trip: kvm, systrap");
            (ours < theirs).then_some((platform, None))
        }
        Err(error) => {
            tracing::debug!(%error, "no kvm platform");
            None
        }
    }
}

/// Systrap, if it can run a guest thread here: a filter round the sandbox may forbid what the
/// kernel offers.
fn working_systrap(memory: Arc<MemoryFile>) -> Result<Tried, PlatformError> {
    let systrap: Arc<dyn Platform> = Arc::new(systrap::Systrap::new(memory)?);
    let space = systrap.new_address_space()?;
    drop(space.clone().new_context()?);
    Ok((systrap, Some(space)))
}
