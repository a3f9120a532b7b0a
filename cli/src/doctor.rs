//! `lazaret doctor`: what this host offers.

use std::process::ExitCode;

use anyhow::Result;

/// Prints one line a fact.
pub(crate) fn print() -> Result<ExitCode> {
    anyhow::bail!("`doctor` is not there yet")
}
