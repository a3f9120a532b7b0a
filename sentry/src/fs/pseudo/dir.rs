//! Directories of pseudo file systems.

use std::{any::Any, fmt, sync::Arc};

use super::Attr;
use crate::{
    Errno, SysResult,
    vfs::{
        Creation, DirEntry, DirOps, DirSink, FileDescription, FileOps, FileType, Inode, Metadata,
        SeekFrom, SetAttr, VfsPath,
    },
};

/// An entry as `getdents` shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Grows along the directory and stays the same for this entry; from 0.
    pub key: u64,
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: FileType,
}

/// What is in a pseudo directory.
pub trait Entries: Send + Sync + fmt::Debug + 'static {
    /// The entry of that name, or `ENOENT`.
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>>;

    /// The entries whose key is `from` or more, in order of their keys.
    fn list(&self, from: u64) -> SysResult<Vec<Listed>>;

    /// The directory's link count, where that changes; else its attributes say.
    fn links(&self) -> Option<u32> {
        None
    }

    /// May the inode found before under this name be used again?
    fn is_current(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> bool {
        true
    }
}

/// Entries that never change.
#[derive(Debug, Default)]
pub struct FixedEntries(Vec<(Vec<u8>, Arc<dyn Inode>)>);

impl FixedEntries {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, name: &str, inode: Arc<dyn Inode>) {
        self.0.push((name.as_bytes().to_vec(), inode));
    }

    pub fn with(mut self, name: &str, inode: Arc<dyn Inode>) -> Self {
        self.add(name, inode);
        self
    }
}

impl Entries for FixedEntries {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        let found = self.0.iter().find(|(entry, _)| entry == name);
        Ok(found.map(|(_, inode)| inode.clone()).ok_or(Errno::ENOENT)?)
    }

    fn list(&self, from: u64) -> SysResult<Vec<Listed>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let rest = self.0.iter().enumerate().skip(from);
        rest.map(|(key, (name, inode))| {
            let meta = inode.metadata()?;
            let kind = meta.file_type().unwrap_or(FileType::Regular);
            Ok(Listed { key: key as u64, name: name.clone(), ino: meta.ino, kind })
        })
        .collect()
    }
}

/// A directory.
#[derive(Debug)]
pub struct PseudoDir {
    attr: Attr,
    entries: Arc<dyn Entries>,
}

impl PseudoDir {
    pub fn new(attr: Attr, entries: impl Entries) -> Arc<Self> {
        Arc::new(Self { attr, entries: Arc::new(entries) })
    }

    pub fn attr(&self) -> &Attr {
        &self.attr
    }
}

impl Inode for PseudoDir {
    fn metadata(&self) -> SysResult<Metadata> {
        let mut meta = self.attr.metadata();
        meta.nlink = self.entries.links().unwrap_or(meta.nlink);
        Ok(meta)
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attr.set(change)
    }

    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        Ok(Box::new(OpenDir { ino: self.attr.ino(), entries: self.entries.clone() }))
    }

    fn as_dir(&self) -> Option<&dyn DirOps> {
        Some(self)
    }
}

impl DirOps for PseudoDir {
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>> {
        self.entries.lookup(name)
    }

    fn create(&self, _name: &[u8], _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        // A directory without that operation (`vfs_create`); mkdir and the others say EPERM.
        match self.attr.creation_error() {
            Errno::EPERM => Err(Errno::EACCES.into()),
            other => Err(other.into()),
        }
    }

    fn mkdir(&self, _name: &[u8], _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        Err(self.attr.creation_error().into())
    }

    fn mknod(
        &self,
        _name: &[u8],
        _kind: FileType,
        _rdev: u64,
        _new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        Err(self.attr.creation_error().into())
    }

    fn symlink(&self, _name: &[u8], _target: &[u8], _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        Err(self.attr.creation_error().into())
    }

    fn link(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        Err(self.attr.creation_error().into())
    }

    fn revalidate(&self, name: &[u8], cached: Option<&Arc<dyn Inode>>) -> bool {
        cached.is_some_and(|inode| self.entries.is_current(name, inode))
    }
}

/// An open directory. Positions: 0 is `.`, 1 is `..`, an entry's is its key + 2.
#[derive(Debug)]
struct OpenDir {
    ino: u64,
    entries: Arc<dyn Entries>,
}

impl FileOps for OpenDir {
    fn is_seekable(&self) -> bool {
        true
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn seek(&self, _file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(_) | SeekFrom::Data(_) | SeekFrom::Hole(_) => None,
        };
        target.filter(|&at| at <= i64::MAX as u64).ok_or(Errno::EINVAL.into())
    }

    fn iterate(
        &self,
        _file: &FileDescription,
        mut from: u64,
        sink: &mut DirSink<'_>,
    ) -> SysResult<u64> {
        for (at, name) in [b".".as_slice(), b".."].into_iter().enumerate() {
            let at = at as u64;
            if from > at {
                continue;
            }
            let kind = Some(FileType::Directory);
            if !sink(DirEntry { name, ino: self.ino, kind, next: at + 1 }) {
                return Ok(from);
            }
            from = at + 1;
        }
        for entry in self.entries.list(from - 2)? {
            let next = entry.key.saturating_add(3);
            let kind = Some(entry.kind);
            if !sink(DirEntry { name: &entry.name, ino: entry.ino, kind, next }) {
                break;
            }
            from = next;
        }
        Ok(from)
    }

    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
