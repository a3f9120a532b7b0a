//! Extended attributes (xattr(7)).

use super::path_args::find;
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserAddr, UserCStr, UserMemory},
    vfs::{self, LookupFlags, VfsPath, XattrSetMode},
};

const NAME_MAX: usize = 255;
const SIZE_MAX: usize = 64 << 10;

/// The name: `ERANGE` when it is empty or too long.
fn name(task: &CurrentTask, name: UserCStr) -> SysResult<Vec<u8>> {
    let name = match task.mm().read_cstr(name, NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => return err!(ERANGE),
        name => name?,
    };
    if name.is_empty() { err!(ERANGE) } else { Ok(name) }
}

/// A result: its length when `size` is 0, `ERANGE` when it does not fit.
fn answer(task: &CurrentTask, bytes: &[u8], addr: UserAddr, size: usize) -> SysResult<usize> {
    if size == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() > size {
        return err!(ERANGE);
    }
    task.mm().copy_out(addr, bytes)?;
    Ok(bytes.len())
}

fn place(task: &CurrentTask, path: UserCStr, lookup: LookupFlags) -> SysResult<VfsPath> {
    find(task, &task.path_cx(), Fd::CWD, path, lookup)
}

fn do_set(
    task: &CurrentTask,
    place: impl FnOnce() -> SysResult<VfsPath>,
    attribute: UserCStr,
    (addr, size): (UserAddr, usize),
    flags: i32,
) -> SysResult<()> {
    let mode = match flags {
        0 => XattrSetMode::Any,
        libc::XATTR_CREATE => XattrSetMode::Create,
        libc::XATTR_REPLACE => XattrSetMode::Replace,
        _ => return err!(EINVAL),
    };
    let name = name(task, attribute)?;
    if size > SIZE_MAX {
        return err!(E2BIG);
    }
    let mut value = vec![0; size];
    task.mm().copy_in(addr, &mut value)?;
    vfs::set_xattr(&place()?, task.cred_ref(), (&name, &value), mode)
}

fn do_get(
    task: &CurrentTask,
    place: impl FnOnce() -> SysResult<VfsPath>,
    attribute: UserCStr,
    (addr, size): (UserAddr, usize),
) -> SysResult<usize> {
    let name = name(task, attribute)?;
    let value = vfs::get_xattr(&place()?, task.cred_ref(), &name)?;
    answer(task, &value, addr, size)
}

fn do_list(
    task: &CurrentTask,
    place: &VfsPath,
    (addr, size): (UserAddr, usize),
) -> SysResult<usize> {
    let names = vfs::list_xattr(place, task.cred_ref())?;
    answer(task, &names, addr, size)
}

fn do_remove(
    task: &CurrentTask,
    place: impl FnOnce() -> SysResult<VfsPath>,
    attribute: UserCStr,
) -> SysResult<()> {
    let name = name(task, attribute)?;
    vfs::remove_xattr(&place()?, task.cred_ref(), &name)
}

fn opened(task: &CurrentTask, fd: Fd) -> SysResult<VfsPath> {
    Ok(task.file(fd)?.path().clone())
}

macro_rules! by_path {
    ($set:ident, $get:ident, $list:ident, $remove:ident, $lookup:expr) => {
        pub(super) fn $set(
            task: &mut CurrentTask,
            path: UserCStr,
            name: UserCStr,
            addr: UserAddr,
            size: usize,
            flags: i32,
        ) -> SysResult<()> {
            do_set(task, || place(task, path, $lookup), name, (addr, size), flags)
        }

        pub(super) fn $get(
            task: &mut CurrentTask,
            path: UserCStr,
            name: UserCStr,
            addr: UserAddr,
            size: usize,
        ) -> SysResult<usize> {
            do_get(task, || place(task, path, $lookup), name, (addr, size))
        }

        pub(super) fn $list(
            task: &mut CurrentTask,
            path: UserCStr,
            addr: UserAddr,
            size: usize,
        ) -> SysResult<usize> {
            do_list(task, &place(task, path, $lookup)?, (addr, size))
        }

        pub(super) fn $remove(
            task: &mut CurrentTask,
            path: UserCStr,
            name: UserCStr,
        ) -> SysResult<()> {
            do_remove(task, || place(task, path, $lookup), name)
        }
    };
}

by_path!(sys_setxattr, sys_getxattr, sys_listxattr, sys_removexattr, LookupFlags::FOLLOW);
by_path!(sys_lsetxattr, sys_lgetxattr, sys_llistxattr, sys_lremovexattr, LookupFlags::empty());

pub(super) fn sys_fsetxattr(
    task: &mut CurrentTask,
    fd: Fd,
    name: UserCStr,
    addr: UserAddr,
    size: usize,
    flags: i32,
) -> SysResult<()> {
    do_set(task, || opened(task, fd), name, (addr, size), flags)
}

pub(super) fn sys_fgetxattr(
    task: &mut CurrentTask,
    fd: Fd,
    name: UserCStr,
    addr: UserAddr,
    size: usize,
) -> SysResult<usize> {
    do_get(task, || opened(task, fd), name, (addr, size))
}

pub(super) fn sys_flistxattr(
    task: &mut CurrentTask,
    fd: Fd,
    addr: UserAddr,
    size: usize,
) -> SysResult<usize> {
    do_list(task, &opened(task, fd)?, (addr, size))
}

pub(super) fn sys_fremovexattr(task: &mut CurrentTask, fd: Fd, name: UserCStr) -> SysResult<()> {
    do_remove(task, || opened(task, fd), name)
}
