//! What this host offers, for `lazaret doctor`.

use std::{sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};

use crate::{PlatformError, PlatformKind, memory::MemoryFile, stub::sys};

/// See [`probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// `uname -r`.
    pub kernel: String,
    /// A guest thread ran to its first instruction on each platform, or why it did not.
    pub systrap: Result<(), String>,
    pub ptrace: Result<(), String>,
    /// Programs may put seccomp filters on themselves (Linux 3.17).
    pub seccomp: bool,
    /// seccomp user notification (Linux 5.0): the systrap platform.
    pub user_notification: bool,
    /// Its synchronous wake-up (Linux 6.6): system calls several times as fast.
    pub sync_wake_up: bool,
    /// Its wait that signals do not cut short (Linux 5.19).
    pub wait_killable: bool,
    /// Programs can set FS and GS bases themselves (Linux 5.9): the systrap platform.
    pub fsgsbase: bool,
    /// Yama's rule for ptrace(2), 0 to 3; `None` without Yama.
    pub ptrace_scope: Option<u64>,
    /// Version of the Landlock interface; `None` when it is off.
    pub landlock_abi: Option<u32>,
    /// This program can make namespaces, with mounts of their own in them.
    pub namespaces: bool,
    /// What a system call costs on the kvm platform, or why there is none.
    pub kvm: Result<Duration, String>,
    /// The same on systrap.
    pub systrap_cost: Option<Duration>,
    /// `vm.overcommit_memory`: 2 counts memory that is not touched.
    pub overcommit: Option<u64>,
    /// Descriptors that a process may have: the hard limit.
    pub open_files: Option<u64>,
}

/// Looks what this host offers, in some milliseconds and without changing anything.
pub fn probe() -> HostFacts {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    let user_notification = sys::seccomp_takes(listener);
    HostFacts {
        namespaces: sys::can_make_namespaces(),
        systrap: works(PlatformKind::Systrap),
        ptrace: works(PlatformKind::Ptrace),
        seccomp: sys::seccomp_takes(0),
        user_notification,
        // It shows only on a listener, and making one is for good.
        sync_wake_up: user_notification && version(&kernel) >= (6, 6),
        wait_killable: sys::seccomp_takes(listener | sys::WAIT_KILLABLE_RECV),
        fsgsbase: sys::has_fsgsbase(),
        ptrace_scope: number("/proc/sys/kernel/yama/ptrace_scope"),
        landlock_abi: sys::landlock_abi(),
        kvm: kvm().map_err(|error| error.to_string()),
        systrap_cost: systrap_cost().ok(),
        overcommit: number("/proc/sys/vm/overcommit_memory"),
        open_files: getrlimit(Resource::Nofile).maximum,
        kernel,
    }
}

/// Tries a platform up to a guest thread that could run.
fn works(kind: PlatformKind) -> Result<(), String> {
    let attempt = || {
        let platform = crate::create(kind, new_memory()?, None)?;
        platform.new_address_space()?.new_context().map(drop)
    };
    attempt().map_err(|error: PlatformError| error.to_string())
}

fn kvm() -> Result<Duration, PlatformError> {
    let device = crate::open_kvm()?;
    let (platform, cost) = crate::kvm::create_in_time(device, new_memory()?)?;
    drop(platform);
    Ok(cost)
}

fn systrap_cost() -> Result<Duration, PlatformError> {
    let memory = new_memory()?;
    let platform = crate::create(PlatformKind::Systrap, memory.clone(), None)?;
    crate::round_trip::round_trip(&*platform, &memory)
}

fn new_memory() -> Result<Arc<MemoryFile>, PlatformError> {
    let memory = MemoryFile::new(None);
    memory.map(Arc::new).map_err(|errno| PlatformError::Host { what: "the memory file", errno })
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Major and minor number of a kernel release.
fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read() {
        assert_eq!(version("6.18.44-fc-v595"), (6, 18));
        assert_eq!(version("6.1.0-18-amd64"), (6, 1));
        assert_eq!(version("5.15"), (5, 15));
        assert_eq!(version("odd"), (0, 0));
    }

    #[test]
    fn this_host_can_run_guests() {
        let facts = probe();
        assert!(version(&facts.kernel) > (4, 0));
        assert!(facts.systrap.is_ok() || facts.ptrace.is_ok(), "{facts:?}");
    }
}
