//! Tables of address spaces that are gone. Their entries are cleared when their pages are needed, many
//! in one go, so that nobody waits for it when a large process ends, nor at all when the sandbox does.
//!
//! No guest code runs on them any more. A vCPU may still have such a root loaded; it loads another one before
//! it enters guest code again.

use std::collections::VecDeque;

use ranked_sync::Mutex;

use super::tables::{BATCH, Batch};
use crate::lock_order::KvmRemains;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Remains(Mutex<KvmRemains, VecDeque<Batch>>);

impl Remains {
    pub(super) fn add(&self, batches: Vec<Batch>) {
        self.0.lock().extend(batches);
    }

    /// Some of them, as much as is cleared well at once.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut all = self.0.lock();
        let mut taken = all.pop_front()?;
        while all.front().is_some_and(|next| taken.commands.len() + next.commands.len() <= BATCH)
            && let Some(next) = all.pop_front()
        {
            taken.commands.extend(next.commands);
            taken.tables.extend(next.tables);
            taken.roots.extend(next.roots);
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ones_are_taken_together() {
        let batch = |count: u64| Batch {
            commands: (0..count).map(|n| (n, 1)).collect(),
            tables: vec![count],
            roots: vec![],
        };
        let remains = Remains::default();
        let large = BATCH as u64;
        remains.add(vec![batch(1), batch(2), batch(large)]);
        remains.add(vec![batch(3)]);
        let taken = |remains: &Remains| remains.take().map(|batch| batch.tables);
        assert_eq!(taken(&remains), Some(vec![1, 2]));
        assert_eq!(taken(&remains), Some(vec![large]));
        assert_eq!(taken(&remains), Some(vec![3]));
        assert_eq!(taken(&remains), None);
    }
}
