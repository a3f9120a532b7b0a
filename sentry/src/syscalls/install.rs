//! New descriptors for new files.

use std::sync::Arc;

use crate::{SysResult, kernel::CurrentTask, user::Fd, vfs::FileDescription};

/// The lowest free descriptor for `file`; `EMFILE` at RLIMIT_NOFILE.
pub(super) fn install_fd(
    task: &CurrentTask,
    file: Arc<FileDescription>,
    cloexec: bool,
) -> SysResult<Fd> {
    Ok(task.fds().insert(file, cloexec, 0, nofile_limit(task))?)
}

/// The soft RLIMIT_NOFILE.
pub(super) fn nofile_limit(task: &CurrentTask) -> u64 {
    task.rlimit(libc::RLIMIT_NOFILE).0
}
