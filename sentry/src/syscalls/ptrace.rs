//! ptrace(2).

use crate::{SysResult, kernel::CurrentTask};

pub(super) fn sys_ptrace(
    task: &mut CurrentTask,
    request: u64,
    pid: i32,
    addr: u64,
    data: u64,
) -> SysResult<u64> {
    task.ptrace(request, pid, addr, data)
}
