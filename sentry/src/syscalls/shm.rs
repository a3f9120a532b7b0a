//! System V shared memory: shmget(2), shmat(2), shmdt(2), shmctl(2).

use std::sync::{Arc, atomic::Ordering};

use platform::{PAGE_SIZE, Prot};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    mm::{MapRequest, MappedFile, Placement, ShmRequest, ShmSegment, Source, VmaFlags},
    user::{UserAddr, UserMemory, UserRef},
};

const SHM_RDONLY: i32 = 0o10_000;
const SHM_RND: i32 = 0o20_000;
const SHM_REMAP: i32 = 0o40_000;
const SHM_EXEC: i32 = 0o100_000;

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// `struct shmid64_ds`, with its `struct ipc64_perm`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct ShmStatus {
    key: i32,
    uid: u32,
    gid: u32,
    creator_uid: u32,
    creator_gid: u32,
    mode: u32,
    sequence: u16,
    pad: [u16; 3],
    unused: [u64; 2],
    size: u64,
    attach_time: i64,
    detach_time: i64,
    change_time: i64,
    creator_pid: i32,
    last_pid: i32,
    attachments: u64,
    unused_end: [u64; 2],
}

fn now(task: &CurrentTask) -> i64 {
    task.kernel().clocks.now().sec
}

pub(super) fn sys_shmget(
    task: &mut CurrentTask,
    key: i32,
    size: u64,
    flags: i32,
) -> SysResult<i32> {
    let request = ShmRequest { key, size, flags, pid: task.pid(), now: now(task) };
    let kernel = task.kernel();
    Ok(kernel.shm.get(kernel.memory(), &task.cred(), request)?)
}

pub(super) fn sys_shmat(
    task: &mut CurrentTask,
    id: i32,
    addr: UserAddr,
    flags: i32,
) -> SysResult<UserAddr> {
    let mut at = addr.0;
    if at == 0 {
        if flags & SHM_REMAP != 0 {
            return err!(EINVAL);
        }
    } else if !addr.is_page_aligned() {
        if flags & SHM_RND == 0 {
            return err!(EINVAL);
        }
        at &= !(PAGE_SIZE - 1);
    }
    let (segment, _) = task.kernel().shm.segment(id)?;
    let mut prot = Prot::READ;
    let mut max_prot = Prot::all();
    if flags & SHM_RDONLY == 0 {
        prot |= Prot::WRITE;
    } else {
        max_prot -= Prot::WRITE;
    }
    prot.set(Prot::EXEC, flags & SHM_EXEC != 0);
    segment.check(&task.cred(), if prot.contains(Prot::WRITE) { 6 } else { 4 })?;
    let placement = match (at, flags & SHM_REMAP != 0) {
        (0, _) => Placement::Anywhere,
        (_, true) => Placement::Fixed,
        (_, false) => Placement::FixedNoReplace,
    };
    let mut request = MapRequest::anonymous(at, segment.size, prot, placement);
    request.max_prot = max_prot;
    request.flags = VmaFlags::SHARED;
    let object = MappedFile { mappable: segment.clone(), file: None };
    request.source = Source::File { file: Arc::new(object), offset: 0 };
    super::mmap::refresh_limits(task);
    let at = match task.mm().map(request) {
        Err(linux_abi::Errno::EEXIST) => return err!(EINVAL),
        result => result?,
    };
    segment.attach_time.store(now(task), Ordering::Relaxed);
    segment.last_pid.store(task.pid(), Ordering::Relaxed);
    Ok(UserAddr(at))
}

pub(super) fn sys_shmdt(task: &mut CurrentTask, addr: UserAddr) -> SysResult<()> {
    if !addr.is_page_aligned() {
        return err!(EINVAL);
    }
    let Some((object, 0, _)) = task.mm().mapped_at(addr.0) else { return err!(EINVAL) };
    let Some(segment) = ShmSegment::of(&object.mappable) else { return err!(EINVAL) };
    segment.detach_time.store(now(task), Ordering::Relaxed);
    segment.last_pid.store(task.pid(), Ordering::Relaxed);
    Ok(task.mm().unmap_object(addr.0, &object)?)
}

fn status(segment: &ShmSegment, removed: bool) -> ShmStatus {
    let owner = *segment.owner.lock();
    ShmStatus {
        key: if removed { 0 } else { segment.key },
        uid: owner.uid,
        gid: owner.gid,
        creator_uid: segment.creator.0,
        creator_gid: segment.creator.1,
        mode: segment.mode(removed),
        size: segment.size,
        attach_time: segment.attach_time.load(Ordering::Relaxed),
        detach_time: segment.detach_time.load(Ordering::Relaxed),
        change_time: segment.change_time.load(Ordering::Relaxed),
        creator_pid: segment.creator_pid,
        last_pid: segment.last_pid.load(Ordering::Relaxed),
        attachments: segment.attachments(),
        ..ShmStatus::default()
    }
}

pub(super) fn sys_shmctl(
    task: &mut CurrentTask,
    id: i32,
    command: i32,
    buffer: UserAddr,
) -> SysResult<i32> {
    if id < 0 {
        return err!(EINVAL);
    }
    let cred = task.cred();
    match command {
        IPC_RMID => {
            let (segment, _) = task.kernel().shm.segment(id)?;
            segment.check_owner(&cred)?;
            task.kernel().shm.remove(id);
            Ok(0)
        }
        IPC_SET => {
            let new: ShmStatus = task.mm().read_obj(buffer.as_ref())?;
            let (segment, _) = task.kernel().shm.segment(id)?;
            segment.check_owner(&cred)?;
            {
                let mut owner = segment.owner.lock();
                (owner.uid, owner.gid, owner.mode) = (new.uid, new.gid, new.mode & 0o777);
            }
            segment.change_time.store(now(task), Ordering::Relaxed);
            Ok(0)
        }
        IPC_STAT => {
            let (segment, removed) = task.kernel().shm.segment(id)?;
            segment.check(&cred, 4)?;
            task.mm().write_obj(buffer.as_ref(), &status(&segment, removed))?;
            Ok(0)
        }
        SHM_STAT | SHM_STAT_ANY => {
            let all = task.kernel().shm.all();
            let Some((segment, removed)) = all.get(id as usize) else { return err!(EINVAL) };
            if command == SHM_STAT {
                segment.check(&cred, 4)?;
            }
            task.mm().write_obj(buffer.as_ref(), &status(segment, *removed))?;
            Ok(segment.id)
        }
        SHM_LOCK | SHM_UNLOCK => {
            let (segment, _) = task.kernel().shm.segment(id)?;
            segment.check_owner(&cred)?;
            segment.is_locked.store(command == SHM_LOCK, Ordering::Relaxed);
            Ok(0)
        }
        IPC_INFO => {
            // struct shminfo64: shmmax, shmmin, shmmni, shmseg, shmall.
            let max = u64::MAX - (1 << 24);
            let most = crate::mm::SEGMENTS_MAX as u64;
            let info: [u64; 9] = [max, 1, most, most, max, 0, 0, 0, 0];
            task.mm().write_obj(UserRef::<[u64; 9]>::new(buffer.0), &info)?;
            Ok(last_index(task))
        }
        SHM_INFO => {
            // struct shm_info: used_ids (an int), then pages in all, resident, swapped; two swap counts.
            let all = task.kernel().shm.all();
            let pages: u64 = all.iter().map(|(segment, _)| segment.size.div_ceil(PAGE_SIZE)).sum();
            let info: [u64; 6] = [all.len() as u64, pages, pages, 0, 0, 0];
            task.mm().write_obj(UserRef::<[u64; 6]>::new(buffer.0), &info)?;
            Ok(last_index(task))
        }
        _ => err!(EINVAL),
    }
}

/// The highest index SHM_STAT takes.
fn last_index(task: &CurrentTask) -> i32 {
    (task.kernel().shm.all().len() as i32).saturating_sub(1).max(0)
}
