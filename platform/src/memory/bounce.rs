//! A private buffer that host calls can fill as if it were guest memory.

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
        VolatileSlice::lend(&mut self.0)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
