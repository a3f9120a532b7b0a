//! membarrier(2): all running threads of a process (or of the sandbox) pass a full barrier.

use std::sync::atomic::{Ordering, fence};

use crate::{SysResult, err, kernel::CurrentTask};

const QUERY: i32 = 0;
const GLOBAL: i32 = 1;
const GLOBAL_EXPEDITED: i32 = 2;
const REGISTER_GLOBAL_EXPEDITED: i32 = 4;
const PRIVATE_EXPEDITED: i32 = 8;
const REGISTER_PRIVATE_EXPEDITED: i32 = 16;
const PRIVATE_EXPEDITED_SYNC_CORE: i32 = 32;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: i32 = 64;
const PRIVATE_EXPEDITED_RSEQ: i32 = 128;
const REGISTER_PRIVATE_EXPEDITED_RSEQ: i32 = 256;
const GET_REGISTRATIONS: i32 = 512;
const SUPPORTED: i32 = GLOBAL
    | GLOBAL_EXPEDITED
    | REGISTER_GLOBAL_EXPEDITED
    | PRIVATE_EXPEDITED
    | REGISTER_PRIVATE_EXPEDITED
    | PRIVATE_EXPEDITED_SYNC_CORE
    | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE
    | GET_REGISTRATIONS;
/// Where there are restartable sequences.
const SUPPORTED_RSEQ: i32 = PRIVATE_EXPEDITED_RSEQ | REGISTER_PRIVATE_EXPEDITED_RSEQ;
/// With PRIVATE_EXPEDITED_RSEQ: of one processor. More than was asked for does no harm.
const FLAG_CPU: u32 = 1;

pub(super) fn sys_membarrier(
    task: &mut CurrentTask,
    command: i32,
    flags: u32,
    _cpu: i32,
) -> SysResult<i32> {
    if flags != 0 && (command, flags) != (PRIVATE_EXPEDITED_RSEQ, FLAG_CPU) {
        return err!(EINVAL);
    }
    let has_rseq = task.kernel().has_rseq();
    let registered = task.thread_group().membarrier_registrations();
    match command {
        QUERY => return Ok(if has_rseq { SUPPORTED | SUPPORTED_RSEQ } else { SUPPORTED }),
        GET_REGISTRATIONS => return Ok(registered),
        REGISTER_GLOBAL_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED
        | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            task.thread_group().register_membarrier(command);
        }
        PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE => {
            if registered & (command << 1) == 0 {
                return err!(EPERM);
            }
            task.barrier_in_group();
        }
        REGISTER_PRIVATE_EXPEDITED_RSEQ if has_rseq => {
            task.thread_group().register_membarrier(command);
        }
        PRIVATE_EXPEDITED_RSEQ if has_rseq => {
            if registered & REGISTER_PRIVATE_EXPEDITED_RSEQ == 0 {
                return err!(EPERM);
            }
            task.thread_group().restart_critical_sections(task);
        }
        GLOBAL | GLOBAL_EXPEDITED => {
            for group in task.kernel().tasks.processes() {
                let wanted = command == GLOBAL
                    || group.membarrier_registrations() & REGISTER_GLOBAL_EXPEDITED != 0;
                if wanted {
                    group.barrier(task);
                }
            }
        }
        _ => return err!(EINVAL),
    }
    fence(Ordering::SeqCst);
    Ok(0)
}
