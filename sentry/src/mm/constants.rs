//! What system calls read of host files that nobody changes: names among the constants of programs and libraries. The
//! same few are read again and again, as fstat(3) is newfstatat(2) with an empty name out of the C library.

use std::{
    fmt,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};

use ranked_sync::Mutex;

use crate::lock_order;

/// The longest piece that is kept: what is read of a name at once.
const PIECE: usize = 256;
/// Pieces of an address space.
const PIECES: usize = 4;

/// The pieces read last. Made when there is the first.
#[derive(Default)]
pub(super) struct Constants {
    pieces: OnceLock<Box<Mutex<lock_order::Leaf, Pieces>>>,
}

#[derive(Default)]
struct Pieces {
    kept: [Option<Piece>; PIECES],
    next: usize,
}

struct Piece {
    /// Held, so that no other file can take its place.
    file: Arc<OwnedFd>,
    at: u64,
    len: usize,
    bytes: [u8; PIECE],
}

impl Constants {
    /// Copies the bytes from `at` on; false if they are not known.
    pub(super) fn get(&self, file: &Arc<OwnedFd>, at: u64, to: &mut [u8]) -> bool {
        let Some(pieces) = self.pieces.get() else { return false };
        let pieces = pieces.lock();
        let is_it = |piece: &&Piece| {
            piece.at == at && piece.len >= to.len() && Arc::ptr_eq(&piece.file, file)
        };
        let Some(piece) = pieces.kept.iter().flatten().find(is_it) else { return false };
        match piece.bytes.get(..to.len()) {
            Some(bytes) => to.copy_from_slice(bytes),
            None => return false,
        }
        true
    }

    /// Keeps what was read at `at`, if it is short.
    pub(super) fn put(&self, file: &Arc<OwnedFd>, at: u64, from: &[u8]) {
        let mut bytes = [0; PIECE];
        let Some(to) = bytes.get_mut(..from.len()) else { return };
        to.copy_from_slice(from);
        let piece = Piece { file: file.clone(), at, len: from.len(), bytes };
        let mut pieces = self.pieces.get_or_init(Box::default).lock();
        let next = pieces.next;
        pieces.next = (next + 1) % PIECES;
        let before = pieces.kept.get_mut(next).and_then(|kept| kept.replace(piece));
        drop(pieces);
        // It may be the last that has the file open.
        drop(before);
    }
}

impl fmt::Debug for Constants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constants")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn only_the_same_place_of_the_same_file_is_known() {
        let constants = Constants::default();
        let (one, other) = (file(), file());
        let mut bytes = [0; 3];
        assert!(!constants.get(&one, 7, &mut bytes));
        constants.put(&one, 7, b"abcd");
        assert!(constants.get(&one, 7, &mut bytes));
        assert_eq!(&bytes, b"abc");
        assert!(!constants.get(&one, 8, &mut bytes));
        assert!(!constants.get(&other, 7, &mut bytes));
        assert!(!constants.get(&one, 7, &mut [0; 5]));
        constants.put(&one, 100, &[1; PIECE + 1]);
        assert!(!constants.get(&one, 100, &mut bytes));
        for at in 0..PIECES as u64 {
            constants.put(&other, at, b"x");
        }
        assert!(!constants.get(&one, 7, &mut bytes));
        assert_eq!(Arc::strong_count(&one), 1);
    }
}
