//! What mount(2) can mount, by name.

use std::{fmt, sync::Arc};

use ranked_sync::RwLock;

use super::{FileSystem, PathCx};
use crate::{Errno, SysResult, lock_order};

/// A kind of file system that a guest may mount.
pub trait FileSystemType: Send + Sync + fmt::Debug {
    /// As in /proc/filesystems.
    fn name(&self) -> &'static str;

    /// Does it need a device as its source (no `nodev` in /proc/filesystems)?
    fn needs_device(&self) -> bool {
        false
    }

    /// Makes one. `options` is the data of mount(2); the caller has CAP_SYS_ADMIN.
    fn mount(&self, cx: &PathCx, source: &[u8], options: &[u8]) -> SysResult<Arc<dyn FileSystem>>;
}

/// Those there are.
#[derive(Debug, Default)]
pub struct FileSystemTypes {
    types: RwLock<lock_order::Leaf, Vec<Arc<dyn FileSystemType>>>,
}

impl FileSystemTypes {
    /// Adds one; a later one of the same name wins.
    pub fn register(&self, kind: Arc<dyn FileSystemType>) {
        self.types.write().push(kind);
    }

    /// `ENODEV` when there is none of that name.
    pub fn find(&self, name: &[u8]) -> SysResult<Arc<dyn FileSystemType>> {
        let types = self.types.read();
        let found = types.iter().rev().find(|kind| kind.name().as_bytes() == name);
        found.cloned().ok_or(Errno::ENODEV.into())
    }

    /// All, in the order they came.
    pub fn all(&self) -> Vec<Arc<dyn FileSystemType>> {
        self.types.read().clone()
    }
}
