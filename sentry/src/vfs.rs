//! The virtual file system.
//!
//! VFS owns the structures: [`Mount`], [`Dentry`] (names, cached), [`FileDescription`]
//! (offset, flags, locks). A file system implements three traits: [`FileSystem`],
//! [`Inode`] (with [`DirOps`] for directories) and [`FileOps`] (an open file).
//! Each trait method says what VFS has already checked and what is left to it.

mod async_io;
mod attr;
mod create;
mod dentry;
mod directory;
mod dnotify;
mod fd_table;
mod file_description;
mod file_locks;
mod file_ops;
mod file_system;
mod inode;
mod io;
mod lookup;
mod mount;
mod mount_namespace;
mod name_hash;
mod negative;
pub mod notify;
mod open;
mod path;
mod permission;
pub(crate) mod policed;
#[cfg(test)]
mod policed_tests;
mod remove;
mod superblock;
#[cfg(test)]
mod walk_tests;
mod watch;
mod xattr;

pub use attr::{access, chmod, chown, drop_set_ids, set_times, truncate, truncate_file};
pub use create::{bind_socket, link, mkdir, mknod, symlink};
pub use dentry::Dentry;
pub use directory::{allocate_dev, iterate_dots, seek_directory};
pub use dnotify::set_notice;
pub use fd_table::{FdEntry, FdTable, close_entry};
pub use file_description::{CloseWatcher, FileDescription, StatusFlags};
pub use file_locks::{FileLocks, LockOwner, RecordLock};
pub use file_ops::{DirEntry, DirSink, FileOps, Mappable, SeekFrom};
pub use file_system::{FileSystemType, FileSystemTypes};
pub(crate) use inode::check_mode;
pub use inode::{
    AccessMask, Creation, DirOps, FileSystem, FileType, Inode, Intent, Link, Metadata, RenameFlags,
    SetAttr, StatFs, TimeSpec, TimeUpdate, XattrSetMode,
};
pub use io::{IoDst, IoSrc, UserIovecs};
pub use lookup::{Last, LookupFlags, NameBuf, ParentPath, resolve, resolve_parent};
pub use mount::{Mount, MountFlags, VfsPath};
pub use mount_namespace::{MountInfo, MountNamespace};
pub(crate) use name_hash::NameHash;
pub use open::{OpenHow, honours_set_ids, open, open_exec};
pub use path::{FsState, PathCx, PathName, path_name};
pub(crate) use permission::is_owner_or_capable;
pub use remove::{rename, rmdir, unlink};
pub use superblock::Superblock;
pub use watch::Watcher;
pub use xattr::{get_xattr, list_xattr, remove_xattr, set_xattr};
