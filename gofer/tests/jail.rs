//! The whole process in its jail: this program starts itself as a gofer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::{
    fs::{self, File},
    io::Read,
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{TempDir, can_give_files_away, path, ro, rw};
use gofer::{
    ServerConfig, TreeConfig,
    jail::{Need, Options},
};
use gofer_wire::{
    FileType, GoferClient, OpenHow, Owner, RenameFlags, SetAttr, SetTime, WalkEnd,
    request::NodeKind, transport::socket_pair,
};
use libtest_mimic::{Arguments, Failed, Trial};
use linux_abi::Errno;

/// In the environment of the child: which parts of the jail it must have.
const ROLE: &str = "GOFER_TEST_JAIL";

fn main() {
    if let Ok(parts) = std::env::var(ROLE) {
        return be_gofer(&parts);
    }
    let mut trials = Vec::new();
    for parts in ["", "landlock", "seccomp", "landlock,seccomp", "mounts,landlock,seccomp"] {
        let root_only = parts.contains("mounts") && !may_mount();
        trials.push(
            Trial::test(format!("all requests work with: {parts}"), move || works(parts))
                .with_ignored_flag(root_only),
        );
    }
    trials.push(Trial::test("the whole host can be served", serves_root));
    trials.push(Trial::test("the gofer ends with its client", ends));
    let root_only = !may_mount();
    trials.push(
        Trial::test("a jailed gofer has nothing but its trees", is_bare)
            .with_ignored_flag(root_only),
    );
    trials.push(Trial::test("how long a start takes", starts).with_ignored_flag(true));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// May this process have mounts of its own? The superuser may, but not in a chroot (its root is no mount point)
/// and not in a container that took the right away.
fn may_mount() -> bool {
    use rustix::{
        fs::{AtFlags, CWD, StatxFlags, statx},
        thread::{CapabilitySet, capabilities},
    };
    /// `STATX_ATTR_MOUNT_ROOT`.
    const MOUNT_ROOT: u64 = 0x2000;
    let root = statx(CWD, "/", AtFlags::empty(), StatxFlags::BASIC_STATS);
    let rights = capabilities(None).map(|sets| sets.effective);
    rustix::process::geteuid().is_root()
        && root.is_ok_and(|root| root.stx_attributes.bits() & MOUNT_ROOT != 0)
        && rights.is_ok_and(|rights| rights.contains(CapabilitySet::SYS_ADMIN))
}

/// The child: serves `/`'s directories given as arguments on standard input.
fn be_gofer(parts: &str) {
    let need = |part| if parts.contains(part) { Need::Must } else { Need::Off };
    let options =
        Options { mounts: need("mounts"), landlock: need("landlock"), seccomp: need("seccomp") };
    let mut directories = std::env::args_os().skip(1);
    let mut trees = Vec::new();
    trees.extend(directories.next().map(|path| TreeConfig::read_only(0, path)));
    trees.extend(directories.next().map(|path| TreeConfig::writable(1, path)));
    let control = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let report = gofer::run(ServerConfig::new(trees), &control, &options);
    if let Err(error) = report {
        eprintln!("gofer: {error}");
        std::process::exit(1);
    }
}

/// A gofer process with these directories.
fn spawn(parts: &str, directories: &[&Path]) -> (Child, GoferClient) {
    let (ours, theirs) = socket_pair().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(directories)
        .env(ROLE, parts)
        // One heap for all threads, as in the gofer's role of the program (`platform::host::share_one_heap`): with more,
        // glibc reads how many processors there are.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    (child, GoferClient::connect(ours).unwrap())
}

fn finish(mut child: Child, client: GoferClient) {
    drop(client);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return assert!(status.success(), "{status}"),
            None if Instant::now() > deadline => {
                child.kill().unwrap();
                panic!("the gofer outlives its client");
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn ends() -> Result<(), Failed> {
    let dir = TempDir::new();
    let (child, client) = spawn("landlock,seccomp", &[dir.path(), dir.path()]);
    client.get_attr(ro(""))?;
    finish(child, client);
    Ok(())
}

/// Every request, so that a system call missing from the policy is noticed.
fn works(parts: &str) -> Result<(), Failed> {
    let (fixed, shared) = (TempDir::new(), TempDir::new());
    fs::create_dir(fixed.path().join("sub dir"))?;
    fs::write(fixed.path().join("sub dir/file"), b"fixed")?;
    let (child, c) = spawn(parts, &[fixed.path(), shared.path()]);
    let reply = c.walk(ro(""), path("sub dir/file"), Some(OpenHow::READ))?;
    assert_eq!(reply.end, WalkEnd::Complete);
    let mut text = String::new();
    File::from(reply.file.unwrap()?).read_to_string(&mut text)?;
    assert_eq!(text, "fixed");
    assert_eq!(c.create(ro("x"), 0o600, None, OpenHow::READ).unwrap_err(), Errno::EROFS);
    changes(&c)?;
    // Several at once: threads are made inside of the jail.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(c.read_dir(ro(""), true).unwrap().entries.len(), 1);
                }
            });
        }
    });
    assert!(!c.is_dead());
    finish(child, c);
    Ok(())
}

fn changes(c: &GoferClient) -> Result<(), Failed> {
    let is_root = can_give_files_away();
    let owner = is_root.then_some(Owner { uid: 12, gid: 34 });
    let made = c.create(rw("file"), 0o4711, owner, OpenHow::READ_WRITE)?;
    assert_eq!(made.attr.permissions(), 0o4711);
    assert_eq!(made.attr.uid == 12, is_root);
    c.mkdir(rw("dir"), 0o755, owner)?;
    c.mknod(rw("fifo"), NodeKind::Fifo, 0o600, owner)?;
    c.symlink(rw("link"), b"file", owner)?;
    assert_eq!(c.read_link(rw("link"))?, b"file");
    c.link(rw("file"), path("dir/second"))?;
    c.rename(rw("dir/second"), path("third"), RenameFlags::NO_REPLACE)?;
    let change = SetAttr {
        mode: Some(0),
        size: Some(10),
        gid: is_root.then_some(56),
        mtime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    assert_eq!(c.set_attr(rw("file"), &change)?.mode, 0o100_000);
    c.set_attr(rw("file"), &SetAttr { mode: Some(0o600), ..SetAttr::default() })?;
    match c.set_xattr(rw("file"), b"user.a", b"value", 0) {
        Err(Errno::EOPNOTSUPP) => {}
        done => {
            done?;
            assert_eq!(c.get_xattr(rw("file"), b"user.a")?, b"value");
            assert_eq!(c.list_xattr(rw("file"))?, b"user.a\0");
            c.remove_xattr(rw("file"), b"user.a")?;
        }
    }
    c.fsync(rw("dir"), false)?;
    c.fsync(rw("file"), true)?;
    assert!(c.stat_fs(rw("file"))?.blocks > 0);
    c.unlink(rw("file"))?;
    c.rmdir(rw("dir"))?;
    Ok(())
}

fn serves_root() -> Result<(), Failed> {
    let shared = TempDir::new();
    let mut parts = vec!["landlock,seccomp"];
    if may_mount() {
        parts.push("mounts,landlock,seccomp");
    }
    for parts in parts {
        let (child, c) = spawn(parts, &[Path::new("/"), shared.path()]);
        let reply = c.walk(ro(""), path("etc/passwd"), Some(OpenHow::READ))?;
        assert!(reply.file.unwrap().is_ok());
        // What lies where the new root was built is there all the same.
        let there = shared.path().strip_prefix("/")?.to_str().unwrap();
        assert_eq!(c.get_attr(ro(there))?.ino, c.get_attr(rw(""))?.ino);
        assert_eq!(c.get_attr(ro("dev/null"))?.file_type(), FileType::CharDevice);
        assert!(c.read_dir(ro("proc"), false)?.entries.is_empty());
        if can_give_files_away() {
            assert!(c.open(ro("etc/shadow"), OpenHow::READ).is_ok());
        }
        finish(child, c);
    }
    Ok(())
}

/// What the host says of the process.
fn is_bare() -> Result<(), Failed> {
    let (fixed, shared) = (TempDir::new(), TempDir::new());
    let (child, c) = spawn("mounts,landlock,seccomp", &[fixed.path(), shared.path()]);
    c.get_attr(ro(""))?;
    let proc = Path::new("/proc").join(child.id().to_string());
    let status = fs::read_to_string(proc.join("status"))?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len() + 1..].trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2");
    for (set, allowed) in [("CapEff", 0x1f), ("CapPrm", 0x1f), ("CapBnd", 0), ("CapInh", 0)] {
        let capabilities = u64::from_str_radix(&field(set), 16)?;
        assert_eq!(capabilities & !allowed, 0, "{set}: {capabilities:x}");
    }
    let mut names: Vec<_> = fs::read_dir(proc.join("root"))?
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["fd", "trees"]);
    let mounts = fs::read_to_string(proc.join("mountinfo"))?;
    for (point, read_only) in [("/trees/0", true), ("/trees/1", false)] {
        let line = mounts.lines().find(|line| line.contains(point)).unwrap();
        let options = line.split(' ').nth(5).unwrap();
        assert!(options.contains("nodev") && options.contains("nosuid"), "{line}");
        assert_eq!(options.starts_with("ro"), read_only, "{line}");
    }
    // Standard input and output and error, the trees, and the socket; and one of the test.
    let descriptors = fs::read_dir(proc.join("fd"))?.count();
    assert!(descriptors <= 8, "{descriptors} descriptors");
    finish(child, c);
    Ok(())
}

/// From spawning to the answer to the first request.
fn starts() -> Result<(), Failed> {
    let shared = TempDir::new();
    for parts in ["", "landlock,seccomp", "mounts,landlock,seccomp"] {
        let rounds = 20;
        let start = Instant::now();
        for _ in 0..rounds {
            let (child, c) = spawn(parts, &[Path::new("/"), shared.path()]);
            c.get_attr(ro(""))?;
            finish(child, c);
        }
        println!("{parts:30} {:?}", start.elapsed() / rounds);
    }
    Ok(())
}
