//! What this host offers, for `lazaret doctor`.

use rustix::fs::{Access, access};

use crate::stub::sys;

/// See [`probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// `uname -r`.
    pub kernel: String,
    /// seccomp user notification (Linux 5.0): the systrap platform.
    pub user_notification: bool,
    /// Its synchronous wake-up (Linux 6.6): system calls several times as fast.
    pub sync_wake_up: bool,
    /// Its wait that signals do not cut short (Linux 5.19).
    pub wait_killable: bool,
    /// Programs can set FS and GS bases themselves (Linux 5.9): the systrap platform.
    pub fsgsbase: bool,
    /// Child processes may be traced: the ptrace platform.
    pub ptrace: bool,
    /// Version of the Landlock interface; `None` when it is off.
    pub landlock_abi: Option<u32>,
    /// New user namespaces may be made by anyone.
    pub user_namespaces: bool,
    /// `/dev/kvm` is there and may be opened.
    pub kvm: bool,
}

/// Looks what this host offers, and changes nothing.
pub fn probe() -> HostFacts {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    let user_notification = sys::seccomp_takes(listener);
    HostFacts {
        user_notification,
        // It shows only on a listener, and making one is for good.
        sync_wake_up: user_notification && version(&kernel) >= (6, 6),
        wait_killable: sys::seccomp_takes(listener | sys::WAIT_KILLABLE_RECV),
        fsgsbase: sys::has_fsgsbase(),
        // Scope 3 forbids it to all (`Documentation/admin-guide/LSM/Yama.rst`).
        ptrace: number("/proc/sys/kernel/yama/ptrace_scope").is_none_or(|scope| scope < 3),
        landlock_abi: sys::landlock_abi(),
        user_namespaces: number("/proc/sys/user/max_user_namespaces") != Some(0)
            && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
            && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                .is_none_or(|restricted| restricted == 0),
        kvm: access("/dev/kvm", Access::READ_OK | Access::WRITE_OK).is_ok(),
        kernel,
    }
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
    fn this_host_has_a_kernel() {
        assert!(version(&probe().kernel) > (4, 0));
    }
}
