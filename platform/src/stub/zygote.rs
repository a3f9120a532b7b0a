//! The zygote: a child of the sentry that has nothing mapped but the stub, and from
//! which stub processes are cloned. It shares the sentry's descriptors and dies with it.
//!
//! It is born as a copy of the sentry, at a moment when that may have many threads and
//! much memory; so nothing of the sentry's code runs in it. The sentry lays out a
//! temporary region (the stub's code twice, and a list of system calls), and the child
//! goes straight there.

#![allow(unsafe_code, reason = "clones a process and prepares its memory")]

use std::{
    arch::asm,
    ffi::c_void,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

use linux_abi::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use super::{blob, control::CommandPages, control::Control, control::Slot, filter, layout::*, sys};
use crate::{PlatformError, host};

/// How stub processes take guest code's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Guest threads install a listener of their own; a mapper thread changes memory.
    Notify,
    /// Guest threads wait to be seized by a tracer; a helper thread changes memory.
    Ptrace,
}

/// How long anything may take that a healthy host does in a moment; one on which hundreds of processes want to run takes
/// its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Zygote {
    control: Arc<Control>,
    pid: i32,
    pidfd: OwnedFd,
    /// Where the host's vDSO is in stub processes.
    host_vdso: Option<u64>,
    requests: u32,
}

/// What the zygote says of a new process.
pub(super) struct Newborn {
    pub(super) pid: i32,
    pub(super) pidfd: i32,
}

/// `seccomp` flags for listeners on this host.
fn listener_flags() -> u32 {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    if sys::seccomp_takes(listener | sys::WAIT_KILLABLE_RECV) {
        listener | sys::WAIT_KILLABLE_RECV
    } else {
        listener
    }
}

/// Writes the page of constants: filters, signal actions, words.
fn write_constants(control: &Control, kind: Kind) -> Result<(), PlatformError> {
    let mut code_at = C_FILTER_CODE;
    let filters = filter::of(kind).ok_or(PlatformError::Host {
        what: "an address that a filter names",
        errno: Errno::EINVAL,
    })?;
    for (program_at, program) in
        [C_BASE_FILTER, C_MAPPER_FILTER, C_GUEST_FILTER].into_iter().zip(filters)
    {
        control.write_u64(CONST_OFFSET + program_at, program.len() as u64);
        control.write_u64(CONST_OFFSET + program_at + 8, CONST + code_at);
        for insn in program {
            control.write_u64(CONST_OFFSET + code_at, insn);
            code_at += 8;
        }
    }
    assert!(code_at <= C_ACKS, "filters fit the page: they are known when Lazaret is built");
    for errno in 0..ACK_COUNT {
        control.write_u64(CONST_OFFSET + C_ACKS + 8 * errno, errno + 1);
    }
    const SA_RESTORER: u64 = 0x0400_0000;
    let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART) as u64 | SA_RESTORER;
    // The handler never returns to a restorer, but the kernel wants one.
    let action = [blob::handler(), flags, blob::handler(), u64::MAX];
    let ignore = [libc::SIG_IGN as u64, SA_RESTORER, blob::handler(), 0];
    for (at, words) in [(C_SIGACTION, action), (C_SIGACTION_IGNORE, ignore)] {
        for (offset, word) in (at..).step_by(8).zip(words) {
            control.write_u64(CONST_OFFSET + offset, word);
        }
    }
    let pair = u64::from(control.raw_fd() as u32) | u64::from(listener_flags()) << 32;
    control.write_u64(CONST_OFFSET + C_CONTROL_FD, pair);
    control.write_u64(CONST_OFFSET + C_PTRACE, u64::from(kind == Kind::Ptrace));
    Ok(())
}

/// The vvar and vDSO mappings of this process: start, length, and which is the vDSO.
pub(crate) fn own_vdso() -> Vec<(u64, u64, bool)> {
    let maps = host::own_maps();
    let parse = |line: &str| {
        let is_vdso = line.ends_with("[vdso]");
        if !is_vdso && !line.ends_with("[vvar]") && !line.ends_with("[vvar_vclock]") {
            return None;
        }
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        Some((start, end.checked_sub(start)?, is_vdso))
    };
    maps.lines().filter_map(parse).collect()
}

/// A list of system calls for the zygote's first code.
#[derive(Default)]
struct CallList(Vec<[u64; 8]>);

impl CallList {
    fn add(&mut self, number: i64, args: &[u64]) {
        self.add_optional(number, args, 0);
    }

    /// A call that may fail; then the bits of `mask` are reported.
    fn add_optional(&mut self, number: i64, args: &[u64], mask: u64) {
        let mut entry = [number as u64, 0, 0, 0, 0, 0, 0, mask];
        for (to, from) in entry.iter_mut().skip(1).take(6).zip(args) {
            *to = *from;
        }
        self.0.push(entry);
    }
}

/// Bits of failed optional steps.
const NO_VDSO: u64 = 1;
const UNIMPORTANT: u64 = 1 << 63;

/// One past the last address a program can map on x86-64 without five-level paging.
const TASK_SIZE: u64 = 0x7fff_ffff_f000;

/// The temporary region: where the child starts.
struct Nursery {
    start: u64,
}

impl Nursery {
    const CODE: u64 = 0;
    /// A second copy of the code, to be moved to its final place.
    const CODE_COPY: u64 = 4096;
    const LIST: u64 = 2 * 4096;
    const LIST_SIZE: u64 = 16 * 4096;
    /// The name of stub processes, and some bytes that stay zero.
    const NAME: u64 = Self::LIST + Self::LIST_SIZE - 32;
    const ZEROS: u64 = Self::NAME + 16;
    /// Room for vvar and vDSO.
    const VDSO: u64 = Self::LIST + Self::LIST_SIZE;
    const SIZE: u64 = 1 << 20;

    /// Reserves the region well below where the stub's final places are.
    fn new() -> Result<Self, Errno> {
        for hint in (0x1000_0000_0000u64..0x5000_0000_0000).step_by(0x0100_0000_0000) {
            // SAFETY: NOREPLACE: never in place of another mapping.
            let mapped = unsafe {
                rustix::mm::mmap_anonymous(
                    ptr::with_exposed_provenance_mut::<c_void>(hint as usize),
                    Self::SIZE as usize,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE,
                )
            };
            if mapped.is_ok_and(|at| at.addr() as u64 == hint) {
                return Ok(Self { start: hint });
            }
        }
        Err(Errno::ENOMEM)
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= Self::SIZE, "what is written is of known length");
        let to = ptr::with_exposed_provenance_mut::<u8>((self.start + offset) as usize);
        // SAFETY: the region is ours, and mapped writable.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    fn protect_code(&self) -> Result<(), Errno> {
        let at = ptr::with_exposed_provenance_mut::<c_void>(self.start as usize);
        // SAFETY: the region is ours.
        unsafe { rustix::mm::mprotect(at, 2 * 4096, MprotectFlags::READ | MprotectFlags::EXEC) }
            .map_err(host::errno)
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let at = ptr::with_exposed_provenance_mut::<c_void>(self.start as usize);
        // SAFETY: the region is ours; the child has a copy of its own.
        let _ = unsafe { rustix::mm::munmap(at, Self::SIZE as usize) };
    }
}

/// What the child does first. Also says where the vDSO will be.
fn first_calls(nursery: &Nursery, control: &Control, kind: Kind) -> (CallList, Option<u64>) {
    const FIXED_MOVE: u64 = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
    let start = nursery.start;
    let mut list = CallList::default();
    list.add(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as u64, libc::SIGKILL as u64]);
    list.add_optional(libc::SYS_setsid, &[], UNIMPORTANT);
    // A guest can make its process crash; the host must not keep a core of it.
    let no_core = [0, u64::from(libc::RLIMIT_CORE), start + Nursery::ZEROS, 0];
    list.add(libc::SYS_prlimit64, &no_core);
    if kind == Kind::Notify {
        list.add(libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 0]);
    }
    list.add(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, start + Nursery::NAME]);
    // A copy of the sentry has its restartable-sequences area, which will be gone. The
    // kernel ends a registration only for its exact length, which differs between
    // versions of the C library.
    if let Some(area) = blob::rseq_area() {
        for len in (20..=256).step_by(4) {
            list.add_optional(libc::SYS_rseq, &[area, len, 1, 0x5305_3053], UNIMPORTANT);
        }
    }
    // The vDSO may be where our own pages go: it moves twice.
    let pieces = own_vdso();
    let first = pieces.iter().map(|piece| piece.0).min().unwrap_or(0);
    let span = pieces.iter().map(|piece| piece.0 + piece.1 - first).max().unwrap_or(0);
    let vdso = pieces.iter().find(|piece| piece.2).map(|piece| HOST_VDSO + (piece.0 - first));
    let fits = vdso.is_some() && span <= Nursery::SIZE - Nursery::VDSO;
    let pieces = if fits { pieces } else { Vec::new() };
    for (at, len, _) in &pieces {
        let to = start + Nursery::VDSO + (at - first);
        list.add_optional(libc::SYS_mremap, &[*at, *len, *len, FIXED_MOVE, to], NO_VDSO);
    }
    list.add(libc::SYS_munmap, &[0, start]);
    let end = start + Nursery::SIZE;
    list.add(libc::SYS_munmap, &[end, TASK_SIZE - end]);
    let page = 4096;
    let copy = start + Nursery::CODE_COPY;
    list.add(libc::SYS_mremap, &[copy, page, page, FIXED_MOVE, TEXT]);
    for (at, len, _) in &pieces {
        let from = start + Nursery::VDSO + (at - first);
        let to = HOST_VDSO + (at - first);
        list.add_optional(libc::SYS_mremap, &[from, *len, *len, FIXED_MOVE, to], NO_VDSO);
    }
    let fixed = (libc::MAP_SHARED | libc::MAP_FIXED) as u64;
    let fd = control.raw_fd() as u64;
    let readable = libc::PROT_READ as u64;
    list.add(libc::SYS_mmap, &[CONST, CONST_SIZE, readable, fixed, fd, CONST_OFFSET]);
    list.add(libc::SYS_mmap, &[ANSWERS, ANSWERS_LEN, readable, fixed, fd, ANSWERS_OFFSET]);
    let writable = (libc::PROT_READ | libc::PROT_WRITE) as u64;
    list.add(libc::SYS_mmap, &[ZYGOTE, page, writable, fixed, fd, ZYGOTE_OFFSET]);
    for signal in HANDLED_SIGNALS {
        list.add(libc::SYS_rt_sigaction, &[signal as u64, CONST + C_SIGACTION, 0, 8]);
    }
    let ignore = CONST + C_SIGACTION_IGNORE;
    list.add(libc::SYS_rt_sigaction, &[libc::SIGCHLD as u64, ignore, 0, 8]);
    list.add(-1, &[]);
    (list, if fits { vdso } else { None })
}

/// Clones this process, with its descriptors shared; the child goes to `entry` and
/// never sees this code again.
fn clone_to(entry: u64, list: u64, then: u64) -> Result<(i32, OwnedFd), Errno> {
    let result: i64;
    let mut pidfd = -1i32;
    // The child must not run a handler of ours: all signals stay blocked in it.
    let all = u64::MAX;
    let mut before = 0u64;
    let mask = |how: i32, set: *const u64, old: *mut u64| {
        // SAFETY: both sets are words of ours or null.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, set, old, 8) };
    };
    mask(libc::SIG_SETMASK, &all, &mut before);
    // SAFETY: in the parent this is a plain system call. The child, on a copy of our
    // memory, jumps to the stub's code and uses nothing of Rust's.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "mov rsi, r13",
            "jmp r14",
            "2:",
            inlateout("rax") libc::SYS_clone => result,
            in("rdi") (libc::CLONE_FILES | libc::CLONE_PIDFD) as u64,
            in("rsi") 0,
            in("rdx") ptr::from_mut(&mut pidfd),
            in("r10") 0,
            in("r8") 0,
            in("r12") list,
            in("r13") then,
            in("r14") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    mask(libc::SIG_SETMASK, &before, ptr::null_mut());
    if result < 0 {
        return Err(Errno::from_raw(-(result as i32)));
    }
    // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
    Ok((result as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

impl Zygote {
    /// Makes the zygote. It dies with the calling thread.
    pub(super) fn start(control: Arc<Control>, kind: Kind) -> Result<Self, PlatformError> {
        let failed = |what| move |errno| PlatformError::Host { what, errno };
        write_constants(&control, kind)?;
        let nursery = Nursery::new().map_err(failed("the zygote's memory"))?;
        let (list, vdso) = first_calls(&nursery, &control, kind);
        nursery.write(Nursery::CODE, blob::code());
        nursery.write(Nursery::CODE_COPY, blob::code());
        let bytes: Vec<u8> = list.0.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(
            bytes.len() as u64 <= Nursery::NAME - Nursery::LIST,
            "the list fits: it depends on nothing but how many pieces the vDSO has"
        );
        nursery.write(Nursery::LIST, &bytes);
        nursery.write(Nursery::NAME, b"guest");
        nursery.protect_code().map_err(failed("the zygote's code"))?;
        control.fill_zero(ZYGOTE_OFFSET, 4096);
        control.write_u64(ZYGOTE_OFFSET + Z_UNMAP, nursery.start);
        control.write_u64(ZYGOTE_OFFSET + Z_UNMAP_LEN, Nursery::SIZE);
        control
            .word(ZYGOTE_OFFSET + Z_PARENT)
            .store(std::process::id(), std::sync::atomic::Ordering::Relaxed);
        let start = nursery.start;
        let entry = start + Nursery::CODE + blob::relocate();
        let (pid, pidfd) = clone_to(entry, start + Nursery::LIST, blob::zygote())
            .map_err(failed("cloning the zygote"))?;
        drop(nursery);
        let mut zygote = Self { control, pid, pidfd, host_vdso: vdso, requests: 0 };
        zygote.wait_for(Z_READY, 1, Some(PATIENCE))?;
        let optional = zygote.control.read_u64(ZYGOTE_OFFSET + Z_OPTIONAL);
        if optional & NO_VDSO != 0 {
            zygote.host_vdso = None;
        }
        Ok(zygote)
    }

    /// Where the host's vDSO (with its vvar pages before it) is in stub processes.
    pub(crate) fn host_vdso(&self) -> Option<u64> {
        self.host_vdso
    }

    #[cfg(test)]
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    fn word(&self, offset: u64) -> &std::sync::atomic::AtomicU32 {
        self.control.word(ZYGOTE_OFFSET + offset)
    }

    fn wait_for(
        &self,
        offset: u64,
        value: u32,
        patience: Option<Duration>,
    ) -> Result<(), PlatformError> {
        let word = self.word(offset);
        let start = Instant::now();
        loop {
            let now = word.load(std::sync::atomic::Ordering::Acquire);
            if now == value {
                return Ok(());
            }
            sys::futex_wait_shared(word, now, Duration::from_millis(20));
            self.check_alive()?;
            if patience.is_some_and(|patience| start.elapsed() > patience) {
                return Err(PlatformError::StubDied("the zygote does not answer".into()));
            }
        }
    }

    fn check_alive(&self) -> Result<(), PlatformError> {
        let mut status = 0;
        // SAFETY: the status is ours. __WALL: the zygote sends no SIGCHLD.
        let result = unsafe { libc::waitpid(self.pid, &mut status, libc::WNOHANG | libc::__WALL) };
        if result == 0 {
            return Ok(());
        }
        let why = if libc::WIFEXITED(status) {
            format!("the zygote ended: {}", Errno::from_raw(libc::WEXITSTATUS(status)))
        } else {
            format!("the zygote was killed by signal {}", libc::WTERMSIG(status))
        };
        Err(PlatformError::StubDied(why))
    }

    /// Clones one stub process.
    pub(super) fn spawn(
        &mut self,
        pages: CommandPages,
        slot: Slot,
    ) -> Result<Newborn, PlatformError> {
        self.control.write_u64(ZYGOTE_OFFSET + Z_COMMAND_OFFSET, pages.offset());
        self.control.write_u64(ZYGOTE_OFFSET + Z_SLOT, slot.address());
        self.control.write_u64(ZYGOTE_OFFSET + Z_SLOT_OFFSET, slot.offset());
        self.requests = self.requests.wrapping_add(1);
        sys::futex_post_shared(self.word(Z_SEQ), self.requests);
        // For as long as it lives: a request that was given up would be answered all the same, by a process with pages and
        // a slot that another one has by then.
        self.wait_for(Z_DONE, self.requests, None)?;
        let result = self.control.read_u64(ZYGOTE_OFFSET + Z_RESULT) as i64;
        if result < 0 {
            let errno = Errno::from_raw(-(result as i32));
            return Err(PlatformError::Host { what: "cloning a stub process", errno });
        }
        let pidfd = self.control.read_u32(ZYGOTE_OFFSET + Z_PIDFD) as i32;
        // The process id as the zygote sees it, which is in our own pid namespace.
        Ok(Newborn { pid: result as i32, pidfd })
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
        // SAFETY: a child of ours which was not waited for: the number is still its own.
        unsafe { libc::waitpid(self.pid, ptr::null_mut(), libc::__WALL) };
    }
}
