//! What the guest may do with which file: rules by pattern, decided where names become files.

mod glob;

pub use glob::{BadGlob, Glob};
