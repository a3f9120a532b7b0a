//! The virtual file system.
//!
//! VFS owns the structures: [`Mount`], [`Dentry`] (names, cached), [`FileDescription`]
//! (offset, flags, locks). A file system implements three traits: [`FileSystem`],
//! [`Inode`] (with [`DirOps`] for directories) and [`FileOps`] (an open file).
//! Each trait method says what VFS has already checked and what is left to it.

mod dentry;
mod fd_table;
mod file_description;
mod file_ops;
mod inode;
mod io;
mod mount;

pub use dentry::Dentry;
pub use fd_table::{FdEntry, FdTable};
pub use file_description::{CloseWatcher, FileDescription, StatusFlags};
pub use file_ops::{DirEntry, DirSink, FileOps, Mappable, SeekFrom};
pub(crate) use inode::check_mode;
pub use inode::{
    AccessMask, Creation, DirOps, FileSystem, FileType, Inode, Link, Metadata, RenameFlags,
    SetAttr, StatFs, TimeSpec, TimeUpdate, XattrSetMode,
};
pub use io::{IoDst, IoSrc, UserIovecs};
pub use mount::{Mount, VfsPath};
