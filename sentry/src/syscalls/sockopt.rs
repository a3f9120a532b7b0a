//! setsockopt(2) and getsockopt(2).

use crate::{
    Errno, SysResult,
    kernel::CurrentTask,
    socket::{Socket, options},
    user::{Fd, UserAddr, UserMemory, UserRef},
};

/// No option is longer.
const MAX_OPTION: usize = 4096;

pub(super) fn sys_setsockopt(
    task: &mut CurrentTask,
    fd: Fd,
    level: i32,
    name: i32,
    value: UserAddr,
    len: i32,
) -> SysResult<()> {
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?.clone();
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?.min(MAX_OPTION);
    let mut bytes = vec![0; len];
    task.mm().copy_in(value, &mut bytes)?;
    options::set(task, &*socket, level, name, &bytes)
}

pub(super) fn sys_getsockopt(
    task: &mut CurrentTask,
    fd: Fd,
    level: i32,
    name: i32,
    value: UserAddr,
    len_at: UserRef<i32>,
) -> SysResult<()> {
    let file = task.file(fd)?;
    let socket = Socket::of(&file)?.clone();
    let room = task.mm().read_obj(len_at)?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let bytes = options::get(task, &*socket, level, name, room)?;
    let used = bytes.get(..room).unwrap_or(&bytes);
    task.mm().copy_out(value, used)?;
    Ok(task.mm().write_obj(len_at, &(used.len() as i32))?)
}
