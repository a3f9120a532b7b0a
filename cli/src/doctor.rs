//! `lazaret doctor`: what this host offers.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use platform::HostFacts;

use crate::{jail::Rung, run::cgroup};

/// Fewer descriptors than this can get scarce: a guest thread takes one.
const FILES_ENOUGH: u64 = 4096;

/// Prints one line a fact: what it is, and what is weaker or slower without it. Fails when
/// `run` cannot work here.
pub(crate) fn print() -> Result<ExitCode> {
    let facts = platform::probe();
    write(&mut io::stdout().lock(), &facts).context("cannot write")?;
    let usable = facts.systrap.is_ok() || facts.ptrace.is_ok();
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One line: whether it is there, its name, what it is for or what is amiss.
fn line(out: &mut impl Write, good: bool, name: &str, what: impl Display) -> io::Result<()> {
    writeln!(out, "{}  {name:<24}{what}", if good { "ok" } else { "--" })
}

/// A line whose text depends on whether it is there.
fn either(out: &mut impl Write, good: bool, name: &str, texts: [&str; 2]) -> io::Result<()> {
    let [with, without] = texts;
    line(out, good, name, if good { with } else { without })
}

/// With a digit behind the point.
fn micros(time: std::time::Duration) -> String {
    format!("{}.{}", time.as_micros(), time.as_nanos() / 100 % 10)
}

fn write(out: &mut impl Write, facts: &HostFacts) -> io::Result<()> {
    line(out, true, "kernel", format_args!("Linux {}", facts.kernel))?;
    match &facts.systrap {
        Ok(()) => line(out, true, "systrap platform", "works; the default")?,
        Err(why) => line(out, false, "systrap platform", format_args!("{why}; ptrace is used"))?,
    }
    match (&facts.ptrace, facts.ptrace_scope) {
        (Ok(()), None) => line(out, true, "ptrace platform", "works")?,
        (Ok(()), Some(scope)) => {
            line(out, true, "ptrace platform", format_args!("works, with Yama scope {scope}"))?;
        }
        (Err(why), None) => line(out, false, "ptrace platform", why)?,
        (Err(why), Some(scope)) => {
            line(out, false, "ptrace platform", format_args!("{why} (Yama scope {scope})"))?;
        }
    }
    either(
        out,
        facts.seccomp,
        "seccomp filters",
        ["confine all of Lazaret's processes", "missing: nothing can be run safely"],
    )?;
    either(
        out,
        facts.user_notification,
        "user notification",
        ["hands system calls to the sentry", "missing (Linux 5.0): no systrap"],
    )?;
    either(
        out,
        facts.sync_wake_up,
        "synchronous wake-up",
        ["hand-offs stay on one core", "missing (Linux 6.6): system calls are many times slower"],
    )?;
    either(
        out,
        facts.wait_killable,
        "killable waits",
        ["signals cut no hand-off short", "missing (Linux 5.19): interruptions cost more"],
    )?;
    either(
        out,
        facts.fsgsbase,
        "FSGSBASE",
        ["segment bases are switched by programs", "missing (Linux 5.9): no systrap"],
    )?;
    either(
        out,
        facts.namespaces,
        "namespaces",
        [
            "the sentry has an empty file system and network",
            "not to be had: the sentry is walled in by seccomp and Landlock only",
        ],
    )?;
    match facts.landlock_abi {
        Some(abi) => line(out, true, "Landlock", format_args!("version {abi}"))?,
        None => line(out, false, "Landlock", "off: one wall fewer round sentry and gofer")?,
    }
    match Rung::best(facts.namespaces, facts.landlock_abi.is_some()) {
        Some(rung) => line(out, true, "jail", format_args!("{rung} and system-call filters"))?,
        None => line(out, false, "jail", "system-call filters alone: only with --allow-weak-jail")?,
    }
    match (&facts.kvm, facts.systrap_cost) {
        (Ok(kvm), Some(systrap)) => {
            let which = if *kvm < systrap { "cheaper" } else { "dearer, so auto is not kvm" };
            let (kvm, systrap) = (micros(*kvm), micros(systrap));
            let what = format!("works; a call costs {kvm} µs, with systrap {systrap} µs: {which}");
            line(out, true, "kvm platform", what)?;
        }
        (Ok(kvm), None) => {
            line(
                out,
                true,
                "kvm platform",
                format_args!("works; a call costs {} µs", micros(*kvm)),
            )?;
        }
        (Err(why), _) => line(out, false, "kvm platform", why)?,
    }
    either(
        out,
        cgroup::is_delegated(),
        "control group",
        [
            "delegated: the host's kernel holds --memory and --pids besides",
            "none of version 2 is delegated: the sentry alone holds --memory and --pids",
        ],
    )?;
    either(
        out,
        facts.overcommit != Some(2),
        "overcommit",
        ["memory counts when it is touched", "strict: large guest mappings may be refused"],
    )?;
    match facts.open_files {
        Some(limit) if limit < FILES_ENOUGH => line(
            out,
            false,
            "open files",
            format_args!("{limit} at most: programs with many threads or files may fail"),
        ),
        Some(limit) => line(out, true, "open files", format_args!("{limit} at most")),
        None => line(out, true, "open files", "no limit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_is_one_line() {
        let mut text = Vec::new();
        write(&mut text, &platform::probe()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().count() >= 12, "{text}");
        assert!(text.lines().all(|line| line.starts_with("ok  ") || line.starts_with("--  ")));
    }
}
