//! Root, working directory, umask and mount namespace of a process (`struct fs_struct`).

use std::sync::Arc;

use ranked_sync::RwLock;

use super::CurrentTask;
use crate::{
    SysResult, lock_order,
    user::Fd,
    vfs::{FsState, MountNamespace, PathCx, VfsPath},
};

/// Shared by tasks cloned with CLONE_FS.
#[derive(Debug)]
pub struct FsContext {
    /// Replaced whole, so that a path walk takes one count and no lock for its duration.
    state: RwLock<lock_order::FsContext, Arc<FsState>>,
}

impl FsContext {
    /// At the root of a namespace.
    pub fn new(namespace: &Arc<MountNamespace>, umask: u32) -> Arc<Self> {
        let root = namespace.root();
        Self::from_state(FsState {
            root: root.clone(),
            cwd: root,
            umask,
            namespace: namespace.clone(),
        })
    }

    fn from_state(state: FsState) -> Arc<Self> {
        let namespace = state.namespace.clone();
        let context = Arc::new(Self { state: RwLock::new(Arc::new(state)) });
        namespace.add_user(&context);
        context
    }

    /// A copy, for fork(2).
    pub fn duplicate(&self) -> Arc<Self> {
        Self::from_state(FsState::clone(&self.state()))
    }

    /// As it is now.
    pub fn state(&self) -> Arc<FsState> {
        self.state.read().clone()
    }

    fn update(&self, change: impl FnOnce(&mut FsState)) {
        let old;
        {
            let mut state = self.state.write();
            let mut new = FsState::clone(&state);
            change(&mut new);
            old = std::mem::replace(&mut *state, Arc::new(new));
        }
        // The last user of a directory may be this: not under the lock.
        drop(old);
    }

    /// chdir(2).
    pub fn set_cwd(&self, cwd: VfsPath) {
        self.update(|state| state.cwd = cwd);
    }

    /// chroot(2).
    pub fn set_root(&self, root: VfsPath) {
        self.update(|state| state.root = root);
    }

    /// umask(2): the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        let mut old = 0;
        self.update(|state| old = std::mem::replace(&mut state.umask, umask & 0o777));
        old
    }

    /// Root and working directory go from `from` to `to` where they are just that (pivot_root(2)).
    pub fn replace_root(&self, from: &VfsPath, to: &VfsPath) {
        self.update(|state| {
            for place in [&mut state.root, &mut state.cwd] {
                if place.is_same(from) {
                    *place = to.clone();
                }
            }
        });
    }

    /// A namespace of its own (CLONE_NEWNS): a copy of the one it is in, with root and working
    /// directory at the same places in it.
    pub fn unshare_namespace(self: &Arc<Self>) -> SysResult<()> {
        let before = self.state();
        let (namespace, map) = before.namespace.copy()?;
        self.update(|state| {
            for place in [&mut state.root, &mut state.cwd] {
                if let Some(mount) = map.get(&place.mount.id()) {
                    place.mount = mount.clone();
                }
            }
            state.namespace = namespace.clone();
        });
        namespace.add_user(self);
        Ok(())
    }
}

impl CurrentTask {
    /// Who walks, and from where, for path walks.
    pub fn path_cx(&self) -> PathCx {
        PathCx { fs: self.fs().state(), cred: self.cred().clone() }
    }

    /// Where a walk of `path` starts that is relative to `dir` (AT_FDCWD: the working directory).
    /// `EBADF`; for an absolute path `dir` is not looked at.
    pub fn walk_start(&self, cx: &PathCx, dir: Fd, path: &[u8]) -> SysResult<VfsPath> {
        if path.first() == Some(&b'/') {
            return Ok(cx.root().clone());
        }
        self.dir_path(cx, dir)
    }

    /// The place of `dir`, O_PATH or not; AT_FDCWD is the working directory.
    pub fn dir_path(&self, cx: &PathCx, dir: Fd) -> SysResult<VfsPath> {
        if dir == Fd::CWD {
            return Ok(cx.cwd().clone());
        }
        Ok(self.fds().get_any(dir)?.path().clone())
    }
}
