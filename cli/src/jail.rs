//! The walls round the sentry process, from what the host offers.

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

/// How strong the jail is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// Own namespaces: an empty, read-only root; no network, no other process in sight.
    Namespaces,
    /// No namespaces: Landlock and seccomp only.
    NoNamespaces,
}

/// Closes the host's file system behind this process and gives up what privileges it has.
pub(crate) fn enter() -> Rung {
    let rung = if empty_root().is_ok() { Rung::Namespaces } else { Rung::NoNamespaces };
    let _ = rustix::thread::set_no_new_privs(true);
    drop_capabilities();
    rung
}

/// An empty, read-only file system becomes the root. Fails where the process has no mount namespace of
/// its own, or (AppArmor's user-namespace rule) no rights in it.
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
