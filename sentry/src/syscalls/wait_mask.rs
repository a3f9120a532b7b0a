//! The signal mask of ppoll, pselect6 and epoll_pwait: in force only while they wait.

use linux_abi::SigSet;

use super::Outcome;
use crate::{
    SysError, SysResult, err,
    kernel::CurrentTask,
    user::{UserMemory, UserRef},
};

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
    let mask = SigSet(task.mm().read_obj(mask)?);
    task.set_temporary_mask(mask);
    Ok(WaitMask { swapped: true })
}

impl WaitMask {
    /// The wait is over. When it was interrupted the mask stays until the signal's handler has been
    /// set up, which puts the old one into its frame.
    pub(super) fn finish(self, task: &mut CurrentTask, interrupted: bool) {
        // The run loop does so: it sees from the result whether the call was interrupted.
        let _ = (task, interrupted, self.swapped);
    }
}

/// Lets an interrupted call go on by `again`, with its deadline, when no handler runs.
pub(super) fn restart_with<T: Into<Outcome>>(
    task: &mut CurrentTask,
    result: SysResult<T>,
    again: impl FnOnce(&mut CurrentTask) -> SysResult<T> + Send + 'static,
) -> SysResult<T> {
    match result {
        Err(SysError::Restart(_)) => {
            Err(task.set_restart_block(move |task| again(task).map(Into::into)))
        }
        result => result,
    }
}
