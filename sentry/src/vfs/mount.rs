//! Mounts, and places in the mount tree.

use std::sync::Arc;

use super::{Dentry, FileSystem, Inode};

/// A file system (or a part of it) at a place in the tree.
#[derive(Debug)]
pub struct Mount {
    fs: Arc<dyn FileSystem>,
}

impl Mount {
    /// A mount in no tree: where inodes without a name are.
    pub fn internal(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        Arc::new(Self { fs })
    }

    /// The file system it shows.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }
}

/// A place in the mount tree (`struct path` in Linux).
#[derive(Clone, Debug)]
pub struct VfsPath {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

impl VfsPath {
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }
}
