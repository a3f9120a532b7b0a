//! A private buffer that host calls can fill as if it were guest memory.

#![allow(unsafe_code, reason = "lends its bytes as a volatile slice")]

use super::VolatileSlice;

/// Bytes of this process's own.
#[derive(Debug)]
pub struct Bounce(Vec<u8>);

impl Bounce {
    /// `len` zero bytes.
    pub fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    /// For a host call to fill.
    pub fn slice(&mut self) -> VolatileSlice<'_> {
        // SAFETY: the vector is borrowed mutably for as long as the slice lives.
        unsafe { VolatileSlice::new(self.0.as_mut_ptr(), self.0.len()) }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
