//! The ranks a thread holds, kept in debug builds only.

use std::cell::RefCell;

thread_local! {
    static HELD: RefCell<Vec<(u16, &'static str)>> = const { RefCell::new(Vec::new()) };
}

/// Notes that a lock of `rank` is about to be taken; panics when that breaks the
/// order. `nested` allows a second lock of the same rank.
#[track_caller]
pub(crate) fn acquire(rank: u16, name: &'static str, nested: bool) {
    HELD.with_borrow_mut(|held| {
        if let Some(&(top, top_name)) = held.iter().max()
            && (top > rank || (top == rank && !nested))
        {
            #[expect(clippy::panic, reason = "debug builds stop at a lock-order mistake")]
            {
                panic!("lock order: {name} taken while holding {top_name}");
            }
        }
        held.push((rank, name));
    });
}

/// Notes that a lock of `rank` was taken without waiting: it cannot be part of a deadlock by itself.
pub(crate) fn note(rank: u16, name: &'static str) {
    HELD.with_borrow_mut(|held| held.push((rank, name)));
}

/// Notes that a lock of `rank` was given back.
pub(crate) fn release(rank: u16) {
    // A guard may be dropped while the thread's locals are being torn down.
    let _ = HELD.try_with(|held| {
        let mut held = held.borrow_mut();
        if let Some(at) = held.iter().rposition(|&(r, _)| r == rank) {
            held.remove(at);
        }
    });
}
