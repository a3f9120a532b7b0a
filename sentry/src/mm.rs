//! Address spaces: VMAs (what the guest asked for), page ranges (where the bytes are), faults,
//! copy-on-write, and access to guest memory.
//!
//! A private anonymous mapping gets its range of the memory file when it is made, and is mapped on the host at
//! once; faults that reach the sentry are for copy-on-write, growing stacks, and pages of files behind what
//! was there at mmap time. Each change of an address space goes to the host as one batch.
//!
//! # Lock order
//! ```text
//! MmVmas (one per address space; fork: parent, then the new child)
//!   Mappings (a mapped object's list of address spaces)
//!   Leaf (pins)
//! ```
//! The platform's `apply` is called with `MmVmas` held. Mappables are asked for pages, host files are read, and
//! removed mappings are dropped without it.

mod access;
mod advise;
mod batch;
mod constants;
mod deferred;
mod fault;
mod fetch;
mod fork;
mod hot_pages;
mod lock;
mod map;
mod mapping_set;
mod memory_manager;
mod pins;
mod place;
mod pma;
mod protect;
mod range_map;
mod remap;
mod report;
mod rewrites;
mod shared_anonymous;
mod state;
mod sysv_shm;
mod vma;
mod written_parts;

#[cfg(test)]
mod tests;

pub use access::PinnedSlices;
pub use advise::Advice;
pub use fault::FaultError;
pub use map::{MapRequest, Placement};
pub use mapping_set::MappingSet;
pub use memory_manager::{MemoryManager, MmLimits};
pub use place::MMAP_MIN_ADDR;
pub use remap::RemapRequest;
pub use report::{MapEntry, MapName, MmUsage};
pub use shared_anonymous::SharedAnonymous;
pub use state::ImageInfo;
pub use sysv_shm::{SEGMENTS_MAX, ShmOwner, ShmRequest, ShmSegment, ShmTable};
pub use vma::{MappedFile, Source, Vma, VmaFlags};
pub use written_parts::WrittenParts;
