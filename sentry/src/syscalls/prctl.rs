//! prctl(2).

use std::sync::{Arc, atomic::Ordering};

use linux_abi::Signal;

use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CapabilitySet, Credentials, CurrentTask},
    user::{UserAddr, UserCStr, UserMemory, UserRef},
};

const PR_SET_VMA: i32 = 0x5356_4d41;
const PR_SET_VMA_ANON_NAME: u64 = 0;
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;
const PR_SET_MDWE: i32 = 65;
const PR_GET_MDWE: i32 = 66;
const PR_GET_AUXV: i32 = 0x4155_5856;
const PR_SCHED_CORE: i32 = 62;
const SECURE_ALL_BITS: u32 = 0x55;
const SECURE_ALL_LOCKS: u32 = 0xaa;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;
const SECBIT_KEEP_CAPS_LOCKED: u32 = 1 << 5;
const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
/// Speculation controls: not affected, as far as a guest can tell.
const PR_SPEC_NOT_AFFECTED: u64 = 0;

pub(super) fn sys_prctl(
    task: &mut CurrentTask,
    option: i32,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> SysResult<u64> {
    let rest = [arg3, arg4, arg5];
    let unused =
        |args: &[u64]| if args.iter().all(|&arg| arg == 0) { Ok(()) } else { err!(EINVAL) };
    match option {
        libc::PR_SET_NAME => set_name(task, arg2),
        libc::PR_GET_NAME => get_name(task, arg2),
        libc::PR_SET_PDEATHSIG => {
            if arg2 != 0 {
                Signal::new(arg2 as i32).ok_or(Errno::EINVAL)?;
            }
            task.parent_death_signal().store(arg2 as i32, Ordering::Relaxed);
            Ok(0)
        }
        libc::PR_GET_PDEATHSIG => {
            let signal = task.parent_death_signal().load(Ordering::Relaxed);
            task.mm().write_obj(UserRef::new(arg2), &signal)?;
            Ok(0)
        }
        libc::PR_GET_DUMPABLE => Ok(task.thread_group().dumpable().into()),
        libc::PR_SET_DUMPABLE => {
            if arg2 > 1 {
                return err!(EINVAL);
            }
            task.thread_group().set_dumpable(arg2 as u32);
            Ok(0)
        }
        libc::PR_GET_KEEPCAPS
        | libc::PR_SET_KEEPCAPS
        | libc::PR_GET_SECUREBITS
        | libc::PR_SET_SECUREBITS => securebits(task, option, arg2),
        libc::PR_CAPBSET_READ => Ok(task.cred_ref().bounding.contains(capability(arg2)?).into()),
        libc::PR_CAPBSET_DROP => drop_bounding(task, arg2),
        libc::PR_CAP_AMBIENT => ambient(task, arg2, arg3, arg4, arg5),
        libc::PR_SET_NO_NEW_PRIVS => {
            unused(&rest)?;
            if arg2 != 1 {
                return err!(EINVAL);
            }
            let mut new = Credentials::clone(&task.cred());
            new.no_new_privs = true;
            task.replace_cred(Arc::new(new));
            Ok(0)
        }
        libc::PR_GET_NO_NEW_PRIVS => {
            unused(&[arg2, arg3, arg4, arg5])?;
            Ok(task.cred_ref().no_new_privs.into())
        }
        libc::PR_GET_SECCOMP => Ok(task.seccomp_mode().into()),
        libc::PR_SET_SECCOMP => task.set_seccomp(arg2, 0, UserAddr(arg3)),
        libc::PR_SET_CHILD_SUBREAPER => {
            task.thread_group().set_subreaper(arg2 != 0);
            Ok(0)
        }
        libc::PR_GET_CHILD_SUBREAPER => {
            let is = i32::from(task.thread_group().is_subreaper());
            task.mm().write_obj(UserRef::new(arg2), &is)?;
            Ok(0)
        }
        libc::PR_SET_TIMERSLACK => {
            let slack = if (arg2 as i64) <= 0 { task.default_timer_slack_ns() } else { arg2 };
            task.timer_slack_ns().store(slack, Ordering::Relaxed);
            Ok(0)
        }
        libc::PR_GET_TIMERSLACK => Ok(task.timer_slack_ns().load(Ordering::Relaxed)),
        libc::PR_GET_TIMING => Ok(0),
        libc::PR_SET_TIMING => {
            if arg2 == 0 {
                Ok(0)
            } else {
                err!(EINVAL)
            }
        }
        libc::PR_GET_TSC => {
            task.mm().write_obj(UserRef::new(arg2), &libc::PR_TSC_ENABLE)?;
            Ok(0)
        }
        libc::PR_SET_TSC => {
            if arg2 == libc::PR_TSC_ENABLE as u64 {
                Ok(0)
            } else {
                err!(EINVAL)
            }
        }
        libc::PR_GET_TID_ADDRESS => {
            let at = task.clear_child_tid_address();
            task.mm().write_obj(UserRef::new(arg2), &at)?;
            Ok(0)
        }
        libc::PR_SET_THP_DISABLE => {
            unused(&rest)?;
            task.thread_group().set_thp_disabled(arg2 != 0);
            Ok(0)
        }
        libc::PR_GET_THP_DISABLE => {
            unused(&[arg2, arg3, arg4, arg5])?;
            Ok(task.thread_group().is_thp_disabled().into())
        }
        libc::PR_MCE_KILL => {
            if arg2 <= 1 {
                Ok(0)
            } else {
                err!(EINVAL)
            }
        }
        libc::PR_MCE_KILL_GET => Ok(2),
        libc::PR_GET_SPECULATION_CTRL => {
            unused(&rest)?;
            if arg2 > 2 { err!(ENODEV) } else { Ok(PR_SPEC_NOT_AFFECTED) }
        }
        libc::PR_SET_SPECULATION_CTRL => err!(ENXIO),
        libc::PR_SET_PTRACER => Ok(0),
        PR_SET_VMA if arg2 == PR_SET_VMA_ANON_NAME => name_mapping(task, arg3, arg4, arg5),
        PR_GET_AUXV => auxv(task, arg2, arg3),
        PR_SET_MDWE if arg2 & !3 == 0 => {
            if arg2 == 0 {
                Ok(0)
            } else {
                err!(EINVAL)
            }
        }
        PR_GET_MDWE => Ok(0),
        PR_SET_IO_FLUSHER | PR_GET_IO_FLUSHER => err!(EPERM),
        PR_SCHED_CORE => err!(ENODEV),
        libc::PR_SET_MM if !task.cred().has(Capability::SYS_RESOURCE) => err!(EPERM),
        _ => err!(EINVAL),
    }
}

fn set_name(task: &CurrentTask, at: u64) -> SysResult<u64> {
    const NAME_MAX: usize = 15;
    let mut name = match task.mm().read_cstr(UserCStr(UserAddr(at)), NAME_MAX) {
        Err(Errno::ENAMETOOLONG) => {
            let mut name = vec![0; NAME_MAX];
            task.mm().copy_in(UserAddr(at), &mut name)?;
            name
        }
        result => result?,
    };
    name.truncate(NAME_MAX);
    task.set_comm(&name);
    Ok(0)
}

fn get_name(task: &CurrentTask, at: u64) -> SysResult<u64> {
    let mut name = task.comm();
    name.resize(16, 0);
    task.mm().copy_out(UserAddr(at), &name)?;
    Ok(0)
}

fn capability(number: u64) -> SysResult<CapabilitySet> {
    let bit = 1_u64.checked_shl(u32::try_from(number).map_err(|_| Errno::EINVAL)?);
    Ok(bit.and_then(CapabilitySet::from_bits).ok_or(Errno::EINVAL)?)
}

fn drop_bounding(task: &mut CurrentTask, number: u64) -> SysResult<u64> {
    if !task.cred().has(Capability::SETPCAP) {
        return err!(EPERM);
    }
    let capability = capability(number)?;
    let mut new = Credentials::clone(&task.cred());
    new.bounding -= capability;
    task.replace_cred(Arc::new(new));
    Ok(0)
}

fn ambient(task: &mut CurrentTask, what: u64, number: u64, arg4: u64, arg5: u64) -> SysResult<u64> {
    const IS_SET: u64 = 1;
    const RAISE: u64 = 2;
    const LOWER: u64 = 3;
    const CLEAR_ALL: u64 = 4;
    if arg4 != 0 || arg5 != 0 {
        return err!(EINVAL);
    }
    let mut new = Credentials::clone(&task.cred());
    if what == CLEAR_ALL {
        if number != 0 {
            return err!(EINVAL);
        }
        new.ambient = CapabilitySet::empty();
        task.replace_cred(Arc::new(new));
        return Ok(0);
    }
    let capability = capability(number)?;
    match what {
        IS_SET => return Ok(new.ambient.contains(capability).into()),
        RAISE => {
            if !(new.permitted & new.inheritable).contains(capability)
                || new.securebits & SECBIT_NO_CAP_AMBIENT_RAISE != 0
            {
                return err!(EPERM);
            }
            new.ambient |= capability;
        }
        LOWER => new.ambient -= capability,
        _ => return err!(EINVAL),
    }
    task.replace_cred(Arc::new(new));
    Ok(0)
}

fn securebits(task: &mut CurrentTask, option: i32, value: u64) -> SysResult<u64> {
    let old = task.cred();
    let mut new = Credentials::clone(&old);
    match option {
        libc::PR_GET_KEEPCAPS => return Ok((old.securebits & SECBIT_KEEP_CAPS != 0).into()),
        libc::PR_GET_SECUREBITS => return Ok(old.securebits.into()),
        libc::PR_SET_KEEPCAPS => {
            if value > 1 {
                return err!(EINVAL);
            }
            if old.securebits & SECBIT_KEEP_CAPS_LOCKED != 0 {
                return err!(EPERM);
            }
            new.securebits &= !SECBIT_KEEP_CAPS;
            if value == 1 {
                new.securebits |= SECBIT_KEEP_CAPS;
            }
        }
        _ => {
            let bits = u32::try_from(value).map_err(|_| Errno::EPERM)?;
            let locked = (old.securebits & SECURE_ALL_LOCKS) >> 1;
            if locked & (old.securebits ^ bits) != 0
                || old.securebits & SECURE_ALL_LOCKS & !bits != 0
                || bits & !(SECURE_ALL_LOCKS | SECURE_ALL_BITS) != 0
                || !old.has(Capability::SETPCAP)
            {
                return err!(EPERM);
            }
            new.securebits = bits;
        }
    }
    task.replace_cred(Arc::new(new));
    Ok(0)
}

/// PR_SET_VMA_ANON_NAME: the name is checked; /proc/PID/maps does not show it.
fn name_mapping(task: &CurrentTask, addr: u64, len: u64, name: u64) -> SysResult<u64> {
    const NAME_MAX: usize = 80;
    if name != 0 {
        let name = match task.mm().read_cstr(UserCStr(UserAddr(name)), NAME_MAX) {
            Err(Errno::ENAMETOOLONG) => return err!(EINVAL),
            result => result?,
        };
        if name.iter().any(|&byte| !(0x20..0x7f).contains(&byte) || b"\\`$[]".contains(&byte)) {
            return err!(EINVAL);
        }
    }
    if !addr.is_multiple_of(platform::PAGE_SIZE) || addr.checked_add(len).is_none() {
        return err!(EINVAL);
    }
    Ok(0)
}

/// PR_GET_AUXV: as much as fits; the whole length.
fn auxv(task: &CurrentTask, at: u64, len: u64) -> SysResult<u64> {
    let image = task.mm().image();
    let bytes = &image.auxv;
    let part = bytes.get(..(len as usize).min(bytes.len())).unwrap_or_default();
    task.mm().copy_out(UserAddr(at), part)?;
    Ok(bytes.len() as u64)
}
