//! Locks that know their place.
//!
//! Every lock has a *rank*; a thread may only take a lock of a higher rank than
//! all those it holds. Debug builds check this at run time and panic with both
//! names, release builds carry plain locks. Nothing is poisoned by a panic: a
//! panic anywhere ends the process before a lock is let go.
//!
//! Ranks are declared once per crate with [`lock_order!`], outermost first.

#![forbid(unsafe_code)]

#[cfg(debug_assertions)]
mod held;
mod mutex;
mod rwlock;

pub use mutex::{Condvar, Mutex, MutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A place in the lock order; implemented by the types [`lock_order!`] makes.
pub trait LockRank {
    /// Larger is further in: taken later.
    const RANK: u16;
    /// For messages.
    const NAME: &'static str;
}

/// Declares lock ranks, outermost first, as types in the current module.
///
/// `lock_order! { base 100; /// doc  TaskSet, /// doc  Task }`
#[macro_export]
macro_rules! lock_order {
    (base $base:literal; $($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[repr(u16)]
        enum __Order { $($name),* }
        $(
            $(#[$doc])*
            #[derive(Debug)]
            #[allow(unreachable_pub, reason = "a crate may keep its ranks to itself")]
            pub enum $name {}
            impl $crate::LockRank for $name {
                const RANK: u16 = $base + __Order::$name as u16;
                const NAME: &'static str = stringify!($name);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    lock_order! { base 10; Outer, Inner }

    #[test]
    fn outer_then_inner_is_allowed() {
        let (a, b) = (Mutex::<Outer, _>::new(1), RwLock::<Inner, _>::new(2));
        let guard = a.lock();
        assert_eq!(*guard + *b.read(), 3);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order")]
    fn inner_then_outer_panics_in_debug_builds() {
        let (a, b) = (Mutex::<Outer, _>::new(1), RwLock::<Inner, _>::new(2));
        let _inner = b.write();
        let _outer = a.lock();
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "lock order")]
    fn two_of_one_rank_panic_unless_nested() {
        let (a, b) = (Mutex::<Outer, _>::new(1), Mutex::<Outer, _>::new(2));
        let _one = a.lock();
        let _two = b.lock();
    }

    #[test]
    fn a_pair_of_one_rank_can_be_taken_together() {
        let (a, b) = (Mutex::<Outer, _>::new(1), Mutex::<Outer, _>::new(2));
        let (one, two) = Mutex::lock_pair(&a, &b);
        assert_eq!((*one, *two), (1, 2));
    }
}
