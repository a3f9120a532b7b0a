//! Fuzz targets: plain functions of bytes, which panic where a property does not hold.
//!
//! `tests/corpora.rs` runs each over its corpus and over a few seconds of mutations, with any compiler;
//! `libfuzzer/` makes a libFuzzer program of each, for long runs.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what cannot be set up, or does not hold, is to be reported by the fuzzer"
)]

pub mod mutate;
pub mod targets;

/// A function to be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Of the target, its corpus and its program.
    pub name: &'static str,
    /// Panics where a property does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, beside the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input worth trying, in bytes.
    pub max_len: usize,
    /// The most that one execution may allocate, all in all, for an input of so many bytes; `None` where
    /// that is not the input's doing.
    pub memory: Option<fn(usize) -> usize>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::gofer_request::TARGET,
    targets::gofer_reply::TARGET,
    targets::gofer_server::TARGET,
    targets::elf_loader::TARGET,
    targets::path_walk::TARGET,
    targets::stub_context::TARGET,
    targets::seccomp_filter::TARGET,
];
