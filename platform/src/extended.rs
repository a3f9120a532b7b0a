//! Extended state (x87, SSE, AVX …) in frames: its size on this host, its initial
//! value, and making harmless what a guest wrote.

use crate::XState;

/// Offsets in the legacy area.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// `struct _fpx_sw_bytes`.
const SW_RESERVED: usize = 464;
const SW_RESERVED_LEN: usize = 48;
/// `xstate_bv`, `xcomp_bv`, then reserved words.
const HEADER: usize = 512;
const HEADER_LEN: usize = 64;
/// Legacy area and header.
pub(crate) const LEGACY_LEN: usize = HEADER + HEADER_LEN;

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// What XRSTOR takes when the mask is not given.
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;
/// With denormals-are-zeros, which all processors with AMD-V or VT-x have.
const MXCSR_MASK_ALL: u32 = 0xffff;
const FCW_INITIAL: u16 = 0x37f;
const MXCSR_INITIAL: u32 = 0x1f80;
/// Components that a program must ask for (AMX); guests cannot.
const DYNAMIC_FEATURES: u64 = 3 << 17;
/// More than any processor has; keeps a frame inside its slot.
const LEN_MAX: u64 = 16 << 10;

/// What the host's frames look like.
#[derive(Clone, Debug)]
pub(crate) struct ExtendedFormat {
    /// Bytes with both magics.
    pub(crate) len: usize,
    /// Bytes that ptrace(2) reads and writes; without a tracer of no use.
    pub(crate) regset_len: usize,
    sw_reserved: [u8; SW_RESERVED_LEN],
    features: u64,
    mxcsr_mask: u32,
    /// Where the protection-key rights are.
    pkru: Option<usize>,
}

/// The component of protection-key rights (PKRU), and the value that programs start with: no access by any
/// key but 0. Guests have no keys; the host takes one for memory that may be executed and not read.
const PKRU: u64 = 1 << 9;
const PKRU_INITIAL: u32 = 0x5555_5554;

fn pkru_at(features: u64, len: usize) -> Option<usize> {
    let at = std::arch::x86_64::__cpuid_count(0xd, 9).ebx as usize;
    (features & PKRU != 0 && at >= LEGACY_LEN && at + 8 <= len).then_some(at)
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(part) = bytes.get_mut(at..at + value.len()) {
        part.copy_from_slice(value);
    }
}

impl ExtendedFormat {
    /// Learns it from the first bytes of a frame that no guest code can have written.
    pub(crate) fn from_frame(legacy: &[u8; LEGACY_LEN]) -> Option<Self> {
        let sw_reserved: [u8; SW_RESERVED_LEN] = word(legacy, SW_RESERVED);
        let len = u32::from_ne_bytes(word(&sw_reserved, 4));
        let known = u32::from_ne_bytes(word(&sw_reserved, 0)) == MAGIC1;
        let features = u64::from_ne_bytes(word(&sw_reserved, 8));
        (known && u64::from(len) <= LEN_MAX && len as usize >= LEGACY_LEN + 4).then_some(Self {
            len: len as usize,
            regset_len: 0,
            sw_reserved,
            features,
            mxcsr_mask: mxcsr_mask(legacy),
            pkru: pkru_at(features, len as usize),
        })
    }

    /// Learns it from what ptrace(2) gives as NT_X86_XSTATE: the same without magics, and with
    /// the components that the kernel has turned on (XCR0) in the reserved words.
    pub(crate) fn from_regset(bytes: &[u8]) -> Option<Self> {
        let features = u64::from_ne_bytes(word(bytes, SW_RESERVED)) & !DYNAMIC_FEATURES;
        let size = component_end(features).clamp(LEGACY_LEN, bytes.len().max(LEGACY_LEN));
        if bytes.len() < LEGACY_LEN {
            return None;
        }
        let regset_len = bytes.len();
        Some(Self { regset_len, ..Self::new(features, size, mxcsr_mask(bytes))? })
    }

    /// That of guests whose XCR0 is `features`.
    pub(crate) fn from_features(features: u64) -> Option<Self> {
        Self::new(features, component_end(features), MXCSR_MASK_ALL)
    }

    /// `size`: bytes without the last magic.
    fn new(features: u64, size: usize, mxcsr_mask: u32) -> Option<Self> {
        let len = size + 4;
        if len as u64 > LEN_MAX {
            return None;
        }
        let mut sw_reserved = [0; SW_RESERVED_LEN];
        put(&mut sw_reserved, 0, &MAGIC1.to_ne_bytes());
        put(&mut sw_reserved, 4, &(len as u32).to_ne_bytes());
        put(&mut sw_reserved, 8, &features.to_ne_bytes());
        put(&mut sw_reserved, 16, &(size as u32).to_ne_bytes());
        let pkru = pkru_at(features, len);
        Some(Self { len, regset_len: 0, sw_reserved, features, mxcsr_mask, pkru })
    }

    /// The components that guests have (XCR0).
    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    /// The state of a new thread.
    pub(crate) fn initial(&self) -> XState {
        let mut bytes = vec![0; self.len];
        put(&mut bytes, 0, &FCW_INITIAL.to_ne_bytes());
        put(&mut bytes, MXCSR, &MXCSR_INITIAL.to_ne_bytes());
        put(&mut bytes, MXCSR_MASK, &self.mxcsr_mask.to_ne_bytes());
        self.finish(&mut bytes);
        XState { bytes }
    }

    /// Makes the bytes (of length [`Self::len`]) something that XRSTOR loads without a fault:
    /// no unknown component, no compaction, no reserved bit.
    pub(crate) fn finish(&self, bytes: &mut [u8]) {
        let mxcsr = u32::from_ne_bytes(word(bytes, MXCSR)) & self.mxcsr_mask;
        put(bytes, MXCSR, &mxcsr.to_ne_bytes());
        put(bytes, SW_RESERVED, &self.sw_reserved);
        let mut features = u64::from_ne_bytes(word(bytes, HEADER)) & self.features;
        if let Some(at) = self.pkru {
            features |= PKRU;
            put(bytes, at, &PKRU_INITIAL.to_ne_bytes());
        }
        put(bytes, HEADER, &[0; HEADER_LEN]);
        put(bytes, HEADER, &features.to_ne_bytes());
        put(bytes, self.len - 4, &MAGIC2.to_ne_bytes());
    }
}

fn mxcsr_mask(legacy: &[u8]) -> u32 {
    match u32::from_ne_bytes(word(legacy, MXCSR_MASK)) {
        0 => MXCSR_MASK_DEFAULT,
        mask => mask,
    }
}

/// Where the last of these components ends in the standard format (CPUID leaf 0xd).
fn component_end(features: u64) -> usize {
    (2..63).filter(|bit| features >> bit & 1 != 0).fold(LEGACY_LEN, |end, bit| {
        let leaf = std::arch::x86_64::__cpuid_count(0xd, bit);
        end.max(leaf.ebx as usize + leaf.eax as usize)
    })
}
