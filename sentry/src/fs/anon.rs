//! Inodes that belong to no directory: pipes, sockets, eventfds, memfds (`fs/anon_inodes.c`,
//! `pipefs`, `sockfs`).

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU64, Ordering},
};

use ranked_sync::Mutex;

use crate::{
    SysResult, err,
    kernel::Credentials,
    lock_order,
    vfs::{
        Dentry, FileDescription, FileOps, FileSystem, Inode, Metadata, Mount, SetAttr, StatFs,
        TimeSpec, TimeUpdate, VfsPath,
    },
};

/// `st_dev` of all anonymous inodes; Linux gives each kind a device number of its own, which no
/// one looks at.
const DEVICE: u64 = 14;

/// A fresh inode number for an anonymous inode.
pub fn new_inode_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What fstat(2) says of an inode that lives in memory only.
#[derive(Clone, Copy, Debug)]
pub struct InodeAttributes(Metadata);

impl InodeAttributes {
    /// With this `st_mode`, owned by `cred`'s user, all times now.
    pub fn new(mode: u32, cred: &Credentials) -> Self {
        let now = TimeSpec::now();
        Self(Metadata {
            dev: DEVICE,
            ino: new_inode_number(),
            mode,
            nlink: 1,
            uid: cred.fsuid,
            gid: cred.fsgid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: None,
        })
    }

    pub fn metadata(&self) -> Metadata {
        self.0
    }

    /// Mode, owner and times; a size cannot be set.
    pub fn change(&mut self, change: &SetAttr) -> SysResult<()> {
        if change.size.is_some() {
            return err!(EINVAL);
        }
        let now = TimeSpec::now();
        let time = |update| match update {
            TimeUpdate::Now => now,
            TimeUpdate::To(time) => time,
        };
        let meta = &mut self.0;
        if let Some(mode) = change.mode {
            meta.mode = (meta.mode & libc::S_IFMT) | (mode & 0o7777);
        }
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        meta.atime = change.atime.map_or(meta.atime, time);
        meta.mtime = change.mtime.map_or(meta.mtime, time);
        meta.ctime = now;
        Ok(())
    }
}

/// An inode with attributes and nothing behind it: sockets, eventfds and their like.
#[derive(Debug)]
pub struct AnonInode {
    attributes: Mutex<lock_order::Inode, InodeAttributes>,
}

impl AnonInode {
    /// As `anon_inode:[…]`: no file type, mode 0600, cannot be opened again.
    pub fn new(cred: &Credentials) -> Arc<Self> {
        Self::with_mode(0o600, cred)
    }

    /// With kind and permission bits.
    pub fn with_mode(mode: u32, cred: &Credentials) -> Arc<Self> {
        let attributes = Mutex::new(InodeAttributes::new(mode, cred));
        Arc::new(Self { attributes })
    }

    /// Its inode number.
    pub fn number(&self) -> u64 {
        self.attributes.lock().metadata().ino
    }
}

impl Inode for AnonInode {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attributes.lock().metadata())
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attributes.lock().change(change)
    }

    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        err!(ENXIO)
    }
}

/// The file system that anonymous inodes say they are on.
#[derive(Debug)]
struct AnonFs;

impl FileSystem for AnonFs {
    fn type_name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        AnonInode::new(&Credentials::root())
    }

    fn statfs(&self) -> SysResult<StatFs> {
        Ok(StatFs { magic: 0x0904_1934, block_size: 4096, name_max: 255, ..StatFs::default() })
    }

    fn dev(&self) -> u64 {
        DEVICE
    }
}

/// A description for an inode without a name; `name` is what readlink(2) of /proc/PID/fd/N
/// shows. `flags`: access mode and status flags.
pub fn open_inode(
    ops: Box<dyn FileOps>,
    inode: Arc<dyn Inode>,
    name: String,
    flags: u32,
    cred: Arc<Credentials>,
) -> Arc<FileDescription> {
    // One for all: it has no state, and nothing is mounted on it.
    static MOUNT: LazyLock<Arc<Mount>> = LazyLock::new(|| Mount::internal(Arc::new(AnonFs)));
    let mount = MOUNT.clone();
    let path = VfsPath { mount, dentry: Dentry::anonymous(name.into_bytes(), inode) };
    FileDescription::new(ops, path, flags, cred)
}

/// A description for an `anon_inode:[kind]`, open for reading and writing unless `flags` say
/// otherwise.
pub fn open_anon(
    ops: Box<dyn FileOps>,
    kind: &str,
    flags: u32,
    cred: Arc<Credentials>,
) -> Arc<FileDescription> {
    let inode = AnonInode::new(&cred);
    // Linux forgot the brackets of this one.
    let name = match kind {
        "inotify" => "anon_inode:inotify".to_owned(),
        kind => format!("anon_inode:[{kind}]"),
    };
    open_inode(ops, inode, name, flags, cred)
}

impl FileDescription {
    /// As [`open_anon`], the kind being named as Linux does: `[eventfd]`.
    pub fn anonymous(
        ops: Box<dyn FileOps>,
        name: &str,
        flags: u32,
        cred: Arc<Credentials>,
    ) -> Arc<Self> {
        open_anon(ops, name.trim_matches(['[', ']']), flags, cred)
    }
}
