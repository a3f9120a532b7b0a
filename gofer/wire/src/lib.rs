//! What the sentry and the gofer say to each other, and the sentry's half of it.
//!
//! The gofer serves *trees* of host files. A request names a tree and a path in
//! it; the server keeps nothing between requests, so there are no handles to
//! leak, to run out of, or to save in a checkpoint. An opened regular file comes
//! back as a descriptor, and all further I/O goes straight to that.
//!
//! Both sides take the other for hostile. Every decoder here is total: any bytes
//! give a value or [`Malformed`], never a panic, and never an allocation larger
//! than what the bytes themselves account for.
//!
//! * [`client`]: the blocking client that the sentry's file system calls;
//! * [`request`], [`reply`]: the messages;
//! * [`attr`], [`path`]: what they are made of;
//! * [`codec`], [`transport`]: bytes, packets and descriptors.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod attr;
pub mod client;
pub mod codec;
mod entries;
pub mod path;
pub mod reply;
pub mod request;
pub mod transport;

pub use attr::{Attr, Device, FileId, FileType, Owner, SetAttr, SetTime, StatFs, Timestamp};
pub use client::GoferClient;
pub use codec::Malformed;
pub use entries::{Entries, Entry};
pub use path::{TreePath, TreePathBuf, TreePaths, TreePathsBuf};
pub use reply::{DirEntry, Directory, ListedBelow, Opened, TreeInfo, WalkEnd, WalkReply};
pub use request::{Access, OpenFlags, OpenHow, Place, RenameFlags, TreeId};

/// Both halves are the same binary; a different number means that they are not.
pub const VERSION: u32 = 5;
/// Most bytes of a message in one packet.
pub const MAX_FRAGMENT: usize = 64 << 10;
/// Most bytes of a request: paths of 100,000 components fit.
pub const MAX_REQUEST: usize = 4 << 20;
/// Most bytes of a reply: what a directory of two million entries needs.
pub const MAX_REPLY: usize = 256 << 20;
/// Most components one walk can ask the attributes of (`PATH_MAX` / 2).
pub const MAX_WALK: usize = 2048;
/// `NAME_MAX`.
pub const MAX_NAME: usize = 255;
/// Longest symbolic link target (`PATH_MAX` less the final NUL).
pub const MAX_TARGET: usize = 4095;
/// `XATTR_NAME_MAX`.
pub const MAX_XATTR_NAME: usize = 255;
/// `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
pub const MAX_XATTR: usize = 64 << 10;
/// Most files that one request opens.
pub const MAX_OPEN: usize = 64;
/// Most directories that one request names.
pub const MAX_LISTED: usize = 64;
/// Most trees one gofer serves.
pub const MAX_TREES: usize = 1024;
