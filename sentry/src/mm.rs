//! Address spaces: VMAs (what the guest asked for), page ranges (where the bytes are), faults,
//! copy-on-write, and access to guest memory.

mod mapping_set;
mod memory_manager;

pub use mapping_set::MappingSet;
pub use memory_manager::{MemoryManager, PinnedSlices};
