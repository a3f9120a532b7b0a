//! Who runs: tasks, thread groups, sessions, credentials, signals.

mod credentials;
mod current;
mod fs_context;
#[expect(clippy::module_inception, reason = "the kernel object is the heart of the kernel module")]
mod kernel;
mod served;
mod task;
pub mod tty;

pub use credentials::{Capability, CapabilitySet, Credentials};
pub use current::{CurrentTask, SleepEnd};
pub use fs_context::FsContext;
pub use kernel::Kernel;
pub use served::{served, set_served};
pub use task::{Task, TaskWaker};
