//! devpts: a node for each pseudo-terminal, and `ptmx`, which makes them (pts(4)).

use std::sync::Arc;

use crate::{
    Errno, SysResult,
    fs::{
        dev::{TTYAUX_MAJOR, device_number},
        pseudo::{Attr, Entries, Listed, PseudoDir, fs_stat},
    },
    kernel::{
        Kernel,
        tty::{MasterFile, SlaveFile, Tty, TtyTable},
    },
    vfs::{
        FileOps, FileSystem, FileSystemType, FileType, Inode, Metadata, PathCx, SetAttr, StatFs,
        VfsPath, allocate_dev,
    },
};

const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// The group `tty` on all distributions.
const TTY_GID: u32 = 5;
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// Terminal N has inode number N + 3, as in Linux.
const FIRST_TTY_INO: u64 = 3;

/// Options of the mount.
#[derive(Clone, Copy, Debug)]
pub struct DevptsOptions {
    pub mode: u32,
    pub ptmx_mode: u32,
    /// The group of new terminals; `None`: their creator's.
    pub gid: Option<u32>,
}

impl Default for DevptsOptions {
    fn default() -> Self {
        Self { mode: 0o600, ptmx_mode: 0, gid: None }
    }
}

impl DevptsOptions {
    /// From the data argument of mount(2).
    ///
    /// # Errors
    /// `EINVAL` for an unknown option or a bad number.
    pub fn parse(data: &str) -> SysResult<Self> {
        let mut options = Self::default();
        for option in data.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let octal = || u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL);
            match name {
                "mode" => options.mode = octal()? & 0o7777,
                "ptmxmode" => options.ptmx_mode = octal()? & 0o7777,
                "gid" => options.gid = Some(value.parse().map_err(|_| Errno::EINVAL)?),
                "uid" | "max" => drop(value.parse::<u32>().map_err(|_| Errno::EINVAL)?),
                "newinstance" => {}
                _ => return Err(Errno::EINVAL.into()),
            }
        }
        Ok(options)
    }
}

/// One devpts.
#[derive(Debug)]
pub struct Devpts {
    dev: u64,
    options: DevptsOptions,
    root: Arc<PseudoDir>,
}

impl Devpts {
    pub const TYPE_NAME: &str = "devpts";

    /// The sandbox's terminals, as container runtimes mount them: group `tty`, everyone may make one.
    pub fn new(kernel: &Kernel) -> Arc<Self> {
        let options = DevptsOptions { mode: 0o620, ptmx_mode: 0o666, gid: Some(TTY_GID) };
        Self::with_options(kernel.ttys.clone(), options)
    }

    /// A mount with the terminals of `table`.
    pub fn with_options(table: Arc<TtyTable>, options: DevptsOptions) -> Arc<Self> {
        let dev = allocate_dev();
        let attr = Attr::new(dev, ROOT_INO, FileType::Directory, 0o755);
        let ptmx = Arc::new(Ptmx {
            attr: Attr::new(dev, PTMX_INO, FileType::CharDevice, options.ptmx_mode)
                .with_device(device_number(TTYAUX_MAJOR, 2)),
            table: table.clone(),
        });
        let root = PseudoDir::new(attr, Nodes { table, ptmx, dev, options });
        Arc::new(Self { dev, options, root })
    }
}

impl FileSystem for Devpts {
    fn type_name(&self) -> &'static str {
        Self::TYPE_NAME
    }
    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }
    fn statfs(&self) -> SysResult<StatFs> {
        Ok(fs_stat(DEVPTS_SUPER_MAGIC))
    }
    fn dev(&self) -> u64 {
        self.dev
    }
    fn caches_names(&self) -> bool {
        false
    }
    fn mount_options(&self) -> String {
        let DevptsOptions { mode, ptmx_mode, gid } = self.options;
        let gid = gid.map(|gid| format!(",gid={gid}")).unwrap_or_default();
        format!("{gid},mode={mode:03o},ptmxmode={ptmx_mode:03o}")
    }
}

/// The root's entries.
#[derive(Debug)]
struct Nodes {
    table: Arc<TtyTable>,
    ptmx: Arc<Ptmx>,
    dev: u64,
    options: DevptsOptions,
}

/// A terminal's number from its name, in the one spelling it has.
fn number(name: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(name).ok()?;
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl Entries for Nodes {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(self.ptmx.clone());
        }
        let tty = number(name).and_then(|number| self.table.get(number)).ok_or(Errno::ENOENT)?;
        let ino = FIRST_TTY_INO + u64::from(tty.number());
        let attr = tty.node(|uid, gid| {
            Attr::new(self.dev, ino, FileType::CharDevice, self.options.mode)
                .with_ids(uid, self.options.gid.unwrap_or(gid))
                .with_device(tty.device())
        });
        Ok(Arc::new(Pts { attr, tty }))
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        let ptmx =
            Listed { key: 0, name: b"ptmx".to_vec(), ino: PTMX_INO, kind: FileType::CharDevice };
        let terminals = self.table.numbers().into_iter().map(|number| Listed {
            key: u64::from(number) + 1,
            name: number.to_string().into_bytes(),
            ino: FIRST_TTY_INO + u64::from(number),
            kind: FileType::CharDevice,
        });
        Ok(std::iter::once(ptmx).chain(terminals).filter(|entry| entry.key >= from).collect())
    }

    fn is_current(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        let Some(number) = number(name) else { return true };
        let inode: &dyn std::any::Any = &**inode;
        let pts = inode.downcast_ref::<Pts>();
        let entry = self.table.get(number);
        pts.zip(entry).is_some_and(|(pts, tty)| Arc::ptr_eq(&pts.tty, &tty))
    }
}

/// `ptmx`: each open makes a terminal.
#[derive(Debug)]
struct Ptmx {
    attr: Attr,
    table: Arc<TtyTable>,
}

impl Inode for Ptmx {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attr.metadata())
    }
    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attr.set(change)
    }
    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        MasterFile::open(&self.table)
    }
}

/// A terminal's node.
#[derive(Debug)]
struct Pts {
    attr: Arc<Attr>,
    tty: Arc<Tty>,
}

impl Inode for Pts {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attr.metadata())
    }
    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attr.set(change)
    }
    fn open(self: Arc<Self>, _path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        SlaveFile::open(self.tty.clone(), flags)
    }
}

/// For mount(2): each mount shows the terminals of one table.
#[derive(Debug)]
pub struct DevptsType(pub Arc<TtyTable>);

impl FileSystemType for DevptsType {
    fn name(&self) -> &'static str {
        Devpts::TYPE_NAME
    }
    fn mount(&self, _: &PathCx, _source: &[u8], options: &[u8]) -> SysResult<Arc<dyn FileSystem>> {
        let options = std::str::from_utf8(options).map_err(|_| Errno::EINVAL)?;
        Ok(Devpts::with_options(self.0.clone(), DevptsOptions::parse(options)?))
    }
}
