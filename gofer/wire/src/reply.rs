//! What the gofer answers. A reply is an error number (0 for success) and, on
//! success, the body that belongs to the request.

use std::os::fd::OwnedFd;

use linux_abi::Errno;

use crate::{
    MAX_REQUEST, MAX_TARGET, MAX_TREES, MAX_WALK,
    attr::{Attr, FileType},
    codec::{Malformed, Reader, Wire, Writer},
    entries::{self, Entries},
    path::{TreePath, TreePathBuf},
    request::TreeId,
};

/// A served tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeInfo {
    pub id: TreeId,
    /// No request can change anything in it.
    pub read_only: bool,
    /// Of the root: a directory, or a regular file served by itself.
    pub attr: Attr,
}

/// The answer to [`crate::request::Request::Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReply {
    pub version: u32,
    /// Most sockets that the server will serve beside the first.
    pub max_channels: u32,
    pub trees: Vec<TreeInfo>,
}

/// Why a walk ended where it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// All names were found, and the last is no symbolic link.
    Complete,
    /// The name after the last one found does not exist.
    Missing,
    /// The last one found is no directory, but there are more names.
    NotDirectory,
    /// The last one found is a symbolic link; its target.
    Symlink(Vec<u8>),
    /// Looking up the name after the last one found failed.
    Failed(Errno),
}

/// How far a walk came.
#[derive(Debug)]
pub struct WalkReply {
    /// Of the directory where it began.
    pub base: Attr,
    /// One for each name that was found, in order.
    pub attrs: Vec<Attr>,
    pub end: WalkEnd,
    /// The last file opened, when asked for and it is a regular file; or why it could not be.
    pub file: Option<Result<OwnedFd, Errno>>,
}

/// What comes of [`WalkReply`] as bytes; the descriptor travels beside them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkBody {
    pub base: Attr,
    pub attrs: Vec<Attr>,
    pub end: WalkEnd,
    /// `Some(None)`: the descriptor comes with this reply.
    pub file: Option<Option<Errno>>,
}

/// An open regular file, and its attributes just after the open.
#[derive(Debug)]
pub struct Opened {
    pub file: OwnedFd,
    pub attr: Attr,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: Vec<u8>,
    /// `d_ino`: at a mount point, the inode underneath.
    pub ino: u64,
    pub kind: FileType,
    /// When asked for; `None` also for an entry that vanished in between.
    pub attr: Option<Attr>,
}

/// A whole directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Of the directory itself, from before it was read.
    pub attr: Attr,
    pub entries: Entries,
}

/// A directory that was told with another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBelow {
    /// From the directory that the request named.
    pub path: TreePathBuf,
    pub directory: Directory,
}

impl Wire for TreeInfo {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.id.0);
        out.bool(self.read_only);
        self.attr.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { id: TreeId(from.u32()?), read_only: from.bool()?, attr: Attr::decode(from)? })
    }
}

/// Reads a count and that many values. Room is not reserved by a count which
/// the peer made up, but grows with what is really there.
fn list<T: Wire>(from: &mut Reader<'_>, max: usize) -> Result<Vec<T>, Malformed> {
    let count = usize::try_from(from.u32()?).map_err(|_| Malformed("count"))?;
    if count > max {
        return Err(Malformed("more than asked for"));
    }
    let mut values = Vec::with_capacity(count.min(32));
    for _ in 0..count {
        values.push(T::decode(from)?);
    }
    Ok(values)
}

fn put_list<T: Wire>(out: &mut Writer, values: &[T]) {
    out.u32(u32::try_from(values.len()).unwrap_or(u32::MAX));
    for value in values {
        value.encode(out);
    }
}

impl Wire for HelloReply {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.version);
        out.u32(self.max_channels);
        put_list(out, &self.trees);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { version: from.u32()?, max_channels: from.u32()?, trees: list(from, MAX_TREES)? })
    }
}

impl Wire for Errno {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.raw().unsigned_abs());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match i32::try_from(from.u32()?) {
            Ok(raw @ 1..=4095) => Ok(Self::from_raw(raw)),
            _ => Err(Malformed("error number")),
        }
    }
}

impl Wire for WalkEnd {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Complete => out.u8(0),
            Self::Missing => out.u8(1),
            Self::NotDirectory => out.u8(2),
            Self::Symlink(target) => {
                out.u8(3);
                out.bytes(target);
            }
            Self::Failed(errno) => {
                out.u8(4);
                errno.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match from.u8()? {
            0 => Self::Complete,
            1 => Self::Missing,
            2 => Self::NotDirectory,
            3 => Self::Symlink(target(from)?),
            4 => Self::Failed(Errno::decode(from)?),
            _ => return Err(Malformed("end of walk")),
        })
    }
}

/// A symbolic link's target: not empty, no NUL.
pub(crate) fn target(from: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let target = from.bytes(MAX_TARGET)?;
    if target.is_empty() || target.contains(&0) {
        return Err(Malformed("link target"));
    }
    Ok(target.to_vec())
}

impl Wire for WalkBody {
    fn encode(&self, out: &mut Writer) {
        self.base.encode(out);
        put_list(out, &self.attrs);
        self.end.encode(out);
        out.option(self.file, |out, error| out.option(error, |out, error| error.encode(out)));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            base: Attr::decode(from)?,
            attrs: list(from, MAX_WALK)?,
            end: WalkEnd::decode(from)?,
            file: from.option(|from| from.option(Errno::decode))?,
        })
    }
}

impl WalkBody {
    /// Checks that this can be the answer to a walk of `asked` names: that there
    /// are not more attributes than names, that all but the last found are
    /// directories, and that the end fits what was found.
    pub fn check(&self, asked: usize) -> Result<(), Malformed> {
        let found = self.attrs.len();
        let last = self.attrs.last().map(Attr::file_type);
        if self.base.file_type() != FileType::Directory {
            return Err(Malformed("a walk from what is no directory"));
        }
        let inner = self.attrs.get(..found.saturating_sub(1)).unwrap_or_default();
        if inner.iter().any(|attr| attr.file_type() != FileType::Directory) {
            return Err(Malformed("a walk through what is no directory"));
        }
        let below_directory = matches!(last, None | Some(FileType::Directory));
        let fits = match &self.end {
            WalkEnd::Complete => found == asked && last != Some(FileType::Symlink),
            WalkEnd::Missing | WalkEnd::Failed(_) => found < asked && below_directory,
            WalkEnd::NotDirectory => {
                found < asked && !below_directory && last != Some(FileType::Symlink)
            }
            WalkEnd::Symlink(_) => found <= asked && last == Some(FileType::Symlink),
        };
        if !fits {
            return Err(Malformed("a walk that cannot end so"));
        }
        let regular = self.end == WalkEnd::Complete && last == Some(FileType::Regular);
        if self.file.is_some() && !regular {
            return Err(Malformed("an open file that is none"));
        }
        Ok(())
    }
}

impl Wire for DirEntry {
    fn encode(&self, out: &mut Writer) {
        put_entry(out, &self.name, self.ino, self.kind, self.attr.as_ref());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (name, ino, kind, attr) = entries::entry(from)?;
        Ok(Self { name: name.to_vec(), ino, kind, attr })
    }
}

/// What comes next in the list of a directory, whose length is not known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirItem {
    /// No more.
    End,
    Entry(DirEntry),
    /// Reading went wrong here.
    Failed(Errno),
}

/// Writes a [`DirItem::Entry`] of these parts.
pub fn put_dir_entry(out: &mut Writer, name: &[u8], ino: u64, kind: FileType, attr: Option<&Attr>) {
    out.u8(1);
    put_entry(out, name, ino, kind, attr);
}

fn put_entry(out: &mut Writer, name: &[u8], ino: u64, kind: FileType, attr: Option<&Attr>) {
    out.bytes(name);
    out.u64(ino);
    kind.encode(out);
    out.option(attr, |out, attr| attr.encode(out));
}

impl Wire for DirItem {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::End => out.u8(0),
            Self::Entry(entry) => {
                out.u8(1);
                entry.encode(out);
            }
            Self::Failed(errno) => {
                out.u8(2);
                errno.encode(out);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            0 => Ok(Self::End),
            1 => Ok(Self::Entry(DirEntry::decode(from)?)),
            2 => Ok(Self::Failed(Errno::decode(from)?)),
            _ => Err(Malformed("directory item")),
        }
    }
}

/// The body of a directory's reply: its attributes, then items up to an end.
pub fn decode_directory(from: &mut Reader<'_>) -> Result<Result<Directory, Errno>, Malformed> {
    let attr = Attr::decode(from)?;
    let mut entries = Entries::default();
    loop {
        // As `DirItem`, without a copy of each.
        match from.u8()? {
            0 => break,
            1 => entries.decode_one(from)?,
            2 => return Ok(Err(Errno::decode(from)?)),
            _ => return Err(Malformed("directory item")),
        }
    }
    entries.shrink();
    Ok(Ok(Directory { attr, entries }))
}

/// Directories told along, up to an end.
pub fn decode_below(from: &mut Reader<'_>) -> Result<Vec<ListedBelow>, Malformed> {
    let mut all = Vec::new();
    while from.bool()? {
        let path = TreePath::new(from.bytes(MAX_REQUEST)?).map_err(|_| Malformed("path"))?;
        let path = path.to_owned_path();
        if let Ok(directory) = decode_directory(from)? {
            all.push(ListedBelow { path, directory });
        }
    }
    Ok(all)
}

/// Reads the error number that begins each reply: `Ok(None)` for success.
pub fn decode_status(from: &mut Reader<'_>) -> Result<Option<Errno>, Malformed> {
    match from.u32()? {
        0 => Ok(None),
        raw => match i32::try_from(raw) {
            Ok(raw @ 1..=4095) => Ok(Some(Errno::from_raw(raw))),
            _ => Err(Malformed("error number")),
        },
    }
}

/// Begins a reply.
pub fn encode_status(out: &mut Writer, status: Option<Errno>) {
    out.u32(status.map_or(0, |errno| errno.raw().unsigned_abs()));
}

#[cfg(test)]
mod tests;
