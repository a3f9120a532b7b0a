//! Getting a guest thread out of guest code.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::{
    Kick,
    stub::{layout::KICK_SIGNAL, sys},
};

/// The context is (about to be) in guest code.
const INSIDE: u32 = 1;
/// Someone kicked since the last return.
const KICKED: u32 = 2;

/// The handle on a context that others hold.
#[derive(Debug, Default)]
pub(super) struct Kicker {
    state: AtomicU32,
    /// Process and thread id on the host, or 0.
    target: AtomicU64,
}

impl Kicker {
    /// Names the thread to signal; 0, 0 for none.
    pub(super) fn aim(&self, process: i32, thread: i32) {
        let target = u64::from(process as u32) << 32 | u64::from(thread as u32);
        self.target.store(target, Ordering::SeqCst);
    }

    /// Before entering guest code. False when there was a kick: stay out.
    pub(super) fn enter(&self) -> bool {
        if self.state.swap(INSIDE, Ordering::SeqCst) & KICKED == 0 {
            return true;
        }
        self.state.store(0, Ordering::SeqCst);
        false
    }

    /// After leaving guest code. A kick that came meanwhile is thereby served.
    pub(super) fn leave(&self) {
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
            }
        }
    }
}
