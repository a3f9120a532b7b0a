//! `lazaret run`: the launcher. Checks what the user asked for, starts the gofer and the sentry,
//! passes signals and the terminal on, and ends with the command's status.

pub(crate) mod cgroup;
pub(crate) mod config;
mod crash_report;
mod processes;
mod supervise;

pub(crate) use supervise::SETTLED;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{
    args::RunArgs,
    profile::{self, Places, Profile},
    terminal::Terminal,
};

/// Runs one sandbox to its end.
pub(crate) fn run(args: RunArgs) -> Result<ExitCode> {
    let terminal = Terminal::find();
    let cwd = config::cwd(&args)?;
    let profile = match &args.profile {
        Some(name) => profile::load(name, &Places::new(&cwd))?,
        None => Profile::default(),
    };
    let plan = config::plan(&args, &profile, &cwd, terminal.as_ref())?;
    // Before anything is started: the children take over the signal mask only as far as they choose.
    let place = crash_report::Place::find(args.log.as_deref());
    let signals = supervise::catch_signals().context("cannot catch signals")?;
    let sandbox = processes::start(&plan, &args)?;
    drop(plan);
    let limit = config::seconds(args.time_limit.or(profile.limits.time), "--time-limit")?;
    if let Some(terminal) = &terminal {
        terminal.make_raw();
    }
    // What follows is little, and all that it may do.
    policies::LAUNCHER.install().context("cannot filter the launcher's system calls")?;
    let outcome = supervise::until_exit(&sandbox, &signals, terminal.as_ref(), limit);
    // Raw mode ends before the last words are said.
    drop(terminal);
    Ok(supervise::report(outcome, place.as_ref()))
}
