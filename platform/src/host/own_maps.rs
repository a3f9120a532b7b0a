//! This process's mappings, read while /proc is still in sight.

use std::sync::OnceLock;

/// What `/proc/self/maps` said. A constant of the process as far as it is used: where the vDSO is.
static MAPS: OnceLock<String> = OnceLock::new();

/// Reads them now, before the process shuts itself off from the host's file systems.
pub fn remember_own_maps() {
    own_maps();
}

/// The lines of `/proc/self/maps`, as they were when first asked for.
pub(crate) fn own_maps() -> &'static str {
    MAPS.get_or_init(|| std::fs::read_to_string("/proc/self/maps").unwrap_or_default())
}
