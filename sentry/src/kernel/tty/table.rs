//! The terminals of one devpts.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ranked_sync::Mutex;

use super::pair::{Groups, Tty};
use crate::{Errno, SysResult, lock_order};

/// `/proc/sys/kernel/pty/max`.
pub const MAX_TTYS: usize = 4096;

/// Terminals by number.
pub struct TtyTable {
    groups: Arc<dyn Groups>,
    entries: Mutex<lock_order::Leaf, BTreeMap<u32, Arc<Tty>>>,
}

impl TtyTable {
    pub fn new(groups: Arc<dyn Groups>) -> Arc<Self> {
        Arc::new(Self { groups, entries: Mutex::new(BTreeMap::new()) })
    }

    /// A new terminal under the lowest free number, its node the caller's.
    pub(super) fn create(&self) -> SysResult<Arc<Tty>> {
        let owner = crate::kernel::served().map_or((0, 0), |task| {
            let cred = task.cred();
            (cred.fsuid, cred.fsgid)
        });
        self.create_for(owner)
    }

    /// As [`Self::create`], its node that user's and group's.
    pub(super) fn create_for(&self, (uid, gid): (u32, u32)) -> SysResult<Arc<Tty>> {
        let mut entries = self.entries.lock();
        if entries.len() >= MAX_TTYS {
            return Err(Errno::ENOSPC.into());
        }
        let number = (0..).find(|number| !entries.contains_key(number)).ok_or(Errno::ENOSPC)?;
        let tty = Tty::new(number, self.groups.clone(), (uid, gid));
        entries.insert(number, tty.clone());
        Ok(tty)
    }

    pub(super) fn remove(&self, number: u32) {
        let entry = self.entries.lock().remove(&number);
        drop(entry);
    }

    pub fn get(&self, number: u32) -> Option<Arc<Tty>> {
        self.entries.lock().get(&number).cloned()
    }

    /// The numbers in use, in order.
    pub fn numbers(&self) -> Vec<u32> {
        self.entries.lock().keys().copied().collect()
    }
}

impl fmt::Debug for TtyTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TtyTable")
    }
}
