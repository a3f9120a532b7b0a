//! semget(2), semop(2), semctl(2).

use linux_abi::sysv::{SemOperation, SemidDs};

use super::timeout::Timeout;
use crate::{
    SysError, SysResult, err,
    kernel::{
        CurrentTask,
        sysv::sem::{Attempt, MAX_OPERATIONS, Query},
    },
    user::{UserAddr, UserMemory, UserRef},
    wait::EventMask,
};

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

pub(super) fn sys_semget(
    task: &mut CurrentTask,
    key: i32,
    count: i32,
    flags: i32,
) -> SysResult<i32> {
    let kernel = task.kernel();
    kernel.semaphores.get(kernel, (key, count, flags), task.cred_ref())
}

pub(super) fn sys_semop(
    task: &mut CurrentTask,
    id: i32,
    operations: UserRef<SemOperation>,
    count: usize,
) -> SysResult<()> {
    do_semop(task, id, operations, count, Timeout::Never)
}

pub(super) fn sys_semtimedop(
    task: &mut CurrentTask,
    id: i32,
    operations: UserRef<SemOperation>,
    count: usize,
    timeout: UserRef<[i64; 2]>,
) -> SysResult<()> {
    let timeout = Timeout::from_timespec(task, timeout)?;
    do_semop(task, id, operations, count, timeout)
}

/// A signal always ends the wait with `EINTR`.
fn do_semop(
    task: &mut CurrentTask,
    id: i32,
    operations: UserRef<SemOperation>,
    count: usize,
    timeout: Timeout,
) -> SysResult<()> {
    if count == 0 || id < 0 {
        return err!(EINVAL);
    }
    if count > MAX_OPERATIONS {
        return err!(E2BIG);
    }
    let operations = task.mm().read_array(operations, count)?;
    let kernel = task.kernel().clone();
    let sem = &kernel.semaphores;
    let queue = sem.queue(id, &operations, task.cred_ref())?;
    let (pid, waker) = (task.pid(), task.waker().clone());
    let mut waited = None;
    if timeout.is_zero() {
        let attempt = sem.attempt(&kernel, id, &operations, pid, &mut waited);
        sem.stop_waiting(id, waited);
        return match attempt? {
            Attempt::Done => Ok(()),
            Attempt::Blocked(_) => err!(EAGAIN),
        };
    }
    let done = task.block_until(
        timeout.deadline(),
        |_| queue.register(waker, EventMask::all()),
        |_| match sem.attempt(&kernel, id, &operations, pid, &mut waited)? {
            Attempt::Done => Ok(Some(())),
            Attempt::Blocked(_) => Ok(None),
        },
    );
    sem.stop_waiting(id, waited);
    match done {
        Ok(Some(())) => Ok(()),
        Ok(None) => err!(EAGAIN),
        Err(SysError::Restart(_)) => err!(EINTR),
        Err(error) => Err(error),
    }
}

/// `arg`: a value or an address, as `union semun`.
pub(super) fn sys_semctl(
    task: &mut CurrentTask,
    id: i32,
    number: i32,
    command: i32,
    arg: u64,
) -> SysResult<i32> {
    if id < 0 {
        return err!(EINVAL);
    }
    let kernel = task.kernel().clone();
    let (sem, cred, pid) = (&kernel.semaphores, task.cred(), task.pid());
    let at = UserAddr(arg);
    let status_at: UserRef<SemidDs> = at.as_ref();
    match command {
        IPC_RMID => sem.remove(id, &cred).map(|()| 0),
        IPC_SET => {
            let to = task.mm().read_obj(status_at)?;
            sem.set(&kernel, id, &to, &cred).map(|()| 0)
        }
        IPC_STAT => {
            task.mm().write_obj(status_at, &sem.status(id, &cred)?)?;
            Ok(0)
        }
        SEM_STAT | SEM_STAT_ANY => {
            let checked = (command == SEM_STAT).then_some(&*cred);
            let (id, status) = sem.status_of_slot(id, checked)?;
            task.mm().write_obj(status_at, &status)?;
            Ok(id)
        }
        IPC_INFO | SEM_INFO => {
            let (highest, info) = sem.limits(command == SEM_INFO);
            task.mm().write_obj(at.as_ref(), &info)?;
            Ok(highest)
        }
        GETVAL => sem.query(id, number, Query::Value, &cred),
        GETPID => sem.query(id, number, Query::Pid, &cred),
        GETNCNT => sem.query(id, number, Query::WaitingToRise, &cred),
        GETZCNT => sem.query(id, number, Query::WaitingForZero, &cred),
        GETALL => {
            let values = sem.values(id, &cred)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
            task.mm().copy_out(at, &bytes)?;
            Ok(0)
        }
        SETVAL => {
            // The value is an int in the union's first half.
            let value = arg as u32 as i32;
            sem.set_values(&kernel, (id, number, pid), &[value], &cred).map(|()| 0)
        }
        SETALL => {
            let count = sem.len(id, 0o222, &cred)?;
            let values: Vec<u16> = task.mm().read_array(at.as_ref(), count)?;
            let values: Vec<i32> = values.into_iter().map(i32::from).collect();
            sem.set_values(&kernel, (id, 0, pid), &values, &cred).map(|()| 0)
        }
        _ => err!(EINVAL),
    }
}
