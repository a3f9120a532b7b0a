//! Attributes once they differ from those below.

use std::collections::BTreeMap;

use crate::vfs::{Creation, Metadata, SetAttr, TimeSpec, TimeUpdate};

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What stat(2) tells of an inode, but for what its content tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attrs {
    /// Kind and permissions.
    pub(super) mode: u32,
    pub(super) nlink: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u64,
    pub(super) atime: TimeSpec,
    pub(super) mtime: TimeSpec,
    pub(super) ctime: TimeSpec,
    pub(super) btime: Option<TimeSpec>,
}

impl Attrs {
    /// Those of a new file of kind `kind` (`S_IFMT` bits).
    pub(super) fn new(kind: u32, nlink: u32, rdev: u64, new: &Creation) -> Self {
        let now = TimeSpec::now();
        Self {
            mode: kind | (new.mode & 0o7777),
            nlink,
            uid: new.uid,
            gid: new.gid,
            rdev,
            atime: now,
            mtime: now,
            ctime: now,
            btime: Some(now),
        }
    }

    /// Those of a lower file.
    pub(super) fn of(meta: &Metadata) -> Self {
        Self {
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: meta.rdev,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: meta.btime,
        }
    }

    /// Applies all of a change but the size.
    pub(super) fn apply(&mut self, change: &SetAttr) {
        let now = TimeSpec::now();
        let resolve = |update: TimeUpdate| match update {
            TimeUpdate::Now => now,
            TimeUpdate::To(time) => time,
        };
        if let Some(mode) = change.mode {
            self.mode = (self.mode & libc::S_IFMT) | (mode & 0o7777);
        }
        self.uid = change.uid.unwrap_or(self.uid);
        self.gid = change.gid.unwrap_or(self.gid);
        self.atime = change.atime.map_or(self.atime, resolve);
        self.mtime = change.mtime.map_or(self.mtime, resolve);
        if change.size.is_some() {
            self.mtime = now;
        }
        self.ctime = now;
    }

    /// Content or entries changed.
    pub(super) fn touch(&mut self) {
        self.mtime = TimeSpec::now();
        self.ctime = self.mtime;
    }
}
