//! Whole directories of a tree that nobody else changes, kept once they were asked for.
//!
//! A listing answers each lookup in its directory: where there is no such name, and what an entry is
//! like if its attributes came along. Kept listings are counted by their entries; the oldest go when there are too many.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak, atomic::Ordering},
};

use gofer_wire::DirEntry;
use ranked_sync::Mutex;

use super::inode::GoferInode;
use crate::{SysResult, lock_order};

/// Entries of all kept listings of a tree together, about 200 bytes each.
const MAX_KEPT: usize = 256 << 10;
/// Missing names that are asked for one by one in a directory; then its names are asked for.
const MISSES_BEFORE_LISTING: u32 = 2;
/// The same where the directory is so long (`st_size`, in bytes) that its names are not worth a few lookups.
const MISSES_BEFORE_LONG_LISTING: u32 = 64;
const LONG: u64 = 256 << 10;
/// Misses of a directory that is not asked for its names.
const NEVER_LISTED: u32 = u32::MAX / 2;

/// A directory's entries, all of them, in the order the host told them.
pub(super) struct Listing {
    pub(super) entries: Vec<DirEntry>,
    /// Indices of `entries` in the order of their names.
    by_name: Vec<u32>,
    has_attrs: bool,
}

impl Listing {
    fn new(entries: Vec<DirEntry>, has_attrs: bool) -> Self {
        let mut by_name: Vec<u32> = (0..u32::try_from(entries.len()).unwrap_or(u32::MAX)).collect();
        let name = |at: &u32| entries.get(*at as usize).map(|entry| entry.name.as_slice());
        by_name.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
        Self { entries, by_name, has_attrs }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&DirEntry> {
        let entry = |at: u32| self.entries.get(at as usize);
        let at = self
            .by_name
            .binary_search_by(|&at| entry(at).map_or(&b""[..], |entry| &entry.name).cmp(name))
            .ok()?;
        entry(*self.by_name.get(at)?)
    }
}

/// The listings that a tree keeps.
#[derive(Default)]
pub(super) struct KeptListings(Mutex<lock_order::Leaf, Kept>);

#[derive(Default)]
struct Kept {
    entries: usize,
    /// Oldest first. A directory is in it once for each time it was listed.
    directories: VecDeque<Weak<GoferInode>>,
}

impl KeptListings {
    /// Keeps a listing with its directory, if it is not too long by itself.
    fn keep(&self, directory: &Arc<GoferInode>, listing: &Arc<Listing>) {
        let len = listing.entries.len();
        if len > MAX_KEPT / 2 {
            return;
        }
        let before = directory.listing.lock().replace(listing.clone());
        let mut over = {
            let mut kept = self.0.lock();
            kept.entries = kept.entries.saturating_add(len);
            kept.entries = kept.entries.saturating_sub(before.map_or(0, |old| old.entries.len()));
            kept.directories.push_back(Arc::downgrade(directory));
            // Directories that are gone leave their place in the queue behind.
            let too_long = kept.directories.len() > MAX_KEPT;
            if too_long {
                kept.directories.retain(|directory| directory.strong_count() > 0);
            }
            kept.entries > MAX_KEPT
        };
        while over {
            let (oldest, still_over) = {
                let mut kept = self.0.lock();
                (kept.directories.pop_front(), kept.entries > MAX_KEPT)
            };
            let Some(oldest) = oldest.filter(|_| still_over) else { break };
            if let Some(oldest) = oldest.upgrade()
                && !Arc::ptr_eq(&oldest, directory)
            {
                let gone = oldest.listing.lock().take();
                self.forgot(gone.as_deref());
            }
            over = still_over;
        }
    }

    /// A listing is kept no more.
    pub(super) fn forgot(&self, listing: Option<&Listing>) {
        if let Some(listing) = listing {
            let mut kept = self.0.lock();
            kept.entries = kept.entries.saturating_sub(listing.entries.len());
        }
    }
}

impl GoferInode {
    /// All entries, in a tree that nobody else changes with their attributes, and kept.
    pub(super) fn list(self: &Arc<Self>) -> SysResult<Arc<Listing>> {
        if let Some(listing) = &*self.listing.lock()
            && listing.has_attrs
        {
            return Ok(listing.clone());
        }
        self.ask_for_listing(self.tree.immutable)
    }

    fn ask_for_listing(self: &Arc<Self>, attrs: bool) -> SysResult<Arc<Listing>> {
        let path = self.path()?;
        let directory = self.tree.client.read_dir(self.tree.place(path.as_path()), attrs)?;
        let listing = Arc::new(Listing::new(directory.entries, attrs));
        if self.tree.immutable {
            self.tree.listings.keep(self, &listing);
        }
        Ok(listing)
    }

    /// A name was looked up that is not in this directory.
    pub(super) fn count_miss(&self) {
        if self.misses.load(Ordering::Relaxed) < NEVER_LISTED {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks for the names of this directory where so many are missing that more will be.
    pub(super) fn list_if_often_missed(self: &Arc<Self>) {
        let enough = if self.cached_attr().size > LONG {
            MISSES_BEFORE_LONG_LISTING
        } else {
            MISSES_BEFORE_LISTING
        };
        let misses = self.misses.load(Ordering::Relaxed);
        if misses < enough || misses >= NEVER_LISTED || !self.tree.immutable {
            return;
        }
        if self.listing.lock().is_some() {
            return;
        }
        let listed = self.ask_for_listing(false);
        // Where it fails, or is too long to be kept, the names are asked for one by one.
        let kept = listed.is_ok_and(|listing| listing.entries.len() <= MAX_KEPT / 2);
        self.misses.store(if kept { 0 } else { NEVER_LISTED }, Ordering::Relaxed);
    }
}
