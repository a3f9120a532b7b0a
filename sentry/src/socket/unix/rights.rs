//! Files on their way in messages (SCM_RIGHTS).
//!
//! A file in a message is open though no process has it. How many a user may have there is
//! bounded; and they are dropped one after another, never one inside the other, however deep
//! sockets are sent over sockets.

use std::{collections::HashMap, fmt, sync::Arc};

use ranked_sync::Mutex;

use crate::{
    SysResult, err,
    kernel::{Capability, Kernel, served},
    lock_order,
    vfs::FileDescription,
};

/// Files in messages for those users whose RLIMIT_NOFILE cannot be asked.
const DEFAULT_LIMIT: u64 = 1024;

/// The files in messages, of all users.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_user: Mutex<lock_order::Leaf, HashMap<u32, u64>>,
    graves: Mutex<lock_order::Leaf, Graves>,
}

/// Files that are to be dropped.
#[derive(Debug, Default)]
struct Graves {
    files: Vec<Arc<FileDescription>>,
    /// Someone is at it.
    draining: bool,
}

impl InFlight {
    /// `ETOOMANYREFS` when the user has more than its RLIMIT_NOFILE (`too_many_unix_fds`).
    fn add(&self, user: u32, count: u64) -> SysResult<()> {
        let task = served();
        let privileged = task.as_ref().is_none_or(|task| {
            let cred = task.cred();
            cred.has(Capability::SYS_RESOURCE) || cred.has(Capability::SYS_ADMIN)
        });
        let limit = task.map_or(DEFAULT_LIMIT, |task| task.rlimit(libc::RLIMIT_NOFILE).0);
        let mut by_user = self.by_user.lock();
        let now = by_user.entry(user).or_default();
        // Even for the privileged there is an end: each of them keeps memory alive.
        let limit = if privileged { limit.max(MAX_IN_FLIGHT) } else { limit };
        if *now > limit {
            return err!(ETOOMANYREFS);
        }
        *now += count;
        Ok(())
    }

    fn remove(&self, user: u32, count: u64) {
        let mut by_user = self.by_user.lock();
        if let Some(now) = by_user.get_mut(&user) {
            *now = now.saturating_sub(count);
            if *now == 0 {
                by_user.remove(&user);
            }
        }
    }

    /// Drops the files. What they hold in turn comes here too, and waits for its turn.
    fn bury(&self, files: Vec<Arc<FileDescription>>) {
        {
            let mut graves = self.graves.lock();
            graves.files.extend(files);
            if graves.draining {
                return;
            }
            graves.draining = true;
        }
        loop {
            let file = {
                let mut graves = self.graves.lock();
                let file = graves.files.pop();
                graves.draining = file.is_some();
                file
            };
            match file {
                Some(file) => drop(file),
                None => break,
            }
        }
    }
}

/// The most files in messages a privileged user has.
const MAX_IN_FLIGHT: u64 = 1 << 16;

/// The files of one message.
pub(super) struct Rights {
    kernel: Arc<Kernel>,
    user: u32,
    files: Vec<Arc<FileDescription>>,
}

impl Rights {
    pub(super) fn new(kernel: &Arc<Kernel>, files: Vec<Arc<FileDescription>>) -> SysResult<Self> {
        let user = served().map_or(0, |task| task.cred().uid);
        kernel.unix.in_flight.add(user, files.len() as u64)?;
        Ok(Self { kernel: kernel.clone(), user, files })
    }

    pub(super) fn files(&self) -> &[Arc<FileDescription>] {
        &self.files
    }

    /// They have arrived.
    pub(super) fn into_files(mut self) -> Vec<Arc<FileDescription>> {
        let files = std::mem::take(&mut self.files);
        self.kernel.unix.in_flight.remove(self.user, files.len() as u64);
        files
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let files = std::mem::take(&mut self.files);
        if !files.is_empty() {
            self.kernel.unix.in_flight.remove(self.user, files.len() as u64);
            self.kernel.unix.in_flight.bury(files);
        }
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({} files)", self.files.len())
    }
}
