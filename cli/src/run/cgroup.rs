//! A control group of version 2 for a sandbox, where the launcher's own is delegated to it (cgroups(7)): a second hold on
//! memory and processes, by the host's kernel. What the sentry enforces is what guests see; the group's limits lie above, for
//! what the sentry does not count: its own mistakes, page tables, the host's buffers.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    event::{Timespec, poll},
    fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat},
};

/// Names of groups: this, and the launcher's process number.
const PREFIX: &str = "lazaret-";

/// What the user limited.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: Option<u64>,
    /// Guest processes and threads.
    pub(crate) pids: Option<u32>,
}

impl Limits {
    /// Controllers, and the files that are to be written for them.
    fn files(self) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
        let mut all = Vec::new();
        if let Some(memory) = self.memory {
            // The sentry looks some times a second, and holds some for itself.
            let most = memory.saturating_add(memory / 4).saturating_add(256 << 20);
            // Whoever is killed, all are: the processes of a sandbox are of no use without each other.
            let files = vec![("memory.max", most.to_string()), ("memory.oom.group", "1".into())];
            all.push(("memory", files));
        }
        if let Some(pids) = self.pids {
            // A guest thread has one here and one in the sentry; a process two more, and some are kept ready.
            let most = u64::from(pids).saturating_mul(4).saturating_add(256);
            all.push(("pids", vec![("pids.max", most.to_string())]));
        }
        all
    }
}

/// A group with nothing in it yet. Dropping it ends what is in it, and removes it.
#[derive(Debug)]
pub(crate) struct Group {
    parent: OwnedFd,
    directory: OwnedFd,
    name: String,
    members: File,
    /// `memory.events`, opened before the launcher's filter is in force.
    events: Option<File>,
}

impl Group {
    /// Makes one below the launcher's group, or beside that; `None` where that is not to be had, or nothing is limited.
    pub(crate) fn make(limits: Limits) -> Option<Self> {
        places().iter().find_map(|place| Self::make_in(place, limits))
    }

    fn make_in(place: &Path, limits: Limits) -> Option<Self> {
        let mut wanted = limits.files();
        wanted.retain(|(controller, _)| enable(place, controller));
        if wanted.is_empty() {
            return None;
        }
        remove_left_behind(place);
        let files: Vec<_> = wanted.into_iter().flat_map(|(_, files)| files).collect();
        Self::with_files(place, &files)
    }

    /// A group below `place` in whose files this is written.
    fn with_files(place: &Path, files: &[(&str, String)]) -> Option<Self> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = open(place, flags, Mode::empty()).ok()?;
        let name = format!("{PREFIX}{}", std::process::id());
        mkdirat(&parent, &name, Mode::from_raw_mode(0o755)).ok()?;
        let made = openat(&parent, &name, flags, Mode::empty()).and_then(|directory| {
            let members = openat(
                &directory,
                "cgroup.procs",
                OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            Ok((directory, members))
        });
        let Ok((directory, members)) = made else {
            let _ = unlinkat(&parent, &name, AtFlags::REMOVEDIR);
            return None;
        };
        let readable = OFlags::RDONLY | OFlags::CLOEXEC;
        let events = openat(&directory, "memory.events", readable, Mode::empty());
        let events = events.ok().map(File::from);
        let group = Self { parent, directory, name, members: members.into(), events };
        // A file that this kernel does not have is one hold fewer.
        for (file, value) in files {
            let _ = group.write(file, value);
        }
        Some(group)
    }

    /// To which a process that writes 0 becomes a member.
    pub(crate) fn members(&self) -> BorrowedFd<'_> {
        self.members.as_fd()
    }

    /// Whether the host's kernel killed members for the limit of memory. To be asked once.
    pub(crate) fn was_out_of_memory(&self) -> bool {
        let mut text = [0; 512];
        let Some(mut events) = self.events.as_ref() else { return false };
        let read = events.read(&mut text).unwrap_or(0);
        has_killed(text.get(..read).unwrap_or_default())
    }

    fn write(&self, file: &str, value: &str) -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.directory, file, flags, Mode::empty())?;
        File::from(file).write_all(value.as_bytes())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        /// Of ten milliseconds each: killed processes take a moment to be gone.
        const TRIES: u32 = 100;
        let _ = self.write("cgroup.kill", "1");
        for _ in 0..TRIES {
            match unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
                Err(rustix::io::Errno::BUSY) => {}
                _ => return,
            }
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
        }
    }
}

/// Whether [`Group::make`] may be expected to succeed. Changes nothing.
pub(crate) fn is_delegated() -> bool {
    places().iter().any(|place| {
        let may = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        ["memory", "pids"].iter().any(|controller| offers(place, controller))
            && rustix::fs::access(place, may).is_ok()
            && rustix::fs::access(place.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
    })
}

/// As `memory.events` tells it: a line for each kind of event, with how often it came about.
fn has_killed(events: &[u8]) -> bool {
    let mut lines = events.split(|&byte| byte == b'\n');
    lines.any(|line| line.strip_prefix(b"oom_kill ").is_some_and(|count| count != b"0"))
}

fn has(list: &str, controller: &str) -> bool {
    list.split_whitespace().any(|word| word == controller)
}

/// Whether groups below `place` are under the controller, or can be.
///
/// Not where the group has processes of its own: the kernel then refuses memory, but not pids, with which groups below
/// cannot have processes ("domain invalid", cgroups(7)). The first of all groups, which has no type, may have both.
fn offers(place: &Path, controller: &str) -> bool {
    let read = |file: &str| fs::read_to_string(place.join(file)).unwrap_or_default();
    let control = place.join("cgroup.subtree_control");
    let is_writable = || rustix::fs::access(control, rustix::fs::Access::WRITE_OK).is_ok();
    has(&read("cgroup.controllers"), controller)
        && (has(&read("cgroup.subtree_control"), controller) || is_writable())
        && (!place.join("cgroup.type").exists()
            || (read("cgroup.type").trim_end() == "domain" && read("cgroup.procs").is_empty()))
}

/// Sees to it that groups below `place` are under the controller.
fn enable(place: &Path, controller: &str) -> bool {
    let control = place.join("cgroup.subtree_control");
    offers(place, controller)
        && (has(&fs::read_to_string(&control).unwrap_or_default(), controller)
            || fs::write(control, format!("+{controller}")).is_ok())
}

/// Removes empty groups whose launchers were killed.
fn remove_left_behind(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let is_gone = pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
        if is_gone {
            // Fails when somebody is in it.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where a group may be made: below the launcher's own, or beside it.
fn places() -> Vec<PathBuf> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    find(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo")).unwrap_or_default()
}

/// As [`places`], from what the two files in /proc say.
fn find(groups: &str, mounts: &str) -> Option<Vec<PathBuf>> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, Path::new(fields.next()?));
    let own = Path::new(own).strip_prefix(root).ok()?;
    let mut places = vec![point.join(own)];
    places.extend(own.parent().map(|above| point.join(above)));
    Some(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 1 0:22 / /proc rw - proc proc rw
31 23 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn paths(groups: &str, mounts: &str) -> Vec<String> {
        let places = find(groups, mounts).unwrap_or_default();
        places.iter().map(|place| place.display().to_string()).collect()
    }

    #[test]
    fn groups_are_made_below_the_own_one_or_beside_it() {
        let beside = paths("0::/user.slice/a.scope\n", MOUNTS);
        assert_eq!(beside, ["/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup/user.slice"]);
        assert_eq!(paths("0::/\n", MOUNTS), ["/sys/fs/cgroup/"]);
        let below = MOUNTS.replace("0:27 /", "0:27 /pod");
        assert_eq!(paths("0::/pod/a\n", &below), ["/sys/fs/cgroup/a", "/sys/fs/cgroup/"]);
    }

    #[test]
    fn without_version_2_there_is_no_place() {
        assert!(paths("4:memory:/\n", MOUNTS).is_empty());
        assert!(paths("0::/\n", "25 1 0:22 / /proc rw - proc proc rw\n").is_empty());
        assert!(paths("0::/elsewhere\n", &MOUNTS.replace("0:27 /", "0:27 /pod")).is_empty());
    }

    #[test]
    fn a_place_that_does_not_offer_controllers_is_no_error() {
        let place = std::env::temp_dir().join(format!("cgroup-test-{}", std::process::id()));
        fs::create_dir(&place).unwrap();
        let limits = Limits { memory: Some(1 << 30), pids: Some(10) };
        assert!(Group::make_in(&place, limits).is_none());
        fs::write(place.join("cgroup.controllers"), "cpu memory\n").unwrap();
        fs::write(place.join("cgroup.subtree_control"), "memory\n").unwrap();
        // It is no group at all: no cgroup.procs.
        assert!(Group::make_in(&place, limits).is_none());
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2, "nothing is left");
        // With processes of its own it is no place.
        fs::write(place.join("cgroup.controllers"), "memory pids\n").unwrap();
        fs::write(place.join("cgroup.type"), "domain\n").unwrap();
        fs::write(place.join("cgroup.procs"), "1\n").unwrap();
        assert!(!offers(&place, "memory") && !offers(&place, "pids"));
        fs::write(place.join("cgroup.procs"), "").unwrap();
        assert!(offers(&place, "memory") && offers(&place, "pids"));
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_kill_for_memory_is_told_by_its_count() {
        let events = "low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n";
        assert!(!has_killed(events.as_bytes()));
        assert!(has_killed(events.replace("oom_kill 0", "oom_kill 12").as_bytes()));
        assert!(!has_killed(b""));
    }

    /// Where the test may make groups; controllers are not needed.
    #[test]
    fn who_is_in_a_group_ends_with_it() {
        let Some(group) = places().iter().find_map(|place| Group::with_files(place, &[])) else {
            eprintln!("skipped: no control group is delegated");
            return;
        };
        let path = places().iter().map(|place| place.join(&group.name)).find(|path| path.exists());
        let path = path.unwrap();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        (&group.members).write_all(child.id().to_string().as_bytes()).unwrap();
        drop(group);
        assert!(!child.wait().unwrap().success());
        assert!(!path.exists());
    }

    #[test]
    fn limits_of_the_group_lie_above_the_guests() {
        let limits = Limits { memory: Some(1 << 30), pids: Some(10) };
        let files = limits.files();
        assert_eq!(files[0].1[0], ("memory.max", ((5 << 28) + (256 << 20)).to_string()));
        assert_eq!(files[1].1[0], ("pids.max", "296".to_owned()));
        assert!(Limits::default().files().is_empty());
    }
}
