//! tmpfs: files, directories and all else in memory (tmpfs(5)).
//!
//! * [`ShmemFile`]: a regular file's bytes, of use outside tmpfs too;
//! * [`TmpfsInode`]: a file of any kind; directories keep their entries in order of arrival, so
//!   that getdents goes on where it was whatever changes meanwhile.
//!
//! Inodes hold what they share ([`Shared`]), never the file system, so nothing goes round in circles.

mod directory;
mod extents;
mod file;
mod inode;
mod options;
mod shmem;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use platform::{PAGE_SIZE, memory::MemoryFile};

pub use file::{allocate_shmem, seek_shmem};
pub use inode::TmpfsInode;
pub use options::TmpfsOptions;
pub use shmem::{MAX_FILE_SIZE, PageQuota, ShmemFile};

use crate::{
    Errno, SysResult,
    vfs::{self, FileSystem, FileSystemType, Inode, PathCx, StatFs},
};

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Where a file system in memory keeps its files, and how much it may keep.
#[derive(Clone, Debug)]
pub struct Storage {
    pub memory: Arc<MemoryFile>,
    pub quota: Arc<PageQuota>,
}

impl Storage {
    /// With no other limit than the memory's own.
    pub fn unlimited(memory: Arc<MemoryFile>) -> Self {
        Self { memory, quota: PageQuota::unlimited() }
    }
}

/// What all inodes of one tmpfs share.
#[derive(Debug)]
pub(crate) struct Shared {
    memory: Arc<MemoryFile>,
    dev: u64,
    pages: Arc<PageQuota>,
    next_ino: AtomicU64,
    inodes: AtomicU64,
    inode_limit: AtomicU64,
}

impl Shared {
    fn new_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts an inode, or another name of one; `ENOSPC` at the limit.
    fn charge_inode(&self) -> SysResult<()> {
        self.memory.check_room()?;
        let limit = self.inode_limit.load(Ordering::Relaxed);
        self.inodes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < limit).then_some(count + 1)
            })
            .map(drop)
            .map_err(|_| Errno::ENOSPC.into())
    }

    fn uncharge_inodes(&self, count: u64) {
        self.inodes.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A mounted tmpfs.
pub struct Tmpfs {
    shared: Arc<Shared>,
    root: Arc<TmpfsInode>,
    options: TmpfsOptions,
}

impl Tmpfs {
    /// An empty one, its root owned by root with mode 01777 unless the options say otherwise.
    pub fn new(storage: &Storage, options: TmpfsOptions) -> Arc<Self> {
        let memory = storage.memory.clone();
        let pages = PageQuota::within(&storage.quota, options.size_pages(memory.total()));
        let shared = Arc::new(Shared {
            memory,
            dev: vfs::allocate_dev(),
            pages,
            next_ino: AtomicU64::new(1),
            inodes: AtomicU64::new(1),
            inode_limit: AtomicU64::new(options.inode_limit()),
        });
        let root = TmpfsInode::new_root(&shared, options.mode, options.uid, options.gid);
        Arc::new(Self { shared, root, options })
    }

    /// The root directory with its own type.
    pub fn root_inode(&self) -> &Arc<TmpfsInode> {
        &self.root
    }
}

impl FileSystem for Tmpfs {
    fn type_name(&self) -> &'static str {
        "tmpfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statfs(&self) -> SysResult<StatFs> {
        let pages = &self.shared.pages;
        let limit = if pages.limit() == u64::MAX { 0 } else { pages.limit() };
        let inodes = self.shared.inode_limit.load(Ordering::Relaxed);
        let free = limit.saturating_sub(pages.used()).min(pages.free_outside());
        Ok(StatFs {
            magic: TMPFS_MAGIC,
            block_size: PAGE_SIZE,
            blocks: limit.min(pages.used().saturating_add(free)),
            blocks_free: free,
            blocks_available: free,
            files: inodes,
            files_free: inodes.saturating_sub(self.shared.inodes.load(Ordering::Relaxed)),
            name_max: 255,
        })
    }

    fn dev(&self) -> u64 {
        self.shared.dev
    }

    fn mount_options(&self) -> String {
        self.options.to_string()
    }

    fn remount(&self, options: &[u8]) -> SysResult<()> {
        let options = TmpfsOptions::parse(options, u32::MAX, u32::MAX)?;
        if let Some(pages) = options.pages {
            self.shared.pages.set_limit(pages)?;
        }
        if let Some(inodes) = options.inodes {
            if inodes < self.shared.inodes.load(Ordering::Relaxed) {
                return Err(Errno::EINVAL.into());
            }
            self.shared.inode_limit.store(inodes, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl fmt::Debug for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tmpfs({})", self.shared.dev)
    }
}

/// `mount -t tmpfs`.
#[derive(Debug)]
pub struct TmpfsType(Storage);

impl TmpfsType {
    pub fn new(storage: Storage) -> Self {
        Self(storage)
    }
}

impl FileSystemType for TmpfsType {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn mount(&self, cx: &PathCx, _source: &[u8], options: &[u8]) -> SysResult<Arc<dyn FileSystem>> {
        let options = TmpfsOptions::parse(options, cx.cred.fsuid, cx.cred.fsgid)?;
        Ok(Tmpfs::new(&self.0, options))
    }
}
