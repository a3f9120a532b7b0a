//! Changes inputs a little, repeatably.

/// Numbers at which code changes its mind.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0xfff,
    0x1000,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Repeatable random numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit.max(1) as u64) as usize
    }
}

/// A new input made of those in `pool`, at most `max_len` bytes long.
pub fn mutated(pool: &[Vec<u8>], random: &mut Random, max_len: usize) -> Vec<u8> {
    let pick =
        |random: &mut Random| pool.get(random.below(pool.len())).cloned().unwrap_or_default();
    let mut bytes = pick(random);
    // Mostly small changes, so that the input stays one that comes far.
    for _ in 0..1 << random.below(5) {
        match random.below(10) {
            0 => splice(&mut bytes, &pick(random), random),
            _ => change(&mut bytes, random),
        }
    }
    bytes.truncate(max_len);
    bytes
}

/// The front of `bytes`, and the back of `other`.
fn splice(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    bytes.truncate(random.below(bytes.len() + 1));
    bytes.extend_from_slice(other.get(random.below(other.len() + 1)..).unwrap_or_default());
}

fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        bytes.extend((0..random.below(64)).map(|_| 0));
    }
    let at = random.below(bytes.len());
    let len = 1 + random.below((bytes.len() - at).min(32));
    let end = (at + len).min(bytes.len());
    match random.below(8) {
        0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.word() as u8),
        2 => drop(bytes.drain(at..end)),
        3 => drop(bytes.splice(at..at, (0..len).map(|_| random.word() as u8))),
        4 => {
            let copy = bytes.get(at..end).unwrap_or_default().to_vec();
            let to = random.below(bytes.len() + 1);
            drop(bytes.splice(to..to, copy));
        }
        5 => bytes.truncate(at),
        6 => {
            let edge = EDGES.get(random.below(EDGES.len())).copied().unwrap_or_default();
            put(bytes, at, 1 << random.below(4), edge);
        }
        _ => {
            let width = 1 << random.below(4);
            let mut now = [0; 8];
            now.iter_mut()
                .zip(bytes.iter().skip(at).take(width))
                .for_each(|(to, from)| *to = *from);
            let step = random.below(33) as u64;
            put(bytes, at, width, u64::from_le_bytes(now).wrapping_add(step).wrapping_sub(16));
        }
    }
}

/// The lowest `width` bytes of `value`, from `at` on, as far as there is room.
fn put(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    bytes
        .iter_mut()
        .skip(at)
        .zip(value.to_le_bytes().into_iter().take(width))
        .for_each(|(to, from)| *to = from);
}
