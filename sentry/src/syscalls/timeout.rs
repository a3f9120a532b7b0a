//! Timeouts of the calls which wait for files: poll, select, epoll_wait.

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    time::Monotonic,
    user::{UserMemory, UserRef},
};

const NS: i64 = 1_000_000_000;

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    Never,
    /// Only look.
    Zero,
    At(Monotonic),
}

impl Timeout {
    /// From milliseconds; negative waits for good.
    pub(super) fn from_ms(task: &CurrentTask, ms: i32) -> Self {
        match u64::try_from(ms) {
            Err(_) => Self::Never,
            Ok(0) => Self::Zero,
            Ok(ms) => Self::At(task.kernel().clocks.monotonic().after(ms * 1_000_000)),
        }
    }

    /// From seconds and nanoseconds; `EINVAL` unless they are a proper time.
    pub(super) fn from_parts(task: &CurrentTask, sec: i64, nsec: i64) -> SysResult<Self> {
        if sec < 0 || !(0..NS).contains(&nsec) {
            return err!(EINVAL);
        }
        if sec == 0 && nsec == 0 {
            return Ok(Self::Zero);
        }
        let ns = (sec as u64).saturating_mul(NS as u64).saturating_add(nsec as u64);
        Ok(Self::At(task.kernel().clocks.monotonic().after(ns)))
    }

    /// From a `struct timespec`; NULL waits for good.
    pub(super) fn from_timespec(task: &CurrentTask, at: UserRef<[i64; 2]>) -> SysResult<Self> {
        if at.is_null() {
            return Ok(Self::Never);
        }
        let [sec, nsec] = task.mm().read_obj(at)?;
        Self::from_parts(task, sec, nsec)
    }

    /// From a `struct timeval`, whose microseconds may be more than a second; NULL waits for good.
    pub(super) fn from_timeval(task: &CurrentTask, at: UserRef<[i64; 2]>) -> SysResult<Self> {
        if at.is_null() {
            return Ok(Self::Never);
        }
        let [sec, usec] = task.mm().read_obj(at)?;
        Self::from_parts(task, sec.wrapping_add(usec / 1_000_000), (usec % 1_000_000) * 1000)
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::Zero
    }

    pub(super) fn deadline(self) -> Option<Monotonic> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Zero => None,
        }
    }

    /// Seconds and nanoseconds left; `None` when nothing is written back (`poll_select_finish`).
    fn remaining(self, task: &CurrentTask) -> Option<[i64; 2]> {
        let left = task.kernel().clocks.monotonic().until(self.deadline()?) as i64;
        Some([left / NS, left % NS])
    }

    /// Writes the time left to the caller's `struct timespec`. False when that failed: the call
    /// must not restart then.
    pub(super) fn write_timespec(self, task: &CurrentTask, at: UserRef<[i64; 2]>) -> bool {
        match (at.non_null(), self.remaining(task)) {
            (Some(at), Some(left)) => task.mm().write_obj(at, &left).is_ok(),
            _ => true,
        }
    }

    /// As [`Self::write_timespec`], for a `struct timeval`.
    pub(super) fn write_timeval(self, task: &CurrentTask, at: UserRef<[i64; 2]>) -> bool {
        match (at.non_null(), self.remaining(task)) {
            (Some(at), Some([sec, nsec])) => task.mm().write_obj(at, &[sec, nsec / 1000]).is_ok(),
            _ => true,
        }
    }
}
