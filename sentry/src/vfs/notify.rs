//! Where inotify hears of changes.
//!
//! VFS calls these at each change; they cost next to nothing while no one watches.

use super::{Dentry, FileDescription, watch::MOVED_WITHIN};

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
    /// The file has another number of names.
    LinkCount,
    /// The last name of a file went, or a directory was removed.
    DeleteSelf,
    MovedFrom {
        cookie: u32,
        /// It stays in its directory.
        within: bool,
    },
    MovedTo {
        cookie: u32,
    },
    MoveSelf,
}

impl FsEvent {
    fn bits(self) -> u32 {
        match self {
            Self::Open => libc::IN_OPEN,
            Self::Access => libc::IN_ACCESS,
            Self::Modify => libc::IN_MODIFY,
            Self::Attrib | Self::LinkCount => libc::IN_ATTRIB,
            Self::CloseWrite => libc::IN_CLOSE_WRITE,
            Self::CloseNoWrite => libc::IN_CLOSE_NOWRITE,
            Self::Create => libc::IN_CREATE,
            Self::Delete => libc::IN_DELETE,
            Self::DeleteSelf => libc::IN_DELETE_SELF,
            Self::MovedFrom { within: true, .. } => libc::IN_MOVED_FROM | MOVED_WITHIN,
            Self::MovedFrom { within: false, .. } => libc::IN_MOVED_FROM,
            Self::MovedTo { .. } => libc::IN_MOVED_TO,
            Self::MoveSelf => libc::IN_MOVE_SELF,
        }
    }

    fn cookie(self) -> u32 {
        match self {
            Self::MovedFrom { cookie, .. } | Self::MovedTo { cookie } => cookie,
            _ => 0,
        }
    }

    /// Told to the file's own watchers only, and never with IN_ISDIR.
    fn is_about_self(self) -> bool {
        matches!(self, Self::LinkCount | Self::DeleteSelf | Self::MoveSelf)
    }
}

fn is_dir_bit(is_dir: bool) -> u32 {
    if is_dir { libc::IN_ISDIR } else { 0 }
}

/// Something happened to the file itself: those who watch its directory hear of it, then its own watchers.
pub fn notify(dentry: &Dentry, event: FsEvent) {
    let about_self = event.is_about_self();
    let mask = event.bits() | if about_self { 0 } else { is_dir_bit(dentry.is_dir()) };
    if !about_self && dentry.parent_is_watched() {
        let (parent, name) = dentry.parent_and_name();
        if let Some(watches) = parent.as_ref().and_then(|parent| parent.watches_if_any()) {
            watches.tell(mask, event.cookie(), Some(&name), dentry.is_unlinked());
        }
    }
    if let Some(watches) = dentry.watches_if_any() {
        watches.tell(mask, event.cookie(), None, dentry.is_unlinked());
    }
}

/// Something happened to the entry `name` of `dir`; `child_is_dir` gives `IN_ISDIR`.
pub fn notify_entry(dir: &Dentry, name: &[u8], child_is_dir: bool, event: FsEvent) {
    if let Some(watches) = dir.watches_if_any() {
        watches.tell(event.bits() | is_dir_bit(child_is_dir), event.cookie(), Some(name), false);
    }
}

/// Something was done through an open file.
pub fn notify_file(file: &FileDescription, event: FsEvent) {
    notify(&file.path().dentry, event);
}
