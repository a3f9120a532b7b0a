//! The file systems, each an implementation of the traits in `vfs`.
