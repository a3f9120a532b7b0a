//! Capabilities (capabilities(7)).

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// Keeps of the capabilities just those that let a superuser's gofer do with
/// files what the superuser can: to read them all and, if it `writes`, to
/// change them and give them away. Making devices is not among it.
pub(super) fn drop_all_but_file_access(writes: bool) -> rustix::io::Result<()> {
    let mut kept = CapabilitySet::DAC_READ_SEARCH;
    if writes {
        kept |= CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::CHOWN
            | CapabilitySet::FOWNER
            | CapabilitySet::FSETID;
    }
    let now = capabilities(None)?;
    for capability in CapabilitySet::all().iter() {
        // Only the superuser may, and only the superuser needs to; what this
        // kernel does not know is no loss.
        let _ = remove_capability_from_bounding_set(capability);
    }
    let _ = clear_ambient_capability_set();
    let permitted = now.permitted & kept;
    let sets =
        CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)
}
