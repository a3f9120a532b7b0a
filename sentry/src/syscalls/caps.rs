//! capget(2), capset(2).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CapabilitySet, Credentials, CurrentTask},
    user::{UserMemory, UserRef},
};

const VERSION_1: u32 = 0x1998_0330;
const VERSION_2: u32 = 0x2007_1026;
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// How many [`Data`] the version has; an unknown one gets ours written back.
fn parts(task: &CurrentTask, at: UserRef<Header>, header: &Header) -> SysResult<Option<usize>> {
    match header.version {
        VERSION_1 => Ok(Some(1)),
        VERSION_2 | VERSION_3 => Ok(Some(2)),
        _ => {
            task.mm().write_obj(at, &Header { version: VERSION_3, ..*header })?;
            Ok(None)
        }
    }
}

pub(super) fn sys_capget(
    task: &mut CurrentTask,
    header_at: UserRef<Header>,
    data: UserRef<Data>,
) -> SysResult<()> {
    let header = task.mm().read_obj(header_at)?;
    let Some(parts) = parts(task, header_at, &header)? else {
        // Asking for the version is allowed.
        return if data.is_null() { Ok(()) } else { err!(EINVAL) };
    };
    if header.pid < 0 {
        return err!(EINVAL);
    }
    let cred = match header.pid {
        0 => task.cred(),
        pid => task.kernel().tasks.task(pid).ok_or(Errno::ESRCH)?.cred(),
    };
    if data.is_null() {
        return Ok(());
    }
    for part in 0..parts {
        let half = |set: CapabilitySet| (set.bits() >> (32 * part)) as u32;
        let value = Data {
            effective: half(cred.effective),
            permitted: half(cred.permitted),
            inheritable: half(cred.inheritable),
        };
        task.mm().write_obj(data.at(part)?, &value)?;
    }
    Ok(())
}

pub(super) fn sys_capset(
    task: &mut CurrentTask,
    header_at: UserRef<Header>,
    data: UserRef<Data>,
) -> SysResult<()> {
    let header = task.mm().read_obj(header_at)?;
    let Some(parts) = parts(task, header_at, &header)? else { return err!(EINVAL) };
    if header.pid != 0 && header.pid != task.tid() {
        return err!(EPERM);
    }
    let (mut effective, mut permitted, mut inheritable) = (0_u64, 0_u64, 0_u64);
    for part in 0..parts {
        let value = task.mm().read_obj(data.at(part)?)?;
        effective |= u64::from(value.effective) << (32 * part);
        permitted |= u64::from(value.permitted) << (32 * part);
        inheritable |= u64::from(value.inheritable) << (32 * part);
    }
    let old = task.cred();
    let mut new = Credentials::clone(&old);
    new.effective = CapabilitySet::from_bits_truncate(effective);
    new.permitted = CapabilitySet::from_bits_truncate(permitted);
    new.inheritable = CapabilitySet::from_bits_truncate(inheritable);
    let may_inherit = if old.has(Capability::SETPCAP) {
        old.inheritable | old.permitted | old.bounding
    } else {
        old.inheritable | old.permitted
    };
    if !may_inherit.contains(new.inheritable)
        || !(old.inheritable | old.bounding).contains(new.inheritable)
        || !old.permitted.contains(new.permitted)
        || !new.permitted.contains(new.effective)
    {
        return err!(EPERM);
    }
    new.ambient &= new.permitted & new.inheritable;
    task.replace_cred(Arc::new(new));
    Ok(())
}
