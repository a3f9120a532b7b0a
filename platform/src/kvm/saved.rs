//! What of a context may be in a vCPU when it is not running: extended state and segment bases.
//!
//! A vCPU keeps them until another context comes to run on it. Most contexts find their own vCPU
//! again, and nothing is saved or loaded.

use ranked_sync::Mutex;

use super::{machine::Machine, vcpu::Vcpu};
use crate::{PlatformError, XState, lock_order::KvmSaved};

/// See the module. Shared by the context and the vCPU that has its state.
#[derive(Debug, Default)]
pub(super) struct Saved {
    state: Mutex<KvmSaved, Option<State>>,
}

/// Taken out of a vCPU.
#[derive(Debug)]
pub(super) struct State {
    pub(super) xstate: XState,
    pub(super) bases: (u64, u64),
}

impl Saved {
    pub(super) fn put(&self, state: State) {
        *self.state.lock() = Some(state);
    }

    /// `None`: it is in a vCPU.
    pub(super) fn take(&self) -> Option<State> {
        self.state.lock().take()
    }
}

/// Takes the state of whoever has it in `vcpu` out of there.
pub(super) fn unload(machine: &Machine, vcpu: &mut Vcpu) -> Result<(), PlatformError> {
    let Some(saved) = vcpu.live.take() else { return Ok(()) };
    // Nobody is left who could want it.
    if std::sync::Arc::strong_count(&saved) == 1 {
        return Ok(());
    }
    saved.put(State { xstate: vcpu.xstate(machine)?, bases: vcpu.bases()? });
    Ok(())
}
