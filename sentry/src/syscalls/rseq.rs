//! rseq(2): registers the area of restartable sequences (`sys_rseq` in `kernel/rseq.c`).

use linux_abi::rseq::{ALIGN, CRITICAL_SECTION, FLAG_UNREGISTER, SIZE_MIN};

use crate::{
    SysResult, err,
    kernel::{CurrentTask, Registration},
    user::{UserAddr, UserMemory, UserRef},
};

pub(super) fn sys_rseq(
    task: &mut CurrentTask,
    area: UserAddr,
    len: u32,
    flags: i32,
    signature: u32,
) -> SysResult<()> {
    if !task.kernel().has_rseq() {
        return err!(ENOSYS);
    }
    let asked = Registration { area: area.0, len, signature };
    match (flags, task.rseq_registration()) {
        (FLAG_UNREGISTER, Some(known)) => {
            check_same(asked, known)?;
            task.reset_rseq_area(area.0)?;
            task.set_rseq(None);
        }
        (0, Some(known)) => {
            check_same(asked, known)?;
            return err!(EBUSY);
        }
        (0, None) => {
            check_new(task, asked)?;
            task.set_rseq(Some(asked));
        }
        _ => return err!(EINVAL),
    }
    Ok(())
}

/// Does it name what is registered?
fn check_same(asked: Registration, known: Registration) -> SysResult<()> {
    if (asked.area, asked.len) != (known.area, known.len) {
        return err!(EINVAL);
    }
    if asked.signature != known.signature { err!(EPERM) } else { Ok(()) }
}

/// May it be registered?
fn check_new(task: &CurrentTask, asked: Registration) -> SysResult<()> {
    if asked.len < SIZE_MIN || !asked.area.is_multiple_of(ALIGN) {
        return err!(EINVAL);
    }
    let end = task.mm().user_range().end;
    if asked.area.checked_add(asked.len.into()).is_none_or(|behind| behind > end) {
        return err!(EFAULT);
    }
    // What a thread that is gone left there is no critical section of this one.
    let section = UserRef::<u64>::new(asked.area.wrapping_add(CRITICAL_SECTION));
    if task.mm().read_obj(section)? != 0 {
        task.mm().write_obj(section, &0)?;
    }
    Ok(())
}
