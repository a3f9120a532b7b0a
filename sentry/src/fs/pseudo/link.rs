//! Symbolic links of pseudo file systems.

use std::{fmt, sync::Arc};

use super::Attr;
use crate::{
    SysResult, err,
    vfs::{FileOps, Inode, Link, Metadata, SetAttr, VfsPath},
};

/// Where a link leads, decided when it is followed or read.
pub trait LinkSource: Send + Sync + fmt::Debug + 'static {
    /// What readlink(2) reports.
    fn text(&self) -> SysResult<Vec<u8>>;

    /// Where following it leads; by default, where the text does.
    fn follow(&self) -> SysResult<Link> {
        self.text().map(Link::Text)
    }
}

/// A fixed text.
impl LinkSource for Vec<u8> {
    fn text(&self) -> SysResult<Vec<u8>> {
        Ok(self.clone())
    }
}

/// A symbolic link.
#[derive(Debug)]
pub struct PseudoLink<S> {
    attr: Attr,
    source: S,
}

impl<S: LinkSource> PseudoLink<S> {
    pub fn new(attr: Attr, source: S) -> Arc<Self> {
        Arc::new(Self { attr, source })
    }
}

impl<S: LinkSource> Inode for PseudoLink<S> {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attr.metadata())
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attr.set(change)
    }

    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        err!(ELOOP)
    }

    fn read_link(&self) -> SysResult<Vec<u8>> {
        self.source.text()
    }

    fn follow_link(&self) -> SysResult<Link> {
        self.source.follow()
    }
}
