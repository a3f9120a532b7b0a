//! Where inotify hears of changes.
//!
//! VFS calls these at each change; they cost next to nothing while no one watches.

use super::{Dentry, FileDescription};

/// What happened, with what inotify calls it (`IN_` bits of inotify(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsEvent {
    Open,
    Access,
    Modify,
    Attrib,
    CloseWrite,
    CloseNoWrite,
    Create,
    Delete,
    /// The last name of a file went, or a directory was removed.
    DeleteSelf,
    MovedFrom {
        cookie: u32,
    },
    MovedTo {
        cookie: u32,
    },
    MoveSelf,
}

/// Something happened to the file itself: its watchers and those of its directory hear of it.
pub fn notify(_dentry: &Dentry, _event: FsEvent) {}

/// Something happened to the entry `name` of `dir`; `child_is_dir` gives `IN_ISDIR`.
pub fn notify_entry(_dir: &Dentry, _name: &[u8], _child_is_dir: bool, _event: FsEvent) {}

/// Something was done through an open file.
pub fn notify_file(file: &FileDescription, event: FsEvent) {
    notify(&file.path().dentry, event);
}
