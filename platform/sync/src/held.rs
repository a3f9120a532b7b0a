//! The ranks a thread holds, kept in debug builds only.

use std::{cell::RefCell, panic::Location};

/// A lock that is held: its rank, its name, and where it was taken.
#[derive(Clone, Copy)]
struct Lock {
    rank: u16,
    name: &'static str,
    at: &'static Location<'static>,
}

thread_local! {
    static HELD: RefCell<Vec<Lock>> = const { RefCell::new(Vec::new()) };
}

/// Notes that a lock of `rank` is about to be taken; panics when that breaks the
/// order. `nested` allows a second lock of the same rank.
#[track_caller]
pub(crate) fn acquire(rank: u16, name: &'static str, nested: bool) {
    let at = Location::caller();
    HELD.with_borrow_mut(|held| {
        if let Some(top) = held.iter().max_by_key(|lock| lock.rank)
            && (top.rank > rank || (top.rank == rank && !nested))
        {
            #[expect(clippy::panic, reason = "debug builds stop at a lock-order mistake")]
            {
                panic!(
                    "lock order: {name} taken at {at} while holding {} from {}",
                    top.name, top.at
                );
            }
        }
        held.push(Lock { rank, name, at });
    });
}

/// Notes that a lock of `rank` was taken without waiting: it cannot be part of a deadlock by itself.
#[track_caller]
pub(crate) fn note(rank: u16, name: &'static str) {
    let at = Location::caller();
    HELD.with_borrow_mut(|held| held.push(Lock { rank, name, at }));
}

/// Notes that a lock of `rank` was given back.
pub(crate) fn release(rank: u16) {
    // A guard may be dropped while the thread's locals are being torn down.
    let _ = HELD.try_with(|held| {
        let mut held = held.borrow_mut();
        if let Some(at) = held.iter().rposition(|lock| lock.rank == rank) {
            held.remove(at);
        }
    });
}
