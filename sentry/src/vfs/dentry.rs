//! Dentries: names, and what they stand for.

use std::{fmt, sync::Arc};

use super::Inode;

/// A name in a directory, cached. The root of a file system has an empty name and no parent.
pub struct Dentry {
    inode: Arc<dyn Inode>,
}

impl Dentry {
    /// A dentry that belongs to no directory: pipes, sockets, memfds (`pipe:[17]`).
    pub fn anonymous(_name: Vec<u8>, inode: Arc<dyn Inode>) -> Arc<Self> {
        Arc::new(Self { inode })
    }

    /// What it stands for.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }
}

impl fmt::Debug for Dentry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dentry({:?})", self.inode)
    }
}
