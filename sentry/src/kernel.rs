//! Who runs: tasks, thread groups, sessions, credentials, signals.

mod credentials;
mod current;
mod exec_cred;
mod exit_status;
mod fs_context;
mod futex;
mod init;
#[expect(clippy::module_inception, reason = "the kernel object is the heart of the kernel module")]
mod kernel;
pub mod limits;
mod membarrier;
pub mod mqueue;
mod oom;
pub mod pidfd;
pub(crate) mod ptrace;
mod sandbox_limits;
pub mod seccomp;
mod served;
mod session;
pub mod signal;
pub mod sysv;
mod task;
mod task_set;
mod thread_group;
pub(crate) mod timers;
pub mod tty;
pub mod uts;
mod wait_child;

pub use credentials::{Capability, CapabilitySet, Credentials};
pub use current::{CurrentTask, RestartBlock, SleepEnd};
pub use exit_status::ExitStatus;
pub use fs_context::FsContext;
pub(crate) use futex::{FutexTable, WaitOn};
pub use init::{InitConfig, InitError};
pub use kernel::{Kernel, Tracer};
pub use sandbox_limits::SandboxLimits;
pub use served::{AtWork, at_work, served, set_served};
pub use session::{ControllingTty, Session};
pub use signal::{SignalHandlers, SignalQueue};
pub use task::{CloneRequest, CpuTimes, RunState, Task, TaskWaker};
pub use task_set::{MAX_TASKS, TaskSet};
pub use thread_group::ThreadGroup;
pub use uts::Uts;
pub use wait_child::{WaitKind, WaitRequest, WaitResult, WaitTarget};
