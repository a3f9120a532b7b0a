//! The file systems, each an implementation of the traits in `vfs`.

pub mod dev;
pub mod gofer;
pub mod pseudo;
