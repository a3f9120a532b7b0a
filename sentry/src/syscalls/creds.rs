//! User and group ids (setuid(2), setresuid(2), setgroups(2) …; `kernel/sys.c`).

use std::sync::Arc;

use crate::{
    SysResult, err,
    kernel::{Capability, CapabilitySet, Credentials, CurrentTask},
    user::{UserMemory, UserRef},
};

/// "Leave it as it is."
const UNCHANGED: u32 = u32::MAX;
const NGROUPS_MAX: usize = 65536;
const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;

/// What holders of file-system capabilities lose with fsuid 0 (`CAP_FS_MASK`).
const FS_CAPS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::MAC_OVERRIDE);

pub(super) fn sys_getuid(task: &mut CurrentTask) -> SysResult<u32> {
    Ok(task.cred_ref().uid)
}
pub(super) fn sys_geteuid(task: &mut CurrentTask) -> SysResult<u32> {
    Ok(task.cred_ref().euid)
}
pub(super) fn sys_getgid(task: &mut CurrentTask) -> SysResult<u32> {
    Ok(task.cred_ref().gid)
}
pub(super) fn sys_getegid(task: &mut CurrentTask) -> SysResult<u32> {
    Ok(task.cred_ref().egid)
}

fn write_three(task: &CurrentTask, at: [UserRef<u32>; 3], values: [u32; 3]) -> SysResult<()> {
    for (at, value) in at.into_iter().zip(values) {
        task.mm().write_obj(at, &value)?;
    }
    Ok(())
}

pub(super) fn sys_getresuid(
    task: &mut CurrentTask,
    real: UserRef<u32>,
    effective: UserRef<u32>,
    saved: UserRef<u32>,
) -> SysResult<()> {
    let cred = task.cred();
    write_three(task, [real, effective, saved], [cred.uid, cred.euid, cred.suid])
}

pub(super) fn sys_getresgid(
    task: &mut CurrentTask,
    real: UserRef<u32>,
    effective: UserRef<u32>,
    saved: UserRef<u32>,
) -> SysResult<()> {
    let cred = task.cred();
    write_three(task, [real, effective, saved], [cred.gid, cred.egid, cred.sgid])
}

/// Puts changed credentials in force; `old` decides what changed.
fn commit(task: &mut CurrentTask, old: &Credentials, mut new: Credentials) {
    fix_caps(old, &mut new);
    if (new.euid, new.egid, new.fsuid, new.fsgid) != (old.euid, old.egid, old.fsuid, old.fsgid)
        || !old.permitted.contains(new.permitted)
    {
        task.thread_group().set_dumpable(0);
        task.clear_parent_death_signal();
    }
    task.replace_cred(Arc::new(new));
}

/// Ids going from and to 0 take and give capabilities (`cap_task_fix_setuid`).
fn fix_caps(old: &Credentials, new: &mut Credentials) {
    if old.securebits & SECBIT_NO_SETUID_FIXUP != 0 {
        return;
    }
    let had_root = old.uid == 0 || old.euid == 0 || old.suid == 0;
    let has_root = new.uid == 0 || new.euid == 0 || new.suid == 0;
    if had_root && !has_root {
        if old.securebits & SECBIT_KEEP_CAPS == 0 {
            new.permitted = CapabilitySet::empty();
            new.effective = CapabilitySet::empty();
        }
        new.ambient = CapabilitySet::empty();
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = CapabilitySet::empty();
    }
    if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

pub(super) fn sys_setuid(task: &mut CurrentTask, uid: u32) -> SysResult<()> {
    let old = task.cred();
    let mut new = Credentials::clone(&old);
    if uid == UNCHANGED {
        return err!(EINVAL);
    }
    if old.has(Capability::SETUID) {
        (new.uid, new.suid) = (uid, uid);
    } else if uid != old.uid && uid != old.suid {
        return err!(EPERM);
    }
    (new.euid, new.fsuid) = (uid, uid);
    commit(task, &old, new);
    Ok(())
}

pub(super) fn sys_setgid(task: &mut CurrentTask, gid: u32) -> SysResult<()> {
    let old = task.cred();
    let mut new = Credentials::clone(&old);
    if gid == UNCHANGED {
        return err!(EINVAL);
    }
    if old.has(Capability::SETGID) {
        (new.gid, new.sgid) = (gid, gid);
    } else if gid != old.gid && gid != old.sgid {
        return err!(EPERM);
    }
    (new.egid, new.fsgid) = (gid, gid);
    commit(task, &old, new);
    Ok(())
}

pub(super) fn sys_setreuid(task: &mut CurrentTask, real: u32, effective: u32) -> SysResult<()> {
    let old = task.cred();
    let mut new = Credentials::clone(&old);
    let able = old.has(Capability::SETUID);
    if real != UNCHANGED {
        if !able && real != old.uid && real != old.euid {
            return err!(EPERM);
        }
        new.uid = real;
    }
    if effective != UNCHANGED {
        if !able && ![old.uid, old.euid, old.suid].contains(&effective) {
            return err!(EPERM);
        }
        new.euid = effective;
    }
    if real != UNCHANGED || (effective != UNCHANGED && effective != old.uid) {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit(task, &old, new);
    Ok(())
}

pub(super) fn sys_setregid(task: &mut CurrentTask, real: u32, effective: u32) -> SysResult<()> {
    let old = task.cred();
    let mut new = Credentials::clone(&old);
    let able = old.has(Capability::SETGID);
    if real != UNCHANGED {
        if !able && real != old.gid && real != old.egid {
            return err!(EPERM);
        }
        new.gid = real;
    }
    if effective != UNCHANGED {
        if !able && ![old.gid, old.egid, old.sgid].contains(&effective) {
            return err!(EPERM);
        }
        new.egid = effective;
    }
    if real != UNCHANGED || (effective != UNCHANGED && effective != old.gid) {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(task, &old, new);
    Ok(())
}

pub(super) fn sys_setresuid(
    task: &mut CurrentTask,
    real: u32,
    effective: u32,
    saved: u32,
) -> SysResult<()> {
    let old = task.cred();
    let own = [old.uid, old.euid, old.suid, UNCHANGED];
    let able = old.has(Capability::SETUID);
    if !able && [real, effective, saved].iter().any(|id| !own.contains(id)) {
        return err!(EPERM);
    }
    let mut new = Credentials::clone(&old);
    set_unless_unchanged(&mut new.uid, real);
    set_unless_unchanged(&mut new.euid, effective);
    set_unless_unchanged(&mut new.suid, saved);
    new.fsuid = new.euid;
    commit(task, &old, new);
    Ok(())
}

pub(super) fn sys_setresgid(
    task: &mut CurrentTask,
    real: u32,
    effective: u32,
    saved: u32,
) -> SysResult<()> {
    let old = task.cred();
    let own = [old.gid, old.egid, old.sgid, UNCHANGED];
    let able = old.has(Capability::SETGID);
    if !able && [real, effective, saved].iter().any(|id| !own.contains(id)) {
        return err!(EPERM);
    }
    let mut new = Credentials::clone(&old);
    set_unless_unchanged(&mut new.gid, real);
    set_unless_unchanged(&mut new.egid, effective);
    set_unless_unchanged(&mut new.sgid, saved);
    new.fsgid = new.egid;
    commit(task, &old, new);
    Ok(())
}

fn set_unless_unchanged(to: &mut u32, id: u32) {
    if id != UNCHANGED {
        *to = id;
    }
}

/// Returns the fsuid of before, whether or not it could be changed.
pub(super) fn sys_setfsuid(task: &mut CurrentTask, uid: u32) -> SysResult<u32> {
    let old = task.cred();
    let own = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid);
    if uid != UNCHANGED && (own || old.has(Capability::SETUID)) {
        let mut new = Credentials::clone(&old);
        new.fsuid = uid;
        if old.securebits & SECBIT_NO_SETUID_FIXUP == 0 {
            if old.fsuid == 0 && uid != 0 {
                new.effective -= FS_CAPS;
            } else if old.fsuid != 0 && uid == 0 {
                new.effective |= FS_CAPS & new.permitted;
            }
        }
        task.replace_cred(Arc::new(new));
    }
    Ok(old.fsuid)
}

pub(super) fn sys_setfsgid(task: &mut CurrentTask, gid: u32) -> SysResult<u32> {
    let old = task.cred();
    let own = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
    if gid != UNCHANGED && (own || old.has(Capability::SETGID)) {
        let mut new = Credentials::clone(&old);
        new.fsgid = gid;
        task.replace_cred(Arc::new(new));
    }
    Ok(old.fsgid)
}

pub(super) fn sys_getgroups(
    task: &mut CurrentTask,
    count: i32,
    list: UserRef<u32>,
) -> SysResult<usize> {
    let cred = task.cred();
    let Ok(count) = usize::try_from(count) else { return err!(EINVAL) };
    if count == 0 {
        return Ok(cred.groups.len());
    }
    if count < cred.groups.len() {
        return err!(EINVAL);
    }
    for (index, group) in cred.groups.iter().enumerate() {
        task.mm().write_obj(list.at(index)?, group)?;
    }
    Ok(cred.groups.len())
}

pub(super) fn sys_setgroups(
    task: &mut CurrentTask,
    count: i32,
    list: UserRef<u32>,
) -> SysResult<()> {
    let old = task.cred();
    if !old.has(Capability::SETGID) {
        return err!(EPERM);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > NGROUPS_MAX {
        return err!(EINVAL);
    }
    let mut groups = task.mm().read_array(list, count)?;
    groups.sort_unstable();
    let mut new = Credentials::clone(&old);
    new.groups = groups.into();
    task.replace_cred(Arc::new(new));
    Ok(())
}
