//! Path walk and the operations on names, over tmpfs and over an overlay: whatever is done in whatever order, results,
//! error numbers, names and the tree that is left are those of the host's kernel, which does the same in a directory.
//! `..` never leads out of the directory that a walk is held in.
//!
//! The host's walks are held by RESOLVE_IN_ROOT of openat2(2), so that nothing outside is touched; a call that knows no
//! such flag is made on the last name alone, from the directory that was found for it.
//!
//! An input is a list of operations; each begins in a directory that an earlier one has opened.

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::{MetadataExt, symlink as host_symlink},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use arbitrary::{Result as Drawn, Unstructured};
use platform::memory::MemoryFile;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, linkat, mkdirat, renameat_with, symlinkat, unlinkat,
};
use sentry::{
    SysResult,
    fs::{
        overlay::OverlayFs,
        tmpfs::{Storage, Tmpfs, TmpfsOptions},
    },
    kernel::Credentials,
    vfs::{
        FileDescription, FileSystem, FsState, IoDst, IoSrc, LookupFlags, MountFlags,
        MountNamespace, OpenHow, PathCx, RenameFlags, VfsPath, link, mkdir, open, path_name,
        rename, resolve, rmdir, symlink, unlink,
    },
};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target { name: "path_walk", run, seeds, max_len: 1024, memory: None };

/// Operations in an input, at most.
const OPERATIONS: usize = 40;
/// Directories to begin in, at most.
const STARTS: usize = 6;
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_DIRECTORY: u32 = 0o200_000;
const O_NOFOLLOW: u32 = 0o400_000;
const O_PATH: u32 = 0o10_000_000;
const RESOLVE_NO_XDEV: u64 = 1;
const RESOLVE_NO_MAGICLINKS: u64 = 2;
const RESOLVE_NO_SYMLINKS: u64 = 4;
const RESOLVE_BENEATH: u64 = 8;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// What an operation does.
#[derive(Debug)]
enum Operation {
    Open { path: Text, flags: u32, resolve: u64 },
    Mkdir(Text),
    Symlink { target: Text, path: Text },
    Link { old: Text, new: Text, follow: bool },
    Unlink(Text),
    Rmdir(Text),
    Rename { old: Text, new: Text, flags: u32 },
}

/// A path, to be read by people.
struct Text(Vec<u8>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        write!(f, "{:?}", text.replace(&"l".repeat(255), "<255 l>"))
    }
}

impl std::ops::Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// What is seen of an open file.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: String,
    kind: u32,
    nlink: u64,
    content: Vec<u8>,
}

/// What is left of a tree, by path.
type Tree = BTreeMap<PathBuf, (u32, u64, Vec<u8>)>;

/// Nothing found is what calls return that open nothing.
type Outcome = Result<Option<Found>, i32>;

fn names(input: &mut Unstructured<'_>) -> Drawn<Text> {
    const NAMES: [&str; 16] =
        ["a", "b", "c", "d", "a", "b", "c", "d", "a", "b", "e", "e", ".", "..", "..", "long"];
    let mut path = Vec::new();
    let shape = input.arbitrary::<u8>()?;
    if shape & 3 == 0 {
        path.push(b'/');
    }
    for at in 0..=input.int_in_range(0..=3)? {
        if at > 0 {
            path.extend_from_slice(if shape & 0x1c == 0 { b"//" } else { b"/" });
        }
        match *input.choose(&NAMES)? {
            // As long as a name may be, or longer.
            "long" => path.resize(path.len() + 255 + usize::from(shape & 4 == 0), b'l'),
            name => path.extend_from_slice(name.as_bytes()),
        }
    }
    match shape >> 5 {
        0 => path.push(b'/'),
        1 if shape & 0x1f == 1 => return Ok(Text(b"/".to_vec())),
        _ => {}
    }
    Ok(Text(path))
}

fn operation(input: &mut Unstructured<'_>) -> Drawn<Operation> {
    Ok(match input.int_in_range(0..=15)? {
        0..=2 => Operation::Open {
            path: names(input)?,
            flags: *input.choose(&[O_PATH, O_PATH | O_NOFOLLOW, O_PATH | O_DIRECTORY])?,
            resolve: resolve_flags(input)?,
        },
        3..=5 => {
            let mut flags = input.int_in_range(0..=2)?;
            let drawn = input.arbitrary::<u8>()?;
            for (bit, flag) in [(1, O_CREAT), (2, O_EXCL), (4, O_TRUNC), (8, O_NOFOLLOW)] {
                flags |= if drawn & bit == 0 { 0 } else { flag };
            }
            // Together with O_CREAT it means one thing before Linux 6.4, and another since.
            if drawn & 0x30 == 0 && flags & O_CREAT == 0 {
                flags |= O_DIRECTORY;
            }
            Operation::Open { path: names(input)?, flags, resolve: resolve_flags(input)? }
        }
        6 | 7 => Operation::Mkdir(names(input)?),
        8 | 9 => Operation::Symlink { target: names(input)?, path: names(input)? },
        10 => {
            Operation::Link { old: names(input)?, new: names(input)?, follow: input.arbitrary()? }
        }
        11 => Operation::Unlink(names(input)?),
        12 => Operation::Rmdir(names(input)?),
        _ => Operation::Rename {
            old: names(input)?,
            new: names(input)?,
            flags: *input.choose(&[0, 0, 0, 1, 2, 3])?,
        },
    })
}

fn resolve_flags(input: &mut Unstructured<'_>) -> Drawn<u64> {
    let drawn = input.arbitrary::<u8>()?;
    let mut flags = if drawn & 7 == 0 { RESOLVE_BENEATH } else { RESOLVE_IN_ROOT };
    let more = [RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV, RESOLVE_BENEATH];
    for (at, flag) in more.into_iter().enumerate() {
        flags |= if drawn == 0xf0 | 1 << at { flag } else { 0 };
    }
    Ok(flags)
}

/// openat2(2), again for as long as it says that some rename on the host may have moved what `..` is.
fn openat2(
    start: &OwnedFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    loop {
        match rustix::fs::openat2(start, path, flags, mode, resolve) {
            Err(rustix::io::Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// The host's side.
struct Host {
    path: PathBuf,
    /// As the host writes it.
    name: Vec<u8>,
}

impl Host {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lazaret-fuzz-walk-{}-{number}", std::process::id());
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = base.join(name);
        fs::create_dir(&path).expect("a directory");
        let name = path.canonicalize().expect("a name").into_os_string().into_vec();
        Self { path, name }
    }

    fn populate(&self) {
        let at = |name: &str| self.path.join(name);
        fs::create_dir_all(at("a/b")).expect("a directory");
        fs::create_dir(at("d")).expect("a directory");
        fs::write(at("a/b/c"), b"c").expect("a file");
        fs::write(at("b"), b"b").expect("a file");
        host_symlink("b/c", at("a/d")).expect("a link");
        host_symlink("/a", at("c")).expect("a link");
        fs::hard_link(at("b"), at("d/a")).expect("a name");
    }

    /// The directory of the last name of `path`, which is that name and the slashes behind it.
    fn parent<'p>(
        &self,
        start: &OwnedFd,
        path: &'p [u8],
    ) -> rustix::io::Result<(OwnedFd, &'p [u8])> {
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let begin = path[..end].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        // The host's own root is on another mount, which would matter; `.` is refused the same but by rmdir(2).
        let (parent, last) = if end == 0 { (path, &b"."[..]) } else { path.split_at(begin) };
        let parent = if parent.is_empty() { b"." } else { parent };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok((openat2(start, parent, flags, Mode::empty(), ResolveFlags::IN_ROOT)?, last))
    }

    fn found(&self, file: BorrowedFd<'_>, readable: bool) -> Found {
        let stat = rustix::fs::fstat(file).expect("attributes");
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = fs::read_link(link).expect("a name").into_os_string().into_vec();
        let name = name.strip_prefix(&*self.name).expect("`..` led out of the host's directory");
        let name = if name.is_empty() { b"/" } else { name };
        let mut content = vec![0; 64];
        let kind = stat.st_mode & KIND;
        let read = if kind == REGULAR && readable {
            rustix::io::pread(file, &mut content, 0).expect("a readable file")
        } else {
            0
        };
        content.truncate(read);
        let name = String::from_utf8_lossy(name).into_owned();
        Found { name, kind, nlink: stat.st_nlink, content }
    }

    fn run(
        &self,
        start: &OwnedFd,
        operation: &Operation,
        token: &[u8],
    ) -> (Result<Option<Found>, i32>, Option<OwnedFd>) {
        let mut opened = None;
        let outcome = self.try_run(start, operation, token, &mut opened);
        (outcome.map_err(rustix::io::Errno::raw_os_error), opened)
    }

    fn try_run(
        &self,
        start: &OwnedFd,
        operation: &Operation,
        token: &[u8],
        opened: &mut Option<OwnedFd>,
    ) -> rustix::io::Result<Option<Found>> {
        match operation {
            Operation::Open { path, flags, resolve } => {
                let mode = if flags & O_CREAT == 0 { Mode::empty() } else { Mode::from(0o644) };
                let oflags = OFlags::from_bits_retain(*flags) | OFlags::CLOEXEC;
                let resolve = ResolveFlags::from_bits_retain(*resolve);
                let file = openat2(start, path, oflags, mode, resolve)?;
                if flags & (O_PATH | 3) == 2 {
                    rustix::io::pwrite(&file, token, 0).expect("a file to be written");
                }
                let found = self.found(file.as_fd(), flags & (O_PATH | 1) == 0);
                *opened = Some(file);
                return Ok(Some(found));
            }
            Operation::Mkdir(path) => {
                let (dir, name) = self.parent(start, path)?;
                mkdirat(&dir, name, Mode::from(0o755))?;
            }
            Operation::Symlink { target, path } => {
                let (dir, name) = self.parent(start, path)?;
                symlinkat(&target[..], &dir, name)?;
            }
            Operation::Link { old, new, follow } => {
                let mut flags = OFlags::PATH | OFlags::CLOEXEC;
                flags.set(OFlags::NOFOLLOW, !follow);
                let old = openat2(start, old, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
                let (dir, name) = self.parent(start, new)?;
                let old = format!("/proc/self/fd/{}", old.as_raw_fd());
                linkat(CWD, old, &dir, name, AtFlags::SYMLINK_FOLLOW)?;
            }
            Operation::Unlink(path) => {
                let (dir, name) = self.parent(start, path)?;
                unlinkat(&dir, name, AtFlags::empty())?;
            }
            Operation::Rmdir(path) if path.iter().all(|&byte| byte == b'/') => {
                return Err(rustix::io::Errno::BUSY);
            }
            Operation::Rmdir(path) => {
                let (dir, name) = self.parent(start, path)?;
                unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
            }
            Operation::Rename { old, new, flags } => {
                let flags = rustix::fs::RenameFlags::from_bits_retain(*flags);
                if flags.bits() == 3 {
                    return Err(rustix::io::Errno::INVAL);
                }
                let (old_dir, old_name) = self.parent(start, old)?;
                let (new_dir, new_name) = self.parent(start, new)?;
                renameat_with(&old_dir, old_name, &new_dir, new_name, flags)?;
            }
        }
        Ok(None)
    }

    fn tree(&self, directory: &Path, tree: &mut Tree) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("attributes");
            let kind = metadata.mode() & KIND;
            let content = match kind {
                DIRECTORY => {
                    self.tree(&path, tree);
                    Vec::new()
                }
                REGULAR => fs::read(&path).expect("content"),
                _ => fs::read_link(&path).expect("a target").into_os_string().into_vec(),
            };
            let below = path.strip_prefix(&self.path).expect("below").to_owned();
            tree.insert(below, (kind, metadata.nlink(), content));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The sentry's side.
struct Guest {
    cx: PathCx,
}

fn tmpfs(memory: &Arc<MemoryFile>) -> Arc<Tmpfs> {
    Tmpfs::new(&Storage::unlimited(memory.clone()), TmpfsOptions::with_mode(0o755))
}

fn at_root(root: Arc<dyn FileSystem>) -> PathCx {
    let namespace = MountNamespace::new(root, MountFlags::empty(), b"fuzz");
    PathCx::at_root(&namespace, Credentials::root())
}

impl Guest {
    fn new(overlay: bool) -> Self {
        // One for all: an overlay with changes is meant to stay, and so would its memory.
        static MEMORY: OnceLock<Arc<MemoryFile>> = OnceLock::new();
        let memory = MEMORY.get_or_init(|| Arc::new(MemoryFile::new(None).expect("memory")));
        let plain = tmpfs(memory);
        let cx = at_root(plain.clone());
        Self::populate(&cx);
        if overlay {
            let storage = Storage::unlimited(memory.clone());
            Self { cx: at_root(OverlayFs::new(plain, storage, 77).expect("an overlay")) }
        } else {
            Self { cx }
        }
    }

    /// As [`Host::populate`].
    fn populate(cx: &PathCx) {
        for path in ["a", "a/b", "d"] {
            mkdir(cx, cx.cwd(), path.as_bytes(), 0o755).expect("a directory");
        }
        for (path, content) in [("a/b/c", b"c"), ("b", b"b")] {
            let how = OpenHow::open(O_CREAT | 2, 0o644).expect("flags");
            let file = open(cx, cx.cwd(), path.as_bytes(), &how).expect("a file");
            file.ops().write(&file, 0, &mut IoSrc::kernel(content)).expect("room");
        }
        symlink(cx, b"b/c", cx.cwd(), b"a/d").expect("a link");
        symlink(cx, b"/a", cx.cwd(), b"c").expect("a link");
        link(cx, (cx.cwd(), b"b"), (cx.cwd(), b"d/a"), LookupFlags::empty()).expect("a name");
    }

    fn run(
        &self,
        start: &VfsPath,
        operation: &Operation,
        token: &[u8],
    ) -> (Outcome, Option<VfsPath>) {
        let mut opened = None;
        let outcome = self.try_run(start, operation, token, &mut opened);
        (outcome.map_err(|error| error.errno().raw()), opened)
    }

    fn try_run(
        &self,
        start: &VfsPath,
        operation: &Operation,
        token: &[u8],
        opened: &mut Option<VfsPath>,
    ) -> SysResult<Option<Found>> {
        // As after chroot(2).
        let fs = FsState { root: start.clone(), cwd: start.clone(), ..FsState::clone(&self.cx.fs) };
        let cx = &PathCx { fs: Arc::new(fs), cred: self.cx.cred.clone() };
        match operation {
            Operation::Open { path, flags, resolve } => {
                let mode = if flags & O_CREAT == 0 { 0 } else { 0o644 };
                let how = OpenHow::open2((*flags).into(), mode, *resolve)?;
                let file = open(&self.cx, start, path, &how)?;
                if flags & (O_PATH | 3) == 2 {
                    let written = file.ops().write(&file, 0, &mut IoSrc::kernel(token));
                    assert_eq!(written.expect("a file to be written"), token.len());
                }
                *opened = Some(file.path().clone());
                return Ok(Some(self.found(&file, flags & (O_PATH | 1) == 0)));
            }
            Operation::Mkdir(path) => mkdir(cx, start, path, 0o755)?,
            Operation::Symlink { target, path } => symlink(cx, target, start, path)?,
            Operation::Link { old, new, follow } => {
                let lookup = if *follow { LookupFlags::FOLLOW } else { LookupFlags::empty() };
                link(cx, (start, old), (start, new), lookup)?;
            }
            Operation::Unlink(path) => unlink(cx, start, path)?,
            Operation::Rmdir(path) => rmdir(cx, start, path)?,
            Operation::Rename { old, new, flags } => {
                rename(cx, (start, old), (start, new), RenameFlags::from_bits_retain(*flags))?;
            }
        }
        Ok(None)
    }

    fn found(&self, file: &Arc<FileDescription>, readable: bool) -> Found {
        let metadata = file.metadata().expect("attributes");
        let name = path_name(file.path(), self.cx.root()).display();
        let kind = metadata.mode & KIND;
        let mut content = vec![0; 64];
        let read = if kind == REGULAR && readable {
            file.ops().read(file, 0, &mut IoDst::kernel(&mut content)).expect("a readable file")
        } else {
            0
        };
        content.truncate(read);
        let name = String::from_utf8_lossy(&name).into_owned();
        Found { name, kind, nlink: metadata.nlink.into(), content }
    }

    fn tree(&self, directory: &Path, tree: &mut Tree) {
        let how = OpenHow::open(O_DIRECTORY, 0).expect("flags");
        let path = Path::new("/").join(directory);
        let file = open(&self.cx, self.cx.root(), path.as_os_str().as_bytes(), &how);
        let file = file.expect("a directory");
        let mut names = Vec::new();
        let mut at = 0;
        loop {
            let mut sink = |entry: sentry::vfs::DirEntry<'_>| {
                names.push(entry.name.to_vec());
                true
            };
            let next = file.ops().iterate(&file, at, &mut sink).expect("a directory");
            if next == at {
                break;
            }
            at = next;
        }
        for name in names.iter().filter(|name| !matches!(&name[..], b"." | b"..")) {
            let below = directory.join(std::ffi::OsStr::from_bytes(name));
            let path = Path::new("/").join(&below);
            let flags = LookupFlags::empty();
            let place = resolve(&self.cx, self.cx.root(), path.as_os_str().as_bytes(), flags);
            let inode = place.expect("what is listed is there").inode().clone();
            let metadata = inode.metadata().expect("attributes");
            let kind = metadata.mode & KIND;
            let content = match kind {
                DIRECTORY => {
                    self.tree(&below, tree);
                    Vec::new()
                }
                REGULAR => {
                    let how = OpenHow::open(0, 0).expect("flags");
                    let file = open(&self.cx, self.cx.root(), path.as_os_str().as_bytes(), &how);
                    self.found(&file.expect("a file"), true).content
                }
                _ => inode.read_link().expect("a target").to_vec(),
            };
            tree.insert(below, (kind, metadata.nlink.into(), content));
        }
    }
}

fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(overlay) = input.arbitrary::<bool>() else { return };
    let (host, guest) = (Host::new(), Guest::new(overlay));
    host.populate();
    let root = rustix::fs::open(&host.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mut starts = vec![(root.expect("a directory"), guest.cx.root().clone())];
    let mut done = Vec::new();
    for number in 0..OPERATIONS {
        let Ok(start) = input.arbitrary::<u8>() else { break };
        let Ok(operation) = operation(&mut input) else { break };
        let at = usize::from(start) % starts.len();
        let (host_start, guest_start) = &starts[at];
        let token = [b'0' + number as u8, b'!'];
        let (want, host_opened) = host.run(host_start, &operation, &token);
        let (got, guest_opened) = guest.run(guest_start, &operation, &token);
        let words = format!("{at}: {operation:?}");
        // Of two errors, that of a name which is too long comes first here.
        let either = got == Err(linux_abi::Errno::ENAMETOOLONG.raw()) && want.is_err();
        assert!(either || got == want, "{words}: got {got:?}, want {want:?}, after {done:#?}");
        done.push(words);
        if let (Some(host), Some(guest), Ok(Some(found))) = (host_opened, guest_opened, want)
            && found.kind == DIRECTORY
            && starts.len() < STARTS
        {
            starts.push((host, guest));
        }
    }
    let (mut want, mut got) = (Tree::new(), Tree::new());
    host.tree(&host.path, &mut want);
    guest.tree(Path::new(""), &mut got);
    assert_eq!(got, want, "the tree that is left after {done:#?} (got, want)");
}

/// Bytes at random: each is some list of operations.
fn seeds() -> Vec<Vec<u8>> {
    let mut random = crate::mutate::Random::new(9);
    (0..64).map(|_| (0..400).map(|_| random.word() as u8).collect()).collect()
}
