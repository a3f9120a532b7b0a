//! Signals (signal(7), sigaction(2), `include/uapi/asm-generic/siginfo.h`).

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $nr:literal,)*) => {
        impl Signal {
            $(#[allow(missing_docs, reason = "signal(7) says it")] pub const $name: Self = Self($nr);)*

            /// `SIGINT` and so on; real-time signals have none.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($nr => Some(concat!("SIG", stringify!($name))),)* _ => None }
            }
        }
    };
}

signals! {
    HUP = 1, INT = 2, QUIT = 3, ILL = 4, TRAP = 5, ABRT = 6, BUS = 7, FPE = 8, KILL = 9, USR1 = 10,
    SEGV = 11, USR2 = 12, PIPE = 13, ALRM = 14, TERM = 15, STKFLT = 16, CHLD = 17, CONT = 18,
    STOP = 19, TSTP = 20, TTIN = 21, TTOU = 22, URG = 23, XCPU = 24, XFSZ = 25, VTALRM = 26,
    PROF = 27, WINCH = 28, IO = 29, PWR = 30, SYS = 31,
}

impl Signal {
    /// The first real-time signal, as the kernel counts.
    pub const RT_MIN: Self = Self(32);
    /// The last signal.
    pub const MAX: Self = Self(64);

    /// `None` unless 1 to 64.
    pub const fn new(number: i32) -> Option<Self> {
        if number >= 1 && number <= 64 { Some(Self(number as u8)) } else { None }
    }

    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Real-time signals queue up; the others are pending at most once.
    pub const fn is_realtime(self) -> bool {
        self.0 >= 32
    }

    pub const fn set(self) -> SigSet {
        SigSet(1 << (self.0 - 1))
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "SIGRT_{}", self.0.wrapping_sub(32)),
        }
    }
}

/// `sigset_t` of the kernel: bit N-1 is signal N.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    pub const EMPTY: Self = Self(0);
    /// SIGKILL and SIGSTOP, which cannot be blocked.
    pub const UNBLOCKABLE: Self = Signal::KILL.set().union(Signal::STOP.set());
    /// The signals that stop a process by default.
    pub const STOPS: Self = Signal::STOP
        .set()
        .union(Signal::TSTP.set())
        .union(Signal::TTIN.set())
        .union(Signal::TTOU.set());
    /// Raised by the thread's own instructions; delivered before others.
    pub const SYNCHRONOUS: Self = Signal::SEGV
        .set()
        .union(Signal::BUS.set())
        .union(Signal::ILL.set())
        .union(Signal::TRAP.set())
        .union(Signal::FPE.set())
        .union(Signal::SYS.set());
    /// Ignored by default.
    pub const DEFAULT_IGNORED: Self = Signal::CONT
        .set()
        .union(Signal::CHLD.set())
        .union(Signal::WINCH.set())
        .union(Signal::URG.set());
    /// Dump core by default (the process ends as with any fatal signal; there is no core file).
    pub const CORE: Self = Signal::QUIT
        .set()
        .union(Signal::ILL.set())
        .union(Signal::TRAP.set())
        .union(Signal::ABRT.set())
        .union(Signal::FPE.set())
        .union(Signal::SEGV.set())
        .union(Signal::BUS.set())
        .union(Signal::SYS.set())
        .union(Signal::XCPU.set())
        .union(Signal::XFSZ.set());

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
    pub const fn complement(self) -> Self {
        Self(!self.0)
    }
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.set().0 != 0
    }
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// The lowest signal in the set.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }
}

/// `siginfo_t` as it crosses the user boundary: which part of the union is filled depends on
/// the signal and `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pad: i32,
    fields: [u8; 112],
}

/// `si_code` values (sigaction(2)).
pub mod si_code {
    pub const USER: i32 = 0;
    pub const KERNEL: i32 = 0x80;
    pub const QUEUE: i32 = -1;
    pub const TIMER: i32 = -2;
    pub const MESGQ: i32 = -3;
    pub const ASYNCIO: i32 = -4;
    pub const SIGIO: i32 = -5;
    pub const TKILL: i32 = -6;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
    pub const SYS_SECCOMP: i32 = 1;
    pub const POLL_IN: i32 = 1;
    pub const POLL_OUT: i32 = 2;
    pub const POLL_MSG: i32 = 3;
    pub const POLL_ERR: i32 = 4;
    pub const POLL_PRI: i32 = 5;
    pub const POLL_HUP: i32 = 6;
}

impl SigInfo {
    /// Nothing but a number and a code.
    pub const fn new(signal: Signal, code: i32) -> Self {
        Self { signo: signal.number(), errno: 0, code, pad: 0, fields: [0; 112] }
    }

    /// No signal: all zero, as waitid(2) fills it when there is nothing.
    pub const fn empty() -> Self {
        Self { signo: 0, errno: 0, code: 0, pad: 0, fields: [0; 112] }
    }

    /// Takes over the fields waitid(2) fills, leaving the others as they were.
    pub fn take_wait_fields(&mut self, from: &Self) {
        (self.signo, self.errno, self.code) = (from.signo, from.errno, from.code);
        self.put(0, &from.take::<12>(0));
    }

    /// From the kernel itself (SI_KERNEL).
    pub const fn kernel(signal: Signal) -> Self {
        Self::new(signal, si_code::KERNEL)
    }

    /// From a process: `kill` (SI_USER), `tgkill` (SI_TKILL).
    pub fn from_user(signal: Signal, code: i32, pid: i32, uid: u32) -> Self {
        let mut info = Self::new(signal, code);
        info.put(0, &pid.to_ne_bytes());
        info.put(4, &uid.to_ne_bytes());
        info
    }

    /// A child's change of state. Times in clock ticks.
    pub fn child(code: i32, pid: i32, uid: u32, status: i32, utime: i64, stime: i64) -> Self {
        let mut info = Self::from_user(Signal::CHLD, code, pid, uid);
        info.put(8, &status.to_ne_bytes());
        info.put(16, &utime.to_ne_bytes());
        info.put(24, &stime.to_ne_bytes());
        info
    }

    /// A fault of the thread's own at `addr`.
    pub fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        let mut info = Self::new(signal, code);
        info.put(0, &addr.to_ne_bytes());
        info
    }

    /// A POSIX timer ran out.
    pub fn timer(signal: Signal, id: i32, overrun: i32, value: u64) -> Self {
        let mut info = Self::new(signal, si_code::TIMER);
        info.put(0, &id.to_ne_bytes());
        info.put(8, &value.to_ne_bytes());
        info.set_overrun(overrun);
        info
    }

    /// Input or output became possible (F_SETSIG): `band` are poll bits.
    pub fn poll(signal: Signal, code: i32, band: i64, fd: i32) -> Self {
        let mut info = Self::new(signal, code);
        info.put(0, &band.to_ne_bytes());
        info.put(8, &fd.to_ne_bytes());
        info
    }

    /// A seccomp filter or an unknown entry refused a call.
    pub fn sys(call_addr: u64, syscall: i32, arch: u32) -> Self {
        let mut info = Self::new(Signal::SYS, si_code::SYS_SECCOMP);
        info.put(0, &call_addr.to_ne_bytes());
        info.put(8, &syscall.to_ne_bytes());
        info.put(12, &arch.to_ne_bytes());
        info
    }

    /// The signal; `None` for a number that is none (from `rt_sigqueueinfo`, checked there).
    pub const fn signal(&self) -> Option<Signal> {
        Signal::new(self.signo)
    }

    pub fn pid(&self) -> i32 {
        i32::from_ne_bytes(self.take(0))
    }
    pub fn uid(&self) -> u32 {
        u32::from_ne_bytes(self.take(4))
    }
    pub fn status(&self) -> i32 {
        i32::from_ne_bytes(self.take(8))
    }
    pub fn utime(&self) -> i64 {
        i64::from_ne_bytes(self.take(16))
    }
    pub fn stime(&self) -> i64 {
        i64::from_ne_bytes(self.take(24))
    }
    /// `si_value`, as the pointer it may be.
    pub fn value(&self) -> u64 {
        u64::from_ne_bytes(self.take(8))
    }
    pub fn set_value(&mut self, value: u64) {
        self.put(8, &value.to_ne_bytes());
    }
    pub fn addr(&self) -> u64 {
        u64::from_ne_bytes(self.take(0))
    }
    pub fn timer_id(&self) -> i32 {
        i32::from_ne_bytes(self.take(0))
    }
    pub fn overrun(&self) -> i32 {
        i32::from_ne_bytes(self.take(4))
    }
    pub fn set_overrun(&mut self, overrun: i32) {
        self.put(4, &overrun.to_ne_bytes());
    }
    pub fn band(&self) -> i64 {
        i64::from_ne_bytes(self.take(0))
    }
    pub fn fd(&self) -> i32 {
        i32::from_ne_bytes(self.take(8))
    }
    pub fn call_addr(&self) -> u64 {
        u64::from_ne_bytes(self.take(0))
    }
    pub fn syscall(&self) -> i32 {
        i32::from_ne_bytes(self.take(8))
    }
    pub fn arch(&self) -> u32 {
        u32::from_ne_bytes(self.take(12))
    }

    /// True for those a process sent (`SI_FROMUSER`).
    pub const fn is_from_user(&self) -> bool {
        self.code <= 0
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.fields.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        self.fields.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }
}

/// `struct kernel_sigaction` on x86-64.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SigAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: SigSet,
}

impl SigAction {
    pub const DFL: u64 = 0;
    pub const IGN: u64 = 1;
}

/// Flags of [`SigAction`], `SA_*`.
pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const UNSUPPORTED: u64 = 0x400;
    pub const EXPOSE_TAGBITS: u64 = 0x800;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
    /// Those x86-64 knows (`UAPI_SA_FLAGS`).
    pub const KNOWN: u64 = NOCLDSTOP
        | NOCLDWAIT
        | SIGINFO
        | EXPOSE_TAGBITS
        | RESTORER
        | ONSTACK
        | RESTART
        | NODEFER
        | RESETHAND;
}

/// `stack_t` (sigaltstack(2)).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SigStack {
    pub sp: u64,
    pub flags: i32,
    pub pad: i32,
    pub size: u64,
}

/// `struct sigcontext` on x86-64 (`arch/x86/include/uapi/asm/sigcontext.h`).
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub err: u64,
    pub trapno: u64,
    pub oldmask: u64,
    pub cr2: u64,
    pub fpstate: u64,
    pub reserved: [u64; 8],
}

/// `struct ucontext` as the kernel writes it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UContext {
    pub flags: u64,
    pub link: u64,
    pub stack: SigStack,
    pub mcontext: SigContext,
    pub sigmask: SigSet,
}

/// Flags of [`UContext`].
pub mod uc {
    pub const FP_XSTATE: u64 = 1;
    pub const SIGCONTEXT_SS: u64 = 2;
    pub const STRICT_RESTORE_SS: u64 = 4;
}

/// `struct rt_sigframe`: where the stack pointer is when a handler starts.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RtSigFrame {
    /// The return address: the restorer.
    pub pretcode: u64,
    pub uc: UContext,
    pub info: SigInfo,
}
