//! What the sentry can ask for. The paths of all requests are [`TreePath`]s.

use bitflags::bitflags;
use linux_abi::Errno;

use crate::{
    MAX_LISTED, MAX_NAME, MAX_OPEN, MAX_REQUEST, MAX_TARGET, MAX_WALK, MAX_XATTR, MAX_XATTR_NAME,
    attr::{FileId, Owner, SetAttr},
    codec::{Malformed, Reader, Wire, Writer},
    path::{TreePath, TreePaths},
};

/// One of the trees that the gofer was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeId(pub u32);

/// A file: a tree and a path in it. Symbolic links are never followed, at no
/// place of the path: one in the middle is `ELOOP`, one at the end is the link itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub tree: TreeId,
    pub path: TreePath<'a>,
}

impl<'a> Place<'a> {
    /// The file at `path` of `tree`.
    pub fn new(tree: TreeId, path: TreePath<'a>) -> Self {
        Self { tree, path }
    }
}

/// What a donated descriptor can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    Read,
    Write,
    ReadWrite,
}

bitflags! {
    /// What else is asked of an open. Close-on-exec is always set.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct OpenFlags: u8 {
        /// `O_TRUNC`.
        const TRUNCATE = 1;
        /// `O_APPEND`: each write goes to the end.
        const APPEND = 2;
        /// `O_DIRECT`.
        const DIRECT = 4;
        /// `O_NOATIME`.
        const NO_ATIME = 8;
        /// `O_SYNC`.
        const SYNC = 16;
        /// `O_DSYNC`.
        const DATA_SYNC = 32;
    }

    /// renameat2(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RenameFlags: u8 {
        /// `EEXIST` if there is a file at the new path.
        const NO_REPLACE = 1;
        /// The two files change places.
        const EXCHANGE = 2;
    }
}

/// How to open a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OpenHow {
    pub access: Access,
    pub flags: OpenFlags,
}

impl OpenHow {
    /// `O_RDONLY`.
    pub const READ: Self = Self { access: Access::Read, flags: OpenFlags::empty() };
    /// `O_WRONLY`.
    pub const WRITE: Self = Self { access: Access::Write, flags: OpenFlags::empty() };
    /// `O_RDWR`.
    pub const READ_WRITE: Self = Self { access: Access::ReadWrite, flags: OpenFlags::empty() };

    /// Whether the file or its content could change.
    pub const fn writes(self) -> bool {
        !matches!(self.access, Access::Read) || self.flags.contains(OpenFlags::TRUNCATE)
    }
}

/// What [`Request::Mknod`] can make; devices are not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    Regular,
    Fifo,
    Socket,
}

/// A new file: where, its permission bits (no umask applies), and whom it is to
/// belong to. `owner` is best effort: a gofer without the right to give files
/// away leaves it with its own user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode<'a> {
    pub place: Place<'a>,
    pub permissions: u32,
    pub owner: Option<Owner>,
}

/// [`Request::Walk`]: looks up names one below the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk<'a> {
    /// The directory to start from.
    pub base: Place<'a>,
    /// What to walk below it, at most [`MAX_WALK`] names.
    pub names: TreePath<'a>,
    /// Opens the last one if it is a regular file.
    pub open: Option<OpenHow>,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// The first one: checks the version, tells the trees.
    Hello {
        version: u32,
    },
    /// Another socket for calls at the same time.
    OpenChannel {
        /// The processor that calls on it will be made on: its thread stays there, because waking a
        /// thread elsewhere costs more than most requests.
        processor: Option<u32>,
    },
    Walk(Walk<'a>),
    GetAttr(Place<'a>),
    Open(Place<'a>, OpenHow),
    /// Opens some regular files in and below a directory for reading.
    OpenMany {
        base: Place<'a>,
        /// Where they are from there; at most [`MAX_OPEN`].
        files: TreePaths<'a>,
    },
    /// Makes and opens a regular file (`O_EXCL`).
    Create(NewNode<'a>, OpenHow),
    Mkdir(NewNode<'a>),
    Mknod(NewNode<'a>, NodeKind),
    Symlink {
        place: Place<'a>,
        target: &'a [u8],
        owner: Option<Owner>,
    },
    Link {
        from: Place<'a>,
        to: TreePath<'a>,
    },
    Unlink(Place<'a>),
    Rmdir(Place<'a>),
    Rename {
        from: Place<'a>,
        to: TreePath<'a>,
        flags: RenameFlags,
    },
    /// `ESTALE` if the file there is not the one expected.
    SetAttr {
        place: Place<'a>,
        expect: Option<FileId>,
        changes: SetAttr,
    },
    StatFs(Place<'a>),
    /// The whole directory, without `.` and `..`.
    ReadDir {
        place: Place<'a>,
        attrs: bool,
    },
    /// Several directories: some of `base`, and what is in them.
    ReadDirs {
        base: Place<'a>,
        /// Their names, not one below the other; at most [`MAX_LISTED`]. The first is always told.
        names: TreePath<'a>,
        attrs: bool,
        /// No more directories are told when they have so many entries together.
        budget: u32,
    },
    ReadLink(Place<'a>),
    GetXattr {
        place: Place<'a>,
        name: &'a [u8],
    },
    SetXattr {
        place: Place<'a>,
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
    },
    ListXattr(Place<'a>),
    RemoveXattr {
        place: Place<'a>,
        name: &'a [u8],
    },
    /// For directories above all: an open file is synced through its descriptor.
    Fsync {
        place: Place<'a>,
        data_only: bool,
    },
}

/// Names the operations on the wire. Numbers are never used again.
mod op {
    pub(super) const HELLO: u16 = 1;
    pub(super) const OPEN_CHANNEL: u16 = 2;
    pub(super) const WALK: u16 = 3;
    pub(super) const GET_ATTR: u16 = 4;
    pub(super) const OPEN: u16 = 5;
    pub(super) const CREATE: u16 = 6;
    pub(super) const MKDIR: u16 = 7;
    pub(super) const MKNOD: u16 = 8;
    pub(super) const SYMLINK: u16 = 9;
    pub(super) const LINK: u16 = 10;
    pub(super) const UNLINK: u16 = 11;
    pub(super) const RMDIR: u16 = 12;
    pub(super) const RENAME: u16 = 13;
    pub(super) const SET_ATTR: u16 = 14;
    pub(super) const STAT_FS: u16 = 15;
    pub(super) const READ_DIR: u16 = 16;
    pub(super) const READ_LINK: u16 = 17;
    pub(super) const GET_XATTR: u16 = 18;
    pub(super) const SET_XATTR: u16 = 19;
    pub(super) const LIST_XATTR: u16 = 20;
    pub(super) const REMOVE_XATTR: u16 = 21;
    pub(super) const FSYNC: u16 = 22;
    // 23 connected to Unix sockets.
    pub(super) const OPEN_MANY: u16 = 24;
    pub(super) const READ_DIRS: u16 = 25;
}

/// Why a request was not understood: what to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRequest(pub Errno);

impl From<Malformed> for BadRequest {
    fn from(_: Malformed) -> Self {
        Self(Errno::EINVAL)
    }
}

impl From<Errno> for BadRequest {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

fn path<'a>(from: &mut Reader<'a>) -> Result<TreePath<'a>, BadRequest> {
    Ok(TreePath::new(from.bytes(MAX_REQUEST)?)?)
}

/// Between one and [`MAX_OPEN`] files.
fn files<'a>(from: &mut Reader<'a>) -> Result<TreePaths<'a>, BadRequest> {
    let files = TreePaths::new(from.bytes(MAX_REQUEST)?)?;
    if files.iter().count() > MAX_OPEN {
        return Err(BadRequest(Errno::EINVAL));
    }
    Ok(files)
}

/// Between one and `max` names of one directory.
fn names<'a>(from: &mut Reader<'a>, max: usize) -> Result<TreePath<'a>, BadRequest> {
    let names = path(from)?;
    match names.names().count() {
        0 => Err(BadRequest(Errno::EINVAL)),
        count if count > max => Err(BadRequest(Errno::EINVAL)),
        _ => Ok(names),
    }
}

fn place<'a>(from: &mut Reader<'a>) -> Result<Place<'a>, BadRequest> {
    Ok(Place { tree: TreeId(from.u32()?), path: path(from)? })
}

fn put_place(out: &mut Writer, place: Place<'_>) {
    out.u32(place.tree.0);
    out.bytes(place.path.as_bytes());
}

fn new_node<'a>(from: &mut Reader<'a>) -> Result<NewNode<'a>, BadRequest> {
    let place = place(from)?;
    let permissions = from.u32()?;
    if permissions > 0o7777 {
        return Err(BadRequest(Errno::EINVAL));
    }
    Ok(NewNode { place, permissions, owner: from.option(Owner::decode)? })
}

fn put_new_node(out: &mut Writer, node: &NewNode<'_>) {
    put_place(out, node.place);
    out.u32(node.permissions);
    out.option(node.owner, |out, owner| owner.encode(out));
}

fn xattr_name<'a>(from: &mut Reader<'a>) -> Result<&'a [u8], BadRequest> {
    let name = from.bytes(MAX_REQUEST)?;
    // As the kernel says it (setxattr(2)): an empty name and one too long are ERANGE.
    if name.is_empty() || name.len() > MAX_XATTR_NAME {
        return Err(BadRequest(Errno::ERANGE));
    }
    if name.contains(&0) {
        return Err(BadRequest(Errno::EINVAL));
    }
    Ok(name)
}

impl Wire for OpenHow {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self.access {
            Access::Read => 0,
            Access::Write => 1,
            Access::ReadWrite => 2,
        });
        out.u8(self.flags.bits());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let access = match from.u8()? {
            0 => Access::Read,
            1 => Access::Write,
            2 => Access::ReadWrite,
            _ => return Err(Malformed("access")),
        };
        let flags = OpenFlags::from_bits(from.u8()?).ok_or(Malformed("open flags"))?;
        Ok(Self { access, flags })
    }
}

impl Wire for NodeKind {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Regular => 0,
            Self::Fifo => 1,
            Self::Socket => 2,
        });
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            0 => Ok(Self::Regular),
            1 => Ok(Self::Fifo),
            2 => Ok(Self::Socket),
            _ => Err(Malformed("kind of node")),
        }
    }
}

fn put_walk(out: &mut Writer, walk: &Walk<'_>) {
    put_place(out, walk.base);
    out.bytes(walk.names.as_bytes());
    out.option(walk.open, |out, how| how.encode(out));
}

fn walk<'a>(from: &mut Reader<'a>) -> Result<Walk<'a>, BadRequest> {
    let walk = Walk { base: place(from)?, names: path(from)?, open: from.option(OpenHow::decode)? };
    if walk.names.names().count() > MAX_WALK {
        return Err(BadRequest(Errno::ENAMETOOLONG));
    }
    Ok(walk)
}

fn symlink<'a>(from: &mut Reader<'a>) -> Result<Request<'a>, BadRequest> {
    let place = place(from)?;
    let target = from.bytes(MAX_REQUEST)?;
    match target {
        [] => return Err(BadRequest(Errno::ENOENT)),
        _ if target.len() > MAX_TARGET => return Err(BadRequest(Errno::ENAMETOOLONG)),
        _ if target.contains(&0) => return Err(BadRequest(Errno::EINVAL)),
        _ => {}
    }
    Ok(Request::Symlink { place, target, owner: from.option(Owner::decode)? })
}

fn set_xattr<'a>(from: &mut Reader<'a>) -> Result<Request<'a>, BadRequest> {
    let (place, name) = (place(from)?, xattr_name(from)?);
    let value = from.bytes(MAX_REQUEST)?;
    if value.len() > MAX_XATTR {
        return Err(BadRequest(Errno::E2BIG));
    }
    Ok(Request::SetXattr { place, name, value, flags: from.u32()? })
}

impl<'a> Request<'a> {
    /// Appends the request.
    pub fn encode(&self, out: &mut Writer) {
        out.u16(self.op());
        match self {
            Self::Hello { version } => out.u32(*version),
            Self::OpenChannel { processor } => out.option(*processor, Writer::u32),
            Self::Walk(walk) => put_walk(out, walk),
            Self::GetAttr(place)
            | Self::Unlink(place)
            | Self::Rmdir(place)
            | Self::StatFs(place)
            | Self::ReadLink(place)
            | Self::ListXattr(place) => put_place(out, *place),
            Self::Open(place, how) => {
                put_place(out, *place);
                how.encode(out);
            }
            Self::Create(node, how) => {
                put_new_node(out, node);
                how.encode(out);
            }
            Self::Mkdir(node) => put_new_node(out, node),
            Self::Mknod(node, kind) => {
                put_new_node(out, node);
                kind.encode(out);
            }
            Self::Symlink { place, target, owner } => {
                put_place(out, *place);
                out.bytes(target);
                out.option(*owner, |out, owner| owner.encode(out));
            }
            Self::Link { from, to } => {
                put_place(out, *from);
                out.bytes(to.as_bytes());
            }
            Self::Rename { from, to, flags } => {
                put_place(out, *from);
                out.bytes(to.as_bytes());
                out.u8(flags.bits());
            }
            Self::SetAttr { place, expect, changes } => {
                put_place(out, *place);
                out.option(*expect, |out, id| id.encode(out));
                changes.encode(out);
            }
            Self::OpenMany { base, files } => {
                put_place(out, *base);
                out.bytes(files.as_bytes());
            }
            Self::ReadDirs { base, names, attrs, budget } => {
                put_place(out, *base);
                out.bytes(names.as_bytes());
                out.bool(*attrs);
                out.u32(*budget);
            }
            Self::ReadDir { place, attrs } => {
                put_place(out, *place);
                out.bool(*attrs);
            }
            Self::GetXattr { place, name } | Self::RemoveXattr { place, name } => {
                put_place(out, *place);
                out.bytes(name);
            }
            Self::SetXattr { place, name, value, flags } => {
                put_place(out, *place);
                out.bytes(name);
                out.bytes(value);
                out.u32(*flags);
            }
            Self::Fsync { place, data_only } => {
                put_place(out, *place);
                out.bool(*data_only);
            }
        }
    }

    /// How many descriptors the reply may bring.
    pub fn max_files(&self) -> usize {
        match self {
            Self::OpenMany { files, .. } => files.iter().count(),
            _ => 1,
        }
    }

    fn op(&self) -> u16 {
        match self {
            Self::Hello { .. } => op::HELLO,
            Self::OpenChannel { .. } => op::OPEN_CHANNEL,
            Self::Walk(_) => op::WALK,
            Self::GetAttr(_) => op::GET_ATTR,
            Self::Open(..) => op::OPEN,
            Self::Create(..) => op::CREATE,
            Self::Mkdir(_) => op::MKDIR,
            Self::Mknod(..) => op::MKNOD,
            Self::Symlink { .. } => op::SYMLINK,
            Self::Link { .. } => op::LINK,
            Self::Unlink(_) => op::UNLINK,
            Self::Rmdir(_) => op::RMDIR,
            Self::Rename { .. } => op::RENAME,
            Self::SetAttr { .. } => op::SET_ATTR,
            Self::StatFs(_) => op::STAT_FS,
            Self::ReadDir { .. } => op::READ_DIR,
            Self::OpenMany { .. } => op::OPEN_MANY,
            Self::ReadDirs { .. } => op::READ_DIRS,
            Self::ReadLink(_) => op::READ_LINK,
            Self::GetXattr { .. } => op::GET_XATTR,
            Self::SetXattr { .. } => op::SET_XATTR,
            Self::ListXattr(_) => op::LIST_XATTR,
            Self::RemoveXattr { .. } => op::REMOVE_XATTR,
            Self::Fsync { .. } => op::FSYNC,
        }
    }

    /// Understands a request; total on any bytes.
    ///
    /// # Errors
    /// The error number to answer: `ENOSYS` for an unknown operation, `EINVAL`
    /// for bytes that make no request, or what Linux says to such an argument.
    pub fn decode(message: &'a [u8]) -> Result<Self, BadRequest> {
        let mut from = Reader::new(message);
        let request = Self::decode_body(&mut from)?;
        from.finish()?;
        Ok(request)
    }

    fn decode_body(from: &mut Reader<'a>) -> Result<Self, BadRequest> {
        Ok(match from.u16()? {
            op::HELLO => Self::Hello { version: from.u32()? },
            op::OPEN_CHANNEL => Self::OpenChannel { processor: from.option(Reader::u32)? },
            op::WALK => Self::Walk(walk(from)?),
            op::GET_ATTR => Self::GetAttr(place(from)?),
            op::OPEN => Self::Open(place(from)?, OpenHow::decode(from)?),
            op::CREATE => Self::Create(new_node(from)?, OpenHow::decode(from)?),
            op::MKDIR => Self::Mkdir(new_node(from)?),
            op::MKNOD => Self::Mknod(new_node(from)?, NodeKind::decode(from)?),
            op::SYMLINK => symlink(from)?,
            op::LINK => Self::Link { from: place(from)?, to: path(from)? },
            op::UNLINK => Self::Unlink(place(from)?),
            op::RMDIR => Self::Rmdir(place(from)?),
            op::RENAME => {
                let (old, to) = (place(from)?, path(from)?);
                let flags = RenameFlags::from_bits(from.u8()?).ok_or(BadRequest(Errno::EINVAL))?;
                Self::Rename { from: old, to, flags }
            }
            op::SET_ATTR => Self::SetAttr {
                place: place(from)?,
                expect: from.option(FileId::decode)?,
                changes: SetAttr::decode(from)?,
            },
            op::STAT_FS => Self::StatFs(place(from)?),
            op::READ_DIR => Self::ReadDir { place: place(from)?, attrs: from.bool()? },
            op::OPEN_MANY => Self::OpenMany { base: place(from)?, files: files(from)? },
            op::READ_DIRS => Self::ReadDirs {
                base: place(from)?,
                names: names(from, MAX_LISTED)?,
                attrs: from.bool()?,
                budget: from.u32()?,
            },
            op::READ_LINK => Self::ReadLink(place(from)?),
            op::GET_XATTR => Self::GetXattr { place: place(from)?, name: xattr_name(from)? },
            op::SET_XATTR => set_xattr(from)?,
            op::LIST_XATTR => Self::ListXattr(place(from)?),
            op::REMOVE_XATTR => Self::RemoveXattr { place: place(from)?, name: xattr_name(from)? },
            op::FSYNC => Self::Fsync { place: place(from)?, data_only: from.bool()? },
            _ => return Err(BadRequest(Errno::ENOSYS)),
        })
    }
}

const _: () = assert!(MAX_NAME == 255, "the documents say so");

#[cfg(test)]
mod tests;
