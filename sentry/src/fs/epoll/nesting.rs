//! epoll sets inside epoll sets: no circles, and not too deep.

use std::sync::Arc;

use super::{Epoll, EpollSet};
use crate::{SysResult, err};

/// How many sets may lie below one another, less one (`EP_MAX_NESTS`).
const MAX_DEPTH: usize = 4;

/// May `inner` be put into `outer`? The caller holds `EpollNesting`.
pub(super) fn check(outer: &Arc<EpollSet>, inner: &Arc<EpollSet>) -> SysResult<()> {
    let Some(below) = depth_below(inner, outer, 0) else { return err!(ELOOP) };
    let above = depth_above(outer, 0);
    if below + 1 + above > MAX_DEPTH { err!(ELOOP) } else { Ok(()) }
}

/// The levels of sets below `set`; `None` when `forbidden` is one of them, or there are too many.
fn depth_below(set: &Arc<EpollSet>, forbidden: &Arc<EpollSet>, level: usize) -> Option<usize> {
    if Arc::ptr_eq(set, forbidden) || level > MAX_DEPTH {
        return None;
    }
    let files: Vec<_> = set.items.lock().values().filter_map(|item| item.file()).collect();
    let mut deepest = 0;
    for file in files {
        if let Some(inner) = file.ops_as::<Epoll>() {
            deepest = deepest.max(1 + depth_below(&inner.0, forbidden, level + 1)?);
        }
    }
    Some(deepest)
}

/// The levels of sets above `set`.
fn depth_above(set: &Arc<EpollSet>, level: usize) -> usize {
    if level > MAX_DEPTH {
        return level;
    }
    let parents: Vec<_> = set.parents.lock().iter().filter_map(std::sync::Weak::upgrade).collect();
    parents.iter().map(|parent| 1 + depth_above(parent, level + 1)).max().unwrap_or(0)
}
