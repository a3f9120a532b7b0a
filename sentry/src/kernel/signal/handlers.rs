//! What a process does with each signal (`struct sighand_struct`).

use std::sync::Arc;

use linux_abi::{
    SigSet, Signal,
    signal::{SigAction, sa},
};
use ranked_sync::Mutex;

use crate::lock_order;

/// Actions, shared by the threads of a group (and by others with CLONE_SIGHAND).
#[derive(Debug)]
pub struct SignalHandlers {
    actions: Mutex<lock_order::SignalHandlers, [SigAction; 64]>,
}

/// What happens without a handler (signal(7), "Standard signals").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    Ignore,
    Terminate,
    Core,
    Stop,
}

impl DefaultAction {
    /// By signal. SIGCONT's effect happens when it is sent; delivering it does nothing.
    pub fn of(signal: Signal) -> Self {
        if SigSet::DEFAULT_IGNORED.contains(signal) {
            Self::Ignore
        } else if SigSet::STOPS.contains(signal) {
            Self::Stop
        } else if SigSet::CORE.contains(signal) {
            Self::Core
        } else {
            Self::Terminate
        }
    }
}

fn index(signal: Signal) -> usize {
    (signal.number() as usize).wrapping_sub(1) & 63
}

impl SignalHandlers {
    /// All default.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { actions: Mutex::new([SigAction::default(); 64]) })
    }

    /// For fork(2): a copy. `clear` (CLONE_CLEAR_SIGHAND): handlers go back to default, ignored
    /// signals stay ignored.
    pub fn copy(&self, clear: bool) -> Arc<Self> {
        let mut actions = *self.actions.lock();
        if clear {
            reset(&mut actions);
        }
        Arc::new(Self { actions: Mutex::new(actions) })
    }

    pub fn get(&self, signal: Signal) -> SigAction {
        self.actions.lock()[index(signal)]
    }

    /// Replaces the action; the old one.
    pub fn set(&self, signal: Signal, mut action: SigAction) -> SigAction {
        action.mask = action.mask.minus(SigSet::UNBLOCKABLE);
        std::mem::replace(&mut self.actions.lock()[index(signal)], action)
    }

    /// The action for a delivery that is about to happen; SA_RESETHAND takes effect.
    pub fn take_for_delivery(&self, signal: Signal) -> SigAction {
        let mut actions = self.actions.lock();
        let slot = &mut actions[index(signal)];
        let action = *slot;
        if action.flags & sa::RESETHAND != 0 && action.handler > SigAction::IGN {
            slot.handler = SigAction::DFL;
        }
        action
    }

    /// Does nothing happen on the signal?
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).handler {
            SigAction::IGN => true,
            SigAction::DFL => DefaultAction::of(signal) == DefaultAction::Ignore,
            _ => false,
        }
    }

    /// Ignored and caught signals, for /proc/PID/status.
    pub fn ignored_and_caught(&self) -> (SigSet, SigSet) {
        let actions = self.actions.lock();
        let (mut ignored, mut caught) = (0, 0);
        for (at, action) in actions.iter().enumerate() {
            match action.handler {
                SigAction::DFL => {}
                SigAction::IGN => ignored |= 1 << at,
                _ => caught |= 1 << at,
            }
        }
        (SigSet(ignored), SigSet(caught))
    }

    /// As execve(2) leaves them: handlers reset, ignored ones stay.
    pub fn reset_for_exec(&self) {
        reset(&mut self.actions.lock());
    }
}

fn reset(actions: &mut [SigAction; 64]) {
    for action in actions {
        let handler =
            if action.handler == SigAction::IGN { SigAction::IGN } else { SigAction::DFL };
        *action = SigAction { handler, ..SigAction::default() };
    }
}
