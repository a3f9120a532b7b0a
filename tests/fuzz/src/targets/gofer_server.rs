//! A client that asks the file server for whatever it likes: nothing outside of the trees is told, opened, changed or
//! connected to, whatever links the client makes; nothing in a read-only tree is changed; each request is answered.
//!
//! An input is a list of requests. Each names an operation, has bytes for what that operation takes, and lastly bytes
//! to be put over it. In paths, names and targets a byte stands for a word, so that inputs say `..` often.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use arbitrary::{Result, Unstructured};
use gofer::{ServerConfig, TreeConfig};
use gofer_wire::{
    MAX_OPEN, MAX_REPLY, VERSION,
    codec::Writer,
    transport::{Files, Inbox, send, socket_pair},
};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target { name: "gofer_server", run, seeds, max_len: 2048, memory: None };

const SECRET: &[u8] = b"the secret outside of every tree";
/// Requests in an input, at most.
const REQUESTS: usize = 24;

/// A directory with trees, and with files that no tree holds. Made anew for each input.
struct Place {
    path: PathBuf,
    listener: UnixListener,
    before: Vec<Seen>,
    /// Of all files outside of the trees.
    forbidden: Vec<(u64, u64)>,
}

/// A file as it is to stay.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    path: PathBuf,
    id: (u64, u64),
    changed: (i64, i64),
    size: u64,
}

fn look(directory: &Path, seen: &mut Vec<Seen>) {
    let metadata = fs::symlink_metadata(directory).expect("what is outside is there");
    seen.push(Seen {
        path: directory.to_owned(),
        id: (metadata.dev(), metadata.ino()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        size: metadata.size(),
    });
    if metadata.is_dir() {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths.iter().for_each(|path| look(path, seen));
    }
}

impl Place {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lazaret-fuzz-{}-{number}", std::process::id());
        // On a disk, requests to sync take most of the time.
        let memory = Path::new("/dev/shm");
        let path =
            if memory.is_dir() { memory.join(name) } else { std::env::temp_dir().join(name) };
        for directory in ["outside/inner", "ro/dir", "rw/dir/empty"] {
            fs::create_dir_all(path.join(directory)).expect("a directory");
        }
        for file in ["canary", "outside/secret", "outside/inner/secret"] {
            fs::write(path.join(file), SECRET).expect("a file");
        }
        fs::write(path.join("ro/file"), b"read only").expect("a file");
        symlink("../outside", path.join("ro/up")).expect("a link");
        fs::write(path.join("rw/dir/file"), b"content").expect("a file");
        symlink("../outside", path.join("rw/up")).expect("a link");
        symlink(path.join("outside"), path.join("rw/absolute")).expect("a link");
        symlink("../../canary", path.join("rw/dir/canary")).expect("a link");
        let listener = UnixListener::bind(path.join("outside/s")).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let mut before = Vec::new();
        for name in ["outside", "ro", "canary"] {
            look(&path.join(name), &mut before);
        }
        let forbidden = before.iter().filter(|seen| !seen.path.starts_with(path.join("ro")));
        let forbidden = forbidden.map(|seen| seen.id).collect();
        Self { path, listener, before, forbidden }
    }

    fn check(&self) {
        let mut now = Vec::new();
        for name in ["outside", "ro", "canary"] {
            look(&self.path.join(name), &mut now);
        }
        assert_eq!(now, self.before, "something was changed");
        let error = self.listener.accept().expect_err("somebody connected");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if fs::remove_dir_all(&self.path).is_err() {
            open_up(&self.path);
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Lets the owner into all directories.
fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fn run(data: &[u8]) {
    let place = Place::new();
    let config = ServerConfig::new(vec![
        TreeConfig::read_only(0, place.path.join("ro")),
        TreeConfig::writable(1, place.path.join("rw")),
        TreeConfig::read_only(2, place.path.join("ro/file")),
    ]);
    let (ours, theirs) = socket_pair().expect("sockets");
    let server = std::thread::spawn(move || gofer::serve(config, &theirs).expect("trees"));
    let mut input = Unstructured::new(data);
    for _ in 0..REQUESTS {
        if input.is_empty() {
            break;
        }
        let Ok(message) = request(&mut input, &place) else { break };
        exchange(&place, &ours, &message);
    }
    // Still there, whatever it was told.
    let mut hello = Writer::new();
    hello.u16(1);
    hello.u32(VERSION);
    exchange(&place, &ours, hello.as_bytes());
    drop(ours);
    server.join().expect("the server ends without an error");
    place.check();
}

/// Asks, and looks at what comes back.
fn exchange(place: &Place, socket: &OwnedFd, message: &[u8]) {
    send(socket, message, &[]).expect("a server that listens");
    let (mut inbox, mut files) = (Inbox::new(), Files::up_to(MAX_OPEN));
    inbox.receive(socket, MAX_REPLY, Some(&mut files)).expect("an answer");
    let reply = inbox.message();
    let told = reply.windows(SECRET.len()).any(|window| window == SECRET);
    assert!(!told, "the secret was told");
    while let Some(file) = files.take() {
        let metadata = rustix::fs::fstat(file.as_fd()).expect("attributes");
        let id = (metadata.st_dev, metadata.st_ino);
        assert!(!place.forbidden.contains(&id), "a file from outside was opened");
        let kind = metadata.st_mode & 0o170_000;
        assert!(matches!(kind, 0o100_000 | 0o140_000), "opened: mode {:o}", metadata.st_mode);
        if kind == 0o100_000 {
            let mut content = Vec::new();
            let read = File::from(file).take(4096).read_to_end(&mut content);
            let told = content.windows(SECRET.len()).any(|window| window == SECRET);
            assert!(read.is_err() || !told, "the secret can be read");
        }
    }
}

/// What each operation takes: `p` a tree and a path, `t` a path, `n` a name of an attribute, `b` bytes, `l` a link's
/// target, digits a number of so many bytes, `o` and a number that may not be there.
const OPERATIONS: &[(u16, &str)] = &[
    (2, "o4"),
    (3, "pto14"),
    (4, "p"),
    (5, "p11"),
    (6, "p2o811"),
    (7, "p2o8"),
    (8, "p2o81"),
    (9, "plo8"),
    (10, "pt"),
    (11, "p"),
    (12, "p"),
    (13, "pt1"),
    (14, "po0o4o4o4o8o0o0"),
    (15, "p"),
    (16, "p1"),
    (17, "p"),
    (18, "pn"),
    (19, "pnb4"),
    (20, "p"),
    (21, "pn"),
    (22, "p1"),
    (23, "p1"),
    (24, "pt"),
    (25, "pt14"),
];

/// Paths that are there, may be made, or lead out.
const PATHS: &[&str] = &[
    "dir",
    "dir/file",
    "dir/empty",
    "dir/canary",
    "up",
    "absolute",
    "up/secret",
    "up/inner",
    "absolute/s",
    "new",
    "dir/new",
    "new/new",
    "new/secret",
    "",
];

/// What other paths are made of; the empty word is an absolute path to the outside.
const WORDS: &[&str] = &[
    "dir", "file", "/", "up", "absolute", "..", "canary", "empty", "new", "other", ".", "outside",
    "secret", "inner", "//", "", "s", "proc", "self", "fd", "\0", "root",
];

/// A path that may be one of a request.
fn path(input: &mut Unstructured<'_>, place: &Place) -> Result<Vec<u8>> {
    match input.int_in_range(0..=7)? {
        0 => words(input, place),
        1 => Ok([*input.choose(PATHS)?, *input.choose(PATHS)?].join("/").into_bytes()),
        _ => Ok(input.choose(PATHS)?.as_bytes().to_vec()),
    }
}

/// Any path.
fn words(input: &mut Unstructured<'_>, place: &Place) -> Result<Vec<u8>> {
    let count = input.int_in_range(0..=7)?;
    let mut path: Vec<u8> = Vec::new();
    let mut joined = false;
    for _ in 0..count {
        let word = *input.choose(WORDS)?;
        let is_separator = word.starts_with('/');
        // Words are names of their own unless a separator is said.
        if !path.is_empty() && !is_separator && !joined {
            path.push(b'/');
        }
        joined = is_separator;
        match word {
            "" => path.extend_from_slice(place.path.join("outside").as_os_str().as_encoded_bytes()),
            word => path.extend_from_slice(word.as_bytes()),
        }
    }
    Ok(path)
}

fn request(input: &mut Unstructured<'_>, place: &Place) -> Result<Vec<u8>> {
    let mut out = Writer::new();
    let (number, takes) = *input.choose(OPERATIONS)?;
    out.u16(number);
    let mut takes = takes.chars();
    while let Some(what) = takes.next() {
        match what {
            'p' => {
                out.u32(*input.choose(&[0, 1, 1, 1, 1, 1, 2, 3])?);
                out.bytes(&path(input, place)?);
            }
            't' => out.bytes(&path(input, place)?),
            'l' => out.bytes(&words(input, place)?),
            'n' => out.bytes(input.choose(&[&b"user.a"[..], b"security.capability", b"", b"x"])?),
            'b' => {
                let len = input.int_in_range(0..=20)?;
                out.bytes(input.bytes(len)?);
            }
            'o' => {
                let there = input.arbitrary()?;
                let width = takes.next();
                out.bool(there);
                match width {
                    _ if !there => {}
                    // A file's identity, a time: what it is not is as good.
                    Some('0') => out.bool(false),
                    width => number_of(&mut out, input, width)?,
                }
            }
            width => number_of(&mut out, input, Some(width))?,
        }
    }
    let mut message = out.as_bytes().to_vec();
    // Seldom, that which makes it a bad request.
    for _ in 0..input.int_in_range(0..=7)?.max(6) - 6 {
        let at = input.int_in_range(0..=message.len() - 1)?;
        let byte = input.arbitrary()?;
        if let Some(to) = message.get_mut(at) {
            *to = byte;
        }
    }
    Ok(message)
}

/// A number of a width in bytes; 2 is a file's permissions, which are sent as four.
fn number_of(out: &mut Writer, input: &mut Unstructured<'_>, width: Option<char>) -> Result<()> {
    match width {
        Some('1') => out.u8(*input.choose(&[0, 0, 0, 1, 1, 1, 2])?),
        Some('2') => out.u32(*input.choose(&[0o644, 0o755, 0o7777, 0])?),
        Some('4') => out.u32(input.arbitrary()?),
        _ => out.u64(input.arbitrary()?),
    }
    Ok(())
}

/// Bytes at random: each is some list of requests.
fn seeds() -> Vec<Vec<u8>> {
    let mut random = crate::mutate::Random::new(3);
    (0..32).map(|_| (0..300).map(|_| random.word() as u8).collect()).collect()
}
