//! Semaphore sets (`ipc/sem.c`).
//!
//! One lock for all sets; a set's wait queue is woken after unlocking whenever one of its values changed, and
//! each waiter tries its whole list of operations again.

use std::{collections::BTreeMap, sync::Arc};

use linux_abi::sysv::{SemInfo, SemOperation, SemidDs};
use ranked_sync::Mutex;

use super::{IPC_NOWAIT, Ids, Object, Permissions};
use crate::{
    SysResult, err,
    kernel::{Credentials, Kernel},
    lock_order,
    wait::{EventMask, WaitQueue},
};

/// Most sets (`SEMMNI`).
const MAX_SETS: usize = 32_000;
/// Most semaphores in a set (`SEMMSL`).
pub const MAX_IN_SET: usize = 32_000;
/// Most semaphores in all (ours; Linux allows `SEMMNI * SEMMSL`).
const MAX_IN_ALL: usize = 1 << 20;
/// Most operations in a call (`SEMOPM`).
pub const MAX_OPERATIONS: usize = 500;
/// Largest value (`SEMVMX`), and largest adjustment at exit (`SEMAEM`).
pub const MAX_VALUE: i32 = 32_767;
const SEM_UNDO: i16 = 0x1000;

/// The semaphore sets of a sandbox.
#[derive(Debug, Default)]
pub struct Semaphores {
    sets: Mutex<lock_order::Leaf, Ids<Set>>,
}

#[derive(Debug)]
struct Set {
    permissions: Permissions,
    semaphores: Vec<Semaphore>,
    otime: i64,
    ctime: i64,
    queue: Arc<WaitQueue>,
    /// What is added at the end of a process, by process id and semaphore.
    undo: BTreeMap<(i32, u16), i16>,
}

#[derive(Clone, Debug, Default)]
struct Semaphore {
    value: i32,
    /// Who changed it last.
    pid: i32,
    /// Tasks that wait for it to rise, and to be zero.
    rising: u32,
    zero: u32,
}

/// What a list of operations waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    number: u16,
    for_zero: bool,
}

/// How a list of operations ended.
#[derive(Debug)]
pub enum Attempt {
    Done,
    Blocked(Wait),
}

/// GETVAL and its like.
#[derive(Clone, Copy, Debug)]
pub enum Query {
    Value,
    Pid,
    WaitingToRise,
    WaitingForZero,
}

impl Object for Set {
    fn permissions(&self) -> &Permissions {
        &self.permissions
    }
}

impl Set {
    /// All of the operations, or none. `ERANGE`, `EAGAIN` with IPC_NOWAIT (`perform_atomic_semop`).
    fn perform(&mut self, operations: &[SemOperation], pid: i32) -> SysResult<Attempt> {
        let mut values: BTreeMap<u16, i32> = BTreeMap::new();
        let mut undo: BTreeMap<(i32, u16), i16> = BTreeMap::new();
        for operation in operations {
            let number = operation.number;
            let Some(semaphore) = self.semaphores.get(usize::from(number)) else {
                return err!(EFBIG);
            };
            let value = values.get(&number).copied().unwrap_or(semaphore.value);
            let next = value + i32::from(operation.change);
            let for_zero = operation.change == 0;
            if for_zero && value != 0 || next < 0 {
                if operation.flags & IPC_NOWAIT != 0 {
                    return err!(EAGAIN);
                }
                return Ok(Attempt::Blocked(Wait { number, for_zero }));
            }
            if next > MAX_VALUE {
                return err!(ERANGE);
            }
            if operation.flags & SEM_UNDO != 0 {
                let place = (pid, number);
                let old = undo.get(&place).or_else(|| self.undo.get(&place)).copied().unwrap_or(0);
                let Some(adjusted) =
                    old.checked_sub(operation.change).filter(|&sum| sum > i16::MIN)
                else {
                    return err!(ERANGE);
                };
                undo.insert(place, adjusted);
            }
            values.insert(number, next);
        }
        for (number, value) in values {
            if let Some(semaphore) = self.semaphores.get_mut(usize::from(number)) {
                semaphore.value = value;
                semaphore.pid = pid;
            }
        }
        self.undo.extend(undo);
        Ok(Attempt::Done)
    }

    fn count(&mut self, wait: Wait, change: impl FnOnce(&mut u32)) {
        if let Some(semaphore) = self.semaphores.get_mut(usize::from(wait.number)) {
            change(if wait.for_zero { &mut semaphore.zero } else { &mut semaphore.rising });
        }
    }

    fn semaphore(&mut self, number: i32) -> SysResult<&mut Semaphore> {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        self.semaphores.get_mut(index).ok_or_else(|| crate::Errno::EINVAL.into())
    }

    fn report(&self, id: i32) -> SemidDs {
        SemidDs {
            perm: self.permissions.report(id),
            otime: self.otime,
            ctime: self.ctime,
            nsems: self.semaphores.len() as u64,
            ..SemidDs::default()
        }
    }
}

fn seconds(kernel: &Kernel) -> i64 {
    (kernel.clocks.realtime_ns() / 1_000_000_000) as i64
}

impl Semaphores {
    /// semget(2): the identifier.
    pub fn get(
        &self,
        kernel: &Kernel,
        (key, count, flags): (i32, i32, i32),
        cred: &Credentials,
    ) -> SysResult<i32> {
        let Some(count) = usize::try_from(count).ok().filter(|&count| count <= MAX_IN_SET) else {
            return err!(EINVAL);
        };
        let mut sets = self.sets.lock();
        let total: usize = sets.slots.values().map(|(_, set)| set.semaphores.len()).sum();
        sets.get(
            (key, flags),
            cred,
            MAX_SETS,
            |set| if set.semaphores.len() < count { err!(EINVAL) } else { Ok(()) },
            |permissions| {
                if count == 0 {
                    return err!(EINVAL);
                }
                if total + count > MAX_IN_ALL {
                    return err!(ENOSPC);
                }
                Ok(Set {
                    permissions,
                    semaphores: vec![Semaphore::default(); count],
                    otime: 0,
                    ctime: seconds(kernel),
                    queue: Arc::new(WaitQueue::new()),
                    undo: BTreeMap::new(),
                })
            },
        )
    }

    /// The queue that is woken when the set changes, after checking that the caller may operate on it so.
    pub fn queue(
        &self,
        id: i32,
        operations: &[SemOperation],
        cred: &Credentials,
    ) -> SysResult<Arc<WaitQueue>> {
        let mut sets = self.sets.lock();
        let set = sets.find(id)?;
        if operations.iter().any(|one| usize::from(one.number) >= set.semaphores.len()) {
            return err!(EFBIG);
        }
        let changes = operations.iter().any(|one| one.change != 0);
        set.permissions.check(cred, if changes { 0o222 } else { 0o444 })?;
        Ok(set.queue.clone())
    }

    /// semop(2), once. `waited`: what the last attempt was counted as waiting for; `EIDRM` if the set is gone since.
    pub fn attempt(
        &self,
        kernel: &Kernel,
        id: i32,
        operations: &[SemOperation],
        pid: i32,
        waited: &mut Option<Wait>,
    ) -> SysResult<Attempt> {
        let (result, queue) = {
            let mut sets = self.sets.lock();
            let Ok(set) = sets.find(id) else { return err!(EIDRM) };
            if let Some(wait) = waited.take() {
                set.count(wait, |count| *count = count.saturating_sub(1));
            }
            let result = set.perform(operations, pid)?;
            if let Attempt::Blocked(wait) = result {
                set.count(wait, |count| *count = count.saturating_add(1));
                *waited = Some(wait);
                return Ok(result);
            }
            set.otime = seconds(kernel);
            let changed = operations.iter().any(|one| one.change != 0);
            (result, changed.then(|| set.queue.clone()))
        };
        if let Some(queue) = queue {
            queue.wake(EventMask::all());
        }
        Ok(result)
    }

    /// The task waits no longer.
    pub fn stop_waiting(&self, id: i32, waited: Option<Wait>) {
        if let (Some(wait), Ok(set)) = (waited, self.sets.lock().find(id)) {
            set.count(wait, |count| *count = count.saturating_sub(1));
        }
    }

    /// GETVAL, GETPID, GETNCNT, GETZCNT.
    pub fn query(&self, id: i32, number: i32, what: Query, cred: &Credentials) -> SysResult<i32> {
        let mut sets = self.sets.lock();
        let set = sets.find(id)?;
        set.permissions.check(cred, 0o444)?;
        let semaphore = set.semaphore(number)?;
        Ok(match what {
            Query::Value => semaphore.value,
            Query::Pid => semaphore.pid,
            Query::WaitingToRise => semaphore.rising as i32,
            Query::WaitingForZero => semaphore.zero as i32,
        })
    }

    /// How many semaphores the set has, if the caller may do with it what `wanted` asks.
    pub fn len(&self, id: i32, wanted: u32, cred: &Credentials) -> SysResult<usize> {
        let mut sets = self.sets.lock();
        let set = sets.find(id)?;
        set.permissions.check(cred, wanted)?;
        Ok(set.semaphores.len())
    }

    /// GETALL.
    pub fn values(&self, id: i32, cred: &Credentials) -> SysResult<Vec<u16>> {
        let mut sets = self.sets.lock();
        let set = sets.find(id)?;
        set.permissions.check(cred, 0o444)?;
        Ok(set.semaphores.iter().map(|semaphore| semaphore.value as u16).collect())
    }

    /// SETVAL and SETALL: the values from `first` on; `ERANGE` for one that is too large.
    pub fn set_values(
        &self,
        kernel: &Kernel,
        (id, first, pid): (i32, i32, i32),
        values: &[i32],
        cred: &Credentials,
    ) -> SysResult<()> {
        if values.iter().any(|value| !(0..=MAX_VALUE).contains(value)) {
            return err!(ERANGE);
        }
        let queue = {
            let mut sets = self.sets.lock();
            let set = sets.find(id)?;
            set.permissions.check(cred, 0o222)?;
            set.semaphore(first)?;
            for (number, &value) in (first..).zip(values) {
                let semaphore = set.semaphore(number)?;
                semaphore.value = value;
                semaphore.pid = pid;
                set.undo.retain(|&(_, its), _| i32::from(its) != number);
            }
            set.ctime = seconds(kernel);
            set.queue.clone()
        };
        queue.wake(EventMask::all());
        Ok(())
    }

    /// IPC_RMID.
    pub fn remove(&self, id: i32, cred: &Credentials) -> SysResult<()> {
        let removed = {
            let mut sets = self.sets.lock();
            sets.find(id)?.permissions.check_owner(cred)?;
            sets.remove(id)
        };
        if let Some(set) = removed {
            set.queue.wake(EventMask::all());
        }
        Ok(())
    }

    /// IPC_STAT.
    pub fn status(&self, id: i32, cred: &Credentials) -> SysResult<SemidDs> {
        let mut sets = self.sets.lock();
        let set = sets.find(id)?;
        set.permissions.check(cred, 0o444)?;
        Ok(set.report(id))
    }

    /// SEM_STAT: by slot, with the identifier. Without `cred`, for everyone (SEM_STAT_ANY).
    pub fn status_of_slot(
        &self,
        slot: i32,
        cred: Option<&Credentials>,
    ) -> SysResult<(i32, SemidDs)> {
        let mut sets = self.sets.lock();
        let (id, set) = sets.find_slot(slot)?;
        if let Some(cred) = cred {
            set.permissions.check(cred, 0o444)?;
        }
        Ok((id, set.report(id)))
    }

    /// All sets, with identifiers (/proc/sysvipc/sem).
    pub fn list(&self) -> Vec<(i32, SemidDs)> {
        let sets = self.sets.lock();
        sets.iter().map(|(id, set)| (id, set.report(id))).collect()
    }

    /// IPC_SET.
    pub fn set(&self, kernel: &Kernel, id: i32, to: &SemidDs, cred: &Credentials) -> SysResult<()> {
        let mut sets = self.sets.lock();
        let set = sets.find(id)?;
        set.permissions.check_owner(cred)?;
        set.permissions.update(&to.perm)?;
        set.ctime = seconds(kernel);
        Ok(())
    }

    /// IPC_INFO, or SEM_INFO with what is in `use_now`; and the highest slot.
    pub fn limits(&self, use_now: bool) -> (i32, SemInfo) {
        let sets = self.sets.lock();
        let all = MAX_IN_ALL as i32;
        let mut info = SemInfo {
            semmap: all,
            semmni: MAX_SETS as i32,
            semmns: all,
            semmnu: all,
            semmsl: MAX_IN_SET as i32,
            semopm: MAX_OPERATIONS as i32,
            semume: MAX_OPERATIONS as i32,
            semusz: 20,
            semvmx: MAX_VALUE,
            semaem: MAX_VALUE,
        };
        if use_now {
            let total: usize = sets.slots.values().map(|(_, set)| set.semaphores.len()).sum();
            info.semusz = sets.slots.len() as i32;
            info.semaem = total as i32;
        }
        (sets.highest_slot(), info)
    }

    /// A process has ended: does what SEM_UNDO asked for (`exit_sem`).
    pub fn undo(&self, pid: i32) {
        let mut queues = Vec::new();
        {
            let mut sets = self.sets.lock();
            for (_, set) in sets.slots.values_mut() {
                let mut rest = set.undo.split_off(&(pid, 0));
                let later = pid.checked_add(1).map(|next| rest.split_off(&(next, 0)));
                set.undo.extend(later.unwrap_or_default());
                for (&(_, number), &adjust) in &rest {
                    if let Some(semaphore) = set.semaphores.get_mut(usize::from(number)) {
                        let sum = semaphore.value + i32::from(adjust);
                        semaphore.value = sum.clamp(0, MAX_VALUE);
                        semaphore.pid = pid;
                    }
                }
                if !rest.is_empty() {
                    queues.push(set.queue.clone());
                }
            }
        }
        for queue in queues {
            queue.wake(EventMask::all());
        }
    }
}
