//! futex(2), futex_waitv(2), futex_wake and friends.

use linux_abi::time::Timespec;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno, Restart, SysError, SysResult, err,
    kernel::{CurrentTask, WaitOn},
    time::Monotonic,
    user::{UserAddr, UserMemory, UserRef},
};

const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;
const CLOCK_REALTIME: i32 = libc::FUTEX_CLOCK_REALTIME;
/// FUTEX2_SIZE_U32, the only size there is.
const SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;
const WAITV_MAX: u32 = 128;

pub(super) fn sys_futex(
    task: &mut CurrentTask,
    addr: UserAddr,
    op: i32,
    value: u32,
    timeout: u64,
    addr2: UserAddr,
    value3: u32,
) -> SysResult<usize> {
    let shared = op & PRIVATE == 0;
    let command = op & !(PRIVATE | CLOCK_REALTIME);
    let realtime = op & CLOCK_REALTIME != 0;
    // How many to wake or move: the timeout's place holds a second number.
    let count = value as i32;
    let count2 = timeout as i32;
    let wake_count = |count: i32| usize::try_from(count).unwrap_or(1).max(1);
    if realtime
        && !matches!(
            command,
            libc::FUTEX_WAIT
                | libc::FUTEX_WAIT_BITSET
                | libc::FUTEX_WAIT_REQUEUE_PI
                | libc::FUTEX_LOCK_PI2
        )
    {
        return err!(ENOSYS);
    }
    let word = (addr, shared);
    match command {
        libc::FUTEX_WAIT => {
            let deadline = relative(task, timeout)?;
            let on = WaitOn { addr, value, bitset: u32::MAX, shared };
            wait(task, on, deadline).map(|()| 0)
        }
        libc::FUTEX_WAIT_BITSET => {
            let deadline = absolute(task, timeout, realtime)?;
            wait(task, WaitOn { addr, value, bitset: value3, shared }, deadline).map(|()| 0)
        }
        libc::FUTEX_WAKE => task.futex_wake(addr, shared, wake_count(count), u32::MAX),
        libc::FUTEX_WAKE_BITSET => task.futex_wake(addr, shared, wake_count(count), value3),
        libc::FUTEX_REQUEUE | libc::FUTEX_CMP_REQUEUE => {
            let counts = (
                usize::try_from(count).map_err(|_| Errno::EINVAL)?,
                usize::try_from(count2).map_err(|_| Errno::EINVAL)?,
            );
            let expected = (command == libc::FUTEX_CMP_REQUEUE).then_some(value3);
            task.futex_requeue(word, (addr2, shared), counts, expected)
        }
        libc::FUTEX_WAKE_OP => {
            let counts = (wake_count(count), wake_count(count2));
            task.futex_wake_op(word, (addr2, shared), counts, value3)
        }
        libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 => {
            let realtime = realtime || command == libc::FUTEX_LOCK_PI;
            let deadline = absolute(task, timeout, realtime)?;
            task.futex_lock_pi(addr, shared, deadline, false).map(|()| 0)
        }
        libc::FUTEX_TRYLOCK_PI => task.futex_lock_pi(addr, shared, None, true).map(|()| 0),
        libc::FUTEX_UNLOCK_PI => task.futex_unlock_pi(addr, shared).map(|()| 0),
        libc::FUTEX_WAIT_REQUEUE_PI => {
            let deadline = absolute(task, timeout, realtime)?;
            let on = WaitOn { addr, value, bitset: value3, shared };
            task.futex_wait_requeue_pi(on, addr2, deadline).map(|()| 0)
        }
        libc::FUTEX_CMP_REQUEUE_PI => {
            let requeue = usize::try_from(count2).map_err(|_| Errno::EINVAL)?;
            if count != 1 {
                return err!(EINVAL);
            }
            task.futex_cmp_requeue_pi(word, (addr2, shared), requeue, value3)
        }
        _ => err!(ENOSYS),
    }
}

/// A wait with a deadline goes on by itself after a stop; it is not computed again.
fn wait(task: &mut CurrentTask, on: WaitOn, deadline: Option<Monotonic>) -> SysResult<()> {
    match task.futex_wait(on, deadline) {
        Err(SysError::Restart(Restart::IfSaRestart)) if deadline.is_some() => {
            Err(task.set_restart_block(move |task| wait(task, on, deadline).map(|()| 0_i32.into())))
        }
        result => result,
    }
}

fn read_timeout(task: &CurrentTask, at: u64) -> SysResult<Option<u64>> {
    match UserRef::<Timespec>::new(at).non_null() {
        None => Ok(None),
        Some(at) => Ok(Some(task.mm().read_obj(at)?.to_ns().ok_or(Errno::EINVAL)?)),
    }
}

fn relative(task: &CurrentTask, at: u64) -> SysResult<Option<Monotonic>> {
    Ok(read_timeout(task, at)?.map(|ns| task.kernel().clocks.monotonic().after(ns)))
}

fn absolute(task: &CurrentTask, at: u64, realtime: bool) -> SysResult<Option<Monotonic>> {
    Ok(read_timeout(task, at)?.map(|ns| {
        if realtime { task.kernel().clocks.realtime_to_monotonic(ns) } else { Monotonic(ns) }
    }))
}

/// `struct futex_waitv`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct FutexWaitv {
    value: u64,
    addr: u64,
    flags: u32,
    reserved: u32,
}

fn check_flags(flags: u32) -> SysResult<bool> {
    if flags & !(3 | FUTEX2_PRIVATE) != 0 || flags & 3 != SIZE_U32 {
        return err!(EINVAL);
    }
    Ok(flags & FUTEX2_PRIVATE == 0)
}

fn clock_is_realtime(clock: i32) -> SysResult<bool> {
    match clock {
        libc::CLOCK_REALTIME => Ok(true),
        libc::CLOCK_MONOTONIC => Ok(false),
        _ => err!(EINVAL),
    }
}

pub(super) fn sys_futex_waitv(
    task: &mut CurrentTask,
    waiters: UserRef<FutexWaitv>,
    count: u32,
    flags: u32,
    timeout: u64,
    clock: i32,
) -> SysResult<usize> {
    if flags != 0 || count == 0 || count > WAITV_MAX || waiters.is_null() {
        return err!(EINVAL);
    }
    let deadline = if timeout == 0 {
        None
    } else {
        let realtime = clock_is_realtime(clock)?;
        absolute(task, timeout, realtime)?
    };
    let mut all = Vec::new();
    for wanted in task.mm().read_array(waiters, count as usize)? {
        if wanted.reserved != 0 || wanted.value > u64::from(u32::MAX) {
            return err!(EINVAL);
        }
        let shared = check_flags(wanted.flags)?;
        let addr = UserAddr(wanted.addr);
        all.push(WaitOn { addr, value: wanted.value as u32, bitset: u32::MAX, shared });
    }
    task.futex_wait_multiple(&all, deadline)
}

pub(super) fn sys_futex_wake(
    task: &mut CurrentTask,
    addr: UserAddr,
    mask: u64,
    count: i32,
    flags: u32,
) -> SysResult<usize> {
    let shared = check_flags(flags)?;
    let bitset = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    let count = usize::try_from(count).unwrap_or(0);
    task.futex_wake(addr, shared, count, bitset)
}

pub(super) fn sys_futex_wait(
    task: &mut CurrentTask,
    addr: UserAddr,
    value: u64,
    mask: u64,
    flags: u32,
    timeout: u64,
    clock: i32,
) -> SysResult<()> {
    let shared = check_flags(flags)?;
    let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
    let bitset = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    let deadline = match timeout {
        0 => None,
        at => absolute(task, at, clock_is_realtime(clock)?)?,
    };
    task.futex_wait(WaitOn { addr, value, bitset, shared }, deadline)
}

pub(super) fn sys_futex_requeue(
    task: &mut CurrentTask,
    waiters: UserRef<FutexWaitv>,
    flags: u32,
    wake: i32,
    requeue: i32,
) -> SysResult<usize> {
    if flags != 0 || wake < 0 || requeue < 0 {
        return err!(EINVAL);
    }
    let from = task.mm().read_obj(waiters)?;
    let to = task.mm().read_obj(waiters.at(1)?)?;
    let from_word = (UserAddr(from.addr), check_flags(from.flags)?);
    let to_word = (UserAddr(to.addr), check_flags(to.flags)?);
    let counts = (wake as usize, requeue as usize);
    task.futex_requeue(from_word, to_word, counts, Some(from.value as u32))
}
