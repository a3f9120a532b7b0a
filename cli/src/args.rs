//! The command line.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Runs untrusted Linux programs in an application kernel: the host never sees one of their system calls.
#[derive(Debug, Parser)]
#[command(name = "lazaret", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a command in a new sandbox.
    Run(Box<RunArgs>),
    /// Say what this host offers, and what is weaker or slower without it.
    Doctor,
    /// List the profiles that are built in, or print one.
    Profiles {
        /// The one to print.
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// List the system calls and how far each is implemented.
    Syscalls(SyscallsArgs),
}

const RUN_HELP: &str = "\
Examples:
  lazaret run -- python3 script.py          the host's files, read-only, under a private overlay
  lazaret run --bind . -- make              may change the current directory for good
  lazaret run --profile strict -- ./program  its own directory to look at, little else
  lazaret run --rootfs ./debian -- bash     another root
  lazaret run --strace=trace.txt -- ls      what it does
  lazaret run --audit files.json -- make    which files it uses
  lazaret run --jail namespaces -- make     or not at all, if the host gives none (see lazaret doctor)

Exit status: the command's; 128+N when signal N killed it; 124 out of time (--time-limit);
125 Lazaret failed; 126 the command was found but cannot be run; 127 it was not found.";

#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// Take what the sandbox may have from a profile: one of those that `lazaret profiles` lists, or a file
    /// (docs/profiles.md). Other options override what it says.
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) profile: Option<OsString>,

    /// How guest code runs.
    #[arg(long, value_enum, default_value_t = PlatformArg::Auto)]
    pub(crate) platform: PlatformArg,

    /// Insist on this jail round the application kernel, or fail; by default the best that the host offers. Which one
    /// that is, `lazaret doctor` says; which one was taken, --log-level debug.
    #[arg(long, value_enum, default_value_t = JailArg::Auto)]
    pub(crate) jail: JailArg,

    /// Run even where the host has neither namespaces nor Landlock: a system-call filter is the only wall then.
    #[arg(long)]
    pub(crate) allow_weak_jail: bool,

    /// Use DIR as the root, instead of the host's `/`.
    #[arg(long, value_name = "DIR")]
    pub(crate) rootfs: Option<PathBuf>,

    /// Show a host file or directory, writable; at DEST, or where it is on the host.
    #[arg(long, value_name = "SRC[:DEST]")]
    pub(crate) bind: Vec<OsString>,

    /// Show a host file or directory, read-only.
    #[arg(long, value_name = "SRC[:DEST]")]
    pub(crate) ro_bind: Vec<OsString>,

    /// An empty file system in memory.
    #[arg(long, value_name = "DEST")]
    pub(crate) tmpfs: Vec<OsString>,

    /// Where changes of the root go: into memory (unless a profile says otherwise), or nowhere (read-only root).
    #[arg(long, value_enum)]
    pub(crate) overlay: Option<OverlayArg>,

    /// The network inside: the sandbox's own loopback (unless a profile says otherwise), or none.
    #[arg(long, value_enum)]
    pub(crate) network: Option<NetworkArg>,

    /// Set an environment variable; without `=`, take it from this environment.
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,

    /// Start from an empty environment.
    #[arg(long)]
    pub(crate) clearenv: bool,

    /// Working directory inside; the current one by default.
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,

    /// Ids inside; the caller's by default, with the caller's bounding set of capabilities. Host files are still opened as
    /// the caller.
    #[arg(long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,

    /// Host name inside; by default the host's, to which its /etc/hosts belongs, or "lazaret" with --rootfs.
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,

    /// Let threads use restartable sequences (rseq(2)), for programs with data per processor. Those that do take turns on
    /// virtual processors, as many as are shown inside, which costs where there are more of them than processors.
    /// Otherwise rseq(2) fails with ENOSYS, and C libraries do without.
    #[arg(long)]
    pub(crate) rseq: bool,

    /// Print each system call, decoded, to FILE or standard error.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub(crate) strace: Option<Option<PathBuf>>,

    /// Write what is decided about files to FILE, allowed or denied by the profile's rules, as lines of JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) audit: Option<PathBuf>,

    /// Write Lazaret's own log to FILE instead of standard error. Reports of internal errors are put beside it.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,

    /// How much of it. By default errors, and what a profile's rules for files denied.
    #[arg(long, value_enum)]
    pub(crate) log_level: Option<LogLevel>,

    /// Memory for all that runs inside, its files in memory and what Lazaret holds for it (full pipes and sockets, names)
    /// included: a number of bytes, or with K, M, G or T
    /// behind it. Allocations over it fail, and the largest process is killed. By default 80 % of what the
    /// host has to give.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory: Option<u64>,

    /// Processes and threads inside, at most; making more fails with EAGAIN.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pids: Option<u32>,

    /// Open files of all processes together, at most; opening more fails with ENFILE.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(16..))]
    pub(crate) files: Option<u64>,

    /// Files that are kept in memory (changes of the root, and tmpfs), at most: a size as for --memory. Writing more
    /// fails with ENOSPC.
    #[arg(long, value_name = "SIZE", value_parser = amount)]
    pub(crate) disk: Option<u64>,

    /// Kill the command when all processes together have used so many seconds of processor time; the exit status
    /// is then 137.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) cpu_time: Option<f64>,

    /// Kill the command after so many seconds; the exit status is then 124.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) time_limit: Option<f64>,

    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    pub(crate) argv: Vec<OsString>,
}

/// Bytes of memory that a program needs to start.
pub(crate) const LEAST_MEMORY: u64 = 4 << 20;

/// As [`amount`]; enough for a program to start.
fn size(text: &str) -> Result<u64, String> {
    let bytes = amount(text)?;
    if bytes < LEAST_MEMORY { Err("is too little: 4M at least".into()) } else { Ok(bytes) }
}

/// `64M` and the like, in powers of 1024.
pub(crate) fn amount(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err("takes a size, as in 512M or 2G".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "takes a size, as in 512M or 2G")?;
    number.checked_mul(1 << unit).ok_or_else(|| "is more than any machine has".into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformArg {
    /// The best that this host offers.
    Auto,
    /// seccomp traps: needs Linux 5.9 or newer, fast from 6.6 on.
    Systrap,
    /// ptrace: works nearly everywhere, slower.
    Ptrace,
    /// Hardware virtualisation: needs /dev/kvm.
    Kvm,
}

impl PlatformArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Systrap => "systrap",
            Self::Ptrace => "ptrace",
            Self::Kvm => "kvm",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JailArg {
    /// The strongest that can be had.
    Auto,
    /// Own namespaces, an empty root, no network.
    Namespaces,
    /// Landlock: no files, no network; for hosts that give no namespaces.
    Landlock,
}

impl JailArg {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
        }
    }

    /// The one of that name; what is no name stands for the default.
    pub(crate) fn from_name(name: Option<&str>) -> Self {
        let all = [Self::Namespaces, Self::Landlock];
        all.into_iter().find(|jail| Some(jail.name()) == name).unwrap_or(Self::Auto)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverlayArg {
    Memory,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// No Internet sockets at all.
    None,
    Loopback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SyscallsArgs {
    /// As a Markdown table, for the documentation.
    #[arg(long)]
    pub(crate) markdown: bool,
}
