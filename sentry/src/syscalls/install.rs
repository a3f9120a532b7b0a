//! New descriptors for new files, and what the calls on pipes and sockets share.

use std::sync::Arc;

use linux_abi::{SigInfo, Signal};

use crate::{SysResult, err, kernel::CurrentTask, user::Fd, vfs::FileDescription};

/// The lowest free descriptor for `file`; `EMFILE` at RLIMIT_NOFILE, `ENFILE` when the sandbox has too many files open.
pub(super) fn install_fd(
    task: &CurrentTask,
    file: Arc<FileDescription>,
    cloexec: bool,
) -> SysResult<Fd> {
    if FileDescription::count() > task.kernel().limits().max_files() {
        return err!(ENFILE);
    }
    Ok(task.fds().insert(file, cloexec, 0, nofile_limit(task))?)
}

/// The soft RLIMIT_NOFILE.
pub(super) fn nofile_limit(task: &CurrentTask) -> u64 {
    task.rlimit(libc::RLIMIT_NOFILE).0
}

/// What writing to a pipe or socket without a reader does besides `EPIPE`.
pub(super) fn send_sigpipe(task: &CurrentTask) {
    let info = SigInfo::from_user(Signal::PIPE, libc::SI_USER, task.pid(), task.cred_ref().uid);
    // It is sent to oneself, and not queued: it cannot fail.
    let _ = task.task().send_signal(info);
}
