//! pipe(2), pipe2(2).

use std::sync::Arc;

use crate::{
    SysResult, err,
    fs::{
        anon,
        pipe::{Pipe, PipeInode},
    },
    kernel::CurrentTask,
    syscalls::install::install_fd,
    user::{UserMemory, UserRef},
    vfs::FileDescription,
};

pub(super) fn sys_pipe(task: &mut CurrentTask, fds: UserRef<[i32; 2]>) -> SysResult<()> {
    sys_pipe2(task, fds, 0)
}

/// O_NOTIFICATION_PIPE is refused as by a kernel built without watch queues.
pub(super) fn sys_pipe2(
    task: &mut CurrentTask,
    fds: UserRef<[i32; 2]>,
    flags: i32,
) -> SysResult<()> {
    if flags & libc::O_EXCL != 0 {
        return err!(ENOPKG);
    }
    if flags & !(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECT) != 0 {
        return err!(EINVAL);
    }
    let (read_end, write_end) = new_pipe(task, flags as u32)?;
    let cloexec = flags & libc::O_CLOEXEC != 0;
    let read_fd = install_fd(task, read_end, cloexec)?;
    let write_fd = match install_fd(task, write_end, cloexec) {
        Ok(fd) => fd,
        Err(error) => {
            drop(task.fds().remove(read_fd));
            return Err(error);
        }
    };
    let copied = task.mm().write_obj(fds, &[read_fd.0, write_fd.0]);
    if copied.is_err() {
        drop(task.fds().remove(read_fd));
        drop(task.fds().remove(write_fd));
    }
    Ok(copied?)
}

/// Both ends of a new pipe; `flags`: O_NONBLOCK, O_DIRECT.
fn new_pipe(
    task: &CurrentTask,
    flags: u32,
) -> SysResult<(Arc<FileDescription>, Arc<FileDescription>)> {
    let cred = task.cred();
    let pipe = Pipe::new();
    let status = flags & (libc::O_NONBLOCK | libc::O_DIRECT) as u32;
    let read_ops = pipe.open(libc::O_RDONLY as u32)?;
    let write_ops = pipe.open(libc::O_WRONLY as u32)?;
    let inode = PipeInode::new(pipe, &cred);
    let name = format!("pipe:[{}]", inode.number());
    let direct_free = status & libc::O_NONBLOCK as u32;
    let read_end =
        anon::open_inode(read_ops, inode.clone(), name.clone(), direct_free, cred.clone());
    let write_end = anon::open_inode(write_ops, inode, name, libc::O_WRONLY as u32 | status, cred);
    Ok((read_end, write_end))
}
