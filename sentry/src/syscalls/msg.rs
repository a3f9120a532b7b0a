//! System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use linux_abi::sysv::MsqidDs;

use crate::{
    Errno, SysError, SysResult, err,
    error::Restart,
    kernel::{
        CurrentTask,
        sysv::msg::{MAX_MESSAGE, Message, Select},
    },
    user::{UserAddr, UserMemory, UserRef},
    wait::EventMask,
};

const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

const IPC_NOWAIT: i32 = 0o4000;
const MSG_NOERROR: i32 = 0o10_000;
const MSG_EXCEPT: i32 = 0o20_000;
const MSG_COPY: i32 = 0o40_000;

/// Before the text of a message stands its type.
const TYPE_SIZE: u64 = 8;

pub(super) fn sys_msgget(task: &mut CurrentTask, key: i32, flags: i32) -> SysResult<i32> {
    let kernel = task.kernel();
    kernel.messages.get(kernel, (key, flags), task.cred_ref())
}

/// A queue that goes while somebody waits for it.
fn removed_since(error: SysError) -> SysError {
    if error == Errno::EINVAL.into() { Errno::EIDRM.into() } else { error }
}

/// A signal's handler always ends the wait with `EINTR`.
fn interrupted(error: SysError) -> SysError {
    match error {
        SysError::Restart(_) => SysError::Restart(Restart::NoHandler),
        error => error,
    }
}

pub(super) fn sys_msgsnd(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<i64>,
    size: usize,
    flags: i32,
) -> SysResult<()> {
    let kind = task.mm().read_obj(at)?;
    if size > MAX_MESSAGE || id < 0 || kind < 1 {
        return err!(EINVAL);
    }
    let mut text = vec![0; size];
    task.mm().copy_in(UserAddr(at.addr().0.wrapping_add(TYPE_SIZE)), &mut text)?;
    let mut message = Some(Message { kind, text });
    let (kernel, cred, pid) = (task.kernel().clone(), task.cred(), task.pid());
    let queues = &kernel.messages;
    if queues.send(&kernel, id, &mut message, pid, &cred)? {
        return Ok(());
    }
    if flags & IPC_NOWAIT != 0 {
        return err!(EAGAIN);
    }
    let wakeup = queues.wakeup(id).map_err(removed_since)?;
    let waker = task.waker().clone();
    let sent = task.block_until(
        None,
        |_| wakeup.register(waker, EventMask::all()),
        |_| {
            let sent = queues.send(&kernel, id, &mut message, pid, &cred);
            Ok(sent.map_err(removed_since)?.then_some(()))
        },
    );
    sent.map(|_| ()).map_err(interrupted)
}

pub(super) fn sys_msgrcv(
    task: &mut CurrentTask,
    id: i32,
    at: UserRef<i64>,
    size: usize,
    kind: i64,
    flags: i32,
) -> SysResult<usize> {
    if id < 0 || size > isize::MAX as usize {
        return err!(EINVAL);
    }
    let select = if flags & MSG_COPY != 0 {
        if flags & MSG_EXCEPT != 0 || flags & IPC_NOWAIT == 0 {
            return err!(EINVAL);
        }
        Select::Copy(kind as u64)
    } else {
        match kind {
            0 => Select::First,
            i64::MIN => Select::UpTo(i64::MAX),
            kind if kind < 0 => Select::UpTo(-kind),
            kind if flags & MSG_EXCEPT != 0 => Select::NotKind(kind),
            kind => Select::Kind(kind),
        }
    };
    let (kernel, cred, pid) = (task.kernel().clone(), task.cred(), task.pid());
    let queues = &kernel.messages;
    let how = (size, flags & MSG_NOERROR != 0);
    let message = match queues.receive(&kernel, id, select, how, (pid, &cred))? {
        Some(message) => message,
        None if flags & IPC_NOWAIT != 0 => return err!(ENOMSG),
        None => {
            let wakeup = queues.wakeup(id).map_err(removed_since)?;
            let waker = task.waker().clone();
            let received = task.block_until(
                None,
                |_| wakeup.register(waker, EventMask::all()),
                |_| queues.receive(&kernel, id, select, how, (pid, &cred)).map_err(removed_since),
            );
            received.map_err(interrupted)?.ok_or(Errno::ENOMSG)?
        }
    };
    task.mm().write_obj(at, &message.kind)?;
    task.mm().copy_out(UserAddr(at.addr().0.wrapping_add(TYPE_SIZE)), &message.text)?;
    Ok(message.text.len())
}

pub(super) fn sys_msgctl(
    task: &mut CurrentTask,
    id: i32,
    command: i32,
    at: UserAddr,
) -> SysResult<i32> {
    if id < 0 || command < 0 {
        return err!(EINVAL);
    }
    let kernel = task.kernel().clone();
    let (queues, cred) = (&kernel.messages, task.cred());
    let status_at: UserRef<MsqidDs> = at.as_ref();
    match command {
        IPC_RMID => queues.remove(id, &cred).map(|()| 0),
        IPC_SET => {
            let to = task.mm().read_obj(status_at)?;
            queues.set(&kernel, id, &to, &cred).map(|()| 0)
        }
        IPC_STAT => {
            task.mm().write_obj(status_at, &queues.status(id, &cred)?)?;
            Ok(0)
        }
        MSG_STAT | MSG_STAT_ANY => {
            let checked = (command == MSG_STAT).then_some(&*cred);
            let (id, status) = queues.status_of_slot(id, checked)?;
            task.mm().write_obj(status_at, &status)?;
            Ok(id)
        }
        IPC_INFO | MSG_INFO => {
            let (highest, info) = queues.limits(command == MSG_INFO);
            task.mm().write_obj(at.as_ref(), &info)?;
            Ok(highest)
        }
        _ => err!(EINVAL),
    }
}
