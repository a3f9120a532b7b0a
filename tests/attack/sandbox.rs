//! Starting a sandbox with an attack in it, and looking at its processes from outside.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use tests::lazaret;
use tests::programs::Case;
use tests::scratch::workplace;

use crate::host::Host;

/// What a sandbox is started with, besides what all are.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) platform: &'static str,
    pub(crate) rung: &'static str,
    pub(crate) memory: &'static str,
}

/// Where processes have a mount namespace of their own, a file system comes and goes in it for as long as the command runs.
const WITH_MOUNTS: &str = r#"
mount --make-rprivate / || exit
place=$1; shift
while :; do mount -t tmpfs none "$place"; sleep 0.05; umount -l "$place"; sleep 0.02; done > /dev/null 2>&1 < /dev/null &
"$@"; status=$?
kill $!
exit $status
"#;

impl Setting {
    /// How many processes a running sandbox has besides its launcher, at least: gofer and sentry; zygote and a stub
    /// process, where there are any.
    pub(crate) fn processes(self) -> usize {
        if self.platform == "kvm" { 2 } else { 4 }
    }

    /// The command that runs the case.
    pub(crate) fn command(&self, host: &Host, case: &Case) -> Result<Command, String> {
        let shared = host.path().join("shared");
        let mut command = if case.name == "stalls::a_mount_point_may_go" && is_root() {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", WITH_MOUNTS, "sh"]);
            command.arg(shared.join("unsteady/mounted")).arg(lazaret::binary()?);
            command
        } else {
            Command::new(lazaret::binary()?)
        };
        let hidden = host.path().join("hidden");
        command
            .args(["run", "--platform", self.platform, "--jail", self.rung])
            .args(["--memory", self.memory, "--tmpfs"])
            .arg(&hidden)
            .arg("--bind")
            .arg(&shared)
            .args(["--log-level", "error", "--profile"])
            .arg(host.path().join("profile.toml"))
            .arg("--")
            .arg(&case.program)
            .arg(&case.argument)
            .env("HIDDEN", &hidden)
            .env("SHARED", &shared)
            .env("GUARDED", shared.join("guarded"))
            .env("SENTINEL", host.sentinel.id().to_string())
            .current_dir(workplace(env!("CARGO_TARGET_TMPDIR")))
            .stdin(Stdio::null());
        Ok(command)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The processes that descend from this one.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name may have blanks and parentheses.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse::<u32>().ok()) {
            parents.insert(pid, parent);
        }
    }
    let mut found = vec![ancestor];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, its)| **its == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// Bytes of memory of its own that a process has, without what it shares with others (guest memory is).
pub(crate) fn own_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
