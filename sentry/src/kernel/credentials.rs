//! Credentials and capabilities (credentials(7), capabilities(7)).

use std::sync::Arc;

use bitflags::bitflags;

macro_rules! capabilities {
    ($($name:ident = $nr:literal,)*) => {
        /// A capability, by its number in `include/uapi/linux/capability.h`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, reason = "the names Linux uses")]
        pub enum Capability { $(
            $name = $nr,
        )* }

        bitflags! {
            /// A set of capabilities; bit N is capability N.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
            pub struct CapabilitySet: u64 { $( const $name = 1 << $nr; )* }
        }
    };
}

capabilities! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6,
    SETUID = 7, SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10, NET_BROADCAST = 11,
    NET_ADMIN = 12, NET_RAW = 13, IPC_LOCK = 14, IPC_OWNER = 15, SYS_MODULE = 16, SYS_RAWIO = 17,
    SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20, SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23,
    SYS_RESOURCE = 24, SYS_TIME = 25, SYS_TTY_CONFIG = 26, MKNOD = 27, LEASE = 28,
    AUDIT_WRITE = 29, AUDIT_CONTROL = 30, SETFCAP = 31, MAC_OVERRIDE = 32, MAC_ADMIN = 33,
    SYSLOG = 34, WAKE_ALARM = 35, BLOCK_SUSPEND = 36, AUDIT_READ = 37, PERFMON = 38, BPF = 39,
    CHECKPOINT_RESTORE = 40,
}

/// `struct cred`: never changed in place; a change makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Arc<[u32]>,
    pub permitted: CapabilitySet,
    pub effective: CapabilitySet,
    pub inheritable: CapabilitySet,
    pub bounding: CapabilitySet,
    pub ambient: CapabilitySet,
    /// SECBIT_* (prctl(2)).
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Credentials {
    /// A user as the launcher found it; uid 0 has all capabilities of the bounding set, as after execve(2).
    pub fn for_user(uid: u32, gid: u32, groups: &[u32], bounding: CapabilitySet) -> Arc<Self> {
        let caps = if uid == 0 { bounding } else { CapabilitySet::empty() };
        Arc::new(Self {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: groups.into(),
            permitted: caps,
            effective: caps,
            inheritable: CapabilitySet::empty(),
            bounding,
            ambient: CapabilitySet::empty(),
            securebits: 0,
            no_new_privs: false,
        })
    }

    /// Root with everything: what the sentry itself acts as when it builds file systems.
    pub fn root() -> Arc<Self> {
        Self::for_user(0, 0, &[], CapabilitySet::all())
    }

    /// Is the capability effective?
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.bits() & (1 << capability as u64) != 0
    }

    /// For file access: fsgid or a supplementary group.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
