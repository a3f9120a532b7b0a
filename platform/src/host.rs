//! What the crates that hold no `unsafe` need from the host: parking a thread, I/O
//! straight to and from guest memory, clocks, random bytes, limits.

mod clock;
mod cpu_clock;
mod cpuid;
mod cycles;
mod end;
mod file;
mod heap;
mod io;
mod limits;
mod own_maps;
mod parker;
pub mod poller;
mod resident;
pub mod spawn;

pub(crate) use clock::slept_ns;
pub use clock::{
    clock_monotonic_ns, clock_monotonic_raw_ns, clock_realtime_ns, clock_thread_cpu_ns,
};
pub use cpu_clock::{host_tid, thread_cpu_ns};
pub use cpuid::{Cache, CpuIdentity, cpu_identity};
pub(crate) use cycles::cycles;
pub use end::end_process;
pub use file::{allocate, file_size, seek_data, seek_hole, sync_file};
pub use heap::{
    heap_is_full, open_own_memory, own_memory, set_heap_full, share_one_heap, trim_heap,
};
pub use io::{preadv, pwritev, readv, writev};
pub use limits::{
    cpu_count, current_cpu, fill_random, hwcap, max_open_files, min_signal_stack, raise_open_files,
    total_memory, total_swap, widen_descriptor_table,
};
pub(crate) use own_maps::own_maps;
pub use own_maps::remember_own_maps;
pub use parker::Parker;
pub(crate) use parker::switches;
pub use resident::leave_start_behind;

use linux_abi::Errno;

/// The host's error number as ours.
pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}
