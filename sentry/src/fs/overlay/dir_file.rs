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

/// The entries as they were when the directory was last read from its start, so that changes in between
/// neither repeat nor skip what stays.
pub(super) struct OverlayDirFile {
    inode: Arc<OverlayInode>,
    snapshot: Mutex<lock_order::Leaf, Option<Snapshot>>,
}

#[derive(Clone)]
enum Snapshot {
    /// All is as below; the directory there, open.
    Lower(Arc<FileDescription>),
    Merged(Arc<[ListedName]>),
}

impl OverlayDirFile {
    /// Fails where the lower directory cannot be opened: the host may let less be read than the guest's credentials do.
    pub(super) fn open(inode: Arc<OverlayInode>) -> SysResult<Self> {
        inode.try_lower()?;
        Ok(Self { inode, snapshot: Mutex::new(None) })
    }

    fn snapshot(&self, from: u64) -> SysResult<Snapshot> {
        if from > 0
            && let Some(snapshot) = &*self.snapshot.lock()
        {
            return Ok(snapshot.clone());
        }
        let snapshot = match self.inode.open_unchanged_lower()? {
            Some(lower) => Snapshot::Lower(lower),
            None => {
                let mut names = self.inode.lower_names()?;
                names.extend(self.inode.upper_names()?);
                Snapshot::Merged(names.into())
            }
        };
        let before = self.snapshot.lock().replace(snapshot.clone());
        drop(before);
        Ok(snapshot)
    }

    /// Tells what is below, but for the numbers of the directory itself and of its parent.
    fn iterate_lower(
        &self,
        lower: &Arc<FileDescription>,
        from: u64,
        sink: &mut DirSink<'_>,
    ) -> SysResult<u64> {
        lower.ops().iterate(lower, from, &mut |entry| {
            let ino = match entry.name {
                b"." => self.inode.number(),
                b".." => self.inode.parent_number(),
                _ => entry.ino,
            };
            sink(DirEntry { ino, ..entry })
        })
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
        let names = match self.snapshot(from)? {
            Snapshot::Lower(lower) => return self.iterate_lower(&lower, from, sink),
            Snapshot::Merged(names) => names,
        };
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
