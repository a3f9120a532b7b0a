//! Files of a tree that nobody else changes, opened before the guest asks: who opens the files of a
//! directory one after the other will open the next ones too.

use std::{
    collections::{HashMap, VecDeque},
    os::fd::OwnedFd,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use gofer_wire::{FileType, MAX_OPEN, Opened};
use platform::host;
use ranked_sync::Mutex;

use super::{inode::GoferInode, listing::Listing};
use crate::{SysResult, lock_order};

/// Files that are open and were not asked for yet, of a tree.
const MAX_AHEAD: usize = 1024;
/// What part of all descriptors that this process may have they are at most.
const SHARE: u64 = 16;
/// Files opened with the first request ahead in a directory; doubled with each further one.
const FIRST_AHEAD: u32 = 8;
/// Files of a directory that are opened one by one first.
const OPENS_BEFORE_AHEAD: u32 = 1;
/// So many of the last files opened ahead were of use, out of as many that were not: then the
/// first file of a directory brings others along.
const TRUSTED: u32 = 16;

/// As many as this process can spare.
fn max_ahead() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    *MAX.get_or_init(|| {
        usize::try_from(host::max_open_files() / SHARE).map_or(MAX_AHEAD, |max| max.min(MAX_AHEAD))
    })
}

/// Files of one directory that are open already, by name.
#[derive(Default)]
pub(super) struct FilesAhead {
    files: Mutex<lock_order::Leaf, HashMap<Vec<u8>, Ahead>>,
    /// Files of it that were opened, and requests that opened some ahead.
    opens: AtomicU32,
    requests: AtomicU32,
    /// Which entries were opened, or asked for ahead.
    done: Mutex<lock_order::Leaf, Vec<bool>>,
}

/// An open file, counted as long as it is kept.
struct Ahead {
    file: Option<OwnedFd>,
    counts: Arc<Counts>,
}

impl Ahead {
    fn new(opened: Opened, counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self { file: Some(opened.file), counts: counts.clone() }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    used: AtomicU32,
    asked: AtomicU32,
}

/// What a tree knows of the files that were opened ahead.
#[derive(Default)]
pub(super) struct AheadCounts {
    counts: Arc<Counts>,
    /// Listings that have some, oldest first.
    listings: Mutex<lock_order::Leaf, VecDeque<Weak<Listing>>>,
}

impl AheadCounts {
    fn is_trusted(&self) -> bool {
        let used = self.counts.used.load(Ordering::Relaxed);
        used >= TRUSTED && used.saturating_mul(2) >= self.counts.asked.load(Ordering::Relaxed)
    }

    fn used(&self) {
        self.counts.used.fetch_add(1, Ordering::Relaxed);
    }

    /// So that what was long ago does not count for ever.
    fn asked(&self, files: u32) {
        let asked = self.counts.asked.fetch_add(files, Ordering::Relaxed);
        if asked > 1 << 12 {
            let used = self.counts.used.load(Ordering::Relaxed);
            self.counts.asked.store(asked / 2, Ordering::Relaxed);
            self.counts.used.store(used / 2, Ordering::Relaxed);
        }
    }

    /// Makes room for one more request by closing what has waited longest.
    fn make_room(&self) {
        loop {
            let oldest = {
                let mut listings = self.listings.lock();
                let is_full = self.counts.open.load(Ordering::Relaxed) + MAX_OPEN > max_ahead()
                    || listings.len() >= MAX_AHEAD;
                if is_full { listings.pop_front() } else { None }
            };
            let Some(oldest) = oldest else { break };
            if let Some(listing) = oldest.upgrade() {
                let gone = std::mem::take(&mut *listing.files.files.lock());
                drop(gone);
            }
        }
    }
}

impl GoferInode {
    /// A read descriptor of this file, which the guest opens now; `None`: it has to be asked for by itself.
    pub(super) fn open_ahead(&self) -> SysResult<Option<Arc<OwnedFd>>> {
        let Some((parent, name)) = self.home() else { return Ok(None) };
        let Some(listing) = parent.listing.lock().clone() else { return Ok(None) };
        let ahead = &listing.files;
        let known = ahead.files.lock().remove(&name);
        if let Some(mut known) = known {
            self.tree.ahead.used();
            return Ok(known.file.take().map(Arc::new));
        }
        if max_ahead() < MAX_OPEN {
            return Ok(None);
        }
        let before = ahead.opens.fetch_add(1, Ordering::Relaxed);
        if before < OPENS_BEFORE_AHEAD && !self.tree.ahead.is_trusted() {
            return Ok(None);
        }
        self.ask_ahead(&parent, &listing, &name)
    }

    /// This file was opened along with its look-up.
    pub(super) fn count_open(&self) {
        if let Some((parent, _)) = self.home()
            && let Some(listing) = &*parent.listing.lock()
        {
            listing.files.opens.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ask_ahead(
        &self,
        parent: &Arc<Self>,
        listing: &Arc<Listing>,
        name: &[u8],
    ) -> SysResult<Option<Arc<OwnedFd>>> {
        let ahead = &listing.files;
        let before = ahead.requests.fetch_add(1, Ordering::Relaxed);
        let doublings = if self.tree.ahead.is_trusted() { 3 } else { before.min(3) };
        let max = (FIRST_AHEAD << doublings).min(MAX_OPEN as u32) as usize;
        let names = {
            let mut done = ahead.done.lock();
            done.resize(listing.entries.len(), false);
            listing.names_from(name, FileType::Regular, max, |at| {
                done.get_mut(at).is_none_or(|done| std::mem::replace(done, true))
            })?
        };
        let asked = names.as_path().names().count();
        if asked < 2 {
            return Ok(None);
        }
        self.tree.ahead.make_room();
        let path = parent.path()?;
        let opened =
            self.tree.client.open_many(self.tree.place(path.as_path()), names.as_path())?;
        let mut opened = names.as_path().names().zip(opened);
        let first = opened.next().map(|(_, opened)| opened);
        let counts = &self.tree.ahead.counts;
        let others: Vec<_> = opened
            .filter_map(|(name, opened)| Some((name.to_vec(), Ahead::new(opened.ok()?, counts))))
            .collect();
        self.tree.ahead.asked(u32::try_from(others.len()).unwrap_or(u32::MAX));
        ahead.files.lock().extend(others);
        self.tree.ahead.listings.lock().push_back(Arc::downgrade(listing));
        match first {
            Some(Ok(first)) => {
                self.saw(first.attr);
                Ok(Some(Arc::new(first.file)))
            }
            Some(Err(errno)) => Err(errno.into()),
            None => Ok(None),
        }
    }
}
