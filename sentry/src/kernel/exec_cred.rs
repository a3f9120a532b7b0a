//! What execve(2) does to credentials (capabilities(7), "Transformation of capabilities during
//! execve()"; `security/commoncap.c`).

use std::sync::Arc;

use super::{Capability, CapabilitySet, Credentials};
use crate::{
    SysResult, err,
    vfs::{FileDescription, honours_set_ids},
};

const SECBIT_NOROOT: u32 = 1;
const SECBIT_KEEP_CAPS: u32 = 1 << 4;
const S_ISUID: u32 = libc::S_ISUID;
const S_ISGID: u32 = libc::S_ISGID;
const S_IXGRP: u32 = libc::S_IXGRP;
const XATTR: &[u8] = b"security.capability";
const VFS_CAP_REVISION_2: u32 = 0x0200_0000;
const VFS_CAP_REVISION_3: u32 = 0x0300_0000;
const VFS_CAP_REVISION_MASK: u32 = 0xff00_0000;
const VFS_CAP_EFFECTIVE: u32 = 1;

/// Credentials after execve.
#[derive(Debug)]
pub(super) struct NewCred {
    pub(super) cred: Arc<Credentials>,
    /// Privileges were gained: AT_SECURE, and not dumpable.
    pub(super) gains: bool,
    /// User or group ids, or capabilities, are not what they were.
    pub(super) changes: bool,
}

/// Capabilities a file carries.
#[derive(Clone, Copy, Debug, Default)]
struct FileCaps {
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    effective: bool,
    present: bool,
}

/// What `old` becomes when it executes `file`.
pub(super) fn after_exec(
    old: &Arc<Credentials>,
    file: &FileDescription,
    traced: bool,
) -> SysResult<NewCred> {
    let mut new = Credentials::clone(old);
    let may_gain = honours_set_ids(file.path()) && !old.no_new_privs;
    let mut caps = FileCaps::default();
    if may_gain {
        let meta = file.metadata()?;
        let mode = meta.mode;
        if mode & S_ISUID != 0 {
            new.euid = meta.uid;
        }
        if mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP {
            new.egid = meta.gid;
        }
        caps = file_caps(file);
    }
    let ids_change = new.euid != old.euid || new.egid != old.egid;
    let set_id = new.euid != old.uid || new.egid != old.gid;
    if old.securebits & SECBIT_NOROOT == 0 {
        if new.euid == 0 || new.uid == 0 {
            let all = CapabilitySet::all();
            caps = FileCaps { permitted: all, inheritable: all, ..caps };
        }
        if new.euid == 0 {
            caps.effective = true;
        }
    }
    if caps.present || ids_change {
        new.ambient = CapabilitySet::empty();
    }
    let gained = (caps.permitted & old.bounding) | (caps.inheritable & old.inheritable);
    new.permitted = gained | new.ambient;
    if caps.present && caps.effective && !(caps.permitted - new.permitted).is_empty() {
        // The program counts on capabilities it would not get.
        return err!(EPERM);
    }
    if traced
        && !old.has(Capability::SYS_PTRACE)
        && (ids_change || !old.permitted.contains(new.permitted))
    {
        (new.euid, new.egid) = (old.uid, old.gid);
        new.permitted &= old.permitted;
    }
    new.effective = if caps.effective { new.permitted } else { new.ambient };
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    new.securebits &= !SECBIT_KEEP_CAPS;
    let gains = (set_id && ids_change)
        || (new.uid != 0
            && (caps.effective || !new.ambient.contains(new.permitted))
            && caps.present);
    let changes = ids_change || !old.permitted.contains(new.permitted);
    Ok(NewCred { cred: Arc::new(new), gains, changes })
}

/// The capabilities in a file's extended attribute (`struct vfs_cap_data`); none when there is no sound one.
fn file_caps(file: &FileDescription) -> FileCaps {
    let Ok(value) = file.path().inode().get_xattr(XATTR) else { return FileCaps::default() };
    let word = |index: usize| {
        value
            .get(index * 4..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let magic = word(0);
    let sound = matches!(
        (magic & VFS_CAP_REVISION_MASK, value.len()),
        (VFS_CAP_REVISION_2, 20) | (VFS_CAP_REVISION_3, 24)
    );
    if !sound {
        return FileCaps::default();
    }
    let set = |low: usize, high: usize| {
        CapabilitySet::from_bits_truncate(u64::from(word(low)) | (u64::from(word(high)) << 32))
    };
    FileCaps {
        permitted: set(1, 3),
        inheritable: set(2, 4),
        effective: magic & VFS_CAP_EFFECTIVE != 0,
        present: true,
    }
}
