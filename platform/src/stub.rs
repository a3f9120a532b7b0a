//! Stub processes: the host processes in which guest code runs.
//!
//! ```text
//! sentry ── reaper thread
//!   └─ zygote            nothing mapped but the stub; shares the sentry's descriptors
//!       └─ stub process  one per guest address space
//!           ├─ spawner   the main thread: makes threads when the command page says so
//!           ├─ mapper    changes the address space
//!           └─ guest threads
//! ```
//!
//! What the spawner and the mapper do is decided by command pages which only the sentry
//! can write; they have no stack and write nothing that matters, so guest code that
//! runs beside them cannot lead them astray. Everything a guest thread can write,
//! its slot, is read as hostile.
//!
//! [`StubSystem`] owns the zygote; [`StubProcess`] is one process and its threads;
//! [`Registry`] makes sure that a listener is whose it should be.

mod blob;
pub(crate) mod command;
mod control;
mod filter;
mod kick;
pub(crate) mod layout;
mod process;
mod reaper;
mod registry;
pub(crate) mod sys;
mod system;
mod zygote;

#[cfg(test)]
pub(crate) use blob::after_sigreturn;
pub(crate) use blob::{
    CallPlace, after_call, after_doorbell, answer_words, call_entry, call_place, unborn,
};
pub(crate) use control::{Control, Slot};
pub(crate) use kick::Kicker;
pub(crate) use process::{StubProcess, Waiter};
pub(crate) use registry::Listener;
pub(crate) use system::StubSystem;
pub(crate) use zygote::{Kind, own_vdso};
