//! Profiles (`--profile`): what a sandbox may have, written down (docs/profiles.md).

mod files;
mod reader;
#[cfg(test)]
mod tests;

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use policies::profiles::BUILT_IN;
use sentry::policy::{Glob, RuleSpec};
use toml::de::DeTable;

use self::reader::{Section, Source, Text, nearest};
use crate::args::{self, OverlayArg};

/// What a profile says; the default says nothing.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    pub(crate) env: EnvRules,
    pub(crate) limits: LimitRules,
    pub(crate) mounts: MountRules,
    pub(crate) network: Option<Network>,
    /// The last that matches decides.
    pub(crate) files: Vec<RuleSpec>,
}

/// Which variables of the caller's environment the command gets.
#[derive(Debug, Default)]
pub(crate) struct EnvRules {
    clear: bool,
    /// Only variables of these names are kept; `None`: all are.
    keep: Option<Vec<Glob>>,
    drop: Vec<Glob>,
    pub(crate) set: Vec<(OsString, OsString)>,
}

impl EnvRules {
    /// May a variable of the caller be seen inside?
    pub(crate) fn keeps(&self, name: &OsStr) -> bool {
        let matches = |glob: &Glob| glob.matches(name.as_bytes());
        let kept = match &self.keep {
            Some(keep) => keep.iter().any(matches),
            None => !self.clear,
        };
        kept && !self.drop.iter().any(matches)
    }
}

/// Limits on the whole sandbox: bytes, counts, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct LimitRules {
    pub(crate) memory: Option<u64>,
    pub(crate) pids: Option<u32>,
    pub(crate) files: Option<u64>,
    pub(crate) disk: Option<u64>,
    pub(crate) cpu_time: Option<f64>,
    pub(crate) time: Option<f64>,
}

/// What is shown of the host, as the options of the same names take it.
#[derive(Debug, Default)]
pub(crate) struct MountRules {
    pub(crate) bind: Vec<OsString>,
    pub(crate) ro_bind: Vec<OsString>,
    pub(crate) tmpfs: Vec<OsString>,
    pub(crate) overlay: Option<OverlayArg>,
}

/// What the sandbox has of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    None,
    Loopback,
}

/// What `~`, `$HOME` and `$CWD` at the start of a path stand for.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    home: Option<PathBuf>,
    cwd: PathBuf,
}

impl Places {
    /// `cwd`: where the command will start.
    pub(crate) fn new(cwd: &Path) -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        Self { home, cwd: cwd.to_owned() }
    }

    /// The start and the rest of the path that a text means; `None` if it is not absolute.
    fn expand<'a>(&self, text: &Text<'_>, path: &'a str) -> Result<Option<(&Path, &'a str)>> {
        let (first, rest) = match path.find('/') {
            Some(at) => path.split_at(at),
            None => (path, ""),
        };
        let start = match first {
            "" => Path::new(""),
            "~" | "$HOME" => match &self.home {
                Some(home) => home,
                None => return Err(text.error("HOME is not set to an absolute path")),
            },
            "$CWD" => &self.cwd,
            _ if first.starts_with('$') => {
                return Err(text.error("only $HOME and $CWD are known here"));
            }
            _ if first.starts_with('~') => {
                return Err(text.error("`~` stands for the caller's home alone"));
            }
            _ => return Ok(None),
        };
        Ok(Some((start, rest)))
    }

    /// A place that is shown: no pattern.
    fn path(&self, text: &Text<'_>) -> Result<OsString> {
        let (start, rest) = self.expand(text, text.text)?.ok_or_else(|| text.error(NO_PATH))?;
        let start = start.as_os_str().as_bytes();
        // The root as a home: `//x` is `/x`.
        let start = start.strip_suffix(b"/").unwrap_or(start);
        Ok(OsStr::from_bytes(&[start, rest.as_bytes()].concat()).to_owned())
    }

    /// A pattern for paths, in which what `~` and `$CWD` stand for is taken as it is.
    fn pattern(&self, text: &Text<'_>, path: &str) -> Result<Vec<u8>> {
        let (start, rest) = self.expand(text, path)?.ok_or_else(|| text.error(NO_PATH))?;
        let mut pattern = Vec::new();
        for &byte in start.as_os_str().as_bytes() {
            if b"*?[\\".contains(&byte) {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.extend_from_slice(rest.as_bytes());
        Ok(pattern)
    }
}

const NO_PATH: &str = "takes a path that begins with /, ~, $HOME or $CWD";

/// The profile of that name, or in that file.
pub(crate) fn load(name: &OsStr, places: &Places) -> Result<Profile> {
    let plain = name.to_str().filter(|name| !name.contains('/'));
    if let Some(plain) = plain {
        if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == plain) {
            return parse(&Source { name: &format!("profile {plain}"), text }, places);
        }
        if !Path::new(name).exists() {
            let known = BUILT_IN.map(|(name, _)| name);
            let hint = match nearest(plain, &known) {
                Some(other) => format!("did you mean {other}?"),
                None => format!("there are {}, or name a file", known.join(", ")),
            };
            bail!("no profile {plain}; {hint}");
        }
    }
    let shown = name.display().to_string();
    let text = fs::read_to_string(name).with_context(|| format!("profile {shown}"))?;
    parse(&Source { name: &shown, text: &text }, places)
}

/// Lists the built-in profiles, or prints one.
pub(crate) fn print(name: Option<&str>) -> Result<std::process::ExitCode> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let Some(name) = name else {
        for (name, text) in BUILT_IN {
            let about = text.lines().next().unwrap_or_default().trim_start_matches("# ");
            writeln!(out, "{name:16}{about}")?;
        }
        return Ok(std::process::ExitCode::SUCCESS);
    };
    match BUILT_IN.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => out.write_all(text.as_bytes())?,
        None => bail!("no profile {name}; there are {}", BUILT_IN.map(|(name, _)| name).join(", ")),
    }
    Ok(std::process::ExitCode::SUCCESS)
}

fn parse(source: &Source<'_>, places: &Places) -> Result<Profile> {
    const KEYS: [&str; 5] = ["env", "files", "limits", "mounts", "network"];
    let document = DeTable::parse(source.text).map_err(|error| source.syntax(&error))?;
    let top = Section::new(*source, "", document.get_ref(), &KEYS)?;
    Ok(Profile {
        env: env(&top)?,
        limits: limits(&top)?,
        mounts: mounts(&top, places)?,
        network: network(&top)?,
        files: files::rules(&top, places)?,
    })
}

fn env(top: &Section<'_>) -> Result<EnvRules> {
    const KEYS: [&str; 4] = ["clear", "drop", "keep", "set"];
    let Some(section) = top.section("env", "env", &KEYS)? else { return Ok(EnvRules::default()) };
    let globs = |key| -> Result<Vec<Glob>> {
        let globs = section.texts(key)?.into_iter();
        let glob = |text: Text<'_>| Glob::new(text.text.as_bytes()).map_err(|e| text.error(e));
        globs.map(glob).collect()
    };
    let set = section.pairs("set")?.into_iter();
    Ok(EnvRules {
        clear: section.flag("clear")?,
        keep: if section.has("keep") { Some(globs("keep")?) } else { None },
        drop: globs("drop")?,
        set: set.map(|(name, value)| (name.into(), value.into())).collect(),
    })
}

fn limits(top: &Section<'_>) -> Result<LimitRules> {
    const KEYS: [&str; 6] = ["cpu-time", "disk", "files", "memory", "pids", "time"];
    let section = top.section("limits", "limits", &KEYS)?;
    let Some(section) = section else { return Ok(LimitRules::default()) };
    Ok(LimitRules {
        memory: section.size("memory", args::LEAST_MEMORY)?,
        pids: section.number("pids", 1)?.map(|pids| u32::try_from(pids).unwrap_or(u32::MAX)),
        files: section.number("files", 16)?,
        disk: section.size("disk", 0)?,
        cpu_time: section.seconds("cpu-time")?,
        time: section.seconds("time")?,
    })
}

fn mounts(top: &Section<'_>, places: &Places) -> Result<MountRules> {
    const KEYS: [&str; 4] = ["bind", "overlay", "ro-bind", "tmpfs"];
    let section = top.section("mounts", "mounts", &KEYS)?;
    let Some(section) = section else { return Ok(MountRules::default()) };
    let paths = |key| -> Result<Vec<OsString>> {
        section.texts(key)?.iter().map(|text| places.path(text)).collect()
    };
    Ok(MountRules {
        bind: paths("bind")?,
        ro_bind: paths("ro-bind")?,
        tmpfs: paths("tmpfs")?,
        overlay: section.word("overlay", &["memory", "none"])?.map(|word| match word {
            "none" => OverlayArg::None,
            _ => OverlayArg::Memory,
        }),
    })
}

fn network(top: &Section<'_>) -> Result<Option<Network>> {
    let Some(text) = top.text("network")? else { return Ok(None) };
    match text.text {
        "none" => Ok(Some(Network::None)),
        "loopback" => Ok(Some(Network::Loopback)),
        "host" | "client" | "outbound" | "internet" => {
            Err(text.error("there is no way out to the network yet: take none or loopback"))
        }
        _ => Err(text.error("no such network: there are none and loopback")),
    }
}
