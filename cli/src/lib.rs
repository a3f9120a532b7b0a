//! The `lazaret` command, as a library for the sake of its tests.
//!
//! One binary, three roles: the launcher, which the user starts; and the sentry and the gofer,
//! which are the same binary executed again with hidden sub-commands, so that each starts from a
//! clean image.

#![forbid(unsafe_code)]

mod args;
mod control;
mod doctor;
mod gofer_role;
mod jail;
mod panics;
mod profile;
mod run;
mod sentry_role;
mod syscalls;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

/// Lazaret itself failed (as in env(1)).
const EXIT_FAILED: u8 = 125;

/// The whole command: what it does, its arguments say.
pub fn main() -> ExitCode {
    let role = std::env::args_os().nth(1);
    match role.as_deref().and_then(|role| role.to_str()) {
        Some(sentry_role::NAME) => return sentry_role::main(),
        Some(gofer_role::NAME) => return gofer_role::main(),
        _ => {}
    }
    panics::say_in_one_line();
    // The terminal is given back while the stack is unwound.
    std::panic::catch_unwind(launcher).unwrap_or(EXIT_FAILED.into())
}

fn launcher() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        args::Command::Run(args) => run::run(*args),
        args::Command::Doctor => doctor::print(),
        args::Command::Profiles { name } => profile::print(name.as_deref()),
        args::Command::Syscalls(args) => syscalls::print(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("lazaret: {error:#}");
        EXIT_FAILED.into()
    })
}

/// Tells what is wrong with the command line, in one line; or prints the help that was asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        let _ = error.print();
        return if is_help { EXIT_FAILED.into() } else { ExitCode::SUCCESS };
    }
    let text = error.to_string();
    // What is wrong, which may name arguments in lines of their own; hints and usage come behind an empty line.
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let what = words.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    eprintln!("lazaret: {what} (see lazaret --help)");
    EXIT_FAILED.into()
}
