//! The hash of directory entries' names: keyed, and quick on short strings.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes [`NameHasher`]s with one random key.
#[derive(Clone, Debug)]
pub(crate) struct NameHash(u64);

impl Default for NameHash {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u64) | 1)
    }
}

impl BuildHasher for NameHash {
    type Hasher = NameHasher;
    fn build_hasher(&self) -> NameHasher {
        NameHasher { key: self.0, state: self.0 }
    }
}

/// Folds eight bytes at a time by a 128-bit product with the key.
#[derive(Debug)]
pub(crate) struct NameHasher {
    key: u64,
    state: u64,
}

impl NameHasher {
    fn fold(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.key ^ MIX));
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

/// An odd number with no pattern (the golden ratio's fraction).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            self.fold(word.try_into().map_or(0, u64::from_le_bytes));
        }
        let rest = words.remainder();
        let mut last = [0; 8];
        if let Some(part) = last.get_mut(..rest.len()) {
            part.copy_from_slice(rest);
        }
        self.fold(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }

    fn finish(&self) -> u64 {
        self.state ^ (self.state >> 32)
    }
}
