//! What one system call costs on a platform: a guest that makes them in a loop.

use std::time::{Duration, Instant};

use linux_abi::Errno;

use crate::{Backing, MapOp, PAGE_SIZE, Platform, PlatformError, Prot, Trap, memory::MemoryFile};

/// `syscall`, and a jump back to it.
const LOOP: [u8; 4] = [0x0f, 0x05, 0xeb, 0xfc];
const AT: u64 = 0x40_0000;
/// So many calls are timed together, so often; the best time counts.
const CALLS: u32 = 20;
const ROUNDS: u32 = 8;

/// The time from one system call of a guest thread to its next, when nothing is done about it.
pub(crate) fn round_trip(
    platform: &dyn Platform,
    memory: &MemoryFile,
) -> Result<Duration, PlatformError> {
    let page = memory
        .allocate(PAGE_SIZE, None)
        .map_err(|errno| PlatformError::Host { what: "guest memory for a trial", errno })?;
    memory.slice(page).copy_from(&LOOP);
    let space = platform.new_address_space()?;
    let (prot, backing) = (Prot::READ | Prot::EXEC, Backing::Memory(page));
    space.apply(&[MapOp::Map { addr: AT, len: PAGE_SIZE, prot, backing, populate: true }])?;
    let mut context = space.new_context()?;
    context.registers()?.rip = AT;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..CALLS {
            match context.switch()? {
                Trap::Syscall { .. } | Trap::Interrupted => context.set_return(0),
                other => {
                    let what = format!("a system call came as {other:x?}");
                    return Err(PlatformError::Unsupported(what));
                }
            }
        }
        best = best.min(start.elapsed() / CALLS);
    }
    drop(context);
    memory.release(page);
    if best.is_zero() {
        return Err(PlatformError::Host { what: "a clock that goes on", errno: Errno::EINVAL });
    }
    Ok(best)
}
