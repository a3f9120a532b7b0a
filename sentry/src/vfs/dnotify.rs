//! Directory notices: a signal when something changes in a directory (fcntl(2), F_NOTIFY;
//! `fs/notify/dnotify`).

use std::{
    any::Any,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    Dentry, FileDescription, LockOwner,
    async_io::Recipient,
    watch::{MOVED_WITHIN, Watcher},
};
use crate::{SysResult, err, kernel::CurrentTask};

const DN_MULTISHOT: u32 = 0x8000_0000;
/// Each `DN_` bit with the events of inotify(7) that it means.
const EVENTS: [(u32, u32); 6] = [
    (0x01, libc::IN_ACCESS),
    (0x02, libc::IN_MODIFY),
    (0x04, libc::IN_CREATE | libc::IN_MOVED_TO),
    (0x08, libc::IN_DELETE | libc::IN_MOVED_FROM),
    (0x10, MOVED_WITHIN),
    (0x20, libc::IN_ATTRIB),
];
/// `si_code` of the signal (`POLL_MSG`).
const POLL_MSG: i32 = 3;
/// Its `si_band`.
const BAND: i32 = libc::EPOLLIN | libc::EPOLLRDNORM | libc::EPOLLMSG;

/// What one process asked for through one description.
struct Notice {
    file: Weak<FileDescription>,
    /// Whose descriptors: its close(2) ends the notice.
    owner: LockOwner,
    recipient: Recipient,
    /// Events, and DN_MULTISHOT's bit.
    mask: AtomicU32,
}

/// F_NOTIFY: `events` are `DN_` bits, added to those asked for before; none of them ends the notice.
/// `ENOTDIR`. The file gets an owner, as with F_SETOWN, unless it has one.
pub fn set_notice(
    task: &CurrentTask,
    file: &Arc<FileDescription>,
    fd: i32,
    events: u32,
) -> SysResult<()> {
    let dentry = &file.path().dentry;
    let owner = task.fds().lock_owner();
    if events & !DN_MULTISHOT == 0 {
        end_notice(file, owner);
        return Ok(());
    }
    if !dentry.is_dir() {
        return err!(ENOTDIR);
    }
    let wanted = EVENTS.iter().filter(|(bit, _)| events & bit != 0);
    let mask = wanted.fold(0, |mask, (_, event)| mask | event);
    // No event of inotify's has this bit.
    let mask = mask | (events & DN_MULTISHOT);
    if let (0, signal) = file.owner() {
        file.set_owner(task.thread_group().pid(), signal, false);
    }
    if let Some(known) = find(dentry, file, owner) {
        with_notice(&*known, |notice| notice.mask.fetch_or(mask, Ordering::Relaxed));
        return Ok(());
    }
    let recipient = Recipient { kernel: task.kernel().clone(), cred: task.cred(), fd };
    let (file, mask) = (Arc::downgrade(file), AtomicU32::new(mask));
    dentry.watches().add(Arc::new(Notice { file, owner, recipient, mask }));
    Ok(())
}

/// A descriptor of `owner` for that file was closed.
pub(super) fn end_notice(file: &FileDescription, owner: LockOwner) {
    let dentry = &file.path().dentry;
    if let Some(known) = find(dentry, file, owner) {
        dentry.watches().remove(&*known);
    }
}

fn find(dentry: &Dentry, file: &FileDescription, owner: LockOwner) -> Option<Arc<dyn Watcher>> {
    dentry.watches_if_any()?.all().into_iter().find(|watcher| {
        let is_it =
            |notice: &Notice| std::ptr::eq(notice.file.as_ptr(), file) && notice.owner == owner;
        with_notice(&**watcher, is_it) == Some(true)
    })
}

fn with_notice<T>(watcher: &dyn Watcher, then: impl FnOnce(&Notice) -> T) -> Option<T> {
    watcher.as_any().downcast_ref().map(then)
}

impl Watcher for Notice {
    fn tell(&self, event: u32, _cookie: u32, _name: Option<&[u8]>, _unlinked: bool) {
        let mask = self.mask.load(Ordering::Relaxed);
        if event & mask == 0 {
            return;
        }
        let Some(file) = self.file.upgrade() else { return };
        if mask & DN_MULTISHOT == 0 {
            file.path().dentry.watches().remove(self);
        }
        self.recipient.signal(file.owner_word(), POLL_MSG, BAND.into());
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
