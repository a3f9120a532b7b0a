//! `/proc/sys` (sysctl(8), `Documentation/admin-guide/sysctl`).
//!
//! A table of paths. Numbers that can be written are kept by their node: there is one proc in a sandbox,
//! however often it is mounted. Most of them are only remembered; those that do something say so.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use super::{Builder, Show, Store, put, upgrade};
use crate::{
    Errno, SysResult, err,
    fs::pseudo::{Content, PathTree, parse_decimal},
    kernel::{Capability, Credentials, Kernel, tty::MAX_TTYS, uts},
    vfs::{FileDescription, FileType, Inode},
};

/// What a file holds.
enum Value {
    /// Always this line; nobody may write.
    Fixed(&'static str),
    /// A number that root may change: at first, at least, at most.
    Number(i64, i64, i64),
    /// Asked each time; nobody may write.
    Shown(Show),
    /// Asked each time, and changed by what is written.
    Stored(Show, Store),
}
use Value::{Fixed, Number, Shown, Stored};

const I32_MAX: i64 = i32::MAX as i64;

#[rustfmt::skip]
const FILES: &[(&str, Value)] = &[
    ("abi/vsyscall32", Fixed("1")),
    ("debug/exception-trace", Number(1, 0, I32_MAX)),
    ("dev/tty/ldisc_autoload", Number(1, 0, 1)),
    ("dev/tty/legacy_tiocsti", Fixed("0")),
    ("fs/aio-max-nr", Number(65536, 0, I32_MAX)),
    ("fs/aio-nr", Fixed("0")),
    ("fs/dentry-state", Fixed("0\t0\t45\t0\t0\t0")),
    ("fs/epoll/max_user_watches", Number(1 << 20, 0, i64::MAX)),
    ("fs/file-max", Shown(file_max)),
    ("fs/file-nr", Shown(file_nr)),
    ("fs/inode-nr", Fixed("0\t0")),
    ("fs/inode-state", Fixed("0\t0\t0\t0\t0\t0\t0")),
    ("fs/inotify/max_queued_events", Number(16384, 0, I32_MAX)),
    ("fs/inotify/max_user_instances", Number(128, 0, I32_MAX)),
    ("fs/inotify/max_user_watches", Number(65536, 0, I32_MAX)),
    ("fs/lease-break-time", Number(45, 0, I32_MAX)),
    ("fs/leases-enable", Number(1, 0, 1)),
    ("fs/mount-max", Number(100_000, 1, I32_MAX)),
    ("fs/mqueue/msg_default", Number(10, 1, 65536)),
    ("fs/mqueue/msg_max", Number(10, 1, 65536)),
    ("fs/mqueue/msgsize_default", Number(8192, 128, 16 << 20)),
    ("fs/mqueue/msgsize_max", Number(8192, 128, 16 << 20)),
    ("fs/mqueue/queues_max", Number(256, 0, I32_MAX)),
    ("fs/nr_open", Fixed("1048576")),
    ("fs/overflowgid", Fixed("65534")),
    ("fs/overflowuid", Fixed("65534")),
    ("fs/pipe-max-size", Fixed("1048576")),
    ("fs/pipe-user-pages-hard", Number(0, 0, i64::MAX)),
    ("fs/pipe-user-pages-soft", Number(16384, 0, i64::MAX)),
    ("fs/protected_fifos", Fixed("1")),
    ("fs/protected_hardlinks", Fixed("1")),
    ("fs/protected_regular", Fixed("2")),
    ("fs/protected_symlinks", Fixed("1")),
    ("fs/suid_dumpable", Fixed("0")),
    ("kernel/acct", Fixed("4\t2\t30")),
    ("kernel/auto_msgmni", Fixed("0")),
    ("kernel/cad_pid", Fixed("1")),
    ("kernel/cap_last_cap", Fixed("40")),
    ("kernel/core_pattern", Fixed("core")),
    ("kernel/core_pipe_limit", Fixed("0")),
    ("kernel/core_uses_pid", Fixed("0")),
    ("kernel/ctrl-alt-del", Fixed("0")),
    ("kernel/dmesg_restrict", Fixed("1")),
    ("kernel/domainname", Stored(domain_name, set_domain_name)),
    ("kernel/hostname", Stored(host_name, set_host_name)),
    ("kernel/io_uring_disabled", Fixed("2")),
    ("kernel/keys/maxbytes", Fixed("20000")),
    ("kernel/keys/maxkeys", Fixed("200")),
    ("kernel/kptr_restrict", Fixed("2")),
    ("kernel/msgmax", Fixed("8192")),
    ("kernel/msgmnb", Fixed("16384")),
    ("kernel/msgmni", Fixed("32000")),
    ("kernel/ngroups_max", Fixed("65536")),
    ("kernel/ns_last_pid", Shown(last_pid)),
    ("kernel/numa_balancing", Fixed("0")),
    ("kernel/osrelease", Shown(release)),
    ("kernel/ostype", Fixed("Linux")),
    ("kernel/overflowgid", Fixed("65534")),
    ("kernel/overflowuid", Fixed("65534")),
    ("kernel/panic", Fixed("0")),
    ("kernel/panic_on_oops", Fixed("0")),
    ("kernel/perf_event_max_sample_rate", Fixed("100000")),
    ("kernel/perf_event_mlock_kb", Fixed("516")),
    ("kernel/perf_event_paranoid", Fixed("4")),
    ("kernel/pid_max", Fixed("4194304")),
    ("kernel/printk", Fixed("4\t4\t1\t7")),
    ("kernel/pty/max", Shown(pty_max)),
    ("kernel/pty/nr", Fixed("0")),
    ("kernel/pty/reserve", Fixed("1024")),
    ("kernel/random/entropy_avail", Fixed("256")),
    ("kernel/random/poolsize", Fixed("256")),
    ("kernel/random/urandom_min_reseed_secs", Fixed("60")),
    ("kernel/random/uuid", Shown(new_uuid)),
    ("kernel/random/write_wakeup_threshold", Fixed("256")),
    ("kernel/randomize_va_space", Fixed("2")),
    ("kernel/sched_autogroup_enabled", Fixed("0")),
    ("kernel/sched_child_runs_first", Fixed("0")),
    ("kernel/sched_rr_timeslice_ms", Fixed("100")),
    ("kernel/sched_rt_period_us", Fixed("1000000")),
    ("kernel/sched_rt_runtime_us", Fixed("950000")),
    ("kernel/seccomp/actions_avail", Fixed("kill_process kill_thread trap errno user_notif trace log allow")),
    ("kernel/seccomp/actions_logged", Fixed("kill_process kill_thread trap errno user_notif trace log")),
    ("kernel/sem", Fixed("32000\t1024000000\t500\t32000")),
    ("kernel/shm_rmid_forced", Fixed("0")),
    ("kernel/shmall", Fixed("18446744073692774399")),
    ("kernel/shmmax", Fixed("18446744073692774399")),
    ("kernel/shmmni", Fixed("4096")),
    ("kernel/tainted", Fixed("0")),
    ("kernel/threads-max", Shown(threads_max)),
    ("kernel/unprivileged_bpf_disabled", Fixed("2")),
    ("kernel/unprivileged_userns_clone", Fixed("0")),
    ("kernel/version", Shown(version)),
    ("kernel/yama/ptrace_scope", Fixed("0")),
    ("net/core/default_qdisc", Fixed("pfifo_fast")),
    ("net/core/netdev_max_backlog", Number(1000, 0, I32_MAX)),
    ("net/core/optmem_max", Number(131_072, 0, I32_MAX)),
    ("net/core/rmem_default", Number(212_992, 2304, I32_MAX)),
    ("net/core/rmem_max", Number(212_992, 2304, I32_MAX)),
    ("net/core/somaxconn", Number(4096, 0, I32_MAX)),
    ("net/core/wmem_default", Number(212_992, 4608, I32_MAX)),
    ("net/core/wmem_max", Number(212_992, 4608, I32_MAX)),
    ("net/ipv4/conf/all/forwarding", Number(0, 0, 1)),
    ("net/ipv4/conf/default/forwarding", Number(0, 0, 1)),
    ("net/ipv4/conf/lo/forwarding", Number(0, 0, 1)),
    ("net/ipv4/icmp_echo_ignore_all", Number(0, 0, 1)),
    ("net/ipv4/ip_default_ttl", Number(64, 1, 255)),
    ("net/ipv4/ip_forward", Number(0, 0, 1)),
    ("net/ipv4/ip_local_port_range", Fixed("32768\t60999")),
    ("net/ipv4/ip_local_reserved_ports", Fixed("")),
    ("net/ipv4/ip_nonlocal_bind", Number(0, 0, 1)),
    ("net/ipv4/ip_unprivileged_port_start", Fixed("1024")),
    ("net/ipv4/ping_group_range", Fixed("1\t0")),
    ("net/ipv4/tcp_allowed_congestion_control", Fixed("reno cubic")),
    ("net/ipv4/tcp_available_congestion_control", Fixed("reno cubic")),
    ("net/ipv4/tcp_congestion_control", Fixed("cubic")),
    ("net/ipv4/tcp_ecn", Number(2, 0, 2)),
    ("net/ipv4/tcp_fastopen", Fixed("0")),
    ("net/ipv4/tcp_fin_timeout", Number(60, 0, I32_MAX)),
    ("net/ipv4/tcp_keepalive_intvl", Number(75, 0, I32_MAX)),
    ("net/ipv4/tcp_keepalive_probes", Number(9, 0, 255)),
    ("net/ipv4/tcp_keepalive_time", Number(7200, 0, I32_MAX)),
    ("net/ipv4/tcp_max_syn_backlog", Number(1024, 0, I32_MAX)),
    ("net/ipv4/tcp_mem", Fixed("187500\t250000\t375000")),
    ("net/ipv4/tcp_moderate_rcvbuf", Number(1, 0, 1)),
    ("net/ipv4/tcp_rmem", Fixed("4096\t131072\t6291456")),
    ("net/ipv4/tcp_sack", Number(1, 0, 1)),
    ("net/ipv4/tcp_syn_retries", Number(6, 1, 127)),
    ("net/ipv4/tcp_syncookies", Number(1, 0, 2)),
    ("net/ipv4/tcp_timestamps", Number(1, 0, 2)),
    ("net/ipv4/tcp_tw_reuse", Number(2, 0, 2)),
    ("net/ipv4/tcp_window_scaling", Number(1, 0, 1)),
    ("net/ipv4/tcp_wmem", Fixed("4096\t16384\t4194304")),
    ("net/ipv6/bindv6only", Number(0, 0, 1)),
    ("net/ipv6/conf/all/disable_ipv6", Number(0, 0, 1)),
    ("net/ipv6/conf/all/forwarding", Number(0, 0, 1)),
    ("net/ipv6/conf/default/disable_ipv6", Number(0, 0, 1)),
    ("net/ipv6/conf/default/forwarding", Number(0, 0, 1)),
    ("net/ipv6/conf/lo/disable_ipv6", Number(0, 0, 1)),
    ("net/ipv6/conf/lo/forwarding", Number(0, 0, 1)),
    ("net/unix/max_dgram_qlen", Number(512, 0, I32_MAX)),
    ("user/max_inotify_instances", Number(128, 0, I32_MAX)),
    ("user/max_inotify_watches", Number(65536, 0, I32_MAX)),
    ("user/max_mnt_namespaces", Number(65536, 0, I32_MAX)),
    ("user/max_user_namespaces", Fixed("0")),
    ("vm/admin_reserve_kbytes", Number(8192, 0, i64::MAX)),
    ("vm/compaction_proactiveness", Number(20, 0, 100)),
    ("vm/dirty_background_ratio", Number(10, 0, 100)),
    ("vm/dirty_expire_centisecs", Number(3000, 0, I32_MAX)),
    ("vm/dirty_ratio", Number(20, 0, 100)),
    ("vm/dirty_writeback_centisecs", Number(500, 0, I32_MAX)),
    ("vm/hugetlb_shm_group", Fixed("0")),
    ("vm/laptop_mode", Number(0, 0, I32_MAX)),
    ("vm/legacy_va_layout", Fixed("0")),
    ("vm/max_map_count", Number(65530, 0, I32_MAX)),
    ("vm/memfd_noexec", Fixed("0")),
    ("vm/min_free_kbytes", Number(67584, 0, I32_MAX)),
    ("vm/mmap_min_addr", Fixed("65536")),
    ("vm/mmap_rnd_bits", Fixed("28")),
    ("vm/nr_hugepages", Fixed("0")),
    ("vm/nr_overcommit_hugepages", Fixed("0")),
    ("vm/oom_dump_tasks", Number(1, 0, 1)),
    ("vm/oom_kill_allocating_task", Number(0, 0, 1)),
    ("vm/overcommit_kbytes", Number(0, 0, i64::MAX)),
    ("vm/overcommit_memory", Fixed("0")),
    ("vm/overcommit_ratio", Number(50, 0, I32_MAX)),
    ("vm/page-cluster", Number(3, 0, 31)),
    ("vm/panic_on_oom", Fixed("0")),
    ("vm/stat_interval", Number(1, 0, I32_MAX)),
    ("vm/swappiness", Number(60, 0, 200)),
    ("vm/unprivileged_userfaultfd", Fixed("0")),
    ("vm/user_reserve_kbytes", Number(131_072, 0, i64::MAX)),
    ("vm/vfs_cache_pressure", Number(100, 0, I32_MAX)),
    ("vm/watermark_scale_factor", Number(10, 1, 3000)),
    ("vm/zone_reclaim_mode", Number(0, 0, I32_MAX)),
];

/// The directory `/proc/sys`.
pub(super) fn directory(builder: &Builder) -> Arc<dyn Inode> {
    let mut tree = PathTree::new();
    for (path, value) in FILES {
        tree.insert(path, builder.sysctl(value));
    }
    tree.insert("kernel/random/boot_id", builder.boot_id());
    tree.insert_dir("fs/binfmt_misc");
    tree.build(&builder.tree, 0o555)
}

impl Builder {
    /// The same for as long as the sandbox lives. Without random bytes it is all zeros.
    fn boot_id(&self) -> Arc<dyn Inode> {
        let mut bytes = [0; 16];
        let _ = platform::host::fill_random(&mut bytes);
        self.tree.text(format!("{}\n", uuid(bytes)))
    }

    fn sysctl(&self, value: &Value) -> Arc<dyn Inode> {
        let (perm, content): (u32, Arc<dyn Content>) = match *value {
            Fixed(text) => (0o444, Arc::new(Line(text))),
            Number(first, min, max) => {
                (0o644, Arc::new(Kept { value: AtomicI64::new(first), min, max }))
            }
            Shown(show) => {
                (0o444, Arc::new(Asked { kernel: self.kernel.clone(), show, store: None }))
            }
            Stored(show, store) => {
                (0o644, Arc::new(Asked { kernel: self.kernel.clone(), show, store: Some(store) }))
            }
        };
        crate::fs::pseudo::PseudoFile::new(self.tree.attr(FileType::Regular, perm), content)
    }
}

#[derive(Debug)]
struct Line(&'static str);

impl Content for Line {
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        put!(out, "{}\n", self.0);
        Ok(())
    }
    fn is_sealed(&self) -> bool {
        true
    }
}

/// A number that is remembered.
#[derive(Debug)]
struct Kept {
    value: AtomicI64,
    min: i64,
    max: i64,
}

impl Content for Kept {
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        put!(out, "{}\n", self.value.load(Ordering::Relaxed));
        Ok(())
    }

    fn store(&self, _file: &FileDescription, _offset: u64, bytes: &[u8]) -> SysResult<usize> {
        let value = parse_decimal(bytes)?;
        if value < self.min || value > self.max {
            return err!(EINVAL);
        }
        self.value.store(value, Ordering::Relaxed);
        Ok(bytes.len())
    }
}

/// Something the kernel knows.
struct Asked {
    kernel: std::sync::Weak<Kernel>,
    show: Show,
    store: Option<Store>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl Content for Asked {
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        (self.show)(&*upgrade(&self.kernel)?, out)?;
        put!(out, "\n");
        Ok(())
    }

    fn store(&self, file: &FileDescription, _offset: u64, bytes: &[u8]) -> SysResult<usize> {
        let store = self.store.ok_or(Errno::EACCES)?;
        store(&*upgrade(&self.kernel)?, file, bytes)?;
        Ok(bytes.len())
    }

    fn is_sealed(&self) -> bool {
        self.store.is_none()
    }
}

/// One line, without its end.
fn line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == b'\n' || byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

fn may_name(cred: &Credentials) -> SysResult<()> {
    if cred.has(Capability::SYS_ADMIN) { Ok(()) } else { err!(EPERM) }
}

fn host_name(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    out.extend_from_slice(&kernel.uts.host_name());
    Ok(())
}

fn set_host_name(kernel: &Kernel, file: &FileDescription, bytes: &[u8]) -> SysResult<()> {
    may_name(file.cred())?;
    kernel.uts.set_host_name(line(bytes));
    Ok(())
}

fn domain_name(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    out.extend_from_slice(&kernel.uts.domain_name());
    Ok(())
}

fn set_domain_name(kernel: &Kernel, file: &FileDescription, bytes: &[u8]) -> SysResult<()> {
    may_name(file.cred())?;
    kernel.uts.set_domain_name(line(bytes));
    Ok(())
}

fn release(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{}", uts::RELEASE);
    Ok(())
}

fn version(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{}", uts::VERSION);
    Ok(())
}

fn last_pid(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{}", kernel.tasks.last_pid());
    Ok(())
}

fn threads_max(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{}", kernel.tasks.max());
    Ok(())
}

fn file_max(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{}", kernel.limits().max_files());
    Ok(())
}

fn file_nr(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{}\t0\t{}", FileDescription::count(), kernel.limits().max_files());
    Ok(())
}

fn pty_max(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "{MAX_TTYS}");
    Ok(())
}

/// A random UUID, version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| &hex[part]).join("-")
}

fn new_uuid(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let mut bytes = [0; 16];
    platform::host::fill_random(&mut bytes)?;
    put!(out, "{}", uuid(bytes));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_version_and_variant() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn paths_are_sorted_and_none_stands_twice() {
        assert!(FILES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
