//! Who maps a file, so that truncation can take pages away from them.

use std::{
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use ranked_sync::Mutex;

use super::{MemoryManager, batch::Batch, pma::Owner, state::Freed, vma::Source, vma::Vma};
use crate::lock_order;

/// The address spaces that map one mappable object.
///
/// Kept as a set of address spaces, not of mappings: those change with each split, and truncating a mapped file is rare.
#[derive(Debug, Default)]
pub struct MappingSet {
    spaces: Mutex<lock_order::Mappings, Vec<Weak<MemoryManager>>>,
    /// Goes up when pages are taken away, so that pages looked up before are not mapped after.
    generation: AtomicU64,
}

impl MappingSet {
    /// `mm` maps the object from now on.
    pub(super) fn add(&self, mm: &Weak<MemoryManager>) {
        let mut spaces = self.spaces.lock();
        if spaces.iter().any(|known| known.ptr_eq(mm)) {
            return;
        }
        if spaces.len() >= 8 && spaces.len().is_power_of_two() {
            spaces.retain(|known| known.strong_count() > 0);
        }
        spaces.push(mm.clone());
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// True when no one maps it.
    pub fn is_empty(&self) -> bool {
        self.spaces.lock().iter().all(|space| space.strong_count() == 0)
    }

    /// Does someone map it shared, so that it could be written through the mapping?
    pub fn has_writable_mapping(&self) -> bool {
        let spaces: Vec<_> = self.spaces.lock().iter().filter_map(Weak::upgrade).collect();
        spaces.iter().any(|mm| mm.maps_writable(self))
    }

    /// How many mappings of the object were made (and forked) that are still there: parts of one count once.
    pub fn objects_mapped(&self) -> u64 {
        let spaces: Vec<_> = self.spaces.lock().iter().filter_map(Weak::upgrade).collect();
        let mut count = 0;
        for mm in spaces {
            let mut known = Vec::new();
            for (_, vma) in mm.state.read().vmas.iter() {
                if let Source::File { file, .. } = &vma.source
                    && file.mappable.mappings().is_some_and(|its| std::ptr::eq(its, self))
                    && !known.contains(&Arc::as_ptr(file))
                {
                    known.push(Arc::as_ptr(file));
                    count += 1;
                }
            }
        }
        count
    }

    /// Takes away the pages of the object's bytes `range` (whole pages) from all who map them: touching them asks
    /// [`crate::vfs::Mappable::pages`] again. `private_copies`: also those a write has copied (truncation does that,
    /// hole punching does not). To be called after the object itself has dropped the pages, with no lock
    /// held that comes after `MmVmas` or that `pages` takes.
    pub fn invalidate(&self, range: Range<u64>, private_copies: bool) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        let spaces: Vec<_> = self.spaces.lock().iter().filter_map(Weak::upgrade).collect();
        for mm in spaces {
            mm.invalidate(self, &range, private_copies);
        }
    }
}

impl MemoryManager {
    /// Tells the mapped object, if it wants to know.
    pub(super) fn register(&self, vma: &Vma) {
        if let Source::File { file, .. } = &vma.source
            && let Some(set) = file.mappable.mappings()
        {
            set.add(&self.this);
        }
    }

    fn maps_writable(&self, set: &MappingSet) -> bool {
        let state = self.state.read();
        state.vmas.iter().any(|(_, vma)| {
            let Source::File { file, .. } = &vma.source else { return false };
            vma.is_shared()
                && vma.max_prot.contains(platform::Prot::WRITE)
                && file.mappable.mappings().is_some_and(|its| std::ptr::eq(its, set))
        })
    }

    fn invalidate(&self, set: &MappingSet, bytes: &Range<u64>, private_copies: bool) {
        let mut state = self.write_state();
        let mut gone = Vec::new();
        for (range, vma) in state.vmas.iter() {
            let Source::File { file, offset } = &vma.source else { continue };
            if !file.mappable.mappings().is_some_and(|its| std::ptr::eq(its, set)) {
                continue;
            }
            let offset = *offset;
            let end = offset.saturating_add(range.end - range.start);
            let (from, to) = (bytes.start.max(offset), bytes.end.min(end));
            if from < to {
                gone.push(range.start + (from - offset)..range.start + (to - offset));
            }
        }
        let (mut batch, mut freed) = (Batch::default(), Freed::new());
        for range in gone {
            let parts: Vec<_> = state.pmas.clipped(range).collect();
            for (part, pma) in parts {
                if private_copies || pma.owner != Owner::Own {
                    state.remove_pmas(part.clone(), &mut freed);
                    batch.unmap(part);
                }
            }
        }
        // The host refuses to unmap only when its process is dead.
        let _ = self.commit(&mut state, &batch, &freed);
    }
}
