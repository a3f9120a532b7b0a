//! The vCPUs of a sandbox, and who has them.
//!
//! A context has a vCPU only while it is in guest code. It prefers the one it had last, which
//! still has its state, then one that its thread had, as KVM is slow to move a vCPU between threads;
//! then a new one. When there may be no more, it waits for its turn, and takes a vCPU away from somebody
//! if none comes back by itself.

use std::{sync::Arc, time::Duration};

use ranked_sync::{Condvar, Mutex, RwLock};

use super::{kick::VcpuSign, machine::Machine, saved, tables::Command, vcpu::Vcpu};
use crate::{
    PlatformError,
    lock_order::{KvmCommander, KvmPool, KvmVcpus},
};

/// How long a context waits for a vCPU before it takes one away.
const TURN: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    /// How many vCPUs there may be, but for the commander.
    limit: usize,
    /// Changes page tables for callers that have no vCPU.
    commander: Mutex<KvmCommander, Option<Vcpu>>,
    state: Mutex<KvmPool, State>,
    freed: Condvar,
    all: RwLock<KvmVcpus, Vec<Arc<VcpuSign>>>,
}

#[derive(Debug, Default)]
struct State {
    /// The longest idle first.
    #[expect(clippy::vec_box, reason = "they are large, and handed out for each switch")]
    idle: Vec<Box<Vcpu>>,
    made: usize,
    /// Numbers are not used twice: KVM knows no end of a vCPU.
    next_number: u64,
    waiting: usize,
    /// Where to look for somebody to take a vCPU from.
    turn: usize,
}

impl State {
    /// An idle vCPU: number `hint`, or one that this thread had; any when `any`.
    fn choose(&mut self, hint: Option<u64>, any: bool) -> Option<Box<Vcpu>> {
        let at = self
            .idle
            .iter()
            .position(|vcpu| Some(vcpu.sign.number) == hint)
            .or_else(|| self.idle.iter().rposition(|vcpu| vcpu.sign.was_here()))
            .or_else(|| (any && !self.idle.is_empty()).then_some(0))?;
        Some(self.idle.remove(at))
    }
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            commander: Mutex::new(None),
            state: Mutex::default(),
            freed: Condvar::default(),
            all: RwLock::default(),
        }
    }

    /// A vCPU for the calling thread; number `hint`, if that is idle.
    pub(super) fn acquire(
        &self,
        machine: &Machine,
        hint: Option<u64>,
    ) -> Result<Box<Vcpu>, PlatformError> {
        let mut state = self.state.lock();
        if state.waiting == 0 {
            let is_full = state.made >= self.limit;
            if let Some(vcpu) = state.choose(hint, is_full) {
                return Ok(vcpu);
            }
            if !is_full {
                state.made += 1;
                state.next_number += 1;
                let number = state.next_number;
                drop(state);
                return self.make(machine, number).map(Box::new);
            }
        }
        state.waiting += 1;
        loop {
            let is_late = self.freed.wait_for(&mut state, TURN);
            if let Some(vcpu) = state.choose(hint, true) {
                state.waiting -= 1;
                return Ok(vcpu);
            }
            if state.made < self.limit {
                // One broke.
                state.waiting -= 1;
                drop(state);
                return self.acquire(machine, hint);
            }
            if is_late {
                state.turn = state.turn.wrapping_add(1);
                self.take_from_somebody(state.turn);
            }
        }
    }

    fn make(&self, machine: &Machine, number: u64) -> Result<Vcpu, PlatformError> {
        match Vcpu::new(machine, number) {
            Ok(vcpu) => {
                self.all.write().push(vcpu.sign.clone());
                Ok(vcpu)
            }
            Err(error) => {
                self.state.lock().made -= 1;
                Err(error)
            }
        }
    }

    fn take_from_somebody(&self, turn: usize) {
        let all = self.all.read();
        let count = all.len().max(1);
        let from = turn % count;
        let mut candidates = all.iter().cycle().skip(from).take(count);
        if let Some(vcpu) = candidates.find(|vcpu| vcpu.is_running()) {
            vcpu.interrupt();
        }
    }

    /// True when contexts wait for a vCPU.
    pub(super) fn is_scarce(&self) -> bool {
        self.state.lock().waiting > 0
    }

    pub(super) fn release(&self, vcpu: Box<Vcpu>) {
        let mut state = self.state.lock();
        state.idle.push(vcpu);
        if state.waiting > 0 {
            self.freed.notify_one();
        }
    }

    /// Takes vCPU `number` if it is idle.
    pub(super) fn take(&self, number: u64) -> Option<Box<Vcpu>> {
        let mut state = self.state.lock();
        let at = state.idle.iter().position(|vcpu| vcpu.sign.number == number)?;
        Some(state.idle.remove(at))
    }

    /// Whether there is such a vCPU.
    pub(super) fn knows(&self, number: u64) -> bool {
        self.all.read().iter().any(|sign| sign.number == number)
    }

    /// Gives up a vCPU that does not work any more.
    pub(super) fn discard(&self, vcpu: Box<Vcpu>) {
        self.all.write().retain(|sign| sign.number != vcpu.sign.number);
        // Kept, as those who kick it may have its sign; there are few.
        std::mem::forget(vcpu);
        self.state.lock().made -= 1;
        self.freed.notify_one();
    }

    /// Has page-table entries cleared.
    pub(super) fn clear(
        &self,
        machine: &Machine,
        commands: &[Command],
    ) -> Result<(), PlatformError> {
        if commands.is_empty() {
            return Ok(());
        }
        let own = self.state.lock().choose(None, false);
        if let Some(mut vcpu) = own {
            let cleared = vcpu.clear(machine, commands);
            match cleared {
                Ok(()) => self.release(vcpu),
                Err(_) => self.discard(vcpu),
            }
            return cleared;
        }
        let mut commander = self.commander.lock();
        let vcpu = match &mut *commander {
            Some(vcpu) => vcpu,
            none => none.insert(Vcpu::new(machine, 0)?),
        };
        vcpu.clear(machine, commands)
    }

    /// Makes each vCPU that may be running code of `space` leave, and waits until it has.
    pub(super) fn drive_out(&self, space: u64) {
        for vcpu in self.all.read().iter() {
            vcpu.drive_out(space);
        }
    }

    /// How often vCPUs left the guest.
    #[cfg(test)]
    pub(super) fn exits(&self) -> u64 {
        use std::sync::atomic::Ordering;
        self.all.read().iter().map(|vcpu| vcpu.exits.load(Ordering::Relaxed)).sum()
    }

    /// Takes the state of a context out of vCPU `number`, if it is still there.
    pub(super) fn unload(&self, machine: &Machine, number: u64) -> Result<(), PlatformError> {
        let Some(mut vcpu) = self.take(number) else { return Ok(()) };
        let unloaded = saved::unload(machine, &mut vcpu);
        self.release(vcpu);
        unloaded
    }
}
