//! A readers-writer lock with a rank.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use crate::{LockRank, mutex::Held};

/// Many readers or one writer; its place in the order is `R`. A thread must not
/// take it twice, not even for reading: a waiting writer would stop the second.
pub struct RwLock<R: LockRank, T: ?Sized> {
    rank: PhantomData<fn() -> R>,
    inner: parking_lot::RwLock<T>,
}

/// Shared access until dropped.
#[must_use]
pub struct RwLockReadGuard<'a, R: LockRank, T: ?Sized> {
    inner: parking_lot::RwLockReadGuard<'a, T>,
    _held: Held<R>,
}

/// Exclusive access until dropped.
#[must_use]
pub struct RwLockWriteGuard<'a, R: LockRank, T: ?Sized> {
    inner: parking_lot::RwLockWriteGuard<'a, T>,
    _held: Held<R>,
}

impl<R: LockRank, T> RwLock<R, T> {
    /// A free lock around `value`.
    pub const fn new(value: T) -> Self {
        Self { rank: PhantomData, inner: parking_lot::RwLock::new(value) }
    }
}

impl<R: LockRank, T: ?Sized> RwLock<R, T> {
    /// Waits for shared access.
    #[track_caller]
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, R, T> {
        let held = Held::acquire(false);
        RwLockReadGuard { inner: self.inner.read(), _held: held }
    }

    /// Waits for shared access while another lock of the same rank is held. The
    /// caller says in a comment why this cannot deadlock.
    #[track_caller]
    #[inline]
    pub fn read_nested(&self) -> RwLockReadGuard<'_, R, T> {
        let held = Held::acquire(true);
        RwLockReadGuard { inner: self.inner.read(), _held: held }
    }

    /// Waits for exclusive access.
    #[track_caller]
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, R, T> {
        let held = Held::acquire(false);
        RwLockWriteGuard { inner: self.inner.write(), _held: held }
    }

    /// Waits for exclusive access while another lock of the same rank is held.
    /// The caller says in a comment why this cannot deadlock.
    #[track_caller]
    #[inline]
    pub fn write_nested(&self) -> RwLockWriteGuard<'_, R, T> {
        let held = Held::acquire(true);
        RwLockWriteGuard { inner: self.inner.write(), _held: held }
    }
}

impl<R: LockRank, T: ?Sized> RwLock<R, T> {
    /// The value, when no one else can hold the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut()
    }
}

impl<R: LockRank, T: ?Sized> Deref for RwLockReadGuard<'_, R, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<R: LockRank, T: ?Sized> Deref for RwLockWriteGuard<'_, R, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<R: LockRank, T: ?Sized> DerefMut for RwLockWriteGuard<'_, R, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<R: LockRank, T: Default> Default for RwLock<R, T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<R: LockRank, T: ?Sized + fmt::Debug> fmt::Debug for RwLock<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
