//! What the compatibility suite runs on: compiling the guest programs, running
//! a command with a time limit, finding the `lazaret` binary, and the lists of
//! expected failures. `docs/testing.md` says how to use the suite.
#![forbid(unsafe_code)]

pub mod expectations;
pub mod lazaret;
pub mod process;
pub mod programs;
pub mod scratch;
pub mod steady;
