//! Restartable sequences (rseq(2), `kernel/rseq.c`): a thread that has registered an area is told in it which processor
//! it runs on, and a critical section of its that was interrupted starts anew at its abort handler.
//!
//! "Interrupted" is what Linux means by it: another thread may have run on that processor, or a handler is called. The
//! processors are virtual ones ([`super::super::virtual_processors`]).

use std::sync::{Arc, atomic::Ordering};

use linux_abi::{
    Errno, SigInfo, Signal,
    rseq::{CPU_ID_UNINITIALIZED, CPU_IDS, CRITICAL_SECTION, CriticalSection, FLAGS, NODE_AND_CID},
};
use platform::Registers;

use super::Task;
use crate::{
    kernel::{
        CurrentTask,
        virtual_processors::{Owner, VirtualProcessors, is_allowed},
    },
    user::{UserMemory, UserRef},
};

/// What a thread registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    /// Where its `struct rseq` is, and how long that is.
    pub(crate) area: u64,
    pub(crate) len: u32,
    /// What lies before each abort handler.
    pub(crate) signature: u32,
}

/// A thread that has registered.
pub(in crate::kernel) struct Rseq {
    registration: Registration,
    processors: Arc<VirtualProcessors>,
    owner: Owner,
    /// The processor it is on, or was the last time in guest code: the one in its area.
    processor: Option<u32>,
}

impl Drop for Rseq {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Rseq {
    fn give_up(&self) {
        if let Some(processor) = self.processor {
            self.processors.give_up(&self.owner, processor);
        }
    }

    #[inline]
    fn resume(&self) -> bool {
        self.processor.is_some_and(|processor| self.processors.resume(&self.owner, processor))
    }

    /// Its thread has left guest code.
    #[inline]
    pub(super) fn leave(&self) {
        if let Some(processor) = self.processor {
            self.processors.leave(&self.owner, processor);
        }
    }
}

impl CurrentTask {
    pub(crate) fn rseq_registration(&self) -> Option<Registration> {
        self.rseq.as_ref().map(|rseq| rseq.registration)
    }

    /// Replaces what is registered. The area is written before guest code runs again.
    pub(crate) fn set_rseq(&mut self, registration: Option<Registration>) {
        let processors = self.kernel().virtual_processors().cloned();
        self.rseq = registration.zip(processors).map(|(registration, processors)| {
            let owner = processors.new_owner(self.task.kick.get().cloned(), self.waker().clone());
            Box::new(Rseq { registration, processors, owner, processor: None })
        });
        self.refresh_answers();
    }

    /// The virtual processor of a thread that has registered.
    pub(crate) fn virtual_processor(&self) -> Option<u32> {
        self.rseq.as_ref()?.processor
    }

    /// The thread is about to sleep, or to let others go first.
    #[inline]
    pub(crate) fn give_up_virtual_processor(&self) {
        if let Some(rseq) = &self.rseq {
            rseq.give_up();
        }
    }

    /// Before guest code, where something is registered: gets a virtual processor, and does what is due if it is not as
    /// it was. False: there is a signal or stop to look at first.
    #[inline]
    pub(super) fn enter_virtual_processor(&mut self) -> bool {
        let is_due = self.task.rseq_is_due.load(Ordering::SeqCst);
        if !is_due && self.rseq.as_ref().is_none_or(|rseq| rseq.resume()) {
            return true;
        }
        self.take_virtual_processor()
    }

    #[cold]
    fn take_virtual_processor(&mut self) -> bool {
        let was_due = self.task.rseq_is_due.swap(false, Ordering::SeqCst);
        let allowed = self.task.affinity();
        let Some(rseq) = &mut self.rseq else { return true };
        if was_due && rseq.processor.is_some_and(|number| !is_allowed(allowed.as_deref(), number)) {
            rseq.give_up();
            rseq.processor = None;
        }
        if !(was_due && rseq.resume()) {
            let taken = rseq.processors.take(&mut rseq.owner, rseq.processor, allowed);
            let Some(processor) = taken else { return false };
            rseq.processor = Some(processor);
        }
        if self.update_rseq().is_err() {
            if let Some(rseq) = &self.rseq {
                rseq.leave();
            }
            if !self.has_lost_its_process() {
                self.task.force_signal(SigInfo::kernel(Signal::SEGV));
            }
            return false;
        }
        true
    }

    /// Interrupts the critical section and tells the thread its processor (`__rseq_handle_notify_resume`).
    pub(super) fn update_rseq(&mut self) -> Result<(), Errno> {
        let Some(rseq) = &self.rseq else { return Ok(()) };
        let (area, processor) = (rseq.registration.area, rseq.processor);
        self.abort_critical_section()?;
        let Some(processor) = processor else { return Ok(()) };
        // Nodes of memory there are none but one. Threads of one address space have different processors, so
        // that the number will do as `mm_cid`.
        self.mm.write_obj(UserRef::new(area.wrapping_add(CPU_IDS)), &[processor; 2])?;
        self.mm.write_obj(UserRef::new(area.wrapping_add(NODE_AND_CID)), &[0, processor])
    }

    /// A thread in a critical section goes on at its abort handler (`rseq_ip_fixup`).
    fn abort_critical_section(&mut self) -> Result<(), Errno> {
        let Some(rseq) = &self.rseq else { return Ok(()) };
        let Registration { area, signature, .. } = rseq.registration;
        let pointer = UserRef::<u64>::new(area.wrapping_add(CRITICAL_SECTION));
        let at = self.mm.read_obj(pointer)?;
        if at == 0 {
            return Ok(());
        }
        let end = self.mm.user_range().end;
        if at >= end {
            return Err(Errno::EINVAL);
        }
        let section: CriticalSection = self.mm.read_obj(UserRef::new(at))?;
        if !section.is_valid(end) {
            return Err(Errno::EINVAL);
        }
        let before_handler = section.abort_ip.wrapping_sub(size_of::<u32>() as u64);
        if self.mm.read_obj(UserRef::<u32>::new(before_handler))? != signature {
            tracing::debug!(tid = self.tid(), "an abort handler without the signature");
            return Err(Errno::EINVAL);
        }
        let Registers { rip, .. } = *self.context.registers().map_err(|_| Errno::EFAULT)?;
        if section.contains(rip) {
            let flags: u32 = self.mm.read_obj(UserRef::new(area.wrapping_add(FLAGS)))?;
            // Sections that do not start anew are no more.
            if section.flags != 0 || flags != 0 {
                return Err(Errno::EINVAL);
            }
            self.context.registers().map_err(|_| Errno::EFAULT)?.rip = section.abort_ip;
        }
        self.mm.write_obj(pointer, &0)
    }

    /// What an area holds that is not registered (`rseq_reset_rseq_cpu_node_id`).
    pub(crate) fn reset_rseq_area(&self, area: u64) -> Result<(), Errno> {
        let ids = [0, CPU_ID_UNINITIALIZED];
        self.mm.write_obj(UserRef::new(area.wrapping_add(CPU_IDS)), &ids)?;
        self.mm.write_obj(UserRef::new(area.wrapping_add(NODE_AND_CID)), &[0_u32; 2])
    }
}

impl Task {
    /// Before it runs guest code again the thread is to look whether its virtual processor is one that it may have, and a
    /// critical section that it is in is to start anew. From here on it does not get into guest code without that; it may
    /// still be there ([`Self::wait_for_exit_from_guest`]).
    pub(crate) fn make_rseq_due(&self) {
        self.rseq_is_due.store(true, Ordering::SeqCst);
        if let Some(kick) = self.kick.get() {
            kick.kick();
        }
    }
}
