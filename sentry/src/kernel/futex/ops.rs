//! Waking, requeueing, and operations on the second word.

use std::sync::{Arc, atomic::Ordering};

use ranked_sync::Mutex;

use super::table::FutexKey;
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    mm::MemoryManager,
    user::{UserAddr, UserMemory},
};

/// See [`CurrentTask::futex_key`].
pub(super) fn key_of(
    mm: &Arc<MemoryManager>,
    addr: UserAddr,
    shared: bool,
) -> Result<FutexKey, Errno> {
    if shared && let Some((object, offset)) = mm.shared_place(addr.0) {
        return Ok(FutexKey::Shared { object, offset });
    }
    Ok(FutexKey::Private { mm: Arc::as_ptr(mm) as u64, addr: addr.0, shared })
}

impl CurrentTask {
    /// FUTEX_WAKE_BITSET.
    pub(crate) fn futex_wake(
        &self,
        addr: UserAddr,
        shared: bool,
        count: usize,
        bitset: u32,
    ) -> SysResult<usize> {
        if bitset == 0 {
            return err!(EINVAL);
        }
        let key = self.futex_key(addr, shared)?;
        Ok(self.kernel().futexes.wake(&key, count, bitset)?)
    }

    /// FUTEX_REQUEUE, FUTEX_CMP_REQUEUE: wakes `wake` waiters, and moves up to `requeue` others to
    /// the second futex. How many were woken and moved. `EAGAIN` when the word is not `expected`.
    pub(crate) fn futex_requeue(
        &self,
        from: (UserAddr, bool),
        to: (UserAddr, bool),
        (wake, requeue): (usize, usize),
        expected: Option<u32>,
    ) -> SysResult<usize> {
        let from_key = self.futex_key(from.0, from.1)?;
        let to_key = self.futex_key(to.0, to.1)?;
        let table = &self.kernel().futexes;
        let (a, b) = (table.index(&from_key), table.index(&to_key));
        let (source, target) = (table.bucket(a), table.bucket(b));
        let (mut entries, mut others) = if a == b {
            (source.entries.lock(), None)
        } else {
            let (one, two) = Mutex::lock_pair(&source.entries, &target.entries);
            (one, Some(two))
        };
        if let Some(expected) = expected
            && self.mm().load_u32(from.0)? != expected
        {
            return err!(EAGAIN);
        }
        let (mut done, mut moved, mut at) = (0, 0, 0);
        while let Some(entry) = entries.get(at) {
            if entry.key != from_key {
                at += 1;
                continue;
            }
            if entry.pi || entry.requeue_pi.is_some() {
                return err!(EINVAL);
            }
            if done < wake {
                source.remove(&mut entries, at).waiter.wake();
                done += 1;
            } else if moved < requeue {
                moved += 1;
                match &mut others {
                    None => {
                        if let Some(entry) = entries.get_mut(at) {
                            entry.key = to_key;
                        }
                        at += 1;
                    }
                    Some(others) => {
                        let mut entry = source.remove(&mut entries, at);
                        entry.key = to_key;
                        entry.waiter.bucket.store(b, Ordering::SeqCst);
                        target.count.fetch_add(1, Ordering::SeqCst);
                        target.insert(others, entry);
                    }
                }
            } else {
                break;
            }
        }
        Ok(done + moved)
    }

    /// FUTEX_WAKE_OP: changes the second word, wakes waiters of the first, and those of the second if its old
    /// value compares.
    pub(crate) fn futex_wake_op(
        &self,
        first: (UserAddr, bool),
        second: (UserAddr, bool),
        (wake, wake_second): (usize, usize),
        encoded: u32,
    ) -> SysResult<usize> {
        let first_key = self.futex_key(first.0, first.1)?;
        let second_key = self.futex_key(second.0, second.1)?;
        let old = self.change_word(second.0, encoded)?;
        let table = &self.kernel().futexes;
        let mut woken = table.wake(&first_key, wake, u32::MAX)?;
        if compare(old, encoded)? {
            woken += table.wake(&second_key, wake_second, u32::MAX)?;
        }
        Ok(woken)
    }

    fn change_word(&self, addr: UserAddr, encoded: u32) -> SysResult<u32> {
        const SHIFT: u32 = 8;
        let operation = (encoded >> 28) & 0xf;
        let mut operand = sign_extend(encoded >> 12);
        if operation & SHIFT != 0 {
            operand = 1_u32.wrapping_shl(operand & 31);
        }
        let change: fn(u32, u32) -> u32 = match operation & !SHIFT {
            0 => |_, operand| operand,
            1 => u32::wrapping_add,
            2 => |old, operand| old | operand,
            3 => |old, operand| old & !operand,
            4 => |old, operand| old ^ operand,
            _ => return err!(ENOSYS),
        };
        Ok(self.mm().update_u32(addr, &mut |old| change(old, operand))?)
    }
}

/// The 12 bits of an operand or comparison value, signed.
fn sign_extend(bits: u32) -> u32 {
    let bits = bits & 0xfff;
    if bits & 0x800 != 0 { bits | 0xffff_f000 } else { bits }
}

fn compare(old: u32, encoded: u32) -> SysResult<bool> {
    let (old, value) = (old as i32, sign_extend(encoded) as i32);
    Ok(match (encoded >> 24) & 0xf {
        0 => old == value,
        1 => old != value,
        2 => old < value,
        3 => old <= value,
        4 => old > value,
        5 => old >= value,
        _ => return err!(ENOSYS),
    })
}
