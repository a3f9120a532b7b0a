//! What a dentry stands for that says "there is no such entry".

use std::sync::{Arc, LazyLock};

use super::{FileOps, Inode, Metadata, SetAttr, VfsPath};
use crate::{SysResult, err};

/// Stands in the cache only; never reached by a walk.
#[derive(Debug)]
pub(super) struct NegativeInode;

impl NegativeInode {
    /// The one there is: it has no state.
    pub(super) fn shared() -> Arc<dyn Inode> {
        static SHARED: LazyLock<Arc<NegativeInode>> = LazyLock::new(|| Arc::new(NegativeInode));
        SHARED.clone()
    }
}

impl Inode for NegativeInode {
    fn metadata(&self) -> SysResult<Metadata> {
        err!(ENOENT)
    }
    fn set_attr(&self, _change: &SetAttr) -> SysResult<()> {
        err!(ENOENT)
    }
    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        err!(ENOENT)
    }
}
