//! Extended state in the frames of a thread.

use crate::{
    XState,
    extended::{ExtendedFormat, LEGACY_LEN},
    stub::{Control, Slot},
};

use super::frame::Frame;

/// Learns the format from the frame of a thread beside which no guest code has run yet.
pub(super) fn learn(control: &Control, slot: Slot, frame: Frame) -> Option<ExtendedFormat> {
    let mut legacy = [0; LEGACY_LEN];
    control.read_bytes(frame.xstate(control, slot, LEGACY_LEN as u64)?, &mut legacy);
    ExtendedFormat::from_frame(&legacy)
}

/// Reads the state out of a frame. `None`: the frame is not whole.
pub(super) fn read(
    format: &ExtendedFormat,
    control: &Control,
    slot: Slot,
    frame: Frame,
) -> Option<XState> {
    let mut bytes = vec![0; format.len];
    control.read_bytes(frame.xstate(control, slot, format.len as u64)?, &mut bytes);
    format.finish(&mut bytes);
    Some(XState { bytes })
}

/// Writes a state, made harmless, into a frame.
pub(super) fn write(
    format: &ExtendedFormat,
    control: &Control,
    slot: Slot,
    frame: Frame,
    state: &XState,
) -> Option<()> {
    let at = frame.xstate(control, slot, format.len as u64)?;
    let mut bytes = state.bytes.clone();
    bytes.resize(format.len, 0);
    format.finish(&mut bytes);
    control.write_bytes(at, &bytes);
    Some(())
}
