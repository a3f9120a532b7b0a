//! Guest memory: the memory file, and safe access to memory that others change.

mod bounce;
mod memory_file;
mod space;
mod volatile;
mod warm;

pub use bounce::Bounce;
pub use memory_file::{FileRange, MemoryFile};
pub(crate) use space::join_neighbours;
pub use volatile::VolatileSlice;
