//! Builds the fixed part of a pseudo file system.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    Attr, Content, Entries, FixedEntries, Generated, LinkSource, PseudoDir, PseudoFile, PseudoLink,
};
use crate::{
    Errno, SysResult,
    vfs::{FileType, Inode, StatFs},
};

/// Hands out inode numbers and attributes for one file system.
#[derive(Debug)]
pub struct Tree {
    dev: u64,
    next_ino: AtomicU64,
    /// `st_size` and `st_blksize` of regular files.
    file_size: u64,
    block_size: u32,
    creation: Errno,
}

impl Tree {
    /// For the file system with `st_dev` `dev`; files report `file_size` bytes; making something in it fails
    /// with `creation`.
    pub fn new(dev: u64, file_size: u64, block_size: u32, creation: Errno) -> Self {
        Self { dev, next_ino: AtomicU64::new(1), file_size, block_size, creation }
    }

    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// Attributes of a new node.
    pub fn attr(&self, kind: FileType, perm: u32) -> Attr {
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let size = if kind == FileType::Regular { self.file_size } else { 0 };
        Attr::new(self.dev, ino, kind, perm)
            .with_size(size)
            .with_block_size(self.block_size)
            .refusing(self.creation)
    }

    /// A directory of mode 0555.
    pub fn dir(&self, entries: impl Entries) -> Arc<dyn Inode> {
        PseudoDir::new(self.attr(FileType::Directory, 0o555), entries)
    }

    /// A directory with nothing in it.
    pub fn empty_dir(&self) -> Arc<dyn Inode> {
        self.dir(FixedEntries::new())
    }

    pub fn file(&self, perm: u32, content: impl Content) -> Arc<dyn Inode> {
        PseudoFile::new(self.attr(FileType::Regular, perm), Arc::new(content))
    }

    /// A file of mode 0444 with the same text each time.
    pub fn text(&self, text: impl Into<String>) -> Arc<dyn Inode> {
        let text = text.into();
        self.generated(move |out| {
            out.extend_from_slice(text.as_bytes());
            Ok(())
        })
    }

    /// A file of mode 0444.
    pub fn generated<F>(&self, f: F) -> Arc<dyn Inode>
    where
        F: Fn(&mut Vec<u8>) -> SysResult<()> + Send + Sync + 'static,
    {
        self.file(0o444, Generated(f))
    }

    pub fn link(&self, source: impl LinkSource) -> Arc<dyn Inode> {
        PseudoLink::new(self.attr(FileType::Symlink, 0o777), source)
    }
}

/// statfs(2) of a file system without storage.
pub fn fs_stat(magic: u64) -> StatFs {
    StatFs { magic, block_size: 4096, name_max: 255, ..StatFs::default() }
}
