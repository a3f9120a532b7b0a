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

use gofer_wire::{FileType, MAX_OPEN, Opened, TreePathBuf, TreePathsBuf};
use platform::host;
use ranked_sync::Mutex;
use smallvec::SmallVec;

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
/// Files of so many directories are opened with one request then, one above the other: of what is below each of them, too.
const LEVELS: usize = 3;
/// How far below.
const MAX_DEPTH: usize = 4;

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

impl Listing {
    /// Takes over what is known of the files from an earlier listing of this directory.
    pub(super) fn take_files(&self, from: &Self) {
        let files = std::mem::take(&mut *from.files.files.lock());
        self.files.files.lock().extend(files);
        if self.entries.len() == from.entries.len() {
            let done = std::mem::take(&mut *from.files.done.lock());
            *self.files.done.lock() = done;
        }
        self.files.opens.store(from.files.opens.load(Ordering::Relaxed), Ordering::Relaxed);
        self.files.requests.store(from.files.requests.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The file `name` is opened, which is not to be asked for again; how many were before.
    fn count_open(&self, name: &[u8]) -> u32 {
        if let Some(at) = self.position(name) {
            let mut done = self.files.done.lock();
            done.resize(self.entries.len(), false);
            if let Some(done) = done.get_mut(at) {
                *done = true;
            }
        }
        self.files.opens.fetch_add(1, Ordering::Relaxed)
    }
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
        let before = listing.count_open(&name);
        if before < OPENS_BEFORE_AHEAD && !self.tree.ahead.is_trusted() {
            return Ok(None);
        }
        self.ask_ahead(&parent, &listing, &name)
    }

    /// This file was opened along with its look-up.
    pub(super) fn count_open(&self) {
        let Some((parent, name)) = self.home() else { return };
        let listing = parent.listing.lock().clone();
        if let Some(listing) = listing {
            listing.count_open(&name);
        }
    }

    fn ask_ahead(
        &self,
        parent: &Arc<Self>,
        listing: &Arc<Listing>,
        name: &[u8],
    ) -> SysResult<Option<Arc<OwnedFd>>> {
        let before = listing.files.requests.fetch_add(1, Ordering::Relaxed);
        let is_trusted = self.tree.ahead.is_trusted();
        let doublings = if is_trusted { 3 } else { before.min(3) };
        let max = (FIRST_AHEAD << doublings).min(MAX_OPEN as u32) as usize;
        let levels = if is_trusted { LEVELS } else { 1 };
        let (base, wanted) = self.files_ahead(parent, listing, name, (max, levels))?;
        if wanted.files.len() < 2 {
            return Ok(None);
        }
        self.tree.ahead.make_room();
        let path = base.path()?;
        let place = self.tree.place(path.as_path());
        let opened = self.tree.client.open_many(place, wanted.paths.as_paths())?;
        let mut opened = opened.into_iter();
        let first = opened.next();
        let counts = &self.tree.ahead.counts;
        let mut others = 0;
        let mut last: Option<&Arc<Listing>> = None;
        for ((listing, name), opened) in wanted.files.iter().skip(1).zip(opened) {
            let Ok(opened) = opened else { continue };
            others += 1;
            let file = Ahead::new(opened, counts);
            let before = listing.files.files.lock().insert(name.clone(), file);
            drop(before);
            if last.is_none_or(|last| !Arc::ptr_eq(last, listing)) {
                self.tree.ahead.listings.lock().push_back(Arc::downgrade(listing));
                last = Some(listing);
            }
        }
        self.tree.ahead.asked(others);
        match first {
            Some(Ok(first)) => {
                self.saw(first.attr);
                Ok(Some(Arc::new(first.file)))
            }
            Some(Err(errno)) => Err(errno.into()),
            None => Ok(None),
        }
    }

    /// The file `name` in the directory `parent`, and at most `max` others that a walk comes to next: in that
    /// directory, in those in it, and in those that follow it, up to so many `levels` above. From which directory
    /// the files are named, and the files.
    fn files_ahead(
        &self,
        parent: &Arc<Self>,
        listing: &Arc<Listing>,
        name: &[u8],
        (max, levels): (usize, usize),
    ) -> SysResult<(Arc<Self>, Wanted)> {
        let mut base = parent.clone();
        let mut above: SmallVec<[(Arc<Listing>, Vec<u8>); LEVELS]> = SmallVec::new();
        while above.len() + 1 < levels
            && let Some((next, name)) = base.home()
        {
            let Some(listing) = next.listing.lock().clone() else { break };
            above.push((listing, name));
            base = next;
        }
        let mut dir = TreePathBuf::from_names(above.iter().rev().map(|(_, name)| &**name))?;
        let mut wanted = Wanted { files: Vec::with_capacity(max), paths: TreePathsBuf::new(), max };
        wanted.add(listing, name, &dir)?;
        wanted.add_files(listing, listing.position(name).unwrap_or(0), &dir)?;
        if levels > 1 {
            wanted.add_directories(listing, 0, &mut dir, 0)?;
        }
        for (listing, name) in &above {
            dir.pop();
            let Some(at) = listing.position(name) else { break };
            wanted.add_directories(listing, at + 1, &mut dir, 0)?;
        }
        Ok((base, wanted))
    }
}

/// Files to be opened with one request.
struct Wanted {
    files: Vec<(Arc<Listing>, Vec<u8>)>,
    paths: TreePathsBuf,
    max: usize,
}

impl Wanted {
    fn is_full(&self) -> bool {
        self.files.len() >= self.max
    }

    fn add(&mut self, listing: &Arc<Listing>, name: &[u8], dir: &TreePathBuf) -> SysResult<()> {
        self.paths.push(dir.as_path(), name)?;
        self.files.push((listing.clone(), name.to_vec()));
        Ok(())
    }

    /// The files of the directory `dir` that were not asked for yet, from one place of the list on.
    fn add_files(
        &mut self,
        listing: &Arc<Listing>,
        from: usize,
        dir: &TreePathBuf,
    ) -> SysResult<()> {
        let mut done = listing.files.done.lock();
        done.resize(listing.entries.len(), false);
        for at in (from..listing.entries.len()).chain(0..from) {
            if self.is_full() {
                break;
            }
            let Some(entry) = listing.entries.get(at) else { break };
            if entry.kind == FileType::Regular
                && done.get_mut(at).is_some_and(|done| !std::mem::replace(done, true))
            {
                self.add(listing, entry.name, dir)?;
            }
        }
        Ok(())
    }

    /// Files in the directories of `dir` that were listed ahead, from one place of the list on, and in those below.
    fn add_directories(
        &mut self,
        listing: &Arc<Listing>,
        from: usize,
        dir: &mut TreePathBuf,
        depth: usize,
    ) -> SysResult<()> {
        let entries = (from..listing.entries.len()).filter_map(|at| listing.entries.get(at));
        for entry in entries.filter(|entry| entry.kind == FileType::Directory) {
            if self.is_full() {
                break;
            }
            // What comes after one that is not listed yet comes late.
            let Some(below) = listing.listing_below(entry.name) else { break };
            dir.push(entry.name)?;
            self.add_files(&below, 0, dir)?;
            if depth < MAX_DEPTH {
                self.add_directories(&below, 0, dir, depth + 1)?;
            }
            dir.pop();
        }
        Ok(())
    }
}
