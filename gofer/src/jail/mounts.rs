//! A mount namespace whose root holds the served trees and nothing else, all
//! without devices and set-id programs, and the read-only ones read-only.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, unshare};
use rustix::{
    fs::CWD,
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::{chdir, pivot_root},
};

use super::Refusal;
use crate::ServerConfig;

/// A directory of the host which is covered, in this namespace, while the new root is built.
const BASES: [&str; 4] = ["/tmp", "/run", "/mnt", "/opt"];
/// `MS_NOSYMFOLLOW` (`include/uapi/linux/mount.h`): a second line of defence, as no request
/// needs a link followed. Kernels before 5.10 take no notice.
const NO_LINKS: MountFlags = MountFlags::from_bits_retain(256);

/// Enters the namespace, and changes the paths of `config` to what they are in it.
/// On an error all is as before, but for mount propagation.
pub(super) fn enter(config: &mut ServerConfig) -> Result<(), Refusal> {
    if !rustix::process::geteuid().is_root() {
        return Err("only the superuser can".into());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    // What the host unmounts goes here too; nothing goes the other way.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let clone = |path: &Path, depth| -> rustix::io::Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | depth;
        open_tree(CWD, path, flags)
    };
    // Taken before anything is covered.
    let mut trees = Vec::new();
    for tree in &config.trees {
        trees.push(clone(&tree.path, OpenTreeFlags::AT_RECURSIVE)?);
    }
    let descriptors = clone(Path::new("/proc/self/fd"), OpenTreeFlags::empty())?;
    let base = BASES.into_iter().map(Path::new).find(|base| base.is_dir());
    let base = base.ok_or("there is no directory to cover")?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", base, "tmpfs", flags, Some(c"size=1m,mode=0755"))?;
    if let Err(error) = build(base, config, &trees, &descriptors) {
        let _ = unmount(base, UnmountFlags::DETACH);
        return Err(error);
    }
    for tree in &mut config.trees {
        tree.path = inside(tree.id.0);
    }
    config.descriptors = PathBuf::from("/fd");
    Ok(())
}

/// Where the tree with this number is in the new root.
fn inside(id: u32) -> PathBuf {
    Path::new("/trees").join(id.to_string())
}

fn build(
    base: &Path,
    config: &ServerConfig,
    trees: &[OwnedFd],
    descriptors: &OwnedFd,
) -> Result<(), Refusal> {
    let place = |mounted: &OwnedFd, name: &Path| {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mounted, "", CWD, base.join(name), flags)
    };
    fs::create_dir(base.join("fd"))?;
    place(descriptors, Path::new("fd"))?;
    fs::create_dir(base.join("trees"))?;
    for (tree, mounted) in config.trees.iter().zip(trees) {
        let name = PathBuf::from("trees").join(tree.id.0.to_string());
        let is_dir =
            rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(mounted)?.st_mode).is_dir();
        if is_dir {
            fs::create_dir(base.join(&name))?;
        } else {
            fs::File::create(base.join(&name))?;
        }
        place(mounted, &name)?;
    }
    let table = fs::read("/proc/self/mountinfo")?;
    for (tree, _) in config.trees.iter().zip(trees) {
        restrict(&base.join("trees").join(tree.id.0.to_string()), &table, tree.read_only)?;
    }
    mount_remount(base, MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV, c"")?;
    chdir(base)?;
    // The old root comes to lie over the new one, and goes (pivot_root(2), NOTES).
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(())
}

/// Takes devices and set-id programs away from the mount at `top` and those
/// below it, and, if it is to be `read_only`, the right to write.
fn restrict(top: &Path, table: &[u8], read_only: bool) -> Result<(), Refusal> {
    for line in table.split(|&b| b == b'\n') {
        // proc_pid_mountinfo(5): the fifth field is the mount point, the sixth its options.
        let mut fields = line.split(|&b| b == b' ').skip(4);
        let (Some(point), Some(options)) = (fields.next(), fields.next()) else { continue };
        let point = PathBuf::from(unescape(point));
        if !point.starts_with(top) {
            continue;
        }
        let has = |name: &[u8]| options.split(|&b| b == b',').any(|option| option == name);
        let mut flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID | NO_LINKS;
        if read_only || has(b"ro") {
            flags |= MountFlags::RDONLY;
        }
        if has(b"noexec") {
            flags |= MountFlags::NOEXEC;
        }
        let done = mount_remount(&point, flags, c"");
        // A mount below that does not let itself be changed, or cannot be reached
        // under another one, is still behind the checks of each request.
        if point == top {
            done?;
        }
    }
    Ok(())
}

/// Mount points are written with octal escapes for blanks and backslashes.
fn unescape(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        if byte == b'\\'
            && let Some(code) = digits.and_then(|digits| OsStr::from_bytes(digits).to_str())
            && let Ok(code) = u8::from_str_radix(code, 8)
        {
            out.push(code);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c"), OsString::from(r"/a b\c"));
        assert_eq!(unescape(br"/a\0"), OsString::from(r"/a\0"));
        assert_eq!(unescape(br"/a\999"), OsString::from(r"/a\999"));
    }
}
