//! The profile's rules for files, where names are used.
//!
//! A rule is about the path that a file has in the sandbox: the place where its file system was mounted first, and its
//! name in there. So a file keeps its rules whatever leads to it: a symbolic link, a magic link of /proc, a bind mount,
//! another root.
//!
//! Without rules each question is one look at the superblock.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use smallvec::SmallVec;

use super::{
    Dentry, FileSystem, FileType, LookupFlags, Mount, PathCx, VfsPath, path_name, resolve,
};
use crate::{
    SysResult, err,
    policy::{Access, FilePolicy, Progress, Verdict},
};

/// The rules that are in force, in all mount namespaces of a sandbox.
pub(super) struct Enforcement {
    policy: FilePolicy,
    /// Counts the moves of names, which make verdicts kept in dentries worthless. Never 0.
    moves: AtomicU64,
    /// The file systems that were there from the start: whoever mounts one once more mounts it with its rules.
    known: Vec<(Arc<dyn FileSystem>, Base)>,
    hides: bool,
}

/// Where a file system was mounted first.
#[derive(Clone, Debug)]
struct Base {
    /// Without a slash at the end: empty for the root.
    path: Vec<u8>,
    progress: Progress,
}

/// What a file system under rules knows of them.
pub(super) struct Policed {
    enforcement: Arc<Enforcement>,
    base: Base,
}

impl Enforcement {
    /// Puts a tree of mounts under rules: `mounts` are all there are, `cx` is at their root.
    pub(super) fn start(mut policy: FilePolicy, cx: &PathCx, mounts: &[Arc<Mount>]) -> Arc<Self> {
        policy.rules_mut().follow_links(|names| follow(cx, names));
        let rules = policy.rules();
        let base = |mount: &Arc<Mount>| {
            let mut path = path_name(&mount.root(), cx.root()).text;
            if path == b"/" {
                path.clear();
            }
            let mut progress = rules.start();
            let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
            names.for_each(|name| rules.step(&mut progress, name));
            (mount.fs().clone(), Base { path, progress })
        };
        let known = mounts.iter().map(base).collect();
        let hides = rules.hides();
        let this = Arc::new(Self { policy, moves: AtomicU64::new(1), known, hides });
        for mount in mounts {
            this.police(mount, cx.root());
        }
        this
    }

    /// Puts the names of a new mount's file system under the rules. `place`: where it is mounted.
    pub(super) fn police(self: &Arc<Self>, mount: &Mount, place: &VfsPath) {
        let known = self.known.iter().find(|(fs, _)| Arc::ptr_eq(fs, mount.fs()));
        let base = match (known, place.mount.superblock().policed()) {
            (Some((_, base)), _) => base.clone(),
            (None, Some(policed)) => policed.locate(&place.dentry, None),
            (None, None) => return,
        };
        mount.superblock().set_policed(Policed { enforcement: self.clone(), base });
    }
}

/// Where plain names from the root lead, if not straight down.
fn follow(cx: &PathCx, names: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    let mut at = cx.root().clone();
    let mut found = 0;
    for name in names {
        let Ok(next) = resolve(cx, &at, name, LookupFlags::FOLLOW) else { break };
        at = next;
        found += 1;
        if !at.dentry.is_dir() {
            break;
        }
    }
    let path = path_name(&at, cx.root()).text;
    let real = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
    let rest = names.iter().skip(found).copied();
    let real: Vec<Vec<u8>> = real.chain(rest).map(<[u8]>::to_vec).collect();
    (real != names).then_some(real)
}

impl Policed {
    /// Path and progress of a name in the file system: of `name` in `dentry`, if one is given.
    fn locate(&self, dentry: &Arc<Dentry>, name: Option<&[u8]>) -> Base {
        let mut names: SmallVec<[Arc<[u8]>; 16]> = SmallVec::new();
        let mut at = dentry.clone();
        while let (Some(parent), name) = at.parent_and_name() {
            names.push(name);
            at = parent;
        }
        let rules = self.enforcement.policy.rules();
        let mut base = self.base.clone();
        for name in names.iter().rev().map(|name| &**name).chain(name) {
            base.path.push(b'/');
            base.path.extend_from_slice(name);
            rules.step(&mut base.progress, name);
        }
        base
    }

    /// What the rules come to for a file that has a name.
    fn verdict(&self, dentry: &Arc<Dentry>) -> Verdict {
        // Before the names are looked at: a move meanwhile makes what is kept worthless.
        let moves = self.enforcement.moves.load(Ordering::Acquire);
        if let Some(verdict) = dentry.kept_verdict(moves) {
            return verdict;
        }
        let rules = self.enforcement.policy.rules();
        let verdict = rules.verdict(&self.locate(dentry, None).progress);
        dentry.keep_verdict(moves, verdict);
        verdict
    }

    fn check(&self, dentry: &Arc<Dentry>, wanted: Access) -> SysResult<()> {
        let policy = &self.enforcement.policy;
        let verdict = self.verdict(dentry);
        let refused = verdict.refused(wanted, dentry.is_dir());
        if refused.is_empty() && !policy.hears_all() {
            return Ok(());
        }
        let place = self.locate(dentry, None);
        policy.tell(&place.path, &place.progress, wanted, refused);
        match refused.is_empty() {
            true => Ok(()),
            false if verdict.is_hidden(dentry.is_dir()) => err!(ENOENT),
            false => err!(EACCES),
        }
    }

    fn is_hidden(&self, dentry: &Arc<Dentry>) -> bool {
        if !self.enforcement.hides || !self.verdict(dentry).is_hidden(dentry.is_dir()) {
            return false;
        }
        let place = self.locate(dentry, None);
        self.enforcement.policy.tell(&place.path, &place.progress, Access::FIND, Access::FIND);
        true
    }

    fn check_new(&self, dir: &Arc<Dentry>, name: &[u8], only_hidden: bool) -> SysResult<()> {
        let policy = &self.enforcement.policy;
        let place = self.locate(dir, Some(name));
        let verdict = policy.rules().verdict(&place.progress);
        let refused = verdict.refused(Access::CREATE, false);
        if only_hidden && !verdict.is_hidden(false) {
            return Ok(());
        }
        if !refused.is_empty() || policy.hears_all() {
            policy.tell(&place.path, &place.progress, Access::CREATE, refused);
        }
        if refused.is_empty() { Ok(()) } else { err!(EACCES) }
    }

    fn check_move(
        &self,
        file: &Arc<Dentry>,
        dir: &Arc<Dentry>,
        name: &[u8],
        access: Access,
    ) -> SysResult<()> {
        let policy = &self.enforcement.policy;
        let (from, to) = (self.locate(file, None), self.locate(dir, Some(name)));
        let escaped = policy.rules().escaped(&from.progress, &to.progress, file.is_dir());
        let Some(rule) = escaped else { return Ok(()) };
        policy.tell_escape(&from.path, access, rule);
        let unreadable = self.verdict(file).refused(Access::READ, file.is_dir());
        if unreadable.is_empty() { err!(EXDEV) } else { err!(EACCES) }
    }
}

/// May this be done to the file? `EACCES`, or for a hidden one `ENOENT`.
#[inline]
pub(crate) fn may(path: &VfsPath, wanted: Access) -> SysResult<()> {
    may_at(&path.mount, &path.dentry, wanted)
}

/// As [`may`].
#[inline]
pub(super) fn may_at(mount: &Mount, dentry: &Arc<Dentry>, wanted: Access) -> SysResult<()> {
    match mount.superblock().policed() {
        None => Ok(()),
        Some(policed) => policed.check(dentry, wanted),
    }
}

/// Is the name one that a walk does not find?
#[inline]
pub(super) fn is_hidden(path: &VfsPath) -> bool {
    path.mount.superblock().policed().is_some_and(|policed| policed.is_hidden(&path.dentry))
}

/// May a file of that name be made? `EACCES`, for a hidden name too.
#[inline]
pub(super) fn may_make(dir: &VfsPath, name: &[u8]) -> SysResult<()> {
    match dir.mount.superblock().policed() {
        None => Ok(()),
        Some(policed) => policed.check_new(&dir.dentry, name, false),
    }
}

/// As [`may_make`] before it is known whether there is such a file, which must not be told of a hidden name.
#[inline]
pub(super) fn may_try_to_make(dir: &VfsPath, name: &[u8]) -> SysResult<()> {
    match dir.mount.superblock().policed() {
        Some(policed) if policed.enforcement.hides => policed.check_new(&dir.dentry, name, true),
        _ => Ok(()),
    }
}

/// May a file have (also) that name? Not if there a rule would no longer hold for it, or for what is below it: `EXDEV`,
/// as it would have to be copied; `EACCES` if it must not be read. `access`: what is told.
#[inline]
pub(super) fn may_move(
    file: &VfsPath,
    dir: &Arc<Dentry>,
    name: &[u8],
    access: Access,
) -> SysResult<()> {
    match file.mount.superblock().policed() {
        None => Ok(()),
        Some(policed) => policed.check_move(&file.dentry, dir, name, access),
    }
}

/// Names of this file system move, or have moved: to be called before and after.
#[inline]
pub(super) fn note_move(mount: &Mount) {
    if let Some(policed) = mount.superblock().policed() {
        policed.enforcement.moves.fetch_add(1, Ordering::AcqRel);
    }
}

/// Tells which names a directory's listing leaves out.
pub(crate) struct Listing<'a> {
    policed: &'a Policed,
    dir: Base,
}

impl<'a> Listing<'a> {
    /// `None`: all are shown.
    pub(crate) fn of(dir: &'a VfsPath) -> Option<Self> {
        let policed = dir.mount.superblock().policed()?;
        let dir = policed.enforcement.hides.then(|| policed.locate(&dir.dentry, None))?;
        Some(Self { policed, dir })
    }

    pub(crate) fn leaves_out(&self, name: &[u8], kind: Option<FileType>) -> bool {
        if matches!(name, b"." | b"..") {
            return false;
        }
        let rules = self.policed.enforcement.policy.rules();
        let mut progress = self.dir.progress.clone();
        rules.step(&mut progress, name);
        let is_dir = kind.is_none_or(|kind| kind == FileType::Directory);
        rules.verdict(&progress).is_hidden(is_dir)
    }
}

impl fmt::Debug for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.policy.fmt(f)
    }
}
