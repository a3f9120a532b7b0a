//! seccomp(2).

use crate::{
    SysResult, err,
    kernel::{CurrentTask, seccomp::is_action_known},
    user::{UserAddr, UserMemory},
};

pub(super) fn sys_seccomp(
    task: &mut CurrentTask,
    operation: u32,
    flags: u32,
    args: UserAddr,
) -> SysResult<u64> {
    const SET_MODE_STRICT: u32 = 0;
    const SET_MODE_FILTER: u32 = 1;
    const GET_ACTION_AVAIL: u32 = 2;
    match operation {
        SET_MODE_STRICT if args.is_null() => task.set_seccomp(1, flags.into(), args),
        SET_MODE_FILTER => task.set_seccomp(2, flags.into(), args),
        GET_ACTION_AVAIL if flags == 0 => {
            let action = task.mm().read_obj(args.as_ref::<u32>())?;
            if is_action_known(action) { Ok(0) } else { err!(EOPNOTSUPP) }
        }
        _ => err!(EINVAL),
    }
}
