//! Open directories.

use std::{any::Any, fmt, sync::Arc};

use ranked_sync::Mutex;

use super::inode::OverlayInode;
use crate::{
    SysResult, lock_order,
    vfs::{DirEntry, DirSink, FileDescription, FileOps, FileType},
};

/// Name, inode number and kind of an entry.
pub(super) type ListedName = (Vec<u8>, u64, Option<FileType>);

type Names = Arc<[ListedName]>;

/// The entries as they were when the directory was last read from its start, so that changes in between
/// neither repeat nor skip what stays.
pub(super) struct OverlayDirFile {
    inode: Arc<OverlayInode>,
    snapshot: Mutex<lock_order::Leaf, Option<Names>>,
}

impl OverlayDirFile {
    /// Fails where the lower directory cannot be opened: the host may let less be read than the guest's credentials do.
    pub(super) fn open(inode: Arc<OverlayInode>) -> SysResult<Self> {
        inode.try_lower()?;
        Ok(Self { inode, snapshot: Mutex::new(None) })
    }

    fn names(&self, from: u64) -> SysResult<Names> {
        if from > 0
            && let Some(names) = &*self.snapshot.lock()
        {
            return Ok(names.clone());
        }
        let mut names = self.inode.lower_names()?;
        names.extend(self.inode.upper_names()?);
        let names: Names = names.into();
        *self.snapshot.lock() = Some(names.clone());
        Ok(names)
    }
}

impl FileOps for OverlayDirFile {
    fn is_seekable(&self) -> bool {
        true
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn iterate(
        &self,
        _file: &FileDescription,
        from: u64,
        sink: &mut DirSink<'_>,
    ) -> SysResult<u64> {
        let names = self.names(from)?;
        let dots = [(b".".as_slice(), self.inode.number()), (b"..", self.inode.parent_number())];
        let dots = dots.into_iter().map(|(name, ino)| (name, ino, Some(FileType::Directory)));
        let rest = names.iter().map(|(name, ino, kind)| (name.as_slice(), *ino, *kind));
        let mut position = from;
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (name, ino, kind) in dots.chain(rest).skip(skip) {
            if !sink(DirEntry { name, ino, kind, next: position + 1 }) {
                break;
            }
            position += 1;
        }
        Ok(position)
    }

    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for OverlayDirFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inode.fmt(f)
    }
}
