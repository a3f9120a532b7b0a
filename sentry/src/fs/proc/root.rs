//! The top of `/proc`, and the file system itself.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Builder, net,
    process::{Processes, is_current, parse_id},
    sysctl, system, sysvipc,
};
use crate::{
    Errno, SysResult,
    fs::pseudo::{Entries, FixedEntries, LinkSource, Listed, PseudoDir, Tree, fs_stat},
    kernel::{Kernel, served},
    vfs::{FileSystem, FileSystemType, FileType, Inode, PathCx, StatFs, allocate_dev},
};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Keys of the numbered entries come behind those of the fixed ones.
const FIRST_PROCESS_KEY: u64 = 1 << 16;

/// The proc file system of a sandbox.
pub struct ProcFs {
    dev: u64,
    root: Arc<dyn Inode>,
}

impl ProcFs {
    /// Shows what is in `kernel`, which it does not keep alive.
    pub fn new(kernel: &Arc<Kernel>) -> Arc<Self> {
        let dev = allocate_dev();
        let builder = Builder {
            tree: Tree::new(dev, 0, 1024, Errno::ENOENT),
            kernel: Arc::downgrade(kernel),
        };
        let attr = builder.tree.attr(FileType::Directory, 0o555).with_links(64);
        let root = PseudoDir::new(attr, Root::build(&builder));
        Arc::new(Self { dev, root })
    }
}

impl FileSystem for ProcFs {
    fn type_name(&self) -> &'static str {
        "proc"
    }
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }
    fn statfs(&self) -> SysResult<StatFs> {
        Ok(fs_stat(PROC_SUPER_MAGIC))
    }
    fn refuses_new_names(&self) -> bool {
        true
    }
    fn dev(&self) -> u64 {
        self.dev
    }
    fn caches_names(&self) -> bool {
        false
    }
}

impl fmt::Debug for ProcFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcFs({})", self.dev)
    }
}

/// For mount(2): there is one proc, however often it is mounted.
#[derive(Debug)]
pub struct ProcType(pub Arc<ProcFs>);

impl FileSystemType for ProcType {
    fn name(&self) -> &'static str {
        "proc"
    }
    fn mount(&self, _: &PathCx, _source: &[u8], options: &[u8]) -> SysResult<Arc<dyn FileSystem>> {
        let known = |option: &[u8]| {
            option.is_empty() || option.starts_with(b"hidepid=0") || option.starts_with(b"gid=")
        };
        if options.split(|&byte| byte == b',').all(known) {
            Ok(self.0.clone())
        } else {
            Err(Errno::EINVAL.into())
        }
    }
}

/// What is at the top.
#[derive(Debug)]
struct Root {
    fixed: FixedEntries,
    processes: Processes,
}

impl Root {
    fn build(builder: &Builder) -> Self {
        let mut fixed = FixedEntries::new();
        let tree = &builder.tree;
        for (name, inode) in system::files(builder) {
            fixed.add(name, inode);
        }
        let net = net::directory(builder);
        fixed.add("sys", sysctl::directory(builder));
        fixed.add("mounts", tree.link(b"self/mounts".to_vec()));
        fixed.add("net", tree.link(b"self/net".to_vec()));
        fixed.add("self", tree.link(Oneself::Process));
        fixed.add("thread-self", tree.link(Oneself::Thread));
        for name in ["acpi", "bus", "driver", "fs", "irq"] {
            fixed.add(name, tree.empty_dir());
        }
        fixed.add("sysvipc", sysvipc::directory(builder));
        fixed.add("tty", terminals(tree));
        fixed.add("pressure", pressure(tree));
        let kernel: Weak<Kernel> = builder.kernel.clone();
        Self { fixed, processes: Processes { kernel, dev: tree.dev(), net } }
    }
}

impl Entries for Root {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        if parse_id(name).is_some() { self.processes.lookup(name) } else { self.fixed.lookup(name) }
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        let mut entries =
            if from < FIRST_PROCESS_KEY { self.fixed.list(from)? } else { Vec::new() };
        let first = i32::try_from(from.saturating_sub(FIRST_PROCESS_KEY)).unwrap_or(i32::MAX);
        for pid in self.processes.ids(first)? {
            let key = FIRST_PROCESS_KEY + u64::from(pid.unsigned_abs());
            entries.push(self.processes.listed(pid, key));
        }
        Ok(entries)
    }

    fn is_current(&self, _name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        is_current(inode)
    }
}

/// `self` and `thread-self`.
#[derive(Debug)]
enum Oneself {
    Process,
    Thread,
}

impl LinkSource for Oneself {
    fn text(&self) -> SysResult<Vec<u8>> {
        let task = served().ok_or(Errno::ENOENT)?;
        Ok(match self {
            Self::Process => task.pid().to_string(),
            Self::Thread => format!("{}/task/{}", task.pid(), task.tid()),
        }
        .into_bytes())
    }
}

fn terminals(tree: &Tree) -> Arc<dyn Inode> {
    let drivers = "/dev/tty             /dev/tty        5       0 system:/dev/tty\n\
                   /dev/console         /dev/console    5       1 system:console\n\
                   /dev/ptmx            /dev/ptmx       5       2 system\n\
                   pty_slave            /dev/pts      136 0-1048575 pty:slave\n\
                   pty_master           /dev/ptm      128 0-1048575 pty:master\n";
    let entries = FixedEntries::new()
        .with("drivers", tree.text(drivers))
        .with("ldiscs", tree.text("n_tty       0\n"));
    tree.dir(entries)
}

fn pressure(tree: &Tree) -> Arc<dyn Inode> {
    let line = |kind: &str| format!("{kind} avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
    let both = format!("{}{}", line("some"), line("full"));
    let entries = FixedEntries::new()
        .with("cpu", tree.text(both.clone()))
        .with("io", tree.text(both.clone()))
        .with("memory", tree.text(both));
    tree.dir(entries)
}
