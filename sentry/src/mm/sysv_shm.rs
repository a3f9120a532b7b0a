//! System V shared memory segments (svipc(7), `ipc/shm.c`).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering},
    },
};

use linux_abi::Errno;
use platform::{Backing, PAGE_SIZE, memory::MemoryFile};
use ranked_sync::Mutex;

use super::{MappingSet, SharedAnonymous, memory_manager::page_up};
use crate::{
    SysResult,
    kernel::{Capability, Credentials},
    lock_order,
    vfs::Mappable,
};

/// IPC_PRIVATE: a key that is never found.
const IPC_PRIVATE: i32 = 0;
const IPC_CREAT: i32 = 0o1000;
const IPC_EXCL: i32 = 0o2000;
/// `SHMMNI`: segments in a sandbox.
pub const SEGMENTS_MAX: usize = 4096;

/// Owner and permissions, which IPC_SET may change.
#[derive(Clone, Copy, Debug)]
pub struct ShmOwner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// A segment. Lives as long as it has a name or is attached somewhere.
#[derive(Debug)]
pub struct ShmSegment {
    pub id: i32,
    pub key: i32,
    /// In bytes, as asked for.
    pub size: u64,
    pub creator: (u32, u32),
    pub creator_pid: i32,
    pub owner: Mutex<lock_order::Leaf, ShmOwner>,
    pub last_pid: AtomicI32,
    /// Seconds since the epoch; 0 for never.
    pub attach_time: AtomicI64,
    pub detach_time: AtomicI64,
    pub change_time: AtomicI64,
    /// SHM_LOCK. Guest memory is never swapped, so that there is nothing else to it.
    pub is_locked: AtomicBool,
    memory: Arc<SharedAnonymous>,
    mappings: MappingSet,
}

impl ShmSegment {
    /// The segment behind a mapped object, if it is one.
    pub fn of(mappable: &Arc<dyn Mappable>) -> Option<&Self> {
        mappable.as_any().and_then(|any| any.downcast_ref())
    }

    /// As `shm_perm.mode` and /proc/sysvipc/shm tell it (`include/linux/shm.h`).
    pub fn mode(&self, removed: bool) -> u32 {
        const SHM_DEST: u32 = 0o1000;
        const SHM_LOCKED: u32 = 0o2000;
        let mut mode = self.owner.lock().mode;
        if removed {
            mode |= SHM_DEST;
        }
        if self.is_locked.load(Ordering::Relaxed) {
            mode |= SHM_LOCKED;
        }
        mode
    }

    /// How often it is attached, in all processes.
    pub fn attachments(&self) -> u64 {
        self.mappings.objects_mapped()
    }

    /// May `cred` do this (`ipcperms`)? `want`: permission bits 4 and 2.
    pub fn check(&self, cred: &Credentials, want: u32) -> Result<(), Errno> {
        let owner = *self.owner.lock();
        let bits = if cred.euid == owner.uid || cred.euid == self.creator.0 {
            owner.mode >> 6
        } else if cred.in_group(owner.gid) || cred.in_group(self.creator.1) {
            owner.mode >> 3
        } else {
            owner.mode
        };
        let allowed = bits & want == want || cred.has(Capability::IPC_OWNER);
        if allowed { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// May `cred` change or remove it?
    pub fn check_owner(&self, cred: &Credentials) -> Result<(), Errno> {
        let allowed = cred.euid == self.owner.lock().uid
            || cred.euid == self.creator.0
            || cred.has(Capability::SYS_ADMIN);
        if allowed { Ok(()) } else { Err(Errno::EPERM) }
    }
}

impl Mappable for ShmSegment {
    fn pages(&self, offset: u64, len: u64, shared: bool) -> SysResult<(Backing, u64)> {
        self.memory.pages(offset, len, shared)
    }
    fn identity(&self) -> (u64, u64) {
        (self.memory.identity().0, u64::from(self.id as u32))
    }
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn mappings(&self) -> Option<&MappingSet> {
        Some(&self.mappings)
    }
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        Some(self)
    }
}

/// A segment that has its name still, or only its users.
#[derive(Debug)]
enum Held {
    Named(Arc<ShmSegment>),
    Removed(Weak<ShmSegment>),
}

impl Held {
    fn get(&self) -> Option<Arc<ShmSegment>> {
        match self {
            Self::Named(segment) => Some(segment.clone()),
            Self::Removed(segment) => segment.upgrade(),
        }
    }
}

/// The segments of a sandbox.
#[derive(Debug, Default)]
pub struct ShmTable {
    table: Mutex<lock_order::Leaf, Table>,
}

#[derive(Debug, Default)]
struct Table {
    segments: BTreeMap<i32, Held>,
    next: i32,
}

/// What shmget(2) is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ShmRequest {
    pub key: i32,
    pub size: u64,
    pub flags: i32,
    pub pid: i32,
    /// Seconds since the epoch.
    pub now: i64,
}

impl ShmTable {
    /// shmget(2): the id.
    pub fn get(
        &self,
        memory: &Arc<MemoryFile>,
        cred: &Credentials,
        request: ShmRequest,
    ) -> Result<i32, Errno> {
        if let Some(id) = self.find(cred, &request)? {
            return Ok(id);
        }
        if request.key != IPC_PRIVATE && request.flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let size = page_up(request.size).filter(|&size| size > 0).ok_or(Errno::EINVAL)?;
        if size > i64::MAX as u64 - PAGE_SIZE {
            return Err(Errno::EINVAL);
        }
        let pages = SharedAnonymous::new(memory, size)?;
        let mut table = self.table.lock();
        table.segments.retain(|_, held| held.get().is_some());
        if table.segments.len() >= SEGMENTS_MAX {
            return Err(Errno::ENOSPC);
        }
        let taken = request.key != IPC_PRIVATE
            && table
                .segments
                .values()
                .any(|held| matches!(held, Held::Named(segment) if segment.key == request.key));
        if taken {
            // Someone was faster.
            return Err(Errno::EEXIST);
        }
        let id = table.next;
        table.next = table.next.checked_add(1).unwrap_or(0);
        let segment = ShmSegment {
            id,
            key: request.key,
            size: request.size,
            creator: (cred.euid, cred.egid),
            creator_pid: request.pid,
            owner: Mutex::new(ShmOwner {
                uid: cred.euid,
                gid: cred.egid,
                mode: request.flags as u32 & 0o777,
            }),
            last_pid: AtomicI32::new(0),
            is_locked: AtomicBool::new(false),
            attach_time: AtomicI64::new(0),
            detach_time: AtomicI64::new(0),
            change_time: AtomicI64::new(request.now),
            memory: pages,
            mappings: MappingSet::default(),
        };
        table.segments.insert(id, Held::Named(Arc::new(segment)));
        Ok(id)
    }

    /// The id of the segment with the key, if there is one and it may be used.
    fn find(&self, cred: &Credentials, request: &ShmRequest) -> Result<Option<i32>, Errno> {
        if request.key == IPC_PRIVATE {
            return Ok(None);
        }
        let found = self
            .all()
            .into_iter()
            .find(|(segment, removed)| segment.key == request.key && !removed);
        let Some((segment, _)) = found else { return Ok(None) };
        if request.flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
            return Err(Errno::EEXIST);
        }
        if request.size > segment.size {
            return Err(Errno::EINVAL);
        }
        let bits = request.flags as u32;
        segment.check(cred, (bits >> 6 | bits >> 3 | bits) & 6)?;
        Ok(Some(segment.id))
    }

    /// The segment, and whether it is removed and just waits for its last user to go.
    pub fn segment(&self, id: i32) -> Result<(Arc<ShmSegment>, bool), Errno> {
        let table = self.table.lock();
        let held = table.segments.get(&id).ok_or(Errno::EINVAL)?;
        let removed = matches!(held, Held::Removed(_));
        held.get().map(|segment| (segment, removed)).ok_or(Errno::EINVAL)
    }

    /// All segments, in the order of their ids, and whether they are removed.
    pub fn all(&self) -> Vec<(Arc<ShmSegment>, bool)> {
        let table = self.table.lock();
        table
            .segments
            .values()
            .filter_map(|held| Some((held.get()?, matches!(held, Held::Removed(_)))))
            .collect()
    }

    /// IPC_RMID: the name goes; the memory goes with the last user.
    pub fn remove(&self, id: i32) {
        let mut table = self.table.lock();
        let before = match table.segments.get_mut(&id) {
            Some(held) => match held {
                Held::Named(segment) => {
                    let weak = Arc::downgrade(segment);
                    std::mem::replace(held, Held::Removed(weak))
                }
                Held::Removed(_) => return,
            },
            None => return,
        };
        // The last use gives memory back: without the lock.
        drop(table);
        drop(before);
    }
}
