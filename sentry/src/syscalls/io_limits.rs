//! Limits and signals of input and output.

use linux_abi::{SigInfo, Signal};

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    vfs::{FileDescription, FileType},
};

/// What one read or write transfers at most (`MAX_RW_COUNT`).
pub(super) const MAX_RW_COUNT: usize = 0x7fff_f000;

/// The soft RLIMIT_FSIZE.
fn file_size_limit(task: &CurrentTask) -> u64 {
    task.rlimit(libc::RLIMIT_FSIZE).0
}

/// SIGPIPE for the thread that wrote.
pub(super) fn broken_pipe(task: &CurrentTask) {
    // A full queue cannot hold it: it is no real-time signal.
    let _ = task.task().send_signal(SigInfo::from_user(
        Signal::PIPE,
        0,
        task.pid(),
        task.cred_ref().uid,
    ));
}

/// SIGXFSZ.
fn file_too_large(task: &CurrentTask) {
    let info = SigInfo::from_user(Signal::XFSZ, 0, task.pid(), task.cred_ref().uid);
    let _ = task.task().send_signal(info);
}

/// How many of `len` bytes may be written at `offset`; `EFBIG`, with SIGXFSZ when it is the
/// process's limit that was met (`generic_write_check_limits`).
pub(super) fn writable_len(
    task: &CurrentTask,
    file: &FileDescription,
    offset: u64,
    len: usize,
) -> SysResult<usize> {
    if file.path().dentry.kind() != Some(FileType::Regular) {
        return Ok(len);
    }
    let largest = i64::MAX as u64;
    let limit = file_size_limit(task);
    if offset >= limit {
        file_too_large(task);
        return err!(EFBIG);
    }
    if offset >= largest {
        return err!(EFBIG);
    }
    let room = limit.min(largest) - offset;
    Ok(usize::try_from(room).map_or(len, |room| len.min(room)))
}

/// May a file have this size? `EFBIG` and SIGXFSZ over RLIMIT_FSIZE (truncate(2), fallocate(2)).
pub(super) fn check_size(task: &CurrentTask, size: u64) -> SysResult<()> {
    if size > file_size_limit(task) {
        file_too_large(task);
        return err!(EFBIG);
    }
    Ok(())
}
