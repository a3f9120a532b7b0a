//! The walls round the sentry process, from what the host offers.

use std::fmt;

use anyhow::{Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::args::JailArg;

/// How strong the jail is, beside the system-call filter that each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// Own namespaces: an empty, read-only root; no network, no other process in sight.
    Namespaces,
    /// No namespaces: Landlock, which refuses files, network and signals to others.
    Landlock,
    /// Neither.
    Weak,
}

impl Rung {
    /// The best that a host with these has; `None` when only a weak one is left.
    pub(crate) fn best(namespaces: bool, landlock: bool) -> Option<Self> {
        match (namespaces, landlock) {
            (true, _) => Some(Self::Namespaces),
            (false, true) => Some(Self::Landlock),
            (false, false) => None,
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "Landlock",
            Self::Weak => "weak",
        })
    }
}

/// What the user said about the jail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) jail: JailArg,
    pub(crate) allow_weak: bool,
}

impl Wanted {
    /// As arguments for the sentry, which is started with a mount namespace of its own or without.
    pub(crate) fn to_args(self, own_mounts: bool) -> [&'static str; 3] {
        [
            self.jail.name(),
            if self.allow_weak { "weak" } else { "strong" },
            if own_mounts { OWN_MOUNTS } else { "host-mounts" },
        ]
    }

    /// The sentry's side: what is wanted, and whether it has a mount namespace of its own.
    pub(crate) fn from_args(args: impl Iterator<Item = String>) -> (Self, bool) {
        let args: Vec<String> = args.collect();
        let arg = |at: usize| args.get(at).map(String::as_str);
        let wanted = Self { jail: JailArg::from_name(arg(0)), allow_weak: arg(1) == Some("weak") };
        (wanted, arg(2) == Some(OWN_MOUNTS))
    }
}

const OWN_MOUNTS: &str = "own-mounts";

/// Closes the host's file system behind this process and gives up what privileges it has. `own_mounts`: it has a
/// mount namespace of its own; without one, the superuser would empty the host's.
///
/// # Errors
/// When the jail would be weaker than what is wanted.
pub(crate) fn enter(wanted: Wanted, own_mounts: bool) -> Result<Rung> {
    let has_namespaces = own_mounts && empty_root().is_ok();
    if wanted.jail == JailArg::Namespaces && !has_namespaces {
        bail!("--jail namespaces: this host gives none to this user (see lazaret doctor)");
    }
    rustix::thread::set_no_new_privs(true)?;
    drop_capabilities();
    let has_landlock = use_landlock();
    if wanted.jail == JailArg::Landlock && !has_landlock {
        bail!("--jail landlock: this host's kernel has none, or it is off (see lazaret doctor)");
    }
    match Rung::best(has_namespaces, has_landlock) {
        Some(rung) => Ok(rung),
        None if wanted.allow_weak => Ok(Rung::Weak),
        None => bail!(
            "this host has neither namespaces for this user nor Landlock to confine the application kernel with; \
             --allow-weak-jail runs it with a system-call filter alone"
        ),
    }
}

/// The system-call filter, for all threads. `platform`: the one that is in use.
///
/// From here on, nobody else of this user may trace the process or look into its memory. Not before: stub processes
/// get this from it, and those of the ptrace platform have to be traced.
pub(crate) fn seal(platform: &str) -> Result<(), String> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| error.to_string())?;
    let policy = match platform {
        "systrap" => policies::SENTRY_SYSTRAP,
        "kvm" => policies::SENTRY_KVM,
        _ => policies::SENTRY_PTRACE,
    };
    policy.install().map_err(|error| error.to_string())
}

/// No file is opened, nothing is bound or connected, no process outside is sent a signal, as far as this kernel's
/// Landlock goes. False when there is none.
fn use_landlock() -> bool {
    const KNOWN: ABI = ABI::V6;
    let restrict = || {
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(KNOWN))?
            .handle_access(AccessNet::from_all(KNOWN))?
            .scope(Scope::from_all(KNOWN))?
            .create()?;
        rules.restrict_self()
    };
    let status: Result<_, landlock::RulesetError> = restrict();
    status.is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
}

/// An empty, read-only file system becomes the root of this process' mount namespace. Fails where it has no
/// rights in it (AppArmor's user-namespace rule).
fn empty_root() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    // Any directory will do to hang the new root on.
    let place = ["/proc", "/dev", "/etc", "/usr"]
        .into_iter()
        .find(|place| std::path::Path::new(place).is_dir())
        .ok_or(nix::Error::ENOENT)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("lazaret"), place, Some("tmpfs"), flags, Some("size=0,nr_inodes=2,mode=555"))?;
    chdir(place)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    mount(NONE, "/", NONE, flags | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, NONE)
}

fn drop_capabilities() {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    for capability in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    let _ = rustix::thread::clear_ambient_capability_set();
    let _ = rustix::thread::set_capabilities(None, none);
}
