//! select(2) and pselect6(2).

use super::{
    poll::{Watched, WatchedFiles, finish_timed, wait_for_files},
    timeout::Timeout,
    wait_mask::set_wait_mask,
};
use crate::{
    Errno, SysResult,
    kernel::CurrentTask,
    user::{Fd, UserAddr, UserMemory, UserRef},
    wait::EventMask,
};

const READ_EVENTS: EventMask =
    EventMask::READABLE.union(EventMask::RDBAND).union(EventMask::HUP).union(EventMask::ERR);
const WRITE_EVENTS: EventMask = EventMask::WRITABLE.union(EventMask::WRBAND).union(EventMask::ERR);
const EXCEPT_EVENTS: EventMask = EventMask::PRI;

/// No process can have more descriptors than this; more bits are not looked at.
const MAX_FDS: usize = 1 << 20;

/// The three sets, in the order of the arguments.
type SetPtrs = [UserAddr; 3];

/// A set as the guest gave it; all zero for NULL.
fn read_set(task: &CurrentTask, at: UserAddr, words: usize) -> SysResult<Vec<u64>> {
    let mut set = Vec::new();
    set.try_reserve_exact(words).map_err(|_| Errno::ENOMEM)?;
    set.resize(words, 0_u64);
    if !at.is_null() {
        task.mm().copy_in(at, zerocopy::IntoBytes::as_mut_bytes(set.as_mut_slice()))?;
    }
    Ok(set)
}

fn has(set: &[u64], fd: usize) -> bool {
    set.get(fd / 64).is_some_and(|word| word & (1 << (fd % 64)) != 0)
}

fn do_select(
    task: &mut CurrentTask,
    count: i32,
    ptrs: SetPtrs,
    timeout: Timeout,
) -> SysResult<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(MAX_FDS);
    let words = count.div_ceil(64);
    let sets = [
        read_set(task, ptrs[0], words)?,
        read_set(task, ptrs[1], words)?,
        read_set(task, ptrs[2], words)?,
    ];
    let masks = [READ_EVENTS, WRITE_EVENTS, EXCEPT_EVENTS];
    let mut fds: Vec<usize> = Vec::new();
    let mut files = WatchedFiles::new();
    for word in 0..words {
        let mut bits = sets.iter().filter_map(|set| set.get(word)).fold(0, |all, set| all | set);
        while bits != 0 {
            let fd = word * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            if fd >= count {
                break;
            }
            let file = task.fds().get(Fd(fd as i32))?;
            let mut wanted = EventMask::empty();
            for (set, mask) in sets.iter().zip(masks) {
                if has(set, fd) {
                    wanted |= mask;
                }
            }
            fds.push(fd);
            files.push(Watched { file: Some(file), wanted, happened: EventMask::empty() });
        }
    }
    wait_for_files(task, &mut files, timeout)?;
    let mut results = [vec![0_u64; words], vec![0; words], vec![0; words]];
    let mut bits = 0;
    for (&fd, watched) in fds.iter().zip(&files) {
        for ((set, mask), result) in sets.iter().zip(masks).zip(&mut results) {
            if has(set, fd) && watched.happened.intersects(mask) {
                if let Some(word) = result.get_mut(fd / 64) {
                    *word |= 1 << (fd % 64);
                }
                bits += 1;
            }
        }
    }
    for (result, at) in results.iter().zip(ptrs) {
        if !at.is_null() {
            task.mm().copy_out(at, zerocopy::IntoBytes::as_bytes(result.as_slice()))?;
        }
    }
    Ok(bits)
}

pub(super) fn sys_select(
    task: &mut CurrentTask,
    count: i32,
    read: UserAddr,
    write: UserAddr,
    except: UserAddr,
    timeout_at: UserRef<[i64; 2]>,
) -> SysResult<usize> {
    let timeout = Timeout::from_timeval(task, timeout_at)?;
    let result = do_select(task, count, [read, write, except], timeout);
    finish_timed(result, timeout.write_timeval(task, timeout_at))
}

/// The sixth argument points to the mask's address and size.
pub(super) fn sys_pselect6(
    task: &mut CurrentTask,
    count: i32,
    read: UserAddr,
    write: UserAddr,
    except: UserAddr,
    timeout_at: UserRef<[i64; 2]>,
    mask_and_size: UserRef<[u64; 2]>,
) -> SysResult<usize> {
    let [mask, size] = match mask_and_size.non_null() {
        Some(at) => task.mm().read_obj(at)?,
        None => [0, 0],
    };
    let timeout = Timeout::from_timespec(task, timeout_at)?;
    set_wait_mask(task, UserRef::new(mask), size as usize)?;
    let result = do_select(task, count, [read, write, except], timeout);
    finish_timed(result, timeout.write_timespec(task, timeout_at))
}
