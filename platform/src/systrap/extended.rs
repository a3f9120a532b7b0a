//! Extended state (x87, SSE, AVX …) in frames: its size on this host, its initial
//! value, and making harmless what a guest wrote.

use crate::{
    XState,
    stub::{Control, Slot},
};

use super::frame::Frame;

/// Offsets in the legacy area.
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// `struct _fpx_sw_bytes`.
const SW_RESERVED: usize = 464;
const SW_RESERVED_LEN: usize = 48;
/// `xstate_bv`, `xcomp_bv`, then reserved words.
const HEADER: usize = 512;
const HEADER_LEN: usize = 64;
const LEGACY_LEN: usize = HEADER + HEADER_LEN;

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// What XRSTOR takes when the mask is not given.
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;
const FCW_INITIAL: u16 = 0x37f;
const MXCSR_INITIAL: u32 = 0x1f80;
/// More than any processor has; keeps a frame inside its slot.
const LEN_MAX: u64 = 16 << 10;

/// What the host's frames look like.
#[derive(Clone, Debug)]
pub(super) struct ExtendedFormat {
    /// Bytes with both magics.
    len: usize,
    sw_reserved: [u8; SW_RESERVED_LEN],
    features: u64,
    mxcsr_mask: u32,
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
    /// Learns it from the frame of a thread beside which no guest code has run yet.
    pub(super) fn learn(control: &Control, slot: Slot, frame: Frame) -> Option<Self> {
        let mut legacy = [0; LEGACY_LEN];
        control.read_bytes(frame.xstate(control, slot, LEGACY_LEN as u64)?, &mut legacy);
        let sw_reserved: [u8; SW_RESERVED_LEN] = word(&legacy, SW_RESERVED);
        let len = u32::from_ne_bytes(word(&sw_reserved, 4));
        let known = u32::from_ne_bytes(word(&sw_reserved, 0)) == MAGIC1;
        let mask = u32::from_ne_bytes(word(&legacy, MXCSR_MASK));
        (known && u64::from(len) <= LEN_MAX && len as usize >= LEGACY_LEN + 4).then_some(Self {
            len: len as usize,
            sw_reserved,
            features: u64::from_ne_bytes(word(&sw_reserved, 8)),
            mxcsr_mask: if mask == 0 { MXCSR_MASK_DEFAULT } else { mask },
        })
    }

    /// The state of a new thread.
    pub(super) fn initial(&self) -> XState {
        let mut bytes = vec![0; self.len];
        put(&mut bytes, 0, &FCW_INITIAL.to_ne_bytes());
        put(&mut bytes, MXCSR, &MXCSR_INITIAL.to_ne_bytes());
        put(&mut bytes, MXCSR_MASK, &self.mxcsr_mask.to_ne_bytes());
        self.finish(&mut bytes);
        XState { bytes }
    }

    /// Reads the state out of a frame. `None`: the frame is not whole.
    pub(super) fn read(&self, control: &Control, slot: Slot, frame: Frame) -> Option<XState> {
        let mut bytes = vec![0; self.len];
        control.read_bytes(frame.xstate(control, slot, self.len as u64)?, &mut bytes);
        self.finish(&mut bytes);
        Some(XState { bytes })
    }

    /// Writes a state, made harmless, into a frame.
    pub(super) fn write(
        &self,
        control: &Control,
        slot: Slot,
        frame: Frame,
        state: &XState,
    ) -> Option<()> {
        let at = frame.xstate(control, slot, self.len as u64)?;
        let mut bytes = state.bytes.clone();
        bytes.resize(self.len, 0);
        self.finish(&mut bytes);
        control.write_bytes(at, &bytes);
        Some(())
    }

    /// Makes the bytes something that XRSTOR loads without a fault: no unknown
    /// component, no compaction, no reserved bit.
    fn finish(&self, bytes: &mut [u8]) {
        let mxcsr = u32::from_ne_bytes(word(bytes, MXCSR)) & self.mxcsr_mask;
        put(bytes, MXCSR, &mxcsr.to_ne_bytes());
        put(bytes, SW_RESERVED, &self.sw_reserved);
        let features = u64::from_ne_bytes(word(bytes, HEADER)) & self.features;
        put(bytes, HEADER, &[0; HEADER_LEN]);
        put(bytes, HEADER, &features.to_ne_bytes());
        put(bytes, self.len - 4, &MAGIC2.to_ne_bytes());
    }
}
