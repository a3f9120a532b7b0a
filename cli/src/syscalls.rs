//! `lazaret syscalls`: the table, as it is compiled in.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use sentry::syscalls::{Support, table};

use crate::args::SyscallsArgs;

/// Prints one line a system call.
pub(crate) fn print(args: &SyscallsArgs) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if args.markdown {
        writeln!(out, "| nr | system call | support |\n| --- | --- | --- |")?;
    }
    for (number, entry) in table::all() {
        let (support, note) = match (entry.run, entry.support) {
            (None, _) => ("no", "ENOSYS"),
            (_, Support::Full) => ("full", ""),
            (_, Support::Partial(note)) => ("partial", note),
            (_, Support::Refused(note)) => ("refused", note),
        };
        if args.markdown {
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            writeln!(out, "| {number} | `{}` | {support}{note} |", entry.name)?;
        } else {
            writeln!(out, "{number:>3}  {:<24} {support:<8} {note}", entry.name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
