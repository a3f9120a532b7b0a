//! A served tree: paths in it to descriptors, and never out of it.
//!
//! The host kernel resolves a path from the tree's root downward
//! (`openat2` with `RESOLVE_BENEATH`), through no symbolic link, so that neither a
//! path nor a rename under way can lead out. The last step is made by name
//! from the directory's descriptor, where a name is a single component.

use std::{
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use gofer_wire::{Attr, FileType, TreePath};
use linux_abi::Errno;
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxAttributes, chmodat, openat, openat2},
    io::Errno as HostError,
};

use crate::{
    attr::{self, errno},
    config::{GoferError, TreeConfig},
};

/// What every open gets. Non-blocking, lest a FIFO swapped in for a file
/// holds up the server; regular files take no notice.
pub(crate) const OPEN: OFlags =
    OFlags::CLOEXEC.union(OFlags::NOFOLLOW).union(OFlags::NOCTTY).union(OFlags::NONBLOCK);
/// A descriptor which only names a file.
pub(crate) const NAME_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// The kernel takes paths of up to 4095 bytes.
const MAX_PIECE: usize = 4095;

/// A tree, its root open for as long as it is served.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    config: TreeConfig,
    /// Whether the root is on a file system whose content is not served.
    root_sealed: bool,
    kind: FileType,
    /// False where the host refuses `openat2`: then each component is a step.
    openat2: bool,
    /// Where this process's descriptors are named.
    descriptors: PathBuf,
}

/// A directory or file of a tree, as a descriptor that only names it.
#[derive(Debug)]
pub(crate) enum Handle<'t> {
    Root(BorrowedFd<'t>),
    Below(OwnedFd),
}

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

impl Tree {
    /// Opens the root.
    pub(crate) fn open(config: TreeConfig, descriptors: &Path) -> Result<Self, GoferError> {
        let failed =
            |error: HostError| GoferError::Tree { path: config.path.clone(), error: error.into() };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = openat(CWD, &config.path, flags, Mode::empty()).map_err(failed)?;
        let from_errno = |errno: Errno| failed(HostError::from_raw_os_error(errno.raw()));
        let kind = attr::of(&root).map_err(from_errno)?.file_type();
        if !matches!(kind, FileType::Directory | FileType::Regular) {
            return Err(GoferError::Kind { path: config.path });
        }
        let root_sealed =
            attr::is_kernel_file_system(&root, config.kernel_files).map_err(from_errno)?;
        let probe = openat2(CWD, ".", NAME_ONLY, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        let openat2 = !matches!(probe, Err(HostError::NOSYS | HostError::PERM));
        let descriptors = descriptors.to_path_buf();
        Ok(Self { root, config, root_sealed, kind, openat2, descriptors })
    }

    pub(crate) fn config(&self) -> &TreeConfig {
        &self.config
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// `EROFS` if nothing in the tree can be changed.
    pub(crate) fn check_writable(&self) -> Result<(), Errno> {
        if self.config.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// The directory at `path`, and whether it is *sealed*: the root of a kernel
    /// file system, whose content is not served and which looks empty.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` for a symbolic link on the way; `ENOENT` for what is
    /// inside of a sealed directory; those of openat2(2).
    pub(crate) fn directory(&self, path: TreePath<'_>) -> Result<(Handle<'_>, bool), Errno> {
        if path.is_root() {
            return match self.kind {
                FileType::Directory => Ok((Handle::Root(self.root()), self.root_sealed)),
                _ => Err(Errno::ENOTDIR),
            };
        }
        let dir = match self.resolve(path) {
            Ok(dir) => dir,
            Err(Errno::ENOENT) => return Err(Errno::ENOENT),
            // Which error it is must not tell what is inside of a sealed directory.
            Err(_) => self.step(self.root(), path)?,
        };
        let sealed = self.is_sealed(dir.as_fd())?;
        if sealed && attr::of(&dir)?.attributes & StatxAttributes::MOUNT_ROOT.bits() == 0 {
            return Err(Errno::ENOENT);
        }
        Ok((Handle::Below(dir), sealed))
    }

    /// Goes down to the directory `path`, in pieces as long as the kernel takes.
    fn resolve(&self, path: TreePath<'_>) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        let mut rest = path;
        while !rest.is_root() {
            let (head, tail) = rest.split_at_most(MAX_PIECE);
            let from = at.as_ref().map_or(self.root(), AsFd::as_fd);
            at = Some(if self.openat2 { beneath(from, head)? } else { self.step(from, head)? });
            rest = tail;
        }
        at.ok_or(Errno::EIO)
    }

    /// As [`beneath`], name by name.
    fn step(&self, from: BorrowedFd<'_>, path: TreePath<'_>) -> Result<OwnedFd, Errno> {
        let mut at: Option<OwnedFd> = None;
        for name in path.names() {
            if let Some(dir) = &at
                && self.is_sealed(dir.as_fd())?
            {
                return Err(Errno::ENOENT);
            }
            let dir = at.as_ref().map_or(from, AsFd::as_fd);
            let flags = NAME_ONLY | OFlags::DIRECTORY;
            at = Some(openat(dir, name, flags, Mode::empty()).map_err(errno)?);
        }
        at.ok_or(Errno::EIO)
    }

    /// As [`Self::directory`], for looking up names in it: `ENOENT` if it is sealed.
    pub(crate) fn searched(&self, path: TreePath<'_>) -> Result<Handle<'_>, Errno> {
        match self.directory(path)? {
            (dir, false) => Ok(dir),
            (_, true) => Err(Errno::ENOENT),
        }
    }

    /// Whether a file is on a kernel file system which is not served.
    pub(crate) fn is_sealed(&self, fd: BorrowedFd<'_>) -> Result<bool, Errno> {
        attr::is_kernel_file_system(fd, self.config.kernel_files)
    }

    /// The directory that holds the file at `path`, and the file's name in it.
    ///
    /// # Errors
    /// `EBUSY` for the root, which no request can make, remove or move.
    pub(crate) fn parent<'p>(&self, path: TreePath<'p>) -> Result<(Handle<'_>, &'p [u8]), Errno> {
        let (parent, name) = path.split_last().ok_or(Errno::EBUSY)?;
        Ok((self.searched(parent)?, name))
    }

    /// As [`Self::parent`], in a tree that can be changed.
    pub(crate) fn parent_to_change<'p>(
        &self,
        path: TreePath<'p>,
    ) -> Result<(Handle<'_>, &'p [u8]), Errno> {
        self.check_writable()?;
        self.parent(path)
    }

    /// The file at `path`, whatever it is.
    pub(crate) fn node(&self, path: TreePath<'_>) -> Result<Handle<'_>, Errno> {
        if path.is_root() {
            return Ok(Handle::Root(self.root()));
        }
        let (dir, name) = self.parent(path)?;
        openat(&dir, name, NAME_ONLY, Mode::empty()).map(Handle::Below).map_err(errno)
    }

    /// The attributes of the file at `path`.
    pub(crate) fn attr(&self, path: TreePath<'_>) -> Result<Attr, Errno> {
        if path.is_root() {
            return attr::of(self.root());
        }
        let (dir, name) = self.parent(path)?;
        attr::of_name(&dir, name)
    }

    /// Sets the permission bits of what `file` names.
    pub(crate) fn chmod(&self, file: impl AsFd, permissions: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(permissions);
        chmodat(CWD, self.descriptor_path(file), mode, AtFlags::empty()).map_err(errno)
    }

    /// A path that names `file` to calls which take no descriptor that only
    /// names a file. It is made of nothing that the client said.
    pub(crate) fn descriptor_path(&self, file: impl AsFd) -> PathBuf {
        self.descriptors.join(file.as_fd().as_raw_fd().to_string())
    }

    /// Opens what `file` names. Only for what is known to be a regular file or a directory.
    pub(crate) fn reopen(&self, file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags.union(OPEN).difference(OFlags::NOFOLLOW);
        openat(CWD, self.descriptor_path(file), flags, Mode::empty()).map_err(errno)
    }

    /// Opens the directory at `path` for reading its entries or syncing it; and whether it is sealed.
    pub(crate) fn open_directory(&self, path: TreePath<'_>) -> Result<(OwnedFd, bool), Errno> {
        let (dir, sealed) = self.directory(path)?;
        let flags = OPEN | OFlags::DIRECTORY | OFlags::RDONLY;
        // "." is looked up nowhere but in the directory itself.
        let dir = openat(&dir, ".", flags, Mode::empty()).map_err(errno)?;
        Ok((dir, sealed))
    }
}

/// The directory `path`, which is at most `MAX_PIECE` long, beneath `from`.
fn beneath(from: BorrowedFd<'_>, path: TreePath<'_>) -> Result<OwnedFd, Errno> {
    let flags = NAME_ONLY | OFlags::DIRECTORY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(from, path.as_bytes(), flags, Mode::empty(), resolve).map_err(errno)
}
