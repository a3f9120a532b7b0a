//! poll(2) and ppoll(2), and the wait for several files that select(2) shares.

use std::sync::Arc;

use linux_abi::{SigSet, event::PollFd};
use smallvec::SmallVec;
use zerocopy::{FromZeros, IntoBytes};

use super::{install::nofile_limit, timeout::Timeout, wait_mask::set_wait_mask};
use crate::{
    Errno, Restart, SysError, SysResult, err,
    kernel::CurrentTask,
    user::{Fd, UserMemory, UserRef},
    vfs::FileDescription,
    wait::{EventMask, PollTable, Registration},
};

/// A file to wait for.
pub(super) struct Watched {
    /// `None`: no wait, nothing happens to it.
    pub(super) file: Option<Arc<FileDescription>>,
    pub(super) wanted: EventMask,
    /// What happened, of that.
    pub(super) happened: EventMask,
}

pub(super) type WatchedFiles = SmallVec<[Watched; 8]>;

/// Asks each file once; how many have something.
fn look(files: &mut WatchedFiles) -> usize {
    let mut table = PollTable::query();
    let mut count = 0;
    for watched in files {
        let Some(file) = &watched.file else { continue };
        watched.happened = file.ops().poll(file, &mut table) & watched.wanted;
        count += usize::from(!watched.happened.is_empty());
    }
    count
}

/// Waits until something wanted happens to one of the files; how many it happened to.
/// 0 when the time is up; `Restart::NoHandler` when interrupted.
pub(super) fn wait_for_files(
    task: &mut CurrentTask,
    files: &mut WatchedFiles,
    timeout: Timeout,
) -> SysResult<usize> {
    if timeout.is_zero() {
        return Ok(look(files));
    }
    let count = look(files);
    if count > 0 {
        return Ok(count);
    }
    let registrations: SmallVec<[Registration; 2]> = {
        let mut table = PollTable::register(task.waker().clone(), EventMask::empty());
        for watched in files.iter() {
            let Some(file) = &watched.file else { continue };
            table.set_mask(watched.wanted);
            file.ops().poll(file, &mut table);
        }
        table.into_registrations()
    };
    let done = task.block_until(
        timeout.deadline(),
        |_| (),
        |_| {
            let count = look(files);
            Ok((count > 0).then_some(count))
        },
    );
    drop(registrations);
    match done {
        Ok(count) => Ok(count.unwrap_or(0)),
        Err(SysError::Restart(_)) => Err(Restart::NoHandler.into()),
        Err(error) => Err(error),
    }
}

/// Reads the array, waits, writes the results.
fn do_poll(
    task: &mut CurrentTask,
    fds: UserRef<PollFd>,
    count: u32,
    timeout: Timeout,
) -> SysResult<usize> {
    if u64::from(count) > nofile_limit(task) {
        return err!(EINVAL);
    }
    let count = count as usize;
    let mut polled: SmallVec<[PollFd; 8]> = SmallVec::new();
    polled.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    polled.resize(count, PollFd::new_zeroed());
    task.mm().copy_in(fds.addr(), polled.as_mut_slice().as_mut_bytes())?;

    let mut files = WatchedFiles::new();
    let mut invalid = 0;
    for entry in &mut polled {
        entry.revents = 0;
        let file = if entry.fd < 0 { None } else { task.fds().get(Fd(entry.fd)).ok() };
        if entry.fd >= 0 && file.is_none() {
            entry.revents = libc::POLLNVAL;
            invalid += 1;
        }
        let wanted = EventMask::from_bits_truncate(u32::from(entry.events as u16));
        let wanted = wanted | EventMask::ALWAYS;
        files.push(Watched { file, wanted, happened: EventMask::empty() });
    }
    // A bad descriptor is an answer at once.
    let timeout = if invalid > 0 { Timeout::Zero } else { timeout };
    let ready = wait_for_files(task, &mut files, timeout)?;
    for (index, (entry, watched)) in polled.iter().zip(&files).enumerate() {
        let revents = entry.revents | watched.happened.bits() as i16;
        let at = fds.at(index)?.addr().offset(std::mem::offset_of!(PollFd, revents) as u64)?;
        task.mm().write_obj(at.as_ref(), &revents)?;
    }
    Ok(ready + invalid)
}

pub(super) fn sys_poll(
    task: &mut CurrentTask,
    fds: UserRef<PollFd>,
    count: u32,
    timeout_ms: i32,
) -> SysResult<usize> {
    let timeout = Timeout::from_ms(task, timeout_ms);
    poll_until(task, fds, count, timeout)
}

/// When no handler runs, the call goes on with the time that is left.
fn poll_until(
    task: &mut CurrentTask,
    fds: UserRef<PollFd>,
    count: u32,
    timeout: Timeout,
) -> SysResult<usize> {
    match do_poll(task, fds, count, timeout) {
        Err(SysError::Restart(_)) => Err(task
            .set_restart_block(move |task| poll_until(task, fds, count, timeout).map(Into::into))),
        result => result,
    }
}

pub(super) fn sys_ppoll(
    task: &mut CurrentTask,
    fds: UserRef<PollFd>,
    count: u32,
    timeout_at: UserRef<[i64; 2]>,
    mask: UserRef<SigSet>,
    mask_size: usize,
) -> SysResult<usize> {
    let timeout = Timeout::from_timespec(task, timeout_at)?;
    set_wait_mask(task, mask, mask_size)?;
    let result = do_poll(task, fds, count, timeout);
    finish_timed(result, timeout.write_timespec(task, timeout_at))
}

/// A call that would start again, with the time left for its timeout, cannot when that time could
/// not be written.
pub(super) fn finish_timed(result: SysResult<usize>, wrote_time: bool) -> SysResult<usize> {
    match result {
        Err(SysError::Restart(_)) if !wrote_time => err!(EINTR),
        result => result,
    }
}
