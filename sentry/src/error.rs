//! How a system call fails.

use linux_abi::Errno;

/// An interrupted system call, and when it starts again instead of failing with
/// `EINTR` (`include/linux/errno.h`, 512 to 516; signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Unless a handler without `SA_RESTART` runs (`ERESTARTSYS`). The usual one.
    IfSaRestart,
    /// Whatever happens (`ERESTARTNOINTR`).
    Always,
    /// Unless a handler runs (`ERESTARTNOHAND`): `pause`, `sigsuspend`, `poll` …
    NoHandler,
    /// Unless a handler runs, by the closure left in the task (`ERESTART_RESTARTBLOCK`):
    /// calls with a relative timeout. See `CurrentTask::set_restart_block`.
    Block,
}

/// Why a system call did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SysError {
    /// What the guest sees.
    Errno(Errno),
    /// Interrupted; decided when signals are delivered, never seen by the guest.
    Restart(Restart),
}

/// The result of everything that may end in an error number.
pub type SysResult<T> = Result<T, SysError>;

impl SysError {
    /// True for `EAGAIN`: a non-blocking attempt that has to wait.
    pub fn is_again(self) -> bool {
        self == Self::Errno(Errno::EAGAIN)
    }

    /// The error number a caller inside the kernel reports; interruptions are `EINTR`.
    pub fn errno(self) -> Errno {
        match self {
            Self::Errno(errno) => errno,
            Self::Restart(_) => Errno::EINTR,
        }
    }
}

impl From<Errno> for SysError {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Restart> for SysError {
    fn from(restart: Restart) -> Self {
        Self::Restart(restart)
    }
}

/// `err!(EINVAL)` is `Err(SysError::Errno(Errno::EINVAL))`.
#[macro_export]
macro_rules! err {
    ($name:ident) => {
        Err($crate::SysError::Errno($crate::Errno::$name))
    };
}
