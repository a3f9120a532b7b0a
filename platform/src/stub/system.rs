//! Makes stub processes: the zygote, the reaper and the spare ones.

#![allow(unsafe_code, reason = "takes ownership of the pidfd which the zygote made")]

use std::{
    os::fd::{FromRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{
    control::Control,
    kick::Kicker,
    layout::{C_CLOCK, CONST_OFFSET},
    process::{Shared, StubProcess},
    reaper::Reaper,
    registry::Registry,
    sys,
    zygote::{Kind, Zygote},
};
use crate::{
    PlatformError,
    lock_order::{SparePool, ZygoteChannel},
    vdso,
};

/// How many stub processes are kept ready once a guest has made a second process; many never do.
const SPARES: usize = 2;

/// See the module. One per sandbox; stub processes die with it.
#[derive(Debug)]
pub(crate) struct StubSystem {
    nursery: Arc<Nursery>,
    thread: Option<JoinHandle<()>>,
    host_vdso: Option<u64>,
}

/// What it takes to make a process.
#[derive(Debug)]
struct Nursery {
    control: Arc<Control>,
    registry: Arc<Registry>,
    reaper: Arc<Reaper>,
    zygote: Mutex<ZygoteChannel, Option<Zygote>>,
    spares: Mutex<SparePool, Vec<StubProcess>>,
    /// Processes given out.
    given_out: AtomicUsize,
}

impl Nursery {
    fn spawn(&self) -> Result<StubProcess, PlatformError> {
        let busy =
            || PlatformError::Host { what: "too many guest processes", errno: Errno::EAGAIN };
        let control = &self.control;
        let pages = control.take_command_pages().ok_or_else(busy)?;
        let Some(slot) = control.take_slot() else {
            control.give_back(Some(pages), &[]);
            return Err(busy());
        };
        StubProcess::prepare(control, pages, slot);
        let newborn = match self.zygote.lock().as_mut() {
            Some(zygote) => zygote.spawn(pages, slot),
            None => Err(PlatformError::StubDied("the zygote is gone".into())),
        };
        let newborn = newborn.inspect_err(|_| control.give_back(Some(pages), &[slot]))?;
        // SAFETY: the zygote shares our descriptors and made this one for us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(newborn.pidfd) };
        let shared = Arc::new(Shared::new(newborn.pid, pidfd, pages, slot));
        let process =
            StubProcess::new(shared.clone(), control.clone(), self.registry.clone(), pages, slot);
        // On failure the process is dropped, and so killed; its pages are lost.
        self.reaper
            .watch(shared)
            .map_err(|errno| PlatformError::Host { what: "watching a stub process", errno })?;
        Ok(process)
    }

    fn replenish(&self) {
        while self.given_out.load(Ordering::Relaxed) > 1 && self.spares.lock().len() < SPARES {
            match self.spawn() {
                Ok(process) => self.spares.lock().push(process),
                // Whoever needs one will see the error.
                Err(_) => return,
            }
        }
    }
}

impl StubSystem {
    /// Starts the reaper and the zygote.
    pub(crate) fn start(kind: Kind) -> Result<Self, PlatformError> {
        let failed = |what| move |errno| PlatformError::Host { what, errno };
        if kind == Kind::Notify && !sys::has_fsgsbase() {
            return Err(PlatformError::Unsupported(
                "systrap needs a processor and kernel with FSGSBASE (Linux 5.9)".into(),
            ));
        }
        sys::install_interrupt_handler().map_err(failed("installing a signal handler"))?;
        let control = Arc::new(Control::new().map_err(failed("the control file"))?);
        let reaper = Arc::new(Reaper::new().map_err(failed("the reaper's descriptors"))?);
        let nursery = Arc::new(Nursery {
            control: control.clone(),
            registry: Arc::default(),
            reaper,
            zygote: Mutex::new(None),
            spares: Mutex::default(),
            given_out: AtomicUsize::new(0),
        });
        let (ready, started) = mpsc::channel();
        let theirs = nursery.clone();
        let work = move || {
            let zygote = Zygote::start(control.clone(), kind);
            let vdso = zygote.as_ref().map(Zygote::host_vdso).ok().flatten();
            let clock = vdso::clock(vdso).unwrap_or(0);
            control.write_u64(CONST_OFFSET + C_CLOCK, clock);
            let result = zygote.map(|zygote| *theirs.zygote.lock() = Some(zygote));
            let go_on = result.is_ok();
            if ready.send(result.map(|()| vdso)).is_ok() && go_on {
                theirs.reaper.run(&control, || theirs.replenish());
            }
            // Its end is that of all stub processes.
            *theirs.zygote.lock() = None;
        };
        let thread = std::thread::Builder::new()
            .name("stub-reaper".into())
            .spawn(work)
            .map_err(|error| failed("the reaper thread")(error.into()))?;
        let host_vdso = started
            .recv()
            .unwrap_or_else(|_| Err(PlatformError::StubDied("the reaper died".into())))?;
        Ok(Self { nursery, thread: Some(thread), host_vdso })
    }

    /// A new stub process, with one guest thread about to be born.
    pub(crate) fn new_process(&self) -> Result<StubProcess, PlatformError> {
        let spare = self.nursery.spares.lock().pop();
        let process = match spare.filter(|process| !process.has_ended()) {
            Some(process) => process,
            None => self.nursery.spawn()?,
        };
        if self.nursery.given_out.fetch_add(1, Ordering::Relaxed) > 0 {
            self.nursery.reaper.wake();
        }
        Ok(process)
    }

    /// A handle for a context which is to be kicked.
    pub(crate) fn kicker(&self) -> Arc<Kicker> {
        Arc::new(Kicker::new(self.nursery.reaper.clone()))
    }

    /// Where the host's vDSO is in stub processes, with its vvar pages before it as on
    /// the host. `None` when the host would not have it moved.
    pub(crate) fn host_vdso(&self) -> Option<u64> {
        self.host_vdso
    }
}

impl Drop for StubSystem {
    fn drop(&mut self) {
        self.nursery.spares.lock().clear();
        self.nursery.reaper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.nursery.spares.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::stub::layout::DOORBELL;

    #[test]
    fn a_process_is_born_with_a_mapper_and_a_guest_thread() {
        let system = StubSystem::start(Kind::Notify).unwrap();
        let process = system.new_process().unwrap();
        let (mapper, first) = process.mapper().unwrap();
        assert_eq!((first.number, first.args[0]), (DOORBELL as i32, 0));
        let thread = process.new_thread().unwrap();
        let (guest, first) = process.claim(thread.born).unwrap();
        assert_eq!((first.number, first.args[0]), (DOORBELL as i32, libc::SIGILL as u64));
        assert_eq!(first.ip, crate::stub::after_doorbell());
        for _ in 0..20 {
            let thread = process.new_thread().unwrap();
            process.claim(thread.born).unwrap();
        }
        // Nothing to do: it comes back at once.
        sys::notification_send(mapper.as_fd(), first.id.wrapping_sub(first.id), 0).unwrap_err();
        drop(guest);
        assert!(system.host_vdso().is_some());
    }

    #[test]
    fn a_request_is_answered_by_a_zygote_that_was_held_up() {
        use rustix::process::{Pid, Signal, kill_process};
        let system = StubSystem::start(Kind::Ptrace).unwrap();
        let pid = system.nursery.zygote.lock().as_ref().and_then(|it| Pid::from_raw(it.pid()));
        kill_process(pid.unwrap(), Signal::STOP).unwrap();
        let process = std::thread::scope(|scope| {
            let request = scope.spawn(|| system.new_process());
            // Some rounds of waiting, each of which looks whether the zygote lives.
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!request.is_finished());
            kill_process(pid.unwrap(), Signal::CONT).unwrap();
            request.join().unwrap().unwrap()
        });
        let other = system.new_process().unwrap();
        assert_ne!(process.pid(), other.pid());
        for process in [process, other] {
            sys::tgkill(process.pid(), process.new_thread().unwrap().born, 0).unwrap();
        }
    }

    #[test]
    fn a_killed_process_is_noticed() {
        let system = StubSystem::start(Kind::Notify).unwrap();
        let process = system.new_process().unwrap();
        process.mapper().unwrap();
        process.kill();
        while !process.is_dead() {
            std::thread::yield_now();
        }
        assert!(process.new_thread().is_err());
    }

    #[test]
    fn processes_for_a_tracer_have_waiting_threads() {
        let system = StubSystem::start(Kind::Ptrace).unwrap();
        let process = system.new_process().unwrap();
        let thread = process.new_thread().unwrap();
        sys::tgkill(process.pid(), thread.born, 0).unwrap();
    }
}
