//! The calls. Paths are relative to a tree; see [`Place`] on symbolic links.

use linux_abi::Errno;

use super::{Failure, GoferClient, take_file};
use crate::{
    MAX_OPEN, MAX_WALK, MAX_XATTR,
    attr::{Attr, FileId, Owner, SetAttr, StatFs},
    codec::{Malformed, Wire},
    path::{TreePath, TreePaths},
    reply::{
        Directory, ListedBelow, Opened, WalkBody, WalkReply, decode_below, decode_directory, target,
    },
    request::{NewNode, NodeKind, OpenHow, Place, RenameFlags, Request, Walk},
};

impl GoferClient {
    fn call_for<T: Wire>(&self, request: &Request<'_>) -> Result<T, Errno> {
        self.call(request, |from, _| Ok(T::decode(from)?))
    }

    fn call_for_file(&self, request: &Request<'_>) -> Result<Opened, Errno> {
        self.call(request, |from, file| {
            let attr = Attr::decode(from)?;
            Ok(Opened { file: take_file(file, &attr)?, attr })
        })
    }

    fn call_for_bytes(&self, request: &Request<'_>) -> Result<Vec<u8>, Errno> {
        self.call(request, |from, _| Ok(from.bytes(MAX_XATTR)?.to_vec()))
    }

    /// Looks up `names` one below the other, starting at the directory `base`,
    /// and stops at the first that is missing, no directory, or a symbolic link.
    /// Opens the last if it is a regular file and `open` says how.
    ///
    /// # Errors
    /// Those of resolving `base`; `ENAMETOOLONG` for more than [`MAX_WALK`] names. What goes
    /// wrong later is told in [`WalkReply::end`] and [`WalkReply::file`].
    pub fn walk(
        &self,
        base: Place<'_>,
        names: TreePath<'_>,
        open: Option<OpenHow>,
    ) -> Result<WalkReply, Errno> {
        let asked = names.names().count();
        if asked > MAX_WALK {
            return Err(Errno::ENAMETOOLONG);
        }
        let request = Request::Walk(Walk { base, names, open });
        self.call(&request, |from, file| {
            let body = WalkBody::decode(from)?;
            body.check(asked)?;
            if body.file.is_some() && open.is_none() {
                return Err(Failure::Malformed(Malformed("more than was asked for")));
            }
            let file = match (body.file, body.attrs.last()) {
                (None, _) => None,
                (Some(Some(errno)), _) => Some(Err(errno)),
                (Some(None), Some(attr)) => match take_file(file, attr) {
                    Err(Failure::Errno(errno)) => Some(Err(errno)),
                    taken => Some(Ok(taken?)),
                },
                (Some(None), None) => return Err(Failure::Malformed(Malformed("an open nothing"))),
            };
            Ok(WalkReply { base: body.base, attrs: body.attrs, end: body.end, file })
        })
    }

    /// The attributes of a file (`lstat`).
    pub fn get_attr(&self, place: Place<'_>) -> Result<Attr, Errno> {
        self.call_for(&Request::GetAttr(place))
    }

    /// Opens a regular file.
    ///
    /// # Errors
    /// `EISDIR`, `ELOOP` (a symbolic link), `ENXIO` (a FIFO, socket or device), `EROFS`, and those of open(2).
    pub fn open(&self, place: Place<'_>, how: OpenHow) -> Result<Opened, Errno> {
        self.call_for_file(&Request::Open(place, how))
    }

    /// Opens regular files in and below the directory `base` for reading: for each of `files`, which are at most
    /// [`MAX_OPEN`], the open file or why it could not be opened.
    pub fn open_many(
        &self,
        base: Place<'_>,
        files: TreePaths<'_>,
    ) -> Result<Vec<Result<Opened, Errno>>, Errno> {
        let asked = files.iter().count();
        if asked > MAX_OPEN {
            return Err(Errno::EINVAL);
        }
        self.call(&Request::OpenMany { base, files }, |from, files| {
            let mut opened = Vec::with_capacity(asked);
            for _ in 0..asked {
                opened.push(match from.option(Attr::decode)? {
                    Some(attr) => match take_file(files, &attr) {
                        Ok(file) => Ok(Opened { file, attr }),
                        Err(Failure::Errno(errno)) => Err(errno),
                        Err(failure) => return Err(failure),
                    },
                    None => Err(Errno::decode(from)?),
                });
            }
            Ok(opened)
        })
    }

    /// Makes a regular file, which must not exist, and opens it.
    pub fn create(
        &self,
        place: Place<'_>,
        permissions: u32,
        owner: Option<Owner>,
        how: OpenHow,
    ) -> Result<Opened, Errno> {
        self.call_for_file(&Request::Create(NewNode { place, permissions, owner }, how))
    }

    /// Makes a directory.
    pub fn mkdir(
        &self,
        place: Place<'_>,
        permissions: u32,
        owner: Option<Owner>,
    ) -> Result<Attr, Errno> {
        self.call_for(&Request::Mkdir(NewNode { place, permissions, owner }))
    }

    /// Makes a FIFO, a socket's name, or an empty regular file.
    pub fn mknod(
        &self,
        place: Place<'_>,
        kind: NodeKind,
        permissions: u32,
        owner: Option<Owner>,
    ) -> Result<Attr, Errno> {
        self.call_for(&Request::Mknod(NewNode { place, permissions, owner }, kind))
    }

    /// Makes a symbolic link to `target`.
    pub fn symlink(
        &self,
        place: Place<'_>,
        target: &[u8],
        owner: Option<Owner>,
    ) -> Result<Attr, Errno> {
        self.call_for(&Request::Symlink { place, target, owner })
    }

    /// Gives a file a second name in the same tree; its new attributes.
    pub fn link(&self, from: Place<'_>, to: TreePath<'_>) -> Result<Attr, Errno> {
        self.call_for(&Request::Link { from, to })
    }

    /// Removes a name that is not a directory's.
    pub fn unlink(&self, place: Place<'_>) -> Result<(), Errno> {
        self.call_for(&Request::Unlink(place))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, place: Place<'_>) -> Result<(), Errno> {
        self.call_for(&Request::Rmdir(place))
    }

    /// Moves a file within its tree.
    pub fn rename(
        &self,
        from: Place<'_>,
        to: TreePath<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        self.call_for(&Request::Rename { from, to, flags })
    }

    /// Changes attributes; what they are afterwards.
    pub fn set_attr(&self, place: Place<'_>, changes: &SetAttr) -> Result<Attr, Errno> {
        self.call_for(&Request::SetAttr { place, expect: None, changes: *changes })
    }

    /// As [`Self::set_attr`], of no other file than `expect`.
    ///
    /// # Errors
    /// `ESTALE`, and nothing is changed, if another has taken its place.
    pub fn set_attr_of(
        &self,
        place: Place<'_>,
        expect: FileId,
        changes: &SetAttr,
    ) -> Result<Attr, Errno> {
        self.call_for(&Request::SetAttr { place, expect: Some(expect), changes: *changes })
    }

    /// The file system that a file is on.
    pub fn stat_fs(&self, place: Place<'_>) -> Result<StatFs, Errno> {
        self.call_for(&Request::StatFs(place))
    }

    /// A whole directory, without `.` and `..`; with the attributes of each entry if `attrs`.
    pub fn read_dir(&self, place: Place<'_>, attrs: bool) -> Result<Directory, Errno> {
        self.call(&Request::ReadDir { place, attrs }, |from, _| {
            decode_directory(from)?.map_err(Failure::Errno)
        })
    }

    /// The first of the directories `names` of `base`, and then as many of what comes next in a walk
    /// through it and the others as `budget` entries allow; each with its path from `base`.
    ///
    /// # Errors
    /// Those of the first; what goes wrong with the others is left out.
    pub fn read_dirs(
        &self,
        base: Place<'_>,
        names: TreePath<'_>,
        attrs: bool,
        budget: u32,
    ) -> Result<(Directory, Vec<ListedBelow>), Errno> {
        let request = Request::ReadDirs { base, names, attrs, budget };
        self.call(&request, |from, _| {
            let first = match decode_directory(from)? {
                Ok(first) => first,
                Err(errno) => return Err(Failure::Errno(errno)),
            };
            Ok((first, decode_below(from)?))
        })
    }

    /// Where a symbolic link points. `EINVAL` if it is none.
    pub fn read_link(&self, place: Place<'_>) -> Result<Vec<u8>, Errno> {
        self.call(&Request::ReadLink(place), |from, _| Ok(target(from)?))
    }

    /// The value of an extended attribute.
    pub fn get_xattr(&self, place: Place<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.call_for_bytes(&Request::GetXattr { place, name })
    }

    /// Sets an extended attribute; `flags` as in setxattr(2).
    pub fn set_xattr(
        &self,
        place: Place<'_>,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        self.call_for(&Request::SetXattr { place, name, value, flags })
    }

    /// The names of the extended attributes, a NUL after each.
    pub fn list_xattr(&self, place: Place<'_>) -> Result<Vec<u8>, Errno> {
        self.call_for_bytes(&Request::ListXattr(place))
    }

    /// Removes an extended attribute.
    pub fn remove_xattr(&self, place: Place<'_>, name: &[u8]) -> Result<(), Errno> {
        self.call_for(&Request::RemoveXattr { place, name })
    }

    /// Writes a file or directory to its device (fsync(2), or fdatasync(2) if `data_only`).
    pub fn fsync(&self, place: Place<'_>, data_only: bool) -> Result<(), Errno> {
        self.call_for(&Request::Fsync { place, data_only })
    }
}
