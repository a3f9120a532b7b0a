//! Files about the whole system, at the top of `/proc`.

mod cpuinfo;
mod memory;
mod stat;

use std::sync::Arc;

pub(in crate::fs) use memory::totals as memory_totals;

use super::{Builder, Show, put};
use crate::{SysResult, kernel::Kernel, vfs::Inode};

/// Name, permissions, content.
const FILES: &[(&str, u32, Show)] = &[
    ("buddyinfo", 0o444, memory::buddyinfo),
    ("cgroups", 0o444, cgroups),
    ("cmdline", 0o444, cmdline),
    ("consoles", 0o444, nothing),
    ("cpuinfo", 0o444, cpuinfo::cpuinfo),
    ("crypto", 0o444, nothing),
    ("devices", 0o444, devices),
    ("diskstats", 0o444, nothing),
    ("dma", 0o444, nothing),
    ("execdomains", 0o444, execdomains),
    ("filesystems", 0o444, filesystems),
    ("interrupts", 0o444, stat::interrupts),
    ("iomem", 0o444, nothing),
    ("ioports", 0o444, nothing),
    ("kallsyms", 0o444, nothing),
    ("key-users", 0o444, nothing),
    ("keys", 0o444, nothing),
    ("kmsg", 0o400, nothing),
    ("loadavg", 0o444, stat::loadavg),
    ("locks", 0o444, nothing),
    ("meminfo", 0o444, memory::meminfo),
    ("misc", 0o444, nothing),
    ("modules", 0o444, nothing),
    ("pagetypeinfo", 0o400, nothing),
    ("partitions", 0o444, partitions),
    ("slabinfo", 0o400, nothing),
    ("softirqs", 0o444, stat::softirqs),
    ("stat", 0o444, stat::stat),
    ("swaps", 0o444, swaps),
    ("timer_list", 0o400, nothing),
    ("uptime", 0o444, stat::uptime),
    ("version", 0o444, version),
    ("vmallocinfo", 0o400, nothing),
    ("vmstat", 0o444, memory::vmstat),
    ("zoneinfo", 0o444, memory::zoneinfo),
];

/// All of them, with the names and inodes.
pub(super) fn files(builder: &Builder) -> Vec<(&'static str, Arc<dyn Inode>)> {
    FILES.iter().map(|&(name, perm, show)| (name, builder.show(perm, show))).collect()
}

fn nothing(_: &Kernel, _: &mut Vec<u8>) -> SysResult<()> {
    Ok(())
}

fn version(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    use crate::kernel::uts::{RELEASE, VERSION};
    put!(out, "Linux version {RELEASE} (lazaret@lazaret) (rustc) {VERSION}\n");
    Ok(())
}

fn cmdline(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "quiet\n");
    Ok(())
}

fn cgroups(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
    Ok(())
}

fn execdomains(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "0-0\tLinux           \t[kernel]\n");
    Ok(())
}

fn devices(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n128 ptm\n136 pts\n\n\
         Block devices:\n"
    );
    Ok(())
}

/// The kinds of file systems, none of which needs a device (filesystems(5)).
pub(crate) const FILE_SYSTEMS: &[&str] = &[
    "sysfs", "tmpfs", "proc", "cgroup2", "devtmpfs", "sockfs", "pipefs", "ramfs", "devpts",
    "overlay",
];

fn filesystems(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    for name in FILE_SYSTEMS {
        put!(out, "nodev\t{name}\n");
    }
    Ok(())
}

fn partitions(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "major minor  #blocks  name\n\n");
    Ok(())
}

fn swaps(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    Ok(())
}
