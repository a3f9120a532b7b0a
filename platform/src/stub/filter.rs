//! The seccomp filters of stub processes, in classic BPF by hand: they compare
//! instruction pointers, which differ from run to run of the build, not of the program.

use super::{blob, layout::*, zygote::Kind};

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

impl Insn {
    pub(super) fn to_word(self) -> u64 {
        u64::from(self.code)
            | u64::from(self.jt) << 16
            | u64::from(self.jf) << 24
            | u64::from(self.k) << 32
    }
}

const LD_W_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;

const fn arg_low(n: u32) -> u32 {
    16 + 8 * n
}

const fn arg_high(n: u32) -> u32 {
    20 + 8 * n
}

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// A filter under construction; jumps to the end are filled in when it is done.
#[derive(Default)]
struct Filter {
    code: Vec<Insn>,
    /// Instructions whose false branch goes to the default action.
    otherwise: Vec<usize>,
}

impl Filter {
    fn load(&mut self, offset: u32) {
        self.code.push(Insn { code: LD_W_ABS, jt: 0, jf: 0, k: offset });
    }

    fn jump(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.code.push(Insn { code, jt, jf, k });
    }

    fn ret(&mut self, action: u32) {
        self.code.push(Insn { code: RET, jt: 0, jf: 0, k: action });
    }

    /// Goes on when the word equals `k`, else to the default.
    fn require(&mut self, offset: u32, k: u32) {
        self.load(offset);
        self.otherwise.push(self.code.len());
        self.jump(JEQ, k, 0, 0);
    }

    /// With the call number loaded: returns `action` for this one.
    fn action_for(&mut self, number: u32, action: u32) {
        self.jump(JEQ, number, 0, 1);
        self.ret(action);
    }

    fn finish(mut self, default: u32) -> Vec<Insn> {
        let end = self.code.len();
        for at in self.otherwise {
            // A jump that does not fit would be a filter that lets through too
            // much, so it is made one that lets nothing through.
            let distance = u8::try_from(end - at - 1);
            if let Some(insn) = self.code.get_mut(at) {
                match distance {
                    Ok(distance) => insn.jf = distance,
                    Err(_) => *insn = Insn { code: RET, jt: 0, jf: 0, k: default },
                }
            }
        }
        self.code.push(Insn { code: RET, jt: 0, jf: 0, k: default });
        self.code
    }
}

/// For the zygote and everything it makes: calls come from the stub's code only, and are
/// those it is written to make. Anything else fails with ENOSYS (`RET_TRACE` without a
/// tracer): an action that a guest thread's own filter overrides.
pub(super) fn base(kind: Kind) -> Vec<Insn> {
    let mut filter = Filter::default();
    filter.require(ARCH, AUDIT_ARCH_X86_64);
    filter.require(IP_HIGH, (TEXT >> 32) as u32);
    let low = TEXT as u32;
    filter.load(IP_LOW);
    filter.otherwise.push(filter.code.len());
    filter.jump(JGE, low, 0, 0);
    filter.jump(JGE, low + 4096, 0, 1);
    filter.ret(libc::SECCOMP_RET_TRACE);
    filter.load(NR);
    for number in [
        libc::SYS_rt_sigreturn,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mprotect,
        libc::SYS_futex,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_seccomp,
        libc::SYS_gettid,
        libc::SYS_sched_yield,
        libc::SYS_prctl,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ] {
        filter.action_for(number as u32, libc::SECCOMP_RET_ALLOW);
    }
    if kind == Kind::Ptrace {
        // The helper's answers, which are constants.
        filter.jump(JEQ, libc::SYS_write as u32, 0, 7);
        filter.load(arg_high(1));
        filter.jump(JEQ, (CONST >> 32) as u32, 0, 4);
        filter.load(arg_low(1));
        filter.jump(JGE, CONST as u32, 0, 2);
        filter.jump(JGE, (CONST + CONST_SIZE) as u32, 1, 0);
        filter.ret(libc::SECCOMP_RET_ALLOW);
        filter.ret(libc::SECCOMP_RET_TRACE);
    }
    filter.require(NR, libc::SYS_clone as u32);
    filter.load(arg_low(0));
    filter.action_for(CLONE_PROCESS as u32, libc::SECCOMP_RET_ALLOW);
    filter.action_for(CLONE_THREAD as u32, libc::SECCOMP_RET_ALLOW);
    filter.finish(libc::SECCOMP_RET_TRACE)
}

/// For the mapper: changes of guest addresses, and the doorbell.
pub(super) fn mapper() -> Vec<Insn> {
    let mut filter = Filter::default();
    filter.require(ARCH, AUDIT_ARCH_X86_64);
    filter.load(NR);
    filter.action_for(DOORBELL, libc::SECCOMP_RET_USER_NOTIF);
    // The rest is for mmap (9), mprotect (10) and munmap (11) only.
    filter.otherwise.push(filter.code.len());
    filter.jump(JGE, libc::SYS_mmap as u32, 0, 0);
    filter.jump(JGE, libc::SYS_munmap as u32 + 1, 0, 1);
    filter.ret(libc::SECCOMP_RET_KILL_PROCESS);
    let end = (USER_END >> 32) as u32;
    filter.load(arg_high(0));
    filter.jump(JGE, end, 0, 1);
    filter.ret(libc::SECCOMP_RET_KILL_PROCESS);
    filter.load(arg_high(1));
    filter.jump(JGE, end + 1, 0, 1);
    filter.ret(libc::SECCOMP_RET_KILL_PROCESS);
    filter.ret(libc::SECCOMP_RET_ALLOW);
    filter.finish(libc::SECCOMP_RET_KILL_PROCESS)
}

/// For guest threads: nothing but the handler's way back and the stub's `sched_yield`; all
/// else asks the sentry. The pointer's low half decides almost always, so it is first.
pub(super) fn guest() -> Vec<Insn> {
    let (after, after_yield) = (blob::after_sigreturn(), blob::after_yield());
    let mut filter = Filter::default();
    filter.load(IP_LOW);
    filter.jump(JEQ, after as u32, 1, 0);
    filter.otherwise.push(filter.code.len());
    filter.jump(JEQ, after_yield as u32, 0, 0);
    // Both lie in one page of the stub.
    filter.require(IP_HIGH, (after >> 32) as u32);
    filter.require(ARCH, AUDIT_ARCH_X86_64);
    filter.load(IP_LOW);
    filter.jump(JEQ, after as u32, 3, 0);
    filter.require(NR, libc::SYS_sched_yield as u32);
    filter.ret(libc::SECCOMP_RET_ALLOW);
    filter.require(NR, libc::SYS_rt_sigreturn as u32);
    filter.ret(libc::SECCOMP_RET_ALLOW);
    filter.finish(libc::SECCOMP_RET_USER_NOTIF)
}
