//! System V IPC (`ipc/util.c`): identifiers, keys and permissions.
//!
//! One sandbox is one IPC namespace. Objects live in tables below a leaf lock; what a table gives up is
//! dropped by the caller after unlocking.

pub mod msg;
pub mod sem;

use std::collections::BTreeMap;

use linux_abi::sysv::IpcPerm64;

use super::{Capability, Credentials};
use crate::{SysResult, err};

pub const IPC_PRIVATE: i32 = 0;
pub const IPC_CREAT: i32 = 0o1000;
pub const IPC_EXCL: i32 = 0o2000;
pub const IPC_NOWAIT: i16 = 0o4000;

/// An identifier is a sequence number above a slot number of so many bits (`IPCMNI_SHIFT`).
const SLOT_BITS: u32 = 15;
/// Sequence numbers go up to here, so that identifiers are not negative.
const MAX_SEQUENCE: u32 = i32::MAX as u32 >> SLOT_BITS;

/// Owner, creator and mode of an object (`struct kern_ipc_perm`).
#[derive(Clone, Copy, Debug)]
pub struct Permissions {
    pub key: i32,
    pub uid: u32,
    pub gid: u32,
    pub cuid: u32,
    pub cgid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Permissions {
    fn new(key: i32, flags: i32, cred: &Credentials) -> Self {
        let (uid, gid) = (cred.euid, cred.egid);
        Self { key, uid, gid, cuid: uid, cgid: gid, mode: (flags & 0o777) as u32 }
    }

    /// `EACCES` unless the mode allows what `wanted` asks, as permission bits (`ipcperms`).
    pub(super) fn check(&self, cred: &Credentials, wanted: u32) -> SysResult<()> {
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let granted = if cred.euid == self.cuid || cred.euid == self.uid {
            self.mode >> 6
        } else if cred.in_group(self.cgid) || cred.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted != 0 && !cred.has(Capability::IPC_OWNER) {
            return err!(EACCES);
        }
        Ok(())
    }

    /// `EPERM` unless the caller may remove or change it (`ipcctl_obtain_check`).
    pub(super) fn check_owner(&self, cred: &Credentials) -> SysResult<()> {
        if cred.euid != self.cuid && cred.euid != self.uid && !cred.has(Capability::SYS_ADMIN) {
            return err!(EPERM);
        }
        Ok(())
    }

    /// IPC_SET. `EINVAL` for ids that are none.
    fn update(&mut self, to: &IpcPerm64) -> SysResult<()> {
        if to.uid == u32::MAX || to.gid == u32::MAX {
            return err!(EINVAL);
        }
        self.uid = to.uid;
        self.gid = to.gid;
        self.mode = self.mode & !0o777 | to.mode & 0o777;
        Ok(())
    }

    fn report(&self, id: i32) -> IpcPerm64 {
        IpcPerm64 {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            cuid: self.cuid,
            cgid: self.cgid,
            mode: self.mode,
            seq: (id as u32 >> SLOT_BITS) as u16,
            ..IpcPerm64::default()
        }
    }
}

/// What has an identifier.
trait Object {
    fn permissions(&self) -> &Permissions;
}

/// Objects of one kind by identifier (`struct ipc_ids`).
#[derive(Debug)]
struct Ids<T> {
    slots: BTreeMap<u32, (u32, T)>,
    sequence: u32,
    last_slot: Option<u32>,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), sequence: 0, last_slot: None }
    }
}

impl<T: Object> Ids<T> {
    /// xxxget(2) (`ipcget`): the identifier of the object with `key`, made by `create` where there is none and
    /// `flags` allow. `fits` checks one that is there. `ENOSPC` beyond `max` objects.
    fn get(
        &mut self,
        (key, flags): (i32, i32),
        cred: &Credentials,
        max: usize,
        fits: impl FnOnce(&T) -> SysResult<()>,
        create: impl FnOnce(Permissions) -> SysResult<T>,
    ) -> SysResult<i32> {
        let found = (key != IPC_PRIVATE)
            .then(|| self.slots.iter().find(|(_, (_, object))| object.permissions().key == key))
            .flatten();
        if let Some((&slot, (sequence, object))) = found {
            if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                return err!(EEXIST);
            }
            fits(object)?;
            object.permissions().check(cred, flags as u32 & 0o777)?;
            return Ok(identifier(slot, *sequence));
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return err!(ENOENT);
        }
        if self.slots.len() >= max {
            return err!(ENOSPC);
        }
        let object = create(Permissions::new(key, flags, cred))?;
        let slot = self.free_slot();
        if self.last_slot.is_some_and(|last| slot <= last) {
            self.sequence = (self.sequence + 1) % (MAX_SEQUENCE + 1);
        }
        self.last_slot = Some(slot);
        self.slots.insert(slot, (self.sequence, object));
        Ok(identifier(slot, self.sequence))
    }

    fn free_slot(&self) -> u32 {
        let mut free = 0;
        for &slot in self.slots.keys() {
            if slot != free {
                break;
            }
            free += 1;
        }
        free
    }

    /// `EINVAL` when there is none.
    fn find(&mut self, id: i32) -> SysResult<&mut T> {
        let (slot, sequence) = (id as u32 & ((1 << SLOT_BITS) - 1), id as u32 >> SLOT_BITS);
        match self.slots.get_mut(&slot) {
            Some((its, object)) if *its == sequence && id >= 0 => Ok(object),
            _ => err!(EINVAL),
        }
    }

    /// By slot number (SEM_STAT), with its identifier.
    fn find_slot(&mut self, slot: i32) -> SysResult<(i32, &mut T)> {
        let slot = slot as u32;
        match self.slots.get_mut(&slot) {
            Some((sequence, object)) => Ok((identifier(slot, *sequence), object)),
            None => err!(EINVAL),
        }
    }

    fn remove(&mut self, id: i32) -> Option<T> {
        self.find(id).ok()?;
        let slot = id as u32 & ((1 << SLOT_BITS) - 1);
        self.slots.remove(&slot).map(|(_, object)| object)
    }

    /// All, with identifiers.
    fn iter(&self) -> impl Iterator<Item = (i32, &T)> {
        self.slots.iter().map(|(&slot, (sequence, object))| (identifier(slot, *sequence), object))
    }

    /// The highest slot in use, or 0: what IPC_INFO returns.
    fn highest_slot(&self) -> i32 {
        self.slots.keys().next_back().map_or(0, |&slot| slot as i32)
    }
}

fn identifier(slot: u32, sequence: u32) -> i32 {
    (sequence << SLOT_BITS | slot) as i32
}
