//! What the launcher asks for. Travels to the sentry as JSON in a sealed file; everything in it
//! was checked by the launcher for the user's sake, nothing in it is trusted for safety's.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{kernel::SandboxLimits, policy::RuleSpec};

/// One sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// `auto`, `systrap`, `ptrace`.
    pub platform: String,
    /// The command: a name to be searched in PATH, or a path; and its arguments.
    pub argv: Vec<Bytes>,
    /// `NAME=value` strings.
    pub env: Vec<Bytes>,
    /// Working directory inside.
    pub cwd: Bytes,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// The bounding set (capabilities(7)); bit N is capability N.
    pub capabilities: u64,
    pub hostname: String,
    pub root: RootSpec,
    /// In the order given, over the root.
    pub mounts: Vec<MountSpec>,
    /// umask of the launcher.
    pub umask: u32,
    /// Which of descriptors 0 to 2 are the terminal, and its size at the start.
    pub terminal: Option<Terminal>,
    /// Descriptors 0 to 2 that were open at all.
    pub stdio_open: [bool; 3],
    pub strace: Option<Strace>,
    /// Are decisions about files written to the inherited descriptor for them?
    pub audit: bool,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or as tracing's filters are written.
    pub log_level: String,
    /// Bytes of guest memory, at most.
    pub memory_limit: Option<u64>,
    pub limits: SandboxLimits,
    /// May threads use restartable sequences (rseq(2))?
    pub rseq: bool,
    /// Are there Internet sockets, on the loopback?
    pub has_network: bool,
    /// What may be done to which files: of rules that match, the last decides.
    pub file_rules: Vec<RuleSpec>,
    /// (soft, hard) by resource number, as the launcher had them.
    pub rlimits: Vec<(u32, u64, u64)>,
}

/// A string of any bytes but NUL.
pub type Bytes = Vec<u8>;

/// The root file system.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootSpec {
    /// The gofer tree that is the (lower) root.
    pub tree: u32,
    pub overlay: OverlayMode,
}

/// Where changes of the root go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayMode {
    /// Into memory, gone with the sandbox.
    Memory,
    /// Nowhere: the root is read-only.
    None,
}

/// A mount over the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MountSpec {
    /// A host file or directory, by its gofer tree.
    Bind { tree: u32, source: PathBuf, target: Bytes, read_only: bool, is_dir: bool },
    /// An empty tmpfs.
    Tmpfs { target: Bytes },
}

/// The user's terminal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// Which of the standard streams are this terminal.
    pub streams: [bool; 3],
    /// May it be read and set (the launcher is in the foreground)?
    pub foreground: bool,
    pub rows: u16,
    pub columns: u16,
}

/// Where `--strace` lines go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Strace {
    /// Standard error of the launcher.
    Stderr,
    /// An inherited descriptor.
    File,
}
