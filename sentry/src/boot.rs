//! From a configuration to a running sandbox: mounts, standard streams, the first process.

mod config;
mod init;
mod message;
mod mounts;
mod stdio;

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gofer_wire::GoferClient;
use linux_abi::{Errno, Signal, process::Rlimit};
use platform::{Platform, PlatformError, memory::MemoryFile};

pub use config::{Bytes, Config, MountSpec, OverlayMode, RootSpec, Strace, Terminal};
pub use message::{FromSentry, Panic, ToSentry};

use crate::{
    kernel::{
        ExitStatus, FsContext, InitConfig, InitError, Kernel,
        limits::{self, Limits},
    },
    policy::{Audit, BadPattern, Denials, FilePolicy, FileRules},
    strace::{self, LineSink},
    vfs::{self, LookupFlags, MountNamespace, PathCx},
};

/// What the sentry process was given.
pub struct Sandbox {
    pub config: Config,
    pub platform: Arc<dyn Platform>,
    pub memory: Arc<MemoryFile>,
    /// The gofer's socket.
    pub gofer: OwnedFd,
    /// Where `--strace` lines go.
    pub strace: Option<LineSink>,
    /// Where `--audit` lines go. Should not block.
    pub audit: Option<OwnedFd>,
    /// The standard streams.
    pub stdio: [OwnedFd; 3],
    /// Puts up the last wall, when the platform of this name is ready and before guest code runs.
    pub seal: fn(&str) -> Result<(), String>,
}

/// A sandbox whose first process runs.
#[derive(Debug)]
pub struct Running {
    kernel: Arc<Kernel>,
    console: Option<stdio::Console>,
    /// Everything was killed because the file server went.
    files_lost: Arc<AtomicBool>,
    denials: Option<Arc<Denials>>,
    /// The file server ends with its last connection, and that would be taken for a failure while the last
    /// process goes away, which may take long.
    _files: Arc<GoferClient>,
    /// Taking a tree of many files down takes milliseconds, for which nobody need wait.
    _mounts: Arc<MountNamespace>,
}

/// Why a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("the file server {0}")]
    Gofer(String),
    #[error("cannot confine the application kernel: {0}")]
    Seal(String),
    #[error("cannot use this platform: {0}")]
    Platform(#[from] PlatformError),
    #[error("cannot mount {at}: {errno}")]
    Mount { at: String, errno: Errno },
    #[error(
        "working directory {path}: {errno} (inside; choose another with --cwd, or show it with --bind)"
    )]
    Cwd { path: String, errno: Errno },
    #[error("a rule for files: {0}")]
    Rules(#[from] BadPattern),
    #[error("standard stream {number}: {errno}")]
    Stdio { number: usize, errno: Errno },
    #[error("{name}: {}", match *errno {
        Errno::ENOENT => "command not found",
        Errno::EFAULT => "the program file is incomplete",
        other => other.text(),
    })]
    Command { name: String, errno: Errno },
    #[error("{name}: the interpreter that it names is not there")]
    Interpreter { name: String },
}

impl BootError {
    /// The launcher's exit status (env(1)).
    pub fn status(&self) -> i32 {
        match self {
            Self::Command { errno: Errno::ENOENT, .. } | Self::Interpreter { .. } => 127,
            Self::Command { .. } => 126,
            _ => 125,
        }
    }
}

impl Sandbox {
    /// Builds the sandbox and starts the command.
    pub fn start(self) -> Result<Running, BootError> {
        let client = GoferClient::connect(self.gofer)
            .map_err(|errno| BootError::Gofer(format!("does not answer: {errno}")))?;
        let client = Arc::new(client);
        let config = self.config;
        let kernel = Kernel::new(self.platform, self.memory, config.limits);
        if !config.has_network {
            kernel.network.switch_off();
        }
        kernel.uts.set_host_name(config.hostname.as_bytes());
        if config.rseq {
            kernel.allow_rseq();
        }
        if let Some(sink) = self.strace {
            kernel.set_tracer(Arc::new(strace::Strace::new(sink)));
        }
        let dying = Arc::downgrade(&kernel);
        let files_lost = Arc::new(AtomicBool::new(false));
        let lost = files_lost.clone();
        client.on_death(move || {
            tracing::error!("the file server is gone; ending the sandbox");
            lost.store(true, Ordering::Release);
            if let Some(kernel) = dying.upgrade() {
                kernel.kill_all();
            }
        });
        let policy = match self.audit {
            None if config.file_rules.is_empty() => None,
            audit => {
                let rules = FileRules::new(&config.file_rules)?;
                Some(FilePolicy::new(rules, audit.map(Audit::new)))
            }
        };
        let denials = policy.as_ref().map(|policy| policy.denials().clone());
        // What fails because the file server went is not the command's fault.
        let blame = |error| {
            if client.is_dead() { BootError::Gofer("ended".to_owned()) } else { error }
        };
        let namespace = mounts::build(&kernel, &client, &config, policy).map_err(blame)?;
        let fs = FsContext::new(&namespace, config.umask);
        let cred = init::credentials(&config);
        enter_cwd(&fs, &cred, &config).map_err(blame)?;
        let cx = PathCx { fs: fs.state(), cred: cred.clone() };
        let streams = stdio::open(&kernel, &cx, self.stdio, &config, &cred)?;
        let path = init::find_program(&cx, &config).map_err(blame)?;
        let command =
            String::from_utf8_lossy(config.argv.first().map_or(b"", Vec::as_slice)).into_owned();
        let init = InitConfig {
            path,
            argv: config.argv,
            envp: config.env,
            fs,
            fds: streams.fds,
            cred,
            limits: rlimits(&config.rlimits),
            tty: streams.controlling,
        };
        kernel.platform().wait_ready()?;
        // All that is left to do, the sentry does within its filter; guest code runs only after it.
        (self.seal)(kernel.platform().name()).map_err(BootError::Seal)?;
        let path = init.path.clone();
        let spawned = kernel.spawn_init(init).map_err(|error| match error {
            InitError::Platform(error) => BootError::Platform(error),
            InitError::Program(Errno::ENOENT) if init::is_there(&cx, &path) => {
                BootError::Interpreter { name: command }
            }
            InitError::Program(errno) => BootError::Command { name: command, errno },
        });
        spawned.map_err(blame)?;
        let console = streams.console;
        Ok(Running { kernel, console, files_lost, denials, _files: client, _mounts: namespace })
    }
}

fn enter_cwd(
    fs: &Arc<FsContext>,
    cred: &Arc<crate::kernel::Credentials>,
    config: &Config,
) -> Result<(), BootError> {
    let cx = PathCx { fs: fs.state(), cred: cred.clone() };
    let found =
        vfs::resolve(&cx, cx.cwd(), &config.cwd, LookupFlags::FOLLOW | LookupFlags::DIRECTORY);
    let cwd = found.map_err(|error| BootError::Cwd {
        path: String::from_utf8_lossy(&config.cwd).into_owned(),
        errno: error.errno(),
    })?;
    fs.set_cwd(cwd);
    Ok(())
}

fn rlimits(given: &[(u32, u64, u64)]) -> [Rlimit; limits::COUNT] {
    let mut all = Limits::defaults();
    for &(resource, soft, hard) in given {
        if let Some(limit) = all.get_mut(resource as usize) {
            *limit = Rlimit { cur: soft.min(hard), max: hard };
        }
    }
    all
}

impl Running {
    /// What the launcher says while the command runs.
    pub fn hear(&self, message: &ToSentry) {
        match message {
            ToSentry::Signal { number, from_terminal } => match Signal::new(*number) {
                Some(signal) if *from_terminal => self.kernel.signal_foreground(signal),
                Some(signal) => self.kernel.signal_init(signal),
                None => {}
            },
            ToSentry::Resize { rows, columns } => {
                if let Some(console) = &self.console {
                    console.resize(*rows, *columns);
                }
            }
            ToSentry::Continue { foreground } => {
                if let Some(console) = self.console.as_ref().filter(|_| *foreground) {
                    console.set_typing(true);
                }
                self.kernel.signal_foreground(Signal::CONT);
            }
        }
    }

    /// Waits for the command's end. `tell` is called for what happens before.
    pub fn wait(&self, tell: impl Fn(FromSentry)) -> FromSentry {
        let status = self.kernel.wait_for_init(|| {
            if let Some(console) = &self.console {
                console.set_typing(false);
                console.drain();
            }
            tell(FromSentry::Stopped);
        });
        if let Some(denials) = &self.denials {
            denials.finish();
        }
        if let Some(console) = &self.console {
            console.drain();
        }
        match status {
            ExitStatus::Signaled { .. } if self.files_lost.load(Ordering::Acquire) => {
                FromSentry::FilesLost
            }
            ExitStatus::Exited(code) => FromSentry::Exited { code: i32::from(code) },
            ExitStatus::Signaled { signal, .. } => FromSentry::Signaled { signal: signal.number() },
        }
    }
}
