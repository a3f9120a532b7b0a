//! sysfs (sysfs(5)): what programs look for about processors, memory and the loopback device.
//! There are no other devices.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use platform::host::{Cache, cpu_count, cpu_identity};

use crate::{
    Errno, SysResult,
    fs::{
        proc::memory_totals,
        pseudo::{Content, PathTree, Tree, fs_stat},
    },
    kernel::Kernel,
    vfs::{FileSystem, FileSystemType, Inode, PathCx, StatFs, allocate_dev},
};

const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Largest number of processors (`CONFIG_NR_CPUS`).
const CPUS_MAX: usize = 256;

/// The sysfs of a sandbox.
pub struct SysFs {
    dev: u64,
    root: Arc<dyn Inode>,
}

impl SysFs {
    pub fn new(kernel: &Arc<Kernel>) -> Arc<Self> {
        let dev = allocate_dev();
        let tree = Tree::new(dev, 4096, 4096, Errno::EPERM);
        let root = build(&tree, Arc::downgrade(kernel));
        Arc::new(Self { dev, root })
    }
}

impl FileSystem for SysFs {
    fn type_name(&self) -> &'static str {
        "sysfs"
    }
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }
    fn statfs(&self) -> SysResult<StatFs> {
        Ok(fs_stat(SYSFS_MAGIC))
    }
    fn dev(&self) -> u64 {
        self.dev
    }
}

impl fmt::Debug for SysFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysFs({})", self.dev)
    }
}

/// For mount(2): there is one sysfs, however often it is mounted.
#[derive(Debug)]
pub struct SysType(pub Arc<SysFs>);

impl FileSystemType for SysType {
    fn name(&self) -> &'static str {
        "sysfs"
    }
    fn mount(&self, _: &PathCx, _source: &[u8], _options: &[u8]) -> SysResult<Arc<dyn FileSystem>> {
        Ok(self.0.clone())
    }
}

/// An attribute: read-only for everyone, root too.
#[derive(Debug)]
struct Attribute(Result<String, Errno>);

impl Content for Attribute {
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        let text = self.0.as_ref().map_err(|errno| *errno)?;
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
        Ok(())
    }
    fn is_sealed(&self) -> bool {
        true
    }
}

/// The tree while it is put together.
struct Sys<'a> {
    tree: &'a Tree,
    paths: PathTree,
}

impl Sys<'_> {
    fn text(&mut self, path: &str, text: impl Into<String>) {
        let node = self.tree.file(0o444, Attribute(Ok(text.into())));
        self.paths.insert(path, node);
    }

    /// An attribute that cannot be read.
    fn fails(&mut self, path: &str, errno: Errno) {
        let node = self.tree.file(0o444, Attribute(Err(errno)));
        self.paths.insert(path, node);
    }

    fn link(&mut self, path: &str, target: &str) {
        let node = self.tree.link(target.as_bytes().to_vec());
        self.paths.insert(path, node);
    }
}

fn build(tree: &Tree, kernel: Weak<Kernel>) -> Arc<dyn Inode> {
    let mut sys = Sys { tree, paths: PathTree::new() };
    for path in [
        "block",
        "bus/cpu/devices",
        "class/block",
        "class/tty",
        "class/mem",
        "class/misc",
        "dev/block",
        "dev/char",
        "firmware",
        "fs/cgroup",
        "module",
        "power",
        "kernel/debug",
        "kernel/security",
        "kernel/tracing",
        "devices/virtual",
        "devices/system/memory",
        "kernel/slab",
    ] {
        sys.paths.insert_dir(path);
    }
    processors(&mut sys);
    node(&mut sys, kernel);
    memory(&mut sys);
    loopback(&mut sys);
    sys.text("kernel/cpu_byteorder", "little");
    sys.text("kernel/address_bits", "64");
    sys.text("kernel/fscaps", "1");
    sys.text("kernel/profiling", "0");
    sys.text("kernel/uevent_seqnum", "0");
    sys.paths.build(tree, 0o755)
}

/// `0-3`, as cpu lists are written.
fn list(first: usize, count: usize) -> String {
    let last = first + count.max(1) - 1;
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// A bit mask in groups of 32 bits, highest first, as cpu maps are written.
fn mask(first: usize, count: usize, all: usize) -> String {
    let groups = all.max(1).div_ceil(32);
    let group = |index: usize| {
        (0..32)
            .filter(|bit| (first..first + count).contains(&(index * 32 + bit)))
            .fold(0_u32, |m, bit| m | 1 << bit)
    };
    let parts: Vec<u32> = (0..groups).rev().map(group).collect();
    let mut text = format!("{:x}", parts.first().copied().unwrap_or(0));
    for part in parts.iter().skip(1) {
        text.push_str(&format!(",{part:08x}"));
    }
    text
}

fn processors(sys: &mut Sys<'_>) {
    let count = cpu_count().clamp(1, CPUS_MAX);
    let caches = cpu_identity().caches;
    let base = "devices/system/cpu";
    for name in ["online", "possible", "present"] {
        sys.text(&format!("{base}/{name}"), list(0, count));
    }
    for name in ["offline", "isolated"] {
        sys.text(&format!("{base}/{name}"), "");
    }
    sys.text(&format!("{base}/kernel_max"), (CPUS_MAX - 1).to_string());
    sys.text(&format!("{base}/smt/active"), "0");
    sys.text(&format!("{base}/smt/control"), "notsupported");
    for cpu in 0..count {
        let dir = format!("{base}/cpu{cpu}");
        topology(sys, &format!("{dir}/topology"), cpu, count);
        for (index, cache) in caches.iter().enumerate() {
            cache_files(sys, &format!("{dir}/cache/index{index}"), *cache, cpu, count);
        }
        // The first processor cannot be taken away.
        if cpu > 0 {
            sys.text(&format!("{dir}/online"), "1");
        }
        sys.link(&format!("{dir}/node0"), "../../node/node0");
        sys.link(&format!("{dir}/subsystem"), "../../../../bus/cpu");
        sys.link(&format!("bus/cpu/devices/cpu{cpu}"), &format!("../../../{dir}"));
    }
}

/// One package of single-threaded cores.
fn topology(sys: &mut Sys<'_>, dir: &str, cpu: usize, count: usize) {
    sys.text(&format!("{dir}/core_id"), cpu.to_string());
    for name in ["physical_package_id", "die_id"] {
        sys.text(&format!("{dir}/{name}"), "0");
    }
    sys.text(&format!("{dir}/cluster_id"), "65535");
    for name in ["core_cpus", "thread_siblings", "cluster_cpus"] {
        sys.text(&format!("{dir}/{name}"), mask(cpu, 1, count));
        sys.text(&format!("{dir}/{name}_list"), list(cpu, 1));
    }
    for name in ["core_siblings", "die_cpus", "package_cpus"] {
        sys.text(&format!("{dir}/{name}"), mask(0, count, count));
        sys.text(&format!("{dir}/{name}_list"), list(0, count));
    }
}

fn cache_files(sys: &mut Sys<'_>, dir: &str, cache: Cache, cpu: usize, count: usize) {
    let kind = match cache.kind {
        1 => "Data",
        2 => "Instruction",
        _ => "Unified",
    };
    // What is shared beyond a core is shared by all.
    let (first, shared) =
        if cache.shared_by > 1 && cache.level > 2 { (0, count) } else { (cpu, 1) };
    let values = [
        ("coherency_line_size", cache.line_bytes.to_string()),
        ("id", if shared > 1 { "0".to_owned() } else { cpu.to_string() }),
        ("level", cache.level.to_string()),
        ("number_of_sets", cache.sets.to_string()),
        ("physical_line_partition", "1".to_owned()),
        ("shared_cpu_list", list(first, shared)),
        ("shared_cpu_map", mask(first, shared, count)),
        ("size", format!("{}K", cache.bytes() / 1024)),
        ("type", kind.to_owned()),
        ("ways_of_associativity", cache.ways.to_string()),
    ];
    for (name, value) in values {
        sys.text(&format!("{dir}/{name}"), value);
    }
}

fn node(sys: &mut Sys<'_>, kernel: Weak<Kernel>) {
    let count = cpu_count().clamp(1, CPUS_MAX);
    let base = "devices/system/node";
    for name in ["online", "possible", "has_cpu", "has_memory", "has_normal_memory"] {
        sys.text(&format!("{base}/{name}"), "0");
    }
    let dir = format!("{base}/node0");
    sys.text(&format!("{dir}/cpulist"), list(0, count));
    sys.text(&format!("{dir}/cpumap"), mask(0, count, count));
    sys.text(&format!("{dir}/distance"), "10");
    sys.text(
        &format!("{dir}/numastat"),
        "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0",
    );
    let meminfo = sys.tree.generated(move |out| {
        let (total, used) = memory_totals(&*kernel.upgrade().ok_or(Errno::ENODEV)?);
        for (name, bytes) in [("MemTotal", total), ("MemFree", total - used), ("MemUsed", used)] {
            out.extend_from_slice(
                format!("Node 0 {:<15}{:>8} kB\n", format!("{name}:"), bytes / 1024).as_bytes(),
            );
        }
        Ok(())
    });
    sys.paths.insert(&format!("{dir}/meminfo"), meminfo);
    for cpu in 0..count {
        sys.link(&format!("{dir}/cpu{cpu}"), &format!("../../cpu/cpu{cpu}"));
    }
}

fn memory(sys: &mut Sys<'_>) {
    let huge = "kernel/mm/transparent_hugepage";
    sys.text(&format!("{huge}/enabled"), "always [madvise] never");
    sys.text(&format!("{huge}/defrag"), "always defer defer+madvise [madvise] never");
    sys.text(&format!("{huge}/shmem_enabled"), "always within_size advise [never] deny force");
    sys.text(&format!("{huge}/hpage_pmd_size"), "2097152");
    sys.text(&format!("{huge}/use_zero_page"), "1");
    for name in [
        "free_hugepages",
        "nr_hugepages",
        "nr_hugepages_mempolicy",
        "nr_overcommit_hugepages",
        "resv_hugepages",
        "surplus_hugepages",
    ] {
        sys.text(&format!("kernel/mm/hugepages/hugepages-2048kB/{name}"), "0");
    }
    sys.text("kernel/mm/ksm/run", "0");
}

fn loopback(sys: &mut Sys<'_>) {
    let dir = "devices/virtual/net/lo";
    let values = [
        ("addr_assign_type", "0"),
        ("addr_len", "6"),
        ("address", "00:00:00:00:00:00"),
        ("broadcast", "00:00:00:00:00:00"),
        ("carrier", "1"),
        ("carrier_changes", "0"),
        ("dev_id", "0x0"),
        ("dev_port", "0"),
        ("dormant", "0"),
        ("flags", "0x9"),
        ("ifalias", ""),
        ("ifindex", "1"),
        ("iflink", "1"),
        ("link_mode", "0"),
        ("mtu", "65536"),
        ("name_assign_type", "2"),
        ("netdev_group", "0"),
        ("operstate", "unknown"),
        ("tx_queue_len", "1000"),
        ("type", "772"),
        ("uevent", "INTERFACE=lo\nIFINDEX=1"),
    ];
    for (name, value) in values {
        sys.text(&format!("{dir}/{name}"), value);
    }
    // The loopback device has neither.
    for name in ["duplex", "speed"] {
        sys.fails(&format!("{dir}/{name}"), Errno::EINVAL);
    }
    for name in [
        "collisions",
        "multicast",
        "rx_bytes",
        "rx_compressed",
        "rx_crc_errors",
        "rx_dropped",
        "rx_errors",
        "rx_fifo_errors",
        "rx_frame_errors",
        "rx_length_errors",
        "rx_missed_errors",
        "rx_nohandler",
        "rx_over_errors",
        "rx_packets",
        "tx_aborted_errors",
        "tx_bytes",
        "tx_carrier_errors",
        "tx_compressed",
        "tx_dropped",
        "tx_errors",
        "tx_fifo_errors",
        "tx_heartbeat_errors",
        "tx_packets",
        "tx_window_errors",
    ] {
        sys.text(&format!("{dir}/statistics/{name}"), "0");
    }
    sys.link(&format!("{dir}/subsystem"), "../../../../class/net");
    sys.link("class/net/lo", "../../devices/virtual/net/lo");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_are_written_as_linux_does() {
        assert_eq!(list(0, 1), "0");
        assert_eq!(list(0, 8), "0-7");
        assert_eq!(mask(0, 2, 2), "3");
        assert_eq!(mask(33, 1, 64), "2,00000000");
    }
}
