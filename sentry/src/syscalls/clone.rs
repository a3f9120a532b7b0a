//! fork(2), vfork(2), clone(2), clone3(2).

use linux_abi::process::CloneArgs;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    SysResult, err,
    kernel::{CloneRequest, CurrentTask},
    user::{UserAddr, UserMemory},
};

/// The exit signal in clone's flags.
const EXIT_SIGNAL: u64 = 0xff;
const CLONE_DETACHED: u64 = libc::CLONE_DETACHED as u64;
/// What clone3 may be asked for: all but the exit signal, CLONE_DETACHED, and what is not assigned.
const CLONE3_UNKNOWN: u64 = !0x3_ffff_ffff | EXIT_SIGNAL & !CLONE_NEWTIME | CLONE_DETACHED;
const CLONE_NEWTIME: u64 = 0x80;
/// Sizes of the versions of `struct clone_args`.
const ARGS_SIZE_MIN: usize = 64;
const ARGS_SIZE_MAX: usize = 4096;

pub(super) fn sys_fork(task: &mut CurrentTask) -> SysResult<i32> {
    task.clone_task(&CloneRequest { exit_signal: libc::SIGCHLD, ..CloneRequest::default() })
}

pub(super) fn sys_vfork(task: &mut CurrentTask) -> SysResult<i32> {
    task.clone_task(&CloneRequest {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
        exit_signal: libc::SIGCHLD,
        ..CloneRequest::default()
    })
}

pub(super) fn sys_clone(
    task: &mut CurrentTask,
    flags: u64,
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
) -> SysResult<i32> {
    // Flags above 32 bits are clone3's only.
    let flags = flags & 0xffff_ffff;
    if flags & (libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID) as u64
        == (libc::CLONE_PIDFD | libc::CLONE_PARENT_SETTID) as u64
    {
        return err!(EINVAL);
    }
    task.clone_task(&CloneRequest {
        flags: flags & !EXIT_SIGNAL,
        exit_signal: (flags & EXIT_SIGNAL) as i32,
        stack,
        tls,
        parent_tid,
        child_tid,
        pidfd: parent_tid,
    })
}

pub(super) fn sys_clone3(task: &mut CurrentTask, args: UserAddr, size: usize) -> SysResult<i32> {
    if size < ARGS_SIZE_MIN {
        return err!(EINVAL);
    }
    if size > ARGS_SIZE_MAX {
        return err!(E2BIG);
    }
    let args = read_extensible::<CloneArgs>(task, args, size)?;
    if args.flags & CLONE3_UNKNOWN != 0 || args.exit_signal & !EXIT_SIGNAL != 0 {
        return err!(EINVAL);
    }
    let same_group = (libc::CLONE_THREAD | libc::CLONE_PARENT) as u64;
    if args.flags & same_group != 0 && args.exit_signal != 0 {
        return err!(EINVAL);
    }
    if (args.set_tid == 0) != (args.set_tid_size == 0) || args.set_tid_size > 32 {
        return err!(EINVAL);
    }
    if args.set_tid_size != 0 {
        return err!(EPERM);
    }
    if (args.stack == 0) != (args.stack_size == 0) || args.exit_signal > 64 {
        return err!(EINVAL);
    }
    task.clone_task(&CloneRequest {
        flags: args.flags,
        exit_signal: args.exit_signal as i32,
        stack: args.stack.wrapping_add(args.stack_size),
        tls: args.tls,
        parent_tid: args.parent_tid,
        child_tid: args.child_tid,
        pidfd: args.pidfd,
    })
}

/// Reads a structure that may be shorter or longer than ours; what we do not know must be
/// zero (`copy_struct_from_user`).
pub(super) fn read_extensible<T: FromBytes + IntoBytes>(
    task: &CurrentTask,
    at: UserAddr,
    size: usize,
) -> SysResult<T> {
    let mut value = T::new_zeroed();
    let known = size.min(size_of::<T>());
    if let Some(bytes) = value.as_mut_bytes().get_mut(..known) {
        task.mm().copy_in(at, bytes)?;
    }
    let mut rest = vec![0; size - known];
    task.mm().copy_in(at.offset(known as u64)?, &mut rest)?;
    if rest.iter().any(|&byte| byte != 0) {
        return err!(E2BIG);
    }
    Ok(value)
}
