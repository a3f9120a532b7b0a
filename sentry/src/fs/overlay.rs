//! A writable layer in memory over a read-only tree.
//!
//! The upper layer is not a file system of its own with whiteout devices and opaque markers, but the
//! changes themselves: an inode of the overlay points at its lower inode and holds what differs from it
//! (attributes, content, entries). So a directory can be renamed without copying what is below it,
//! numbers and links survive a copy-up, and changing a mode copies no data.
//!
//! An inode without changes may be forgotten and made again. One with changes is *pinned*: its parent
//! directory holds it, and is itself pinned.

mod attrs;
mod dir;
mod dir_file;
mod file;
mod inode;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use platform::{PAGE_SIZE, memory::MemoryFile};
use ranked_sync::Mutex;

use crate::{
    Errno, SysResult,
    fs::tmpfs::{PageQuota, ShmemFile, Storage},
    lock_order,
    vfs::{FileSystem, Inode, Mount, StatFs},
};
use inode::OverlayInode;

/// New inodes are numbered from here, above what host file systems use.
const FIRST_NEW_INODE: u64 = 1 << 48;

/// Most changed or new inodes of one overlay.
const MAX_CHANGED: u64 = 4 << 20;

/// `OVERLAYFS_SUPER_MAGIC` (statfs(2)).
const MAGIC: u64 = 0x794c_7630;

/// A tree and the changes to it.
pub struct OverlayFs {
    shared: Arc<Shared>,
    root: Arc<OverlayInode>,
}

/// What all inodes of an overlay share.
struct Shared {
    memory: Arc<MemoryFile>,
    quota: Arc<PageQuota>,
    lower: Arc<dyn FileSystem>,
    /// For opening lower files: a mount that nobody sees.
    lower_mount: Arc<Mount>,
    dev: u64,
    lower_dev: u64,
    next_inode: AtomicU64,
    /// Inodes that exist in memory only, or differ from below.
    changed: AtomicU64,
    /// Lower files with several names, by (device, number), so that all names give one inode.
    linked: Mutex<lock_order::Leaf, HashMap<(u64, u64), Weak<OverlayInode>>>,
    /// Those of them with changes, which are to be seen by each name, also when the one that was used goes.
    changed_links: Mutex<lock_order::Leaf, HashMap<(u64, u64), Arc<OverlayInode>>>,
}

impl OverlayFs {
    /// An overlay without changes. `dev`: its `st_dev`.
    pub fn new(lower: Arc<dyn FileSystem>, storage: Storage, dev: u64) -> SysResult<Arc<Self>> {
        let lower_root = lower.root();
        let shared = Arc::new(Shared {
            memory: storage.memory,
            quota: storage.quota,
            lower_dev: lower_root.metadata()?.dev,
            lower_mount: Mount::internal(lower.clone()),
            lower,
            dev,
            next_inode: AtomicU64::new(FIRST_NEW_INODE),
            changed: AtomicU64::new(0),
            linked: Mutex::default(),
            changed_links: Mutex::default(),
        });
        let root = OverlayInode::over(&shared, lower_root, None)?;
        Ok(Arc::new(Self { shared, root }))
    }
}

impl Drop for OverlayFs {
    fn drop(&mut self) {
        // They hold what they are in.
        let held = std::mem::take(&mut *self.shared.changed_links.lock());
        drop(held);
    }
}

impl Shared {
    fn new_number(&self) -> u64 {
        self.next_inode.fetch_add(1, Ordering::Relaxed)
    }

    /// Empty content for the inode of that number.
    fn new_file(&self, number: u64) -> Arc<ShmemFile> {
        ShmemFile::new(self.memory.clone(), self.quota.clone(), (self.dev, number))
    }

    /// Counts one more changed inode; `ENOSPC` when there are too many.
    fn count_changed(&self) -> SysResult<()> {
        self.memory.check_room()?;
        if self.changed.fetch_add(1, Ordering::Relaxed) < MAX_CHANGED {
            return Ok(());
        }
        self.uncount_changed();
        Err(Errno::ENOSPC.into())
    }

    fn uncount_changed(&self) {
        self.changed.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileSystem for OverlayFs {
    fn type_name(&self) -> &'static str {
        "overlay"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statfs(&self) -> SysResult<StatFs> {
        let below = StatFs { magic: MAGIC, ..self.shared.lower.statfs()? };
        let quota = &self.shared.quota;
        if quota.limit() == u64::MAX {
            return Ok(below);
        }
        let free = quota.limit().saturating_sub(quota.used());
        let (blocks, blocks_free, blocks_available) = (quota.limit(), free, free);
        Ok(StatFs { block_size: PAGE_SIZE, blocks, blocks_free, blocks_available, ..below })
    }

    fn dev(&self) -> u64 {
        self.shared.dev
    }

    fn mount_options(&self) -> String {
        ",lowerdir=/,upperdir=memory".to_owned()
    }
}

impl fmt::Debug for OverlayFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "overlay over {:?}", self.shared.lower)
    }
}
