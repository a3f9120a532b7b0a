//! Robust futexes: what a thread that ends holds is marked and handed on (get_robust_list(2),
//! `exit_robust_list` in `kernel/futex/core.c`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    Errno,
    kernel::CurrentTask,
    user::{UserAddr, UserMemory, UserRef},
};

/// At most so many locks are looked at.
const LIST_LIMIT: usize = 2048;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const TID_MASK: u32 = 0x3fff_ffff;

/// `struct robust_list_head`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    next: u64,
    futex_offset: i64,
    pending: u64,
}

impl CurrentTask {
    /// Marks all robust futexes the thread holds as ownerless and wakes a waiter of each.
    pub(in crate::kernel) fn exit_robust_list(&mut self) {
        let at = std::mem::take(&mut self.task.shared.lock().robust_list);
        if at != 0 {
            // A list the guest broke is followed as far as it goes.
            let _ = self.walk_robust_list(at);
        }
    }

    fn walk_robust_list(&mut self, at: u64) -> Result<(), Errno> {
        let head: Head = self.mm().read_obj(UserRef::new(at))?;
        // The lowest bit of a link says that the futex is a PI one.
        let pending = head.pending & !1;
        let mut entry = head.next;
        for _ in 0..LIST_LIMIT {
            let here = entry & !1;
            if here == at {
                break;
            }
            let next: Result<u64, Errno> = self.mm().read_obj(UserRef::new(here));
            if here != pending {
                self.handle_dead_owner(here, head.futex_offset, entry & 1 != 0, false)?;
            }
            entry = next?;
        }
        if pending != 0 {
            self.handle_dead_owner(pending, head.futex_offset, head.pending & 1 != 0, true)?;
        }
        Ok(())
    }

    fn handle_dead_owner(
        &mut self,
        entry: u64,
        offset: i64,
        pi: bool,
        pending: bool,
    ) -> Result<(), Errno> {
        let word = UserAddr(entry.wrapping_add_signed(offset));
        let tid = self.tid() as u32;
        let mut value = self.mm().load_u32(word)?;
        if pending && !pi && value & TID_MASK == 0 {
            // It died between unlocking and waking.
            self.wake_futex_at(word, 1);
            return Ok(());
        }
        while value & TID_MASK == tid {
            let seen = self.mm().cmpxchg_u32(word, value, (value & WAITERS) | OWNER_DIED)?;
            if seen == value {
                if pi {
                    self.release_pi_of_dead(word);
                } else if value & WAITERS != 0 {
                    self.wake_futex_at(word, 1);
                }
                break;
            }
            value = seen;
        }
        Ok(())
    }
}
