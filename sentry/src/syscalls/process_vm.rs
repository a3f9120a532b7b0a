//! process_vm_readv(2), process_vm_writev(2), process_madvise(2).

use std::sync::Arc;

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    mm::MemoryManager,
    user::{Fd, UserAddr, UserMemory, UserRef},
};

/// `UIO_MAXIOV`.
const IOVECS_MAX: usize = 1024;
/// Copied in one go.
const CHUNK: usize = 64 << 10;

/// `struct iovec`.
type Iovec = [u64; 2];

pub(super) fn sys_process_vm_readv(
    task: &mut CurrentTask,
    pid: i32,
    local: UserRef<Iovec>,
    local_count: usize,
    remote: UserRef<Iovec>,
    remote_count: usize,
    flags: u64,
) -> SysResult<usize> {
    let transfer = Transfer::new(task, (local, local_count), (remote, remote_count), flags)?;
    let other = memory_of(task, pid)?;
    transfer.run(&other, &task.mm().clone(), |transfer| (&transfer.remote, &transfer.local))
}

pub(super) fn sys_process_vm_writev(
    task: &mut CurrentTask,
    pid: i32,
    local: UserRef<Iovec>,
    local_count: usize,
    remote: UserRef<Iovec>,
    remote_count: usize,
    flags: u64,
) -> SysResult<usize> {
    let transfer = Transfer::new(task, (local, local_count), (remote, remote_count), flags)?;
    let other = memory_of(task, pid)?;
    transfer.run(&task.mm().clone(), &other, |transfer| (&transfer.local, &transfer.remote))
}

/// The memory of another process, if the task may look at it.
fn memory_of(task: &CurrentTask, pid: i32) -> SysResult<Arc<MemoryManager>> {
    let Some(target) = task.kernel().tasks.task(pid) else { return err!(ESRCH) };
    if !task.may_ptrace(&target) {
        return err!(EPERM);
    }
    // A zombie has none.
    match target.memory() {
        Some(mm) => Ok(mm),
        None => err!(ESRCH),
    }
}

/// Two lists of buffers.
struct Transfer {
    local: Vec<Iovec>,
    remote: Vec<Iovec>,
}

impl Transfer {
    fn new(
        task: &CurrentTask,
        local: (UserRef<Iovec>, usize),
        remote: (UserRef<Iovec>, usize),
        flags: u64,
    ) -> SysResult<Self> {
        if flags != 0 {
            return err!(EINVAL);
        }
        Ok(Self { local: read_iovecs(task, local)?, remote: read_iovecs(task, remote)? })
    }

    /// Copies until either list is used up, or memory is not accessible: then what was done counts.
    fn run(
        &self,
        from_mm: &MemoryManager,
        to_mm: &MemoryManager,
        order: impl FnOnce(&Self) -> (&Vec<Iovec>, &Vec<Iovec>),
    ) -> SysResult<usize> {
        let (from, to) = order(self);
        let (mut from, mut to) = (Cursor::new(from), Cursor::new(to));
        let mut buffer = vec![0; CHUNK];
        let mut total = 0_usize;
        while let (Some((source, left)), Some((target, room))) = (from.next(), to.next()) {
            let len = left.min(room).min(CHUNK as u64) as usize;
            let Some(chunk) = buffer.get_mut(..len) else { break };
            let copied = from_mm.copy_in_partial(source, chunk).and_then(|read| {
                to_mm.copy_out_partial(target, chunk.get(..read).unwrap_or_default())
            });
            match copied {
                Ok(n) => {
                    total = total.saturating_add(n);
                    from.advance(n as u64);
                    to.advance(n as u64);
                    if n < len {
                        break;
                    }
                }
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(total)
    }
}

/// A position in a list of buffers.
struct Cursor<'a> {
    iovecs: &'a [Iovec],
    done: u64,
}

impl<'a> Cursor<'a> {
    fn new(iovecs: &'a [Iovec]) -> Self {
        Self { iovecs, done: 0 }
    }

    /// Where it is, and how much is left there.
    fn next(&mut self) -> Option<(UserAddr, u64)> {
        loop {
            let ([base, len], rest) = self.iovecs.split_first()?;
            if self.done < *len {
                return Some((UserAddr(base.checked_add(self.done)?), len - self.done));
            }
            self.iovecs = rest;
            self.done = 0;
        }
    }

    fn advance(&mut self, by: u64) {
        self.done = self.done.saturating_add(by);
    }
}

fn read_iovecs(task: &CurrentTask, (at, count): (UserRef<Iovec>, usize)) -> SysResult<Vec<Iovec>> {
    if count > IOVECS_MAX {
        return err!(EINVAL);
    }
    let iovecs = task.mm().read_array(at, count)?;
    let mut total = 0_u64;
    for [_, len] in &iovecs {
        match total.checked_add(*len) {
            Some(sum) if sum <= i64::MAX as u64 => total = sum,
            _ => return err!(EINVAL),
        }
    }
    Ok(iovecs)
}

pub(super) fn sys_process_madvise(
    task: &mut CurrentTask,
    pidfd: Fd,
    iovecs: UserRef<Iovec>,
    count: usize,
    advice: i32,
    flags: u32,
) -> SysResult<u64> {
    if flags != 0 {
        return err!(EINVAL);
    }
    let iovecs = read_iovecs(task, (iovecs, count))?;
    let (pid, _) = task.pidfd_process(pidfd)?;
    let Some(target) = task.kernel().tasks.task(pid) else { return err!(ESRCH) };
    // Only advice that changes no contents may be given to others (`process_madvise_remote_valid`).
    let harmless = [libc::MADV_COLD, libc::MADV_PAGEOUT, libc::MADV_WILLNEED, libc::MADV_COLLAPSE];
    if !harmless.contains(&advice) {
        return err!(EINVAL);
    }
    if !task.may_ptrace(&target) {
        return err!(EPERM);
    }
    let Some(mm) = target.memory() else { return err!(ESRCH) };
    let mut done = 0_u64;
    for [base, len] in iovecs {
        match super::madvise::advise(&mm, UserAddr(base), len, advice) {
            Ok(()) => done = done.saturating_add(len),
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
