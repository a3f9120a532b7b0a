//! The descriptors by which the guest has a file of a shared tree open.
//!
//! A file that is open may be renamed, replaced or removed at any moment: its path then leads to
//! another file, or nowhere. So what an open file is like is asked of its descriptor, and its
//! attributes are changed by path only if the path still leads to it.

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
};

use gofer_wire::{Attr, SetAttr, SetTime, Timestamp};
use platform::host::poller;

use super::convert;
use crate::Errno;

/// Which there are. None is kept open on this account, but for the one that came of making the file.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    read: Weak<OwnedFd>,
    write: Weak<OwnedFd>,
    /// For the open that follows the making; it may be the only one the file's mode allows.
    made: Option<Arc<OwnedFd>>,
    /// The file has no name any more, and the guest has changed its attributes: nobody else can
    /// see that, so they are changed here only.
    nameless_changes: bool,
}

impl OpenFiles {
    pub(super) fn made(file: OwnedFd) -> Self {
        Self { made: Some(Arc::new(file)), ..Self::default() }
    }

    /// The descriptor from when the file was made, the first time.
    pub(super) fn take_made(&mut self) -> Option<Arc<OwnedFd>> {
        self.made.take()
    }

    pub(super) fn opened(&mut self, file: &Arc<OwnedFd>, writable: bool) {
        let slot = if writable { &mut self.write } else { &mut self.read };
        *slot = Arc::downgrade(file);
    }

    /// One that writes, or else one that reads.
    pub(super) fn any(&self) -> Option<Arc<OwnedFd>> {
        self.writable().or_else(|| self.read.upgrade())
    }

    pub(super) fn writable(&self) -> Option<Arc<OwnedFd>> {
        self.made.clone().or_else(|| self.write.upgrade())
    }

    /// Whether attributes of the nameless file were changed.
    pub(super) fn nameless_changes(&self) -> bool {
        self.nameless_changes
    }

    /// Changes what `attr` says of a file without a name.
    pub(super) fn change_nameless(&mut self, attr: &mut Attr, change: &SetAttr, now: Timestamp) {
        let time = |change: SetTime| match change {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        attr.mode = change.mode.map_or(attr.mode, |mode| attr.mode & !0o7777 | mode & 0o7777);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.map_or(attr.atime, time);
        attr.mtime = change.mtime.map_or(attr.mtime, time);
        attr.ctime = now;
        self.nameless_changes = true;
    }
}

/// Attributes now, of a file that is open as `file` and was like `before`.
pub(super) fn attr_of(
    file: &OwnedFd,
    before: &Attr,
    nameless_changes: bool,
) -> Result<Attr, Errno> {
    let now = convert::refreshed(before, &poller::stat(file.as_fd())?);
    if now.nlink > 0 || !nameless_changes {
        return Ok(now);
    }
    let Attr { mode, uid, gid, atime, mtime, ctime, .. } = *before;
    Ok(Attr { mode, uid, gid, atime, mtime, ctime, ..now })
}
