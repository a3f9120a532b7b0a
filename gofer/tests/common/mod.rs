//! A gofer on a thread, serving a directory made for the test.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test binaries"
)]

use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
};

use gofer::{ServerConfig, TreeConfig};
use gofer_wire::{GoferClient, Place, TreeId, TreePath, transport::socket_pair};

/// A directory that goes away with the value.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gofer-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub const RO: TreeId = TreeId(0);
pub const RW: TreeId = TreeId(1);

/// A gofer serving one directory twice: read-only as `RO`, writable as `RW`.
pub struct Fixture {
    pub client: GoferClient,
    pub server: JoinHandle<()>,
    pub dir: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = TempDir::new();
        let trees = vec![TreeConfig::read_only(0, dir.path()), TreeConfig::writable(1, dir.path())];
        let config = ServerConfig::new(trees);
        let (server, client) = start(config);
        Self { client: GoferClient::connect(client).unwrap(), server, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Starts a server thread; the client's socket.
pub fn start(config: ServerConfig) -> (JoinHandle<()>, OwnedFd) {
    let (ours, theirs) = socket_pair().unwrap();
    let server = std::thread::spawn(move || gofer::serve(config, &ours).unwrap());
    (server, theirs)
}

pub fn path(path: &str) -> TreePath<'_> {
    TreePath::new(path.as_bytes()).unwrap()
}

pub fn ro(name: &str) -> Place<'_> {
    Place::new(RO, path(name))
}

pub fn rw(name: &str) -> Place<'_> {
    Place::new(RW, path(name))
}

/// Whether files can be given to any user: the superuser of the whole host, not of a
/// user namespace.
pub fn can_give_files_away() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}
