//! Processors, random bytes, and the descriptor limit.

use std::{os::fd::AsFd, sync::OnceLock};

use linux_abi::Errno;
use rustix::{
    process::{Resource, getrlimit, setrlimit},
    rand::GetRandomFlags,
};

/// Processors this process may run on, as at the first call: later, threads of it may be held
/// to fewer.
pub fn cpu_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT
        .get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get))
}

/// The host's memory in bytes.
pub fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// The host's swap space in bytes.
pub fn total_swap() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalswap.saturating_mul(u64::from(info.mem_unit))
}

/// AT_HWCAP and AT_HWCAP2 (getauxval(3)).
pub fn hwcap() -> (u64, u64) {
    let (first, second) = rustix::param::linux_hwcap();
    (first as u64, second as u64)
}

/// AT_MINSIGSTKSZ: what a signal frame needs.
pub fn min_signal_stack() -> u64 {
    rustix::param::linux_minsigstksz() as u64
}

/// The processor the calling thread runs on.
pub fn current_cpu() -> u32 {
    u32::try_from(rustix::thread::sched_getcpu()).unwrap_or(0)
}

/// Fills the buffer from the host's random generator (getrandom(2)).
pub fn fill_random(buffer: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::rand::getrandom(rest, GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(super::errno(error)),
        }
    }
    Ok(())
}

/// Raises the soft limit on open descriptors to the hard one.
pub fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Makes room in the descriptor table for a few thousand. `one`: any descriptor. To be called while this process has one
/// thread: once the table is shared, the kernel waits out an RCU grace period of 5 to 15 ms each time that it doubles
/// (`expand_fdtable` in `fs/file.c`).
pub fn widen_descriptor_table(one: impl AsFd) {
    const WIDE: u64 = 4096;
    let last = max_open_files().min(WIDE).saturating_sub(1);
    // The table never becomes smaller again. Only a matter of speed.
    let _ = rustix::io::fcntl_dupfd_cloexec(one, i32::try_from(last).unwrap_or(0));
}

/// Descriptors that this process may have.
pub fn max_open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
