//! A mutex with a rank, and its condition variable.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    time::{Duration, Instant},
};

use crate::LockRank;

/// A mutual exclusion lock whose place in the order is `R`.
pub struct Mutex<R: LockRank, T: ?Sized> {
    rank: PhantomData<fn() -> R>,
    inner: parking_lot::Mutex<T>,
}

/// Gives back the lock when dropped.
#[must_use]
pub struct MutexGuard<'a, R: LockRank, T: ?Sized> {
    inner: parking_lot::MutexGuard<'a, T>,
    _held: Held<R>,
}

/// Tells the order check, when dropped, that the lock is free again.
pub(crate) struct Held<R: LockRank>(PhantomData<fn() -> R>);

impl<R: LockRank> Held<R> {
    #[track_caller]
    #[inline]
    pub(crate) fn acquire(nested: bool) -> Self {
        #[cfg(debug_assertions)]
        crate::held::acquire(R::RANK, R::NAME, nested);
        let _ = nested;
        Self(PhantomData)
    }

    /// Of a lock that was taken without waiting.
    #[track_caller]
    fn note() -> Self {
        #[cfg(debug_assertions)]
        crate::held::note(R::RANK, R::NAME);
        Self(PhantomData)
    }
}

impl<R: LockRank> Drop for Held<R> {
    #[inline]
    fn drop(&mut self) {
        #[cfg(debug_assertions)]
        crate::held::release(R::RANK);
    }
}

impl<R: LockRank, T> Mutex<R, T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { rank: PhantomData, inner: parking_lot::Mutex::new(value) }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<R: LockRank, T: ?Sized> Mutex<R, T> {
    /// Waits for the lock.
    #[track_caller]
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, R, T> {
        let held = Held::acquire(false);
        MutexGuard { inner: self.inner.lock(), _held: held }
    }

    /// Takes the lock if it is free. Never waits, so its rank does not matter.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, R, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard { inner, _held: Held::note() })
    }

    /// Waits for the lock while another of the same rank is held. The caller
    /// says in a comment why two such locks cannot be taken the other way round.
    #[track_caller]
    #[inline]
    pub fn lock_nested(&self) -> MutexGuard<'_, R, T> {
        let held = Held::acquire(true);
        MutexGuard { inner: self.inner.lock(), _held: held }
    }

    /// Takes two locks of one rank in the order of their addresses.
    /// They must be two different locks.
    #[track_caller]
    pub fn lock_pair<'a>(a: &'a Self, b: &'a Self) -> (MutexGuard<'a, R, T>, MutexGuard<'a, R, T>) {
        let a_first = std::ptr::from_ref(a).cast::<u8>() < std::ptr::from_ref(b).cast::<u8>();
        if a_first {
            let first = a.lock();
            (first, b.lock_nested())
        } else {
            let first = b.lock();
            (a.lock_nested(), first)
        }
    }

    /// The value, when no one else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<R: LockRank, T: ?Sized> Deref for MutexGuard<'_, R, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<R: LockRank, T: ?Sized> DerefMut for MutexGuard<'_, R, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<R: LockRank, T: Default> Default for Mutex<R, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<R: LockRank, T: ?Sized + fmt::Debug> fmt::Debug for Mutex<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// No one waits yet.
    pub const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    /// Gives the lock back, waits for a notification, takes the lock again.
    pub fn wait<R: LockRank, T: ?Sized>(&self, guard: &mut MutexGuard<'_, R, T>) {
        self.0.wait(&mut guard.inner);
    }

    /// As [`Self::wait`], at most until `deadline`. True when the time ran out.
    pub fn wait_until<R: LockRank, T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, R, T>,
        deadline: Instant,
    ) -> bool {
        self.0.wait_until(&mut guard.inner, deadline).timed_out()
    }

    /// As [`Self::wait`], at most for `time`. True when the time ran out.
    pub fn wait_for<R: LockRank, T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, R, T>,
        time: Duration,
    ) -> bool {
        self.0.wait_for(&mut guard.inner, time).timed_out()
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
