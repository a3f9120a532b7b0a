//! TIOCGPTPEER: the other side of a master, opened without its name.

use std::sync::Arc;

use super::pair::Tty;
use crate::{
    Errno, SysResult,
    fs::devpts::Devpts,
    kernel::CurrentTask,
    vfs::{self, FileDescription, OpenHow, VfsPath},
};

/// Opens the slave of the master behind `file` with the flags of open(2); its descriptor.
pub(super) fn open_peer(
    task: &mut CurrentTask,
    file: &FileDescription,
    tty: &Arc<Tty>,
    flags: u32,
) -> SysResult<u64> {
    const ALLOWED: i32 =
        libc::O_ACCMODE | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOFOLLOW;
    if flags & !(ALLOWED as u32) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let directory = devpts_of(task, file).ok_or(Errno::EIO)?;
    let how = OpenHow::open(flags, 0)?;
    let cx = task.path_cx();
    let peer = vfs::open(&cx, &directory, tty.number().to_string().as_bytes(), &how)?;
    drop(cx);
    peer.ops().open_wait(task, &peer)?;
    let limit = task.rlimit(libc::RLIMIT_NOFILE).0;
    let fd = task.fds().insert(peer, how.is_cloexec(), 0, limit)?;
    Ok(u64::from(fd.0.unsigned_abs()))
}

/// The devpts that the master is in; for a device node elsewhere, the one on `pts` next to it.
fn devpts_of(task: &CurrentTask, file: &FileDescription) -> Option<VfsPath> {
    let is_devpts = |place: &VfsPath| place.mount.fs().type_name() == Devpts::TYPE_NAME;
    let node = file.path();
    if is_devpts(node) {
        return Some(node.mount.root());
    }
    let directory = VfsPath { mount: node.mount.clone(), dentry: node.dentry.parent()? };
    let cx = task.path_cx();
    let found = vfs::resolve(&cx, &directory, b"pts", vfs::LookupFlags::FOLLOW).ok()?;
    is_devpts(&found).then_some(found)
}
