//! Host files, through the gofer.
//!
//! A tree that nobody else changes (the default root) is *immutable* here: attributes, link
//! targets, whole listings and read descriptors are kept with the inode once they were asked
//! for. A *shared* tree (`--bind`) is asked again each time, as its names may change at any moment.
//!
//! The gofer knows files by path, not by handle; so an inode knows its parent and name, and
//! a rename in the sandbox changes them.

mod ahead;
mod convert;
mod dir;
mod file;
mod inode;
mod listing;
mod open_files;
#[cfg(test)]
mod request_tests;

use std::{
    fmt,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use gofer_wire::{Attr, FileId, GoferClient, Place, TreeId, TreePath};
use ranked_sync::Mutex;

use crate::{
    SysResult, lock_order,
    vfs::{FileSystem, Inode, StatFs},
};
use ahead::AheadCounts;
use inode::GoferInode;
use listing::KeptListings;

/// Descriptors kept open for files that may be opened again; beyond that each open asks the gofer.
const MAX_KEPT_FILES: usize = 4096;

/// One tree that the gofer serves.
pub struct GoferFs {
    tree: Arc<Tree>,
    root: Arc<GoferInode>,
}

/// What all inodes of a tree share.
struct Tree {
    client: Arc<GoferClient>,
    id: TreeId,
    /// Nobody else changes it: what was seen once holds.
    immutable: bool,
    dev: u64,
    kept_files: AtomicUsize,
    listings: KeptListings,
    ahead: AheadCounts,
    /// The descriptor that came with the last walk which is to end in an open of a shared tree's file.
    walked: Mutex<lock_order::Leaf, Option<Walked>>,
}

/// An open file, to be used by the open that follows the walk.
struct Walked {
    id: FileId,
    writable: bool,
    file: Arc<OwnedFd>,
}

impl GoferFs {
    /// The tree of that id. `dev`: its `st_dev` inside.
    pub fn new(
        client: Arc<GoferClient>,
        id: TreeId,
        root: Attr,
        immutable: bool,
        dev: u64,
    ) -> Arc<Self> {
        let tree = Arc::new(Tree {
            client,
            id,
            immutable,
            dev,
            kept_files: AtomicUsize::new(0),
            listings: KeptListings::default(),
            ahead: AheadCounts::default(),
            walked: Mutex::new(None),
        });
        Arc::new(Self { root: GoferInode::root(tree.clone(), root), tree })
    }
}

impl Tree {
    fn place<'a>(&self, path: TreePath<'a>) -> Place<'a> {
        Place::new(self.id, path)
    }

    /// True when one more descriptor may be kept; to be given back by `unkeep_file`.
    fn keep_file(&self) -> bool {
        let kept = self.kept_files.fetch_add(1, Ordering::Relaxed);
        if kept >= MAX_KEPT_FILES {
            self.kept_files.fetch_sub(1, Ordering::Relaxed);
        }
        kept < MAX_KEPT_FILES
    }

    /// The descriptor of the walk that led to this file, if it was opened in this way.
    fn take_walked(&self, id: FileId, writable: bool) -> Option<Arc<OwnedFd>> {
        let mut walked = self.walked.lock();
        let fits =
            walked.as_ref().is_some_and(|walked| walked.id == id && walked.writable == writable);
        if fits { walked.take().map(|walked| walked.file) } else { None }
    }

    fn unkeep_file(&self) {
        self.kept_files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileSystem for GoferFs {
    fn type_name(&self) -> &'static str {
        "gofer"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn statfs(&self) -> SysResult<StatFs> {
        let stat = self.tree.client.stat_fs(self.tree.place(TreePath::ROOT))?;
        Ok(convert::statfs(&stat))
    }

    fn dev(&self) -> u64 {
        self.tree.dev
    }

    fn caches_names(&self) -> bool {
        self.tree.immutable
    }

    fn asks_ahead(&self) -> bool {
        !self.tree.immutable
    }
}

impl fmt::Debug for GoferFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tree.fmt(f)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gofer tree {}", self.id.0)
    }
}
