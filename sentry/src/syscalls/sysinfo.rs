//! What the system is (uname(2), sysinfo(2), sethostname(2), getrandom(2), syslog(2)), and what a sandbox may
//! not change of it.

use linux_abi::process::{Sysinfo, Utsname};

use crate::{
    SysResult, err,
    kernel::{Capability, CurrentTask, is_allowed},
    user::{UserAddr, UserMemory, UserRef},
};

/// `__NEW_UTS_LEN`.
const UTS_NAME_MAX: usize = 64;

pub(super) fn sys_uname(task: &mut CurrentTask, at: UserRef<Utsname>) -> SysResult<()> {
    let mut names = task.kernel().uts.names();
    const UNAME26: u32 = 0x002_0000;
    if task.personality() & UNAME26 != 0 {
        names.release = [0; 65];
        for (to, from) in names.release.iter_mut().zip(b"2.6.72") {
            *to = *from;
        }
    }
    task.mm().write_obj(at, &names)?;
    Ok(())
}

fn read_name(task: &CurrentTask, name: UserAddr, len: i32) -> SysResult<Vec<u8>> {
    if !task.cred().has(Capability::SYS_ADMIN) {
        return err!(EPERM);
    }
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > UTS_NAME_MAX {
        return err!(EINVAL);
    }
    let mut bytes = vec![0; len];
    task.mm().copy_in(name, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn sys_sethostname(task: &mut CurrentTask, name: UserAddr, len: i32) -> SysResult<()> {
    let name = read_name(task, name, len)?;
    task.kernel().uts.set_host_name(&name);
    Ok(())
}

pub(super) fn sys_setdomainname(task: &mut CurrentTask, name: UserAddr, len: i32) -> SysResult<()> {
    let name = read_name(task, name, len)?;
    task.kernel().uts.set_domain_name(&name);
    Ok(())
}

pub(super) fn sys_sysinfo(task: &mut CurrentTask, at: UserRef<Sysinfo>) -> SysResult<()> {
    let kernel = task.kernel();
    let total = kernel.memory().total();
    let used = kernel.memory().used();
    let info = Sysinfo {
        uptime: (kernel.clocks.uptime_ns() / 1_000_000_000) as i64,
        totalram: total,
        freeram: total.saturating_sub(used),
        procs: u16::try_from(kernel.tasks.count()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    task.mm().write_obj(at, &info)?;
    Ok(())
}

pub(super) fn sys_getrandom(
    task: &mut CurrentTask,
    at: UserAddr,
    len: usize,
    flags: u32,
) -> SysResult<usize> {
    const KNOWN: u32 = libc::GRND_NONBLOCK | libc::GRND_RANDOM | libc::GRND_INSECURE;
    const CHUNK: usize = 4096;
    let exclusive = libc::GRND_RANDOM | libc::GRND_INSECURE;
    if flags & !KNOWN != 0 || flags & exclusive == exclusive {
        return err!(EINVAL);
    }
    let len = len.min(i32::MAX as usize);
    let mut bytes = [0; CHUNK];
    let mut done = 0;
    while done < len {
        let chunk = bytes.get_mut(..CHUNK.min(len - done)).unwrap_or_default();
        platform::host::fill_random(chunk)?;
        match task.mm().copy_out_partial(at.offset(done as u64)?, chunk) {
            Ok(n) => done += n,
            Err(errno) if done == 0 => return Err(errno.into()),
            Err(_) => break,
        }
        if task.waker().is_interrupted() && done >= 256 {
            break;
        }
    }
    Ok(done)
}

pub(super) fn sys_syslog(
    task: &mut CurrentTask,
    action: i32,
    buffer: UserAddr,
    len: i32,
) -> SysResult<i32> {
    const READ_ALL: i32 = 3;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    const LOG: &[u8] = b"<6>[    0.000000] Linux version 6.12.0 (Lazaret)\n";
    match action {
        READ_ALL => {
            let Ok(len) = usize::try_from(len) else { return err!(EINVAL) };
            if buffer.is_null() {
                return err!(EINVAL);
            }
            let part = LOG.get(..len.min(LOG.len())).unwrap_or_default();
            task.mm().copy_out(buffer, part)?;
            Ok(part.len() as i32)
        }
        SIZE_BUFFER => Ok(1 << 18),
        0..=SIZE_UNREAD if !task.cred().has(Capability::SYSLOG) => err!(EPERM),
        0 | 1 | SIZE_UNREAD => Ok(0),
        2 | 4..=8 => err!(EPERM),
        _ => err!(EINVAL),
    }
}

/// personality(2): the bits are kept; ADDR_NO_RANDOMIZE and UNAME26 act.
pub(super) fn sys_personality(task: &mut CurrentTask, new: u32) -> SysResult<u32> {
    let old = task.personality();
    if new != u32::MAX {
        task.set_personality(new);
    }
    Ok(old)
}

/// Calls that change the machine: a sandbox has none of its own to change.
pub(super) fn sys_not_permitted(_task: &mut CurrentTask) -> SysResult<()> {
    err!(EPERM)
}

pub(super) fn sys_reboot(
    task: &mut CurrentTask,
    magic: u32,
    magic2: u32,
    _command: u32,
) -> SysResult<()> {
    if !task.cred().has(Capability::SYS_BOOT) {
        return err!(EPERM);
    }
    if magic != 0xfee1_dead
        || ![672_274_793, 85_072_278, 369_367_448, 537_993_216].contains(&magic2)
    {
        return err!(EINVAL);
    }
    // As in a pid namespace: halting would end it; here only the end of init does.
    err!(EPERM)
}

pub(super) fn sys_getcpu(
    task: &mut CurrentTask,
    cpu: UserRef<u32>,
    node: UserRef<u32>,
    _cache: u64,
) -> SysResult<()> {
    if let Some(cpu) = cpu.non_null() {
        task.mm().write_obj(cpu, &current_cpu(task))?;
    }
    if let Some(node) = node.non_null() {
        task.mm().write_obj(node, &0)?;
    }
    Ok(())
}

/// The processor it runs on; one of those it asked for, when it asked.
fn current_cpu(task: &CurrentTask) -> u32 {
    if let Some(cpu) = task.virtual_processor() {
        return cpu;
    }
    let cpu = platform::host::current_cpu();
    let Some(allowed) = task.affinity() else { return cpu };
    let is_allowed = |cpu: u32| is_allowed(Some(&allowed), cpu);
    if is_allowed(cpu) { cpu } else { (0..4096).find(|&cpu| is_allowed(cpu)).unwrap_or(cpu) }
}
