//! Whose path it is, and what a place is called.

use std::sync::Arc;

use super::{MountNamespace, VfsPath};
use crate::kernel::Credentials;

/// A process's view of the tree: never changed in place; chdir(2) makes a new one.
#[derive(Clone, Debug)]
pub struct FsState {
    pub root: VfsPath,
    pub cwd: VfsPath,
    /// Permission bits that new files do not get.
    pub umask: u32,
    pub namespace: Arc<MountNamespace>,
}

/// Who walks, and from where. Made by `task.path_cx()`; by hand where there is no task.
#[derive(Clone, Debug)]
pub struct PathCx {
    pub fs: Arc<FsState>,
    pub cred: Arc<Credentials>,
}

impl PathCx {
    /// The root of a namespace, for the sentry's own work.
    pub fn at_root(namespace: &Arc<MountNamespace>, cred: Arc<Credentials>) -> Self {
        let root = namespace.root();
        let fs = FsState { root: root.clone(), cwd: root, umask: 0, namespace: namespace.clone() };
        Self { fs: Arc::new(fs), cred }
    }

    pub fn root(&self) -> &VfsPath {
        &self.fs.root
    }

    pub fn cwd(&self) -> &VfsPath {
        &self.fs.cwd
    }

    pub fn umask(&self) -> u32 {
        self.fs.umask
    }

    pub fn namespace(&self) -> &Arc<MountNamespace> {
        &self.fs.namespace
    }
}

/// A place's name as seen from a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathName {
    /// Absolute; or, for what is in no tree (`pipe:[17]`), just its name.
    pub text: Vec<u8>,
    /// Can it be reached from that root?
    pub reachable: bool,
    pub deleted: bool,
}

impl PathName {
    /// As readlink(2) on /proc/PID/fd/N says it (`d_path`).
    pub fn display(mut self) -> Vec<u8> {
        if self.deleted {
            self.text.extend_from_slice(b" (deleted)");
        }
        self.text
    }
}

/// The name of `path` seen from `root` (`prepend_path` in `fs/d_path.c`).
pub fn path_name(path: &VfsPath, root: &VfsPath) -> PathName {
    let deleted = path.dentry.is_unlinked();
    let mut names: Vec<Arc<[u8]>> = Vec::new();
    let mut at = path.clone();
    let mut reachable = true;
    while !at.is_same(root) {
        if at.is_mount_root() {
            match at.mount.mountpoint() {
                Some(place) => at = place,
                None => {
                    reachable = false;
                    break;
                }
            }
            continue;
        }
        let (parent, name) = at.dentry.parent_and_name();
        match parent {
            Some(parent) => {
                names.push(name);
                at.dentry = parent;
            }
            // In no directory: its name says it all.
            None => return PathName { text: name.to_vec(), reachable: true, deleted: false },
        }
    }
    let mut text = Vec::new();
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    if text.is_empty() {
        text.push(b'/');
    }
    PathName { text, reachable, deleted }
}
