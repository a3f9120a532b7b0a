//! Whole directories of a tree that nobody else changes, kept once they were asked for.
//!
//! A listing answers each lookup in its directory: where there is no such name, and what an entry is
//! like if its attributes came along. Kept listings are counted by their entries; the oldest go when there are too many.
//!
//! Who walks through a tree gets what comes next before asking: listings of directories beside and below the one
//! that was asked for (here), and open files ([`super::ahead`]). They wait in the listing that names them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use gofer_wire::{Attr, Directory, Entries, Entry, FileType, MAX_LISTED, TreePathBuf};
use ranked_sync::Mutex;

use super::{ahead::FilesAhead, inode::GoferInode};
use crate::{SysResult, lock_order};

/// Entries of all kept listings of a tree together: some 50 bytes each, 250 with attributes.
const MAX_KEPT: usize = 256 << 10;
/// Missing names that are asked for one by one in a directory; then its names are asked for.
const MISSES_BEFORE_LISTING: u32 = 2;
/// The same where the directory is so long (`st_size`, in bytes) that its names are not worth a few lookups.
const MISSES_BEFORE_LONG_LISTING: u32 = 64;
const LONG: u64 = 256 << 10;
/// Misses of a directory that is not asked for its names.
const NEVER_LISTED: u32 = u32::MAX / 2;
/// Entries of a directory that are asked for one by one for their attributes; then all are.
const LOOKUPS_BEFORE_ATTRS: u32 = 2;
/// Entries per such lookup at which the attributes of all are not worth it yet.
const ENTRIES_PER_LOOKUP: usize = 512;
/// So many directories whose attributes were asked for later show that they are wanted at once.
const ATTRS_WANTED: u32 = 2;
/// Entries of the directories that come with one which is part of a walk.
const AHEAD: u32 = 512;

/// A directory's entries, all of them, in the order the host told them.
pub(super) struct Listing {
    pub(super) entries: Entries,
    /// Indices of `entries` in the order of their names.
    by_name: Vec<u32>,
    has_attrs: bool,
    /// Listings of directories in this one, until they are looked up.
    below: Mutex<lock_order::Leaf, HashMap<Vec<u8>, Below>>,
    /// Which of them were listed.
    asked: Mutex<lock_order::Leaf, Vec<bool>>,
    /// Entries of it that were listed, and how many were looked up for their attributes.
    listed: AtomicU32,
    looked_up: AtomicU32,
    pub(super) files: FilesAhead,
    /// Where its entries are counted.
    total: Arc<AtomicUsize>,
}

/// A directory that is listed already.
struct Below {
    attr: Attr,
    listing: Arc<Listing>,
}

impl Listing {
    fn new(entries: Entries, has_attrs: bool, kept: &KeptListings) -> Arc<Self> {
        let mut by_name: Vec<u32> = (0..u32::try_from(entries.len()).unwrap_or(u32::MAX)).collect();
        let name = |at: &u32| entries.get(*at as usize).map(|entry| entry.name);
        by_name.sort_unstable_by(|a, b| name(a).cmp(&name(b)));
        kept.total.fetch_add(entries.len(), Ordering::Relaxed);
        Arc::new(Self {
            entries,
            by_name,
            has_attrs,
            below: Mutex::new(HashMap::new()),
            asked: Mutex::new(Vec::new()),
            listed: AtomicU32::new(0),
            looked_up: AtomicU32::new(0),
            files: FilesAhead::default(),
            total: kept.total.clone(),
        })
    }

    /// Where in the list `name` is.
    pub(super) fn position(&self, name: &[u8]) -> Option<usize> {
        let entry = |at: u32| self.entries.get(at as usize);
        let at = self
            .by_name
            .binary_search_by(|&at| entry(at).map_or(&b""[..], |entry| entry.name).cmp(name))
            .ok()?;
        self.by_name.get(at).map(|at| *at as usize)
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<Entry<'_>> {
        self.entries.get(self.position(name)?)
    }

    /// Up to `max` entries of a kind from the one called `name` on, that one first, and on from the start after
    /// the last. `skip` gets where an entry is in the list.
    pub(super) fn names_from(
        &self,
        name: &[u8],
        kind: FileType,
        max: usize,
        mut skip: impl FnMut(usize) -> bool,
    ) -> SysResult<TreePathBuf> {
        let mut names = TreePathBuf::new();
        names.push(name)?;
        let Some(first) = self.position(name) else { return Ok(names) };
        skip(first);
        let in_turn = (first + 1..self.entries.len()).chain(0..first);
        let next = in_turn.filter_map(|at| Some((at, self.entries.get(at)?)));
        let next = next.filter(|(at, entry)| entry.kind == kind && !skip(*at));
        for (_, entry) in next.take(max.saturating_sub(1)) {
            names.push(entry.name)?;
        }
        Ok(names)
    }

    /// The directory `name` in this one is asked for; how many were so far.
    fn count_listed(&self, name: &[u8]) -> u32 {
        if let Some(at) = self.position(name) {
            self.was_listed(at);
        }
        self.listed.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The directory at this place of the list was listed.
    fn was_listed(&self, at: usize) {
        let mut asked = self.asked.lock();
        asked.resize(self.entries.len(), false);
        if let Some(asked) = asked.get_mut(at) {
            *asked = true;
        }
    }

    fn put_below(&self, name: &[u8], attr: Attr, listing: Arc<Listing>) {
        let at = self.position(name);
        let is_directory = |at: &usize| {
            self.entries.get(*at).is_some_and(|entry| entry.kind == FileType::Directory)
        };
        if let Some(at) = at.filter(is_directory) {
            self.was_listed(at);
            let before = self.below.lock().insert(name.to_vec(), Below { attr, listing });
            drop(before);
        }
    }

    /// The listing of the directory `name` in this one, if it came with this one and was not looked up yet.
    pub(super) fn listing_below(&self, name: &[u8]) -> Option<Arc<Self>> {
        self.below.lock().get(name).map(|below| below.listing.clone())
    }

    pub(super) fn has_below(&self, name: &[u8]) -> bool {
        self.below.lock().contains_key(name)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.total.fetch_sub(self.entries.len(), Ordering::Relaxed);
    }
}

/// The listings that a tree keeps.
#[derive(Default)]
pub(super) struct KeptListings {
    /// Entries of all listings that there are.
    total: Arc<AtomicUsize>,
    /// Oldest first. A directory is in it once for each time it was listed.
    directories: Mutex<lock_order::Leaf, VecDeque<Weak<GoferInode>>>,
    /// Directories whose attributes were asked for after their names.
    attrs_wanted: AtomicU32,
}

impl KeptListings {
    /// Keeps a listing with its directory, if it is not too long by itself.
    fn keep(&self, directory: &Arc<GoferInode>, listing: &Arc<Listing>) {
        if listing.entries.len() > MAX_KEPT / 2 {
            return;
        }
        let before = directory.listing.lock().replace(listing.clone());
        drop(before);
        {
            let mut directories = self.directories.lock();
            directories.push_back(Arc::downgrade(directory));
            // Directories that are gone leave their place in the queue behind.
            if directories.len() > MAX_KEPT {
                directories.retain(|directory| directory.strong_count() > 0);
            }
        }
        while self.total.load(Ordering::Relaxed) > MAX_KEPT {
            let oldest = self.directories.lock().pop_front();
            let Some(oldest) = oldest else { break };
            if let Some(oldest) = oldest.upgrade()
                && !Arc::ptr_eq(&oldest, directory)
            {
                let gone = oldest.listing.lock().take();
                drop(gone);
            }
        }
    }
}

impl GoferInode {
    /// All entries; kept in a tree that nobody else changes.
    pub(super) fn list(self: &Arc<Self>) -> SysResult<Arc<Listing>> {
        if let Some(listing) = &*self.listing.lock() {
            return Ok(listing.clone());
        }
        if self.tree.immutable
            && let Some((parent, name)) = self.home()
        {
            let siblings = parent.listing.lock().clone();
            if let Some(siblings) = siblings
                && siblings.count_listed(&name) > 1
            {
                return self.list_ahead(&parent, &siblings, &name);
            }
        }
        self.ask_for_listing(self.wants_attrs())
    }

    fn wants_attrs(&self) -> bool {
        self.tree.immutable
            && self.tree.listings.attrs_wanted.load(Ordering::Relaxed) >= ATTRS_WANTED
    }

    fn ask_for_listing(self: &Arc<Self>, attrs: bool) -> SysResult<Arc<Listing>> {
        let path = self.path()?;
        let directory = self.tree.client.read_dir(self.tree.place(path.as_path()), attrs)?;
        let listing = Listing::new(directory.entries, attrs, &self.tree.listings);
        if self.tree.immutable {
            self.tree.listings.keep(self, &listing);
        }
        Ok(listing)
    }

    /// Asks for this directory, `name` of `parent`, and for what comes next in a walk through `parent`.
    fn list_ahead(
        self: &Arc<Self>,
        parent: &Arc<Self>,
        siblings: &Listing,
        name: &[u8],
    ) -> SysResult<Arc<Listing>> {
        let names = {
            let mut asked = siblings.asked.lock();
            asked.resize(siblings.entries.len(), false);
            siblings.names_from(name, FileType::Directory, MAX_LISTED, |at| {
                asked.get(at).copied().unwrap_or(true)
            })?
        };
        let attrs = self.wants_attrs();
        let path = parent.path()?;
        let place = self.tree.place(path.as_path());
        let (first, below) = self.tree.client.read_dirs(place, names.as_path(), attrs, AHEAD)?;
        let listings = &self.tree.listings;
        let listing = Listing::new(first.entries, attrs, listings);
        let mut known: HashMap<Vec<u8>, Arc<Listing>> = HashMap::new();
        known.insert(name.to_vec(), listing.clone());
        for told in below {
            let Some((above, name)) = told.path.as_path().split_last() else { continue };
            let Directory { attr, entries } = told.directory;
            let below = Listing::new(entries, attrs, listings);
            if above.is_root() {
                siblings.put_below(name, attr, below.clone());
            } else if let Some(above) = known.get(above.as_bytes()) {
                above.put_below(name, attr, below.clone());
            }
            known.insert(told.path.as_path().as_bytes().to_vec(), below);
        }
        listings.keep(self, &listing);
        Ok(listing)
    }

    /// The directory `name` of this one, if it came with `listing`.
    pub(super) fn take_below(
        self: &Arc<Self>,
        listing: &Listing,
        name: &[u8],
    ) -> Option<Arc<Self>> {
        let below = listing.below.lock().remove(name)?;
        let child = self.child(name, below.attr);
        self.tree.listings.keep(&child, &below.listing);
        Some(child)
    }

    /// A name was looked up that is not in this directory.
    pub(super) fn count_miss(&self) {
        if self.misses.load(Ordering::Relaxed) < NEVER_LISTED {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks for what will be wanted of this directory, of which `name` is looked up: its names where so many are missing
    /// that more will be, the attributes of its entries where they are looked up one after the other.
    pub(super) fn list_if_worth_it(self: &Arc<Self>, name: &[u8]) {
        if !self.tree.immutable {
            return;
        }
        let listing = self.listing.lock().clone();
        match listing {
            Some(listing) => self.ask_for_attrs_if_worth_it(&listing, name),
            None => self.list_if_often_missed(),
        }
    }

    fn list_if_often_missed(self: &Arc<Self>) {
        let enough = if self.cached_attr().size > LONG {
            MISSES_BEFORE_LONG_LISTING
        } else {
            MISSES_BEFORE_LISTING
        };
        let misses = self.misses.load(Ordering::Relaxed);
        if misses < enough || misses >= NEVER_LISTED {
            return;
        }
        let listed = self.ask_for_listing(false);
        // Where it fails, or is too long to be kept, the names are asked for one by one.
        let kept = listed.is_ok_and(|listing| listing.entries.len() <= MAX_KEPT / 2);
        self.misses.store(if kept { 0 } else { NEVER_LISTED }, Ordering::Relaxed);
    }

    fn ask_for_attrs_if_worth_it(self: &Arc<Self>, listing: &Listing, name: &[u8]) {
        let unknown = |entry: Entry<'_>| entry.attr.is_none() && entry.kind != FileType::Directory;
        if listing.has_attrs || !listing.get(name).is_some_and(unknown) {
            return;
        }
        let before = listing.looked_up.fetch_add(1, Ordering::Relaxed);
        let enough = listing.entries.len().div_ceil(ENTRIES_PER_LOOKUP);
        let least = if self.wants_attrs() { 1 } else { LOOKUPS_BEFORE_ATTRS };
        let enough = least.max(u32::try_from(enough).unwrap_or(u32::MAX));
        if before.saturating_add(1) < enough {
            return;
        }
        // Where it fails, the names are asked for one by one.
        if let Ok(new) = self.ask_for_listing(true) {
            let below = std::mem::take(&mut *listing.below.lock());
            *new.below.lock() = below;
            new.take_files(listing);
            new.listed.store(listing.listed.load(Ordering::Relaxed), Ordering::Relaxed);
            self.tree.listings.attrs_wanted.fetch_add(1, Ordering::Relaxed);
        }
    }
}
