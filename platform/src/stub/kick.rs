//! Getting a guest thread out of guest code, and noticing when it will not come.
//!
//! A guest can block our signal: its siblings may write the signal mask in its frame. It
//! harms itself, but the sentry thread that serves it must not wait for ever. So
//! the reaper looks now and then after those that were kicked.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::{layout::KICK_SIGNAL, reaper::Reaper, sys};
use crate::Kick;

/// The context is (about to be) in guest code.
const INSIDE: u32 = 1;
/// Someone kicked since the last return.
const KICKED: u32 = 2;

/// The handle on a context that others hold.
#[derive(Debug)]
pub(crate) struct Kicker {
    state: AtomicU32,
    /// Process and thread id on the host, or 0.
    target: AtomicU64,
    /// How often in a row the reaper found it kicked and still inside.
    overdue: AtomicU32,
    reaper: Arc<Reaper>,
}

/// So many looks of the reaper, a second apart, before a guest is taken to resist. They
/// are counted, not timed: while the whole sandbox is stopped none are taken.
const LOOKS: u32 = 10;

impl Kicker {
    pub(super) fn new(reaper: Arc<Reaper>) -> Self {
        Self {
            state: AtomicU32::new(0),
            target: AtomicU64::new(0),
            overdue: AtomicU32::new(0),
            reaper,
        }
    }

    /// The reaper's look. `None`: nothing outstanding in this process; true: it resists.
    pub(super) fn look(&self, process: i32) -> Option<bool> {
        let target = self.target.load(Ordering::SeqCst);
        let outstanding = self.state.load(Ordering::SeqCst) == INSIDE | KICKED;
        if !outstanding || (target >> 32) as i32 != process {
            return None;
        }
        // Kicked again, in case the signal went to waste.
        let _ = sys::tgkill(process, target as u32 as i32, KICK_SIGNAL);
        Some(self.overdue.fetch_add(1, Ordering::Relaxed) >= LOOKS)
    }

    /// Names the thread to signal; 0, 0 for none.
    pub(crate) fn aim(&self, process: i32, thread: i32) {
        let target = u64::from(process as u32) << 32 | u64::from(thread as u32);
        self.target.store(target, Ordering::SeqCst);
    }

    /// Before entering guest code. False when there was a kick: stay out.
    pub(crate) fn enter(&self) -> bool {
        if self.state.swap(INSIDE, Ordering::SeqCst) & KICKED == 0 {
            return true;
        }
        self.state.store(0, Ordering::SeqCst);
        false
    }

    /// After leaving guest code. A kick that came meanwhile is thereby served.
    pub(crate) fn leave(&self) {
        self.overdue.store(0, Ordering::Relaxed);
        self.state.store(0, Ordering::SeqCst);
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        // Whoever sees INSIDE first sends the signal. It may come when the thread
        // has stopped for another reason; then the next stop is a spurious one.
        if self.state.fetch_or(KICKED, Ordering::SeqCst) == INSIDE {
            let target = self.target.load(Ordering::SeqCst);
            if target != 0 {
                let _ = sys::tgkill((target >> 32) as i32, target as u32 as i32, KICK_SIGNAL);
                self.reaper.look_soon();
            }
        }
    }
}
