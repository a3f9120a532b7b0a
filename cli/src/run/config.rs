//! From command-line options to the configurations of sentry and gofer, with the errors a user
//! can act on found here.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    fs::Mode,
    process,
    thread::{self, CapabilitySet},
};
use sentry::{
    boot::{Config, MountSpec, OverlayMode, RootSpec, Strace},
    kernel::SandboxLimits,
};

use super::cgroup::Limits;
use crate::{
    args::{LogLevel, NetworkArg, OverlayArg, RunArgs},
    profile::{Network, Profile},
    terminal::Terminal,
};

/// Everything the two processes need to know.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sentry: Config,
    /// Host paths by tree number: what the gofer serves.
    pub(crate) trees: Vec<Tree>,
    /// For a control group, where there is one to be had.
    pub(crate) group: Limits,
}

/// A host path to be served.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
}

/// What is logged unless something else is asked for.
const DEFAULT_LOG: &str = "error,lazaret::files=warn";

/// A number of seconds that was given for `option`.
pub(crate) fn seconds(given: Option<f64>, option: &str) -> Result<Option<Duration>> {
    let taken = given.map(Duration::try_from_secs_f64).transpose();
    taken.with_context(|| format!("{option} takes a number of seconds"))
}

/// Checks the options and makes the plan. What an option says goes before what the profile says.
pub(crate) fn plan(
    args: &RunArgs,
    profile: &Profile,
    cwd: &Path,
    terminal: Option<&Terminal>,
) -> Result<Plan> {
    let root = args.rootfs.as_deref().unwrap_or(Path::new("/"));
    let kind = fs::metadata(root).with_context(|| format!("root {}", root.display()))?;
    if !kind.is_dir() {
        bail!("root {} is not a directory", root.display());
    }
    let mut trees = vec![Tree { path: absolute(root)?, read_only: true }];
    let mut mounts = mounts(args, profile, &mut trees)?;
    // Outer places first, so that none hides another.
    mounts.sort_by_key(|mount| match mount {
        MountSpec::Bind { target, .. } | MountSpec::Tmpfs { target } => {
            target.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).count()
        }
    });
    let (uid, gid, groups) = ids(args.user.as_deref())?;
    let capabilities = if args.user.is_some() { u64::MAX } else { own_bounding_set() };
    let umask = process::umask(Mode::empty());
    process::umask(umask);
    let stdio_open = [
        rustix::io::fcntl_getfd(rustix::stdio::stdin()).is_ok(),
        rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_ok(),
        rustix::io::fcntl_getfd(rustix::stdio::stderr()).is_ok(),
    ];
    let limits = &profile.limits;
    let sentry = Config {
        platform: args.platform.name().to_owned(),
        argv: args.argv.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env: environment(args, profile)?,
        cwd: inside_path(cwd)?,
        uid,
        gid,
        groups,
        capabilities,
        hostname: host_name(args),
        root: RootSpec {
            tree: 0,
            overlay: match args.overlay.or(profile.mounts.overlay) {
                Some(OverlayArg::None) => OverlayMode::None,
                Some(OverlayArg::Memory) | None => OverlayMode::Memory,
            },
        },
        mounts,
        umask: umask.bits(),
        terminal: terminal.map(Terminal::describe),
        stdio_open,
        strace: args.strace.as_ref().map(|file| match file {
            Some(_) => Strace::File,
            None => Strace::Stderr,
        }),
        audit: args.audit.is_some(),
        log_level: args.log_level.map_or(DEFAULT_LOG, LogLevel::name).to_owned(),
        memory_limit: args.memory.or(limits.memory).or_else(default_memory),
        limits: SandboxLimits {
            pids: args.pids.or(limits.pids),
            files: args.files.or(limits.files),
            disk: args.disk.or(limits.disk),
            cpu_time: seconds(args.cpu_time.or(limits.cpu_time), "--cpu-time")?,
        },
        rseq: args.rseq,
        has_network: match args.network {
            Some(network) => network == NetworkArg::Loopback,
            None => profile.network != Some(Network::None),
        },
        file_rules: profile.files.clone(),
        rlimits: rlimits(),
    };
    // The host's default would not be the user's word.
    let group = Limits { memory: args.memory.or(limits.memory), pids: sentry.limits.pids };
    Ok(Plan { sentry, trees, group })
}

/// What is mounted over the root: the profile's first, so that an option for the same place comes to lie on top.
fn mounts(args: &RunArgs, profile: &Profile, trees: &mut Vec<Tree>) -> Result<Vec<MountSpec>> {
    let from_profile = &profile.mounts;
    let mut mounts = Vec::new();
    for (ro_bind, writable, tmpfs) in [
        (&from_profile.ro_bind, &from_profile.bind, &from_profile.tmpfs),
        (&args.ro_bind, &args.bind, &args.tmpfs),
    ] {
        for (options, read_only) in [(ro_bind, true), (writable, false)] {
            for option in options {
                mounts.push(bind(option, read_only, trees)?);
            }
        }
        for target in tmpfs {
            mounts.push(MountSpec::Tmpfs { target: inside_path(target.as_ref())? });
        }
    }
    Ok(mounts)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| path.display().to_string())
}

/// `SRC[:DEST]`.
fn bind(option: &OsStr, read_only: bool, trees: &mut Vec<Tree>) -> Result<MountSpec> {
    let bytes = option.as_bytes();
    let (source, target) = match bytes.iter().rposition(|&byte| byte == b':') {
        // A file whose own name has a colon is meant as a whole.
        Some(at) if !Path::new(option).exists() => (&bytes[..at], Some(&bytes[at + 1..])),
        _ => (bytes, None),
    };
    let source = Path::new(OsStr::from_bytes(source));
    let kind = fs::metadata(source)
        .map_err(|error| anyhow!("bind source {}: {error}", source.display()))?;
    let host = absolute(source)?;
    let target = match target {
        Some(target) => inside_path(Path::new(OsStr::from_bytes(target)))?,
        None => std::path::absolute(source)?.into_os_string().into_vec(),
    };
    let tree = u32::try_from(trees.len()).context("too many binds")?;
    trees.push(Tree { path: host.clone(), read_only });
    Ok(MountSpec::Bind { tree, source: host, target, read_only, is_dir: kind.is_dir() })
}

/// A path inside has to be absolute: there is nothing it could be relative to.
fn inside_path(path: &Path) -> Result<Vec<u8>> {
    if !path.is_absolute() {
        bail!("{}: a place inside the sandbox must be an absolute path", path.display());
    }
    Ok(path.as_os_str().as_bytes().to_vec())
}

/// Where the command starts, inside.
pub(crate) fn cwd(args: &RunArgs) -> Result<PathBuf> {
    Ok(match &args.cwd {
        Some(path) => path.clone(),
        // Another root need not have the caller's directory.
        None if args.rootfs.is_some() => PathBuf::from("/"),
        None => std::env::current_dir().context("the current directory")?,
    })
}

/// The caller's, as far as option and profile let it through; then what the profile sets; then the options.
fn environment(args: &RunArgs, profile: &Profile) -> Result<Vec<Vec<u8>>> {
    let mut vars: Vec<(OsString, OsString)> = match args.clearenv {
        true => Vec::new(),
        false => std::env::vars_os().filter(|(name, _)| profile.env.keeps(name)).collect(),
    };
    for (name, value) in &profile.env.set {
        vars.retain(|(known, _)| known != name);
        vars.push((name.clone(), value.clone()));
    }
    for option in &args.env {
        let bytes = option.as_bytes();
        let (name, value) = match bytes.iter().position(|&byte| byte == b'=') {
            Some(0) => bail!("--env {}: no name before the `=`", option.display()),
            Some(at) => {
                (OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]).to_owned())
            }
            None => match std::env::var_os(option) {
                Some(value) => (option.as_os_str(), value),
                None => continue,
            },
        };
        vars.retain(|(known, _)| known != name);
        vars.push((name.to_owned(), value));
    }
    Ok(vars
        .into_iter()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect())
}

fn ids(user: Option<&str>) -> Result<(u32, u32, Vec<u32>)> {
    let Some(user) = user else {
        let groups = process::getgroups().unwrap_or_default();
        return Ok((
            process::geteuid().as_raw(),
            process::getegid().as_raw(),
            groups.into_iter().map(|group| group.as_raw()).collect(),
        ));
    };
    let parse = |text: &str| {
        text.parse::<u32>().map_err(|_| anyhow!("--user takes numbers, as in 1000:1000"))
    };
    match user.split_once(':') {
        Some((uid, gid)) => Ok((parse(uid)?, parse(gid)?, Vec::new())),
        None => {
            let uid = parse(user)?;
            Ok((uid, uid, Vec::new()))
        }
    }
}

/// What the caller's superuser may do at most, its superuser inside may do, to what is inside.
fn own_bounding_set() -> u64 {
    let bits = CapabilitySet::all().iter();
    let mine = bits.filter(|one| thread::capability_is_in_bounding_set(*one).unwrap_or(true));
    mine.fold(0, |set, one| set | one.bits())
}

/// 80 % of what the host can give without hurting others (`MemAvailable`, proc(5)).
fn default_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim_end().parse().ok()?;
    Some(kib.saturating_mul(1024) / 5 * 4)
}

/// The launcher's limits, which the command inherits.
fn rlimits() -> Vec<(u32, u64, u64)> {
    use rustix::process::{Resource, getrlimit};
    const ALL: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    ALL.iter()
        .map(|&resource| {
            let limit = getrlimit(resource);
            let raw = |value: Option<u64>| value.unwrap_or(u64::MAX);
            (resource as u32, raw(limit.current), raw(limit.maximum))
        })
        .collect()
}

/// Programs look up the name of the host they are on, and /etc/hosts has an answer for one name only. The host's own
/// is in its /etc/hostname for everyone to read, where its root is shown.
fn host_name(args: &RunArgs) -> String {
    let own = || rustix::system::uname().nodename().to_str().map(str::to_owned).ok();
    let default = || if args.rootfs.is_none() { own() } else { None };
    args.hostname.clone().or_else(default).unwrap_or_else(|| "lazaret".to_owned())
}
