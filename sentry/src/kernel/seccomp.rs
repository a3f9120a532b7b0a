//! seccomp(2): filters that guest programs put on themselves (`kernel/seccomp.c`).
//!
//! Bubblewrap, browsers and system daemons narrow themselves down so; the filters act on the calls as the guest
//! makes them, before the sentry does anything for them.

pub mod bpf;

use std::sync::{Arc, atomic::Ordering};

use linux_abi::{SigInfo, Signal};

use super::{Capability, CurrentTask, ExitStatus, Task};
use crate::{
    Errno, SysResult, err,
    syscalls::Outcome,
    user::{UserAddr, UserMemory, UserRef},
};
use bpf::{Insn, Program};

const MODE_STRICT: u32 = 1;
const MODE_FILTER: u32 = 2;
const FLAG_TSYNC: u64 = 1;
const FLAG_LOG: u64 = 2;
const FLAG_SPEC_ALLOW: u64 = 4;
const FLAG_TSYNC_ESRCH: u64 = 16;
/// Instructions of all filters of a task together (`MAX_INSNS_PER_PATH`); each filter counts four more.
const CHAIN_MAX: usize = (1 << 18) / 8;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const ACTION: u32 = 0xffff_0000;
const DATA: u32 = 0xffff;

/// AUDIT_ARCH_X86_64.
const ARCH: u32 = 0xc000_003e;

/// Filters of a task, newest first.
#[derive(Debug)]
pub(crate) struct FilterChain {
    program: Program,
    older: Option<Arc<FilterChain>>,
    /// Instructions of this and all older ones.
    cost: usize,
    count: usize,
}

/// What a filter says of a call.
pub(super) enum Verdict {
    Allow,
    /// The call is not done; this is its result.
    Result(SysResult<Outcome>),
    /// A tracer decides (SECCOMP_RET_TRACE), with this message.
    Trace(u32),
}

impl FilterChain {
    /// How many filters there are (/proc/PID/status).
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn uses_ip(&self) -> bool {
        self.program.uses_ip() || self.older.as_ref().is_some_and(|older| older.uses_ip())
    }

    /// The strictest answer of all filters; the newest one's where several are equal.
    fn run(&self, data: &[u32; 16]) -> u32 {
        let mut result = self.program.run(data);
        let mut next = self.older.as_deref();
        while let Some(filter) = next {
            let other = filter.program.run(data);
            if (other & ACTION) as i32 <= (result & ACTION) as i32
                && (other & ACTION) != (result & ACTION)
            {
                result = other;
            }
            next = filter.older.as_deref();
        }
        result
    }

    fn is_ancestor_of(self: &Arc<Self>, other: Option<&Arc<Self>>) -> bool {
        let mut at = other;
        while let Some(filter) = at {
            if Arc::ptr_eq(filter, self) {
                return true;
            }
            at = filter.older.as_ref();
        }
        false
    }
}

impl Drop for FilterChain {
    fn drop(&mut self) {
        // Not by recursion: a chain may be long.
        let mut next = self.older.take();
        while let Some(filter) = next {
            next = Arc::into_inner(filter).and_then(|mut filter| filter.older.take());
        }
    }
}

impl Task {
    /// How many filters it has.
    pub fn seccomp_filter_count(&self) -> usize {
        self.shared.lock().seccomp.as_ref().map_or(0, |chain| chain.count())
    }
}

impl CurrentTask {
    /// seccomp(2) with SECCOMP_SET_MODE_STRICT (1) or _FILTER (2) as `mode`.
    pub(crate) fn set_seccomp(
        &mut self,
        mode: u64,
        flags: u64,
        filter: UserAddr,
    ) -> SysResult<u64> {
        match u32::try_from(mode) {
            Ok(MODE_STRICT) => {
                if flags != 0 || self.seccomp_mode() == MODE_FILTER {
                    return err!(EINVAL);
                }
                self.task.seccomp_mode.store(MODE_STRICT, Ordering::Relaxed);
                self.refresh_slow_entry();
                Ok(0)
            }
            Ok(MODE_FILTER) => self.add_filter(flags, filter),
            _ => err!(EINVAL),
        }
    }

    fn add_filter(&mut self, flags: u64, filter: UserAddr) -> SysResult<u64> {
        // Divergence: no SECCOMP_FILTER_FLAG_NEW_LISTENER.
        if flags & !(FLAG_TSYNC | FLAG_LOG | FLAG_SPEC_ALLOW | FLAG_TSYNC_ESRCH) != 0
            || self.seccomp_mode() == MODE_STRICT
        {
            return err!(EINVAL);
        }
        let cred = self.cred();
        // `struct sock_fprog`: a count and a pointer.
        let [len, pointer] = self.mm().read_obj(UserRef::<[u64; 2]>::new(filter.0))?;
        let len = usize::from(len as u16);
        if len == 0 || len > bpf::LEN_MAX {
            return err!(EINVAL);
        }
        if !cred.no_new_privs && !cred.has(Capability::SYS_ADMIN) {
            return err!(EACCES);
        }
        let insns = self.mm().read_array(UserRef::<Insn>::new(pointer), len)?;
        let program = Program::new(insns)?;
        let older = self.seccomp.clone();
        let (cost, count) = older.as_ref().map_or((0, 0), |older| (older.cost + 4, older.count));
        if cost + len > CHAIN_MAX {
            return err!(ENOMEM);
        }
        let chain = Arc::new(FilterChain { program, older, cost: cost + len, count: count + 1 });
        if flags & FLAG_TSYNC != 0
            && let Some(tid) = self.synchronize(&chain)
        {
            return if flags & FLAG_TSYNC_ESRCH != 0 { err!(ESRCH) } else { Ok(tid as u64) };
        }
        self.task.shared.lock().seccomp = Some(chain.clone());
        self.seccomp = Some(chain);
        self.task.seccomp_mode.store(MODE_FILTER, Ordering::Relaxed);
        self.refresh_slow_entry();
        Ok(0)
    }

    /// SECCOMP_FILTER_FLAG_TSYNC: the other threads get the same filters, and no_new_privs; or the
    /// id of one that has others already.
    fn synchronize(&self, chain: &Arc<FilterChain>) -> Option<i32> {
        let threads = self.thread_group().threads();
        let own = self.seccomp.as_ref();
        for thread in &threads {
            let theirs = thread.shared.lock().seccomp.clone();
            let ok = theirs.as_ref().is_none_or(|theirs| theirs.is_ancestor_of(own));
            if !ok || thread.seccomp_mode() == MODE_STRICT {
                return Some(thread.tid());
            }
        }
        let no_new_privs = self.cred().no_new_privs;
        for thread in threads {
            if Arc::ptr_eq(&thread, &self.task) {
                continue;
            }
            {
                let mut shared = thread.shared.lock();
                shared.seccomp = Some(chain.clone());
                shared.force_no_new_privs |= no_new_privs;
            }
            thread.seccomp_mode.store(MODE_FILTER, Ordering::Relaxed);
            // It takes the filters before its next call.
            thread.interrupt();
        }
        None
    }

    /// Takes over filters another thread has put on this one.
    pub(super) fn adopt_filters(&mut self) {
        let (chain, no_new_privs) = {
            let mut shared = self.task.shared.lock();
            (shared.seccomp.clone(), std::mem::take(&mut shared.force_no_new_privs))
        };
        self.seccomp = chain;
        if no_new_privs && !self.cred_ref().no_new_privs {
            let mut cred = super::Credentials::clone(&self.cred());
            cred.no_new_privs = true;
            self.replace_cred(Arc::new(cred));
        }
    }

    /// What the filters say of a call.
    pub(super) fn seccomp_verdict(&mut self, number: u64, args: &[u64; 6]) -> Verdict {
        if self.seccomp_mode() == MODE_STRICT {
            const ALLOWED: [i64; 4] =
                [libc::SYS_read, libc::SYS_write, libc::SYS_exit, libc::SYS_rt_sigreturn];
            if ALLOWED.contains(&(number as i64)) {
                return Verdict::Allow;
            }
            return Verdict::Result(self.seccomp_kill(true, Signal::KILL));
        }
        let Some(chain) = self.seccomp.clone() else { return Verdict::Allow };
        let ip = if chain.uses_ip() { self.instruction_pointer() } else { 0 };
        let result = chain.run(&data(number, ip, args));
        let value = result & DATA;
        match result & ACTION {
            RET_ALLOW => Verdict::Allow,
            RET_LOG => {
                tracing::info!(pid = self.pid(), number, "seccomp");
                Verdict::Allow
            }
            RET_ERRNO => match Errno::from_raw(value.min(4095) as i32) {
                _ if value == 0 => Verdict::Result(Ok(Outcome::Return(0))),
                errno => Verdict::Result(Err(errno.into())),
            },
            RET_TRAP => {
                let ip = self.instruction_pointer();
                let mut info = SigInfo::sys(ip, number as i32, ARCH);
                info.errno = value as i32;
                self.task.force_signal(info);
                // The number stays in the result register.
                Verdict::Result(Ok(Outcome::Return(number)))
            }
            RET_TRACE => Verdict::Trace(value),
            RET_USER_NOTIF => Verdict::Result(err!(ENOSYS)),
            RET_KILL_THREAD => Verdict::Result(self.seccomp_kill(false, Signal::SYS)),
            _ => Verdict::Result(self.seccomp_kill(true, Signal::SYS)),
        }
    }

    fn instruction_pointer(&mut self) -> u64 {
        self.context.registers().map_or(0, |regs| regs.rip)
    }

    fn seccomp_kill(&mut self, whole: bool, signal: Signal) -> SysResult<Outcome> {
        let group = self.thread_group().clone();
        let status = ExitStatus::Signaled { signal, core: false };
        let mut state = group.state.lock();
        if whole || state.threads.len() == 1 {
            group.begin_exit(&mut state, status);
        }
        drop(state);
        self.exit_code = status;
        Ok(Outcome::Exit)
    }
}

/// `struct seccomp_data`, as words.
fn data(number: u64, ip: u64, args: &[u64; 6]) -> [u32; 16] {
    let mut data = [0; 16];
    (data[0], data[1]) = (number as u32, ARCH);
    (data[2], data[3]) = (ip as u32, (ip >> 32) as u32);
    for (pair, arg) in data[4..].chunks_exact_mut(2).zip(args) {
        (pair[0], pair[1]) = (*arg as u32, (*arg >> 32) as u32);
    }
    data
}

/// SECCOMP_GET_ACTION_AVAIL.
pub(crate) fn is_action_known(action: u32) -> bool {
    matches!(
        action,
        RET_KILL_PROCESS | RET_KILL_THREAD | RET_TRAP | RET_ERRNO | RET_TRACE | RET_LOG | RET_ALLOW
    )
}
