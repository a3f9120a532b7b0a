//! The signal mask of ppoll, pselect6 and epoll_pwait: in force only while they wait.

use linux_abi::SigSet;

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    user::{UserMemory, UserRef},
};

/// Sets the mask at `mask` unless that is NULL; `EINVAL` unless its size is 8. The run loop gives
/// the old one back, after handlers ran if the wait was interrupted.
pub(super) fn set_wait_mask(
    task: &mut CurrentTask,
    mask: UserRef<SigSet>,
    size: usize,
) -> SysResult<()> {
    if mask.is_null() {
        return Ok(());
    }
    if size != size_of::<SigSet>() {
        return err!(EINVAL);
    }
    let mask = task.mm().read_obj(mask)?;
    task.set_temporary_mask(mask);
    Ok(())
}
