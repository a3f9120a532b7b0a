//! What a file system implements: inodes and directories.

use std::{any::Any, fmt, sync::Arc};

use bitflags::bitflags;

use super::{FileOps, VfsPath};
use crate::{SysResult, err, kernel::Credentials};

/// A mounted tree's file system.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// As in /proc/mounts: `tmpfs`, `proc`, `overlay` …
    fn type_name(&self) -> &'static str;

    /// The root directory.
    fn root(&self) -> Arc<dyn Inode>;

    /// statfs(2).
    fn statfs(&self) -> SysResult<StatFs>;

    /// `st_dev` of its inodes.
    fn dev(&self) -> u64;

    /// May dentries (positive and negative) be kept without asking again? False for proc and
    /// for shared host trees, whose names change without the VFS knowing; see [`DirOps::revalidate`].
    fn caches_names(&self) -> bool {
        true
    }

    /// Is a missing name an error even for who would make it? On proc, `mkdir` of a new name says `ENOENT`.
    fn refuses_new_names(&self) -> bool {
        false
    }

    /// Where names are not cached: does asking for all names of a path at once ([`DirOps::prefetch`]) answer the
    /// lookups of each? The walk then does so first, each time, and attributes that it brought are those of now
    /// ([`Inode::metadata_seen`]).
    fn asks_ahead(&self) -> bool {
        false
    }

    /// Writes back what is pending (sync(2)).
    fn sync(&self) -> SysResult<()> {
        Ok(())
    }

    /// Changes options (MS_REMOUNT), as mount(2) gives them.
    fn remount(&self, _options: &[u8]) -> SysResult<()> {
        Ok(())
    }

    /// Options as in /proc/mounts, with a leading comma when there are any.
    fn mount_options(&self) -> String {
        String::new()
    }
}

/// The kind of a file, `S_IFMT` of its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl FileType {
    /// From `st_mode`; `None` for bits that name no kind (anonymous inodes).
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            _ => return None,
        })
    }

    /// The `S_IFMT` bits.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
        }
    }

    /// `d_type` of getdents64(2).
    pub fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// Seconds and nanoseconds since the epoch; nanoseconds below 10⁹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TimeSpec {
    pub sec: i64,
    pub nsec: u32,
}

/// What stat(2) and statx(2) report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub dev: u64,
    pub ino: u64,
    /// Kind and permission bits (`st_mode`).
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u32,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub atime: TimeSpec,
    pub mtime: TimeSpec,
    pub ctime: TimeSpec,
    pub btime: Option<TimeSpec>,
}

impl Metadata {
    pub fn file_type(&self) -> Option<FileType> {
        FileType::from_mode(self.mode)
    }
    pub fn is_dir(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }
}

/// One time of utimensat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUpdate {
    Now,
    To(TimeSpec),
}

/// Attributes to change; `None` leaves one alone. ctime always becomes now.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeUpdate>,
    pub mtime: Option<TimeUpdate>,
}

/// statfs(2), without the parts that never differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatFs {
    /// `TMPFS_MAGIC` …
    pub magic: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u64,
}

bitflags! {
    /// access(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct AccessMask: u32 {
        const READ = 4;
        const WRITE = 2;
        const EXEC = 1;
    }

    /// renameat2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        const NOREPLACE = 1;
        const EXCHANGE = 2;
        const WHITEOUT = 4;
    }
}

/// setxattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSetMode {
    Any,
    Create,
    Replace,
}

/// What following a symbolic link means.
#[derive(Debug)]
pub enum Link {
    /// Walk this text.
    Text(Vec<u8>),
    /// Go straight there (`/proc/self/fd/3`, `/proc/1/root`).
    Magic(VfsPath),
}

/// What a new file is like.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    /// Permission bits; umask and setgid rules are already applied.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What the file at the end of a path is looked up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intent {
    #[default]
    Look,
    /// It will be opened read-only.
    Read,
    /// It will be opened for writing.
    Write,
}

/// A file, directory, link or special file, by itself: without a name.
///
/// VFS has already checked, in all methods: permissions by mode bits and credentials
/// ([`Inode::check_access`]), read-only mounts, name lengths. Implementations check what
/// only they can know (space, type of entry, quotas).
pub trait Inode: Send + Sync + Any + fmt::Debug {
    /// Now. Cheap where possible: it is on the path of `stat` and each path walk.
    fn metadata(&self) -> SysResult<Metadata>;

    /// As the walk that has just led here saw it; [`Self::metadata`] where walks bring none.
    fn metadata_seen(&self) -> SysResult<Metadata> {
        self.metadata()
    }

    /// Its kind, which never changes. `None` for anonymous inodes.
    fn kind(&self) -> Option<FileType> {
        self.metadata().ok().and_then(|meta| meta.file_type())
    }

    /// Changes attributes. VFS has checked ownership and cleared set-id bits where due.
    fn set_attr(&self, change: &SetAttr) -> SysResult<()>;

    /// Opens the file; fifos and devices may wait or refuse. `path` is how it was reached,
    /// `flags` are those of open(2). Directories are opened as well (for `getdents`).
    fn open(self: Arc<Self>, path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>>;

    /// Its entries, for a directory.
    fn as_dir(&self) -> Option<&dyn DirOps> {
        None
    }

    /// Where a symbolic link points, for following it. `EINVAL` unless it is one.
    fn follow_link(&self) -> SysResult<Link> {
        self.read_link().map(Link::Text)
    }

    /// The text readlink(2) reports. `EINVAL` unless it is a link.
    fn read_link(&self) -> SysResult<Vec<u8>> {
        err!(EINVAL)
    }

    /// Beyond mode bits: file systems with rules of their own (proc) override this.
    /// The default is the usual owner, group, other and capability rule.
    fn check_access(&self, cred: &Credentials, want: AccessMask) -> SysResult<()> {
        check_mode(&self.metadata_seen()?, cred, want)
    }

    /// getxattr(2): the value, or `ENODATA`; `EOPNOTSUPP` where there are none at all.
    fn get_xattr(&self, _name: &[u8]) -> SysResult<Vec<u8>> {
        err!(EOPNOTSUPP)
    }
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _mode: XattrSetMode) -> SysResult<()> {
        err!(EOPNOTSUPP)
    }
    /// NUL-terminated names, one after another (listxattr(2)).
    fn list_xattr(&self) -> SysResult<Vec<u8>> {
        Ok(Vec::new())
    }
    fn remove_xattr(&self, _name: &[u8]) -> SysResult<()> {
        err!(EOPNOTSUPP)
    }

    /// The socket bound to this node, for connect(2) on an AF_UNIX path.
    fn bound_socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

/// What only directories do. VFS serializes changes of one directory (its dentry's lock),
/// has checked that names are no `.`/`..`/empty and ≤ 255 bytes, search and write permission, the
/// sticky bit, and that both sides of a link or rename are on this file system.
pub trait DirOps {
    /// The entry of that name, or `ENOENT`.
    fn lookup(&self, name: &[u8]) -> SysResult<Arc<dyn Inode>>;

    /// Does a lookup of a missing name cost nothing (all names are in memory, the directory was listed
    /// whole)? VFS then keeps no negative dentries for it.
    fn missing_is_cheap(&self) -> bool {
        false
    }

    /// Is a cached answer (`None`: no such entry) still true? Asked only where
    /// [`FileSystem::caches_names`] is false.
    fn revalidate(&self, _name: &[u8], _cached: Option<&Arc<dyn Inode>>) -> bool {
        false
    }

    /// A new regular file. `EEXIST` when the name is taken.
    fn create(&self, _name: &[u8], _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        err!(EPERM)
    }
    /// A regular file with no name (`O_TMPFILE`).
    fn create_unnamed(&self, _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        err!(EOPNOTSUPP)
    }
    fn mkdir(&self, _name: &[u8], _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        err!(EPERM)
    }
    /// A fifo, device or socket node; `new.mode` holds only permission bits.
    fn mknod(
        &self,
        _name: &[u8],
        _kind: FileType,
        _rdev: u64,
        _new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        err!(EPERM)
    }
    /// A socket node to which `socket` is bound; found again by [`Inode::bound_socket`].
    fn bind_socket(
        &self,
        _name: &[u8],
        _socket: Arc<dyn Any + Send + Sync>,
        _new: &Creation,
    ) -> SysResult<Arc<dyn Inode>> {
        err!(EPERM)
    }
    fn symlink(&self, _name: &[u8], _target: &[u8], _new: &Creation) -> SysResult<Arc<dyn Inode>> {
        err!(EPERM)
    }
    /// Another name for `inode`, which is on this file system and no directory.
    fn link(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        err!(EPERM)
    }
    /// Removes a name that is no directory's.
    fn unlink(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        err!(EPERM)
    }
    /// Removes an empty directory; `ENOTEMPTY`.
    fn rmdir(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> SysResult<()> {
        err!(EPERM)
    }
    /// Moves `name` to `new_name` in `new_dir` (perhaps this directory itself), replacing what
    /// is there if it may. VFS has checked kinds, `NOREPLACE`, and that no directory moves
    /// below itself; `ENOTEMPTY` is left to the implementation.
    fn rename(
        &self,
        _name: &[u8],
        _new_dir: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: RenameFlags,
    ) -> SysResult<()> {
        err!(EPERM)
    }

    /// `inode` was moved by [`Self::rename`] from this directory to `new_name` in `new_dir`; for file
    /// systems whose inodes know their names.
    fn renamed(&self, _inode: &Arc<dyn Inode>, _new_dir: &Arc<dyn Inode>, _new_name: &[u8]) {}

    /// These names will be looked up next, one below the other, starting in this directory: a hint for
    /// file systems which can ask for all with one request. `intent` is what the last is looked up for.
    fn prefetch(&self, _names: &[&[u8]], _intent: Intent) {}
}

/// The usual permission rule (path_resolution(7), `generic_permission` in `fs/namei.c`).
pub(crate) fn check_mode(meta: &Metadata, cred: &Credentials, want: AccessMask) -> SysResult<()> {
    let class = if cred.fsuid == meta.uid {
        meta.mode >> 6
    } else if cred.in_group(meta.gid) {
        meta.mode >> 3
    } else {
        meta.mode
    };
    if class & want.bits() == want.bits() {
        return Ok(());
    }
    if cred.has(crate::kernel::Capability::DAC_OVERRIDE) {
        // Even root executes only what someone may execute; directories are always searchable.
        let execs = want.contains(AccessMask::EXEC) && !meta.is_dir();
        if !execs || meta.mode & 0o111 != 0 {
            return Ok(());
        }
    }
    if cred.has(crate::kernel::Capability::DAC_READ_SEARCH)
        && (want == AccessMask::READ || (meta.is_dir() && !want.contains(AccessMask::WRITE)))
    {
        return Ok(());
    }
    err!(EACCES)
}
