//! inotify(7).

use super::{install::install_fd, path_args::find};
use crate::{
    SysResult, err,
    fs::{
        anon,
        inotify::{ALL_EVENTS, Inotify, VALID_BITS},
    },
    kernel::CurrentTask,
    policy::Access,
    user::{Fd, UserCStr},
    vfs::{AccessMask, LookupFlags, policed},
};

pub(super) fn sys_inotify_init(task: &mut CurrentTask) -> SysResult<Fd> {
    sys_inotify_init1(task, 0)
}

pub(super) fn sys_inotify_init1(task: &mut CurrentTask, flags: i32) -> SysResult<Fd> {
    if flags & !(libc::IN_CLOEXEC | libc::IN_NONBLOCK) != 0 {
        return err!(EINVAL);
    }
    let status = (libc::O_RDONLY | flags & libc::O_NONBLOCK) as u32;
    let file = anon::open_anon(Box::new(Inotify::new()), "inotify", status, task.cred());
    install_fd(task, file, flags & libc::IN_CLOEXEC != 0)
}

pub(super) fn sys_inotify_add_watch(
    task: &mut CurrentTask,
    fd: Fd,
    path: UserCStr,
    mask: u32,
) -> SysResult<i32> {
    if mask & VALID_BITS == 0 || mask & ALL_EVENTS == 0 && mask & libc::IN_MASK_ADD == 0 {
        return err!(EINVAL);
    }
    if mask & libc::IN_MASK_ADD != 0 && mask & libc::IN_MASK_CREATE != 0 {
        return err!(EINVAL);
    }
    let file = task.file(fd)?;
    let Some(inotify) = file.ops_as::<Inotify>() else { return err!(EINVAL) };
    let mut lookup = LookupFlags::empty();
    lookup.set(LookupFlags::FOLLOW, mask & libc::IN_DONT_FOLLOW == 0);
    lookup.set(LookupFlags::DIRECTORY, mask & libc::IN_ONLYDIR != 0);
    let place = find(task, &task.path_cx(), Fd::CWD, path, lookup)?;
    let access = if place.dentry.is_dir() { Access::LIST } else { Access::READ };
    policed::may(&place, access)?;
    place.inode().check_access(task.cred_ref(), AccessMask::READ)?;
    inotify.add_watch(&place.dentry, mask)
}

pub(super) fn sys_inotify_rm_watch(task: &mut CurrentTask, fd: Fd, watch: i32) -> SysResult<()> {
    let file = task.file(fd)?;
    match file.ops_as::<Inotify>() {
        Some(inotify) => inotify.remove_watch(watch),
        None => err!(EINVAL),
    }
}
