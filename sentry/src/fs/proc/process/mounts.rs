//! `mounts`, `mountinfo`, `mountstats` (proc_pid_mountinfo(5)).

use std::sync::Arc;

use super::Scope;
use crate::{
    SysResult,
    fs::proc::put,
    kernel::Task,
    vfs::{MountFlags, MountInfo},
};

/// What this process sees, or nothing once it has exited.
fn list(task: &Task) -> Vec<MountInfo> {
    let Some(fs) = task.fs_context() else { return Vec::new() };
    let state = fs.state();
    state.namespace.list(&state.root)
}

/// Spaces and the like as `\040` (`mangle_path`).
fn mangle(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\\' | b'#') {
            put!(out, "\\{byte:03o}");
        } else {
            out.push(byte);
        }
    }
}

fn source(info: &MountInfo, out: &mut Vec<u8>) {
    let source = info.mount.source();
    if source.is_empty() { put!(out, "none") } else { mangle(source, out) }
}

/// `rw,nosuid,…`.
fn options(flags: MountFlags) -> String {
    const NAMES: [(MountFlags, &str); 7] = [
        (MountFlags::NOSUID, ",nosuid"),
        (MountFlags::NODEV, ",nodev"),
        (MountFlags::NOEXEC, ",noexec"),
        (MountFlags::NOATIME, ",noatime"),
        (MountFlags::NODIRATIME, ",nodiratime"),
        (MountFlags::RELATIME, ",relatime"),
        (MountFlags::NOSYMFOLLOW, ",nosymfollow"),
    ];
    let mut text = read_only(flags).to_owned();
    for (flag, name) in NAMES {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text
}

fn read_only(flags: MountFlags) -> &'static str {
    if flags.contains(MountFlags::RDONLY) { "ro" } else { "rw" }
}

pub(super) fn mounts(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    for info in list(task) {
        source(&info, out);
        put!(out, " ");
        mangle(&info.target, out);
        let fs = info.mount.fs();
        put!(
            out,
            " {} {}{} 0 0\n",
            fs.type_name(),
            options(info.mount.flags()),
            fs.mount_options()
        );
    }
    Ok(())
}

pub(super) fn mountinfo(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    for info in list(task) {
        let fs = info.mount.fs();
        let dev = fs.dev();
        let (major, minor) = (libc::major(dev), libc::minor(dev));
        put!(out, "{} {} {major}:{minor} ", info.mount.id(), info.parent_id);
        mangle(&info.root, out);
        put!(out, " ");
        mangle(&info.target, out);
        put!(out, " {} - {} ", options(info.mount.flags()), fs.type_name());
        source(&info, out);
        put!(out, " {}{}\n", read_only(info.mount.flags()), fs.mount_options());
    }
    Ok(())
}

pub(super) fn mountstats(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    for info in list(task) {
        put!(out, "device ");
        source(&info, out);
        put!(out, " mounted on ");
        mangle(&info.target, out);
        put!(out, " with fstype {}\n", info.mount.fs().type_name());
    }
    Ok(())
}
