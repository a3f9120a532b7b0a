//! The path walk (path_resolution(7), `fs/namei.c`).
//!
//! Iterative: the text of a symbolic link goes on a stack of what is left to walk. Each name is
//! looked up in the dentry cache under a shared lock of its directory; only a miss locks the
//! directory's names and asks the file system, then for all the plain names that follow at once.

use std::{borrow::Cow, sync::Arc};

use bitflags::bitflags;
use smallvec::SmallVec;

use super::{
    Dentry, Intent, Link, MountFlags, PathCx, Superblock, VfsPath, policed, superblock::Ahead,
};
use crate::{Errno, SysResult, err, policy::Access};

/// Symbolic links followed in one walk (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;
/// Longest name (`NAME_MAX`).
pub(super) const NAME_MAX: usize = 255;
/// Names asked for at once on a miss.
const BATCH_MAX: usize = 16;

bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct LookupFlags: u32 {
        /// A symbolic link at the end is followed.
        const FOLLOW = 1;
        /// What is found must be a directory.
        const DIRECTORY = 2;
        /// The empty path stands for the start (AT_EMPTY_PATH).
        const EMPTY = 4;
        /// RESOLVE_NO_XDEV … of openat2(2).
        const NO_XDEV = 0x10;
        const NO_MAGICLINKS = 0x20;
        const NO_SYMLINKS = 0x40;
        const BENEATH = 0x80;
        const IN_ROOT = 0x100;
        const CACHED = 0x200;
    }
}

impl LookupFlags {
    /// The start is a wall.
    pub(super) const SCOPED: Self = Self::BENEATH.union(Self::IN_ROOT);
}

/// A name, usually without allocation.
pub type NameBuf = SmallVec<[u8; 36]>;

/// The last component of a path whose directory was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    Name(NameBuf),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path is `/`, or a link that jumps was followed.
    Root,
}

/// A directory, and a name in it that may or may not exist.
#[derive(Debug)]
pub struct ParentPath {
    pub dir: VfsPath,
    pub last: Last,
    /// Slashes follow the name.
    pub must_be_dir: bool,
}

/// Finds what `path` names, from `start` on (from the root, if it is absolute).
///
/// Errors as in path_resolution(7): `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`;
/// `EXDEV`, `ELOOP` and `EAGAIN` for the RESOLVE_ flags as in openat2(2).
pub fn resolve(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    flags: LookupFlags,
) -> SysResult<VfsPath> {
    resolve_for(cx, start, path, flags, Intent::Look)
}

/// As [`resolve`], of a file that will then be opened.
pub(super) fn resolve_for(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    flags: LookupFlags,
    intent: Intent,
) -> SysResult<VfsPath> {
    if path.is_empty() {
        return if flags.contains(LookupFlags::EMPTY) { Ok(start.clone()) } else { err!(ENOENT) };
    }
    let mut walk = Walk::new(cx, start, path, flags, intent)?;
    walk.until_end()?;
    walk.at.refresh();
    Ok(walk.at.place)
}

/// Finds the directory of the last name of `path`, which is not looked up.
pub fn resolve_parent(
    cx: &PathCx,
    start: &VfsPath,
    path: &[u8],
    flags: LookupFlags,
) -> SysResult<ParentPath> {
    if path.is_empty() {
        return err!(ENOENT);
    }
    let mut walk = Walk::new(cx, start, path, flags, Intent::Look)?;
    let last = walk.until_last()?;
    Ok(ParentPath { dir: walk.at.place, last, must_be_dir: walk.must_be_dir })
}

/// A walk under way.
pub(super) struct Walk<'a> {
    pub(super) at: Position<'a>,
    names: Names<'a>,
    links: u32,
    /// Slashes followed the last name.
    pub(super) must_be_dir: bool,
}

/// Where a walk is.
pub(super) struct Position<'a> {
    cx: &'a PathCx,
    /// Above this it does not go.
    root: Cow<'a, VfsPath>,
    pub(super) place: VfsPath,
    flags: LookupFlags,
    intent: Intent,
    /// So many names from here on were asked for, where that is done ahead.
    asked: usize,
    /// What was asked for includes the place itself.
    is_fresh: bool,
}

/// What is left to walk: the innermost text is last.
struct Names<'a>(SmallVec<[Text<'a>; 1]>);

struct Text<'a> {
    bytes: Cow<'a, [u8]>,
    at: usize,
}

/// A name in the innermost text.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    /// No other name follows in any text.
    is_last: bool,
    slash: bool,
}

impl<'a> Names<'a> {
    /// The next name; afterwards it is in the innermost text.
    fn next(&mut self) -> Option<Span> {
        loop {
            let depth = self.0.len();
            let text = self.0.last_mut()?;
            let rest = text.bytes.get(text.at..).unwrap_or_default();
            let Some(skip) = rest.iter().position(|&byte| byte != b'/') else {
                if depth == 1 {
                    text.at = text.bytes.len();
                    return None;
                }
                self.0.pop();
                continue;
            };
            let start = text.at + skip;
            let name = rest.get(skip..).unwrap_or_default();
            let len = name.iter().position(|&byte| byte == b'/').unwrap_or(name.len());
            let end = start + len;
            text.at = end;
            let slash = len < name.len();
            let more = name.get(len..).unwrap_or_default().iter().any(|&byte| byte != b'/');
            let outer = self.0.len().saturating_sub(1);
            let is_last = !more && !self.0.iter().take(outer).any(Text::has_more);
            return Some(Span { start, end, is_last, slash });
        }
    }

    fn get(&self, span: Span) -> &[u8] {
        self.0.last().and_then(|text| text.bytes.get(span.start..span.end)).unwrap_or_default()
    }

    /// The plain names that follow in the innermost text, up to a dot name.
    fn upcoming(&self) -> Vec<Vec<u8>> {
        let Some(text) = self.0.last() else { return Vec::new() };
        let rest = text.bytes.get(text.at..).unwrap_or_default();
        rest.split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
            .take_while(|name| *name != b"." && *name != b".." && name.len() <= NAME_MAX)
            .take(BATCH_MAX)
            .map(<[u8]>::to_vec)
            .collect()
    }
}

impl Text<'_> {
    fn has_more(&self) -> bool {
        self.bytes.get(self.at..).unwrap_or_default().iter().any(|&byte| byte != b'/')
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        cx: &'a PathCx,
        start: &'a VfsPath,
        path: &'a [u8],
        flags: LookupFlags,
        intent: Intent,
    ) -> SysResult<Self> {
        let absolute = path.first() == Some(&b'/');
        if absolute && flags.contains(LookupFlags::BENEATH) {
            return err!(EXDEV);
        }
        let scoped = flags.intersects(LookupFlags::SCOPED);
        let root = if scoped { start } else { cx.root() };
        let place = if absolute { root.clone() } else { start.clone() };
        if !place.dentry.is_dir() {
            return err!(ENOTDIR);
        }
        let text = Text { bytes: Cow::Borrowed(path), at: 0 };
        Ok(Self {
            at: Position {
                cx,
                root: Cow::Borrowed(root),
                place,
                flags,
                intent,
                asked: 0,
                is_fresh: false,
            },
            names: Names(SmallVec::from_iter([text])),
            links: 0,
            must_be_dir: false,
        })
    }

    /// Walks all but the last name.
    pub(super) fn until_last(&mut self) -> SysResult<Last> {
        loop {
            let Some(span) = self.names.next() else { return Ok(Last::Root) };
            let name = self.names.get(span);
            if span.is_last {
                self.must_be_dir |= span.slash;
                if !matches!(name, b"." | b"..") {
                    self.at.ask_ahead(name, &|| self.names.upcoming());
                }
                self.at.search()?;
                return Ok(match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    name if name.len() > NAME_MAX => return err!(ENAMETOOLONG),
                    name => Last::Name(NameBuf::from_slice(name)),
                });
            }
            match name {
                b"." => self.at.search()?,
                b".." => {
                    self.at.search()?;
                    self.at.up()?;
                }
                name => {
                    self.at.ask_ahead(name, &|| self.names.upcoming());
                    self.at.search()?;
                    let found =
                        self.at.child(name, &|| self.names.upcoming())?.ok_or(Errno::ENOENT)?;
                    if found.dentry.is_symlink() {
                        self.follow(&found)?;
                    } else {
                        self.at.go_to(found);
                    }
                    if !self.at.place.dentry.is_dir() {
                        return err!(ENOTDIR);
                    }
                }
            }
        }
    }

    /// Walks to the end.
    fn until_end(&mut self) -> SysResult<()> {
        loop {
            let last = self.until_last()?;
            if self.step_last(&last)? {
                break;
            }
        }
        let want_dir = self.must_be_dir || self.at.flags.contains(LookupFlags::DIRECTORY);
        if want_dir && !self.at.place.dentry.is_dir() {
            return err!(ENOTDIR);
        }
        Ok(())
    }

    /// Goes to the last name. False: it was a link, and its text has to be walked.
    fn step_last(&mut self, last: &Last) -> SysResult<bool> {
        match last {
            Last::Root | Last::Dot => Ok(true),
            Last::DotDot => self.at.up().map(|()| true),
            Last::Name(name) => {
                let found = self.at.child(name, &Vec::new)?.ok_or(Errno::ENOENT)?;
                self.step_into(found)
            }
        }
    }

    /// Goes to `found`, the last name's file. False: it was a link, and its text has to be walked.
    pub(super) fn step_into(&mut self, found: VfsPath) -> SysResult<bool> {
        let follow = self.must_be_dir || self.at.flags.contains(LookupFlags::FOLLOW);
        if follow && found.dentry.is_symlink() {
            return self.follow(&found).map(|text| !text);
        }
        self.at.go_to(found);
        Ok(true)
    }

    /// Follows a link. True: its text is now what is walked next; false: it jumped.
    fn follow(&mut self, link: &VfsPath) -> SysResult<bool> {
        self.links += 1;
        self.at.asked = 0;
        let flags = self.at.flags;
        let forbidden = flags.contains(LookupFlags::NO_SYMLINKS)
            || link.mount.flags().contains(MountFlags::NOSYMFOLLOW);
        if self.links > MAX_LINKS || forbidden {
            return err!(ELOOP);
        }
        if flags.contains(LookupFlags::CACHED) && !link.mount.superblock().fs().caches_names() {
            return err!(EAGAIN);
        }
        policed::may(link, Access::READ)?;
        match link.inode().follow_link()? {
            Link::Text(text) if text.is_empty() => err!(ENOENT),
            Link::Text(text) => {
                if text.first() == Some(&b'/') {
                    self.at.jump_to_root()?;
                }
                // What is done with goes, so that chains of links need no growing stack.
                while self.names.0.len() > 1
                    && self.names.0.last().is_some_and(|text| !text.has_more())
                {
                    self.names.0.pop();
                }
                self.names.0.push(Text { bytes: Cow::Owned(text), at: 0 });
                Ok(true)
            }
            Link::Magic(place) => {
                if flags.contains(LookupFlags::NO_MAGICLINKS) {
                    return err!(ELOOP);
                }
                let other_mount = !Arc::ptr_eq(&place.mount, &self.at.place.mount);
                if flags.intersects(LookupFlags::SCOPED)
                    || (flags.contains(LookupFlags::NO_XDEV) && other_mount)
                {
                    return err!(EXDEV);
                }
                self.at.place = place;
                self.at.is_fresh = false;
                Ok(false)
            }
        }
    }
}

impl Position<'_> {
    /// Search permission where it is.
    fn search(&self) -> SysResult<()> {
        Superblock::may_search(&self.place.dentry, &self.cx.cred)
    }

    /// Goes down to what was just looked up.
    fn go_to(&mut self, found: VfsPath) {
        // Below another mount's root nothing was asked for.
        self.is_fresh = Arc::ptr_eq(&found.mount, &self.place.mount);
        if !self.is_fresh {
            self.asked = 0;
        }
        self.place = found;
    }

    /// Asks for `name` here, and for those that follow, where names have to be asked for and that was not done.
    fn ask_ahead(&mut self, name: &[u8], rest: &dyn Fn() -> Vec<Vec<u8>>) {
        let superblock = self.place.mount.superblock();
        if !superblock.asks_ahead() || self.flags.contains(LookupFlags::CACHED) {
            return;
        }
        if self.asked == 0 {
            let ahead = Ahead { names: rest, intent: self.intent };
            self.asked = superblock.ask_ahead(&self.place.dentry, name, &ahead);
        }
        self.asked = self.asked.saturating_sub(1);
    }

    /// What is seen at the end of the walk must be what is there now, even if no name led to it.
    fn refresh(&self) {
        if !self.is_fresh && self.place.mount.superblock().asks_ahead() {
            // A failure shows when the file is used.
            let _ = self.place.inode().metadata();
        }
    }

    /// `..`
    pub(super) fn up(&mut self) -> SysResult<()> {
        self.asked = 0;
        self.is_fresh = false;
        loop {
            if self.place.is_same(&self.root) {
                if self.flags.contains(LookupFlags::BENEATH) {
                    return err!(EXDEV);
                }
                break;
            }
            if self.place.is_mount_root() {
                let Some(below) = self.place.mount.mountpoint() else { break };
                self.no_crossing()?;
                self.place = below;
                continue;
            }
            if let Some(parent) = self.place.dentry.parent() {
                self.place.dentry = parent;
            }
            break;
        }
        if self.place.dentry.may_be_mountpoint() {
            let (place, crossed) = self.place.clone().cross_down();
            if crossed {
                self.no_crossing()?;
            }
            self.place = place;
        }
        Ok(())
    }

    fn no_crossing(&self) -> SysResult<()> {
        if self.flags.contains(LookupFlags::NO_XDEV) { err!(EXDEV) } else { Ok(()) }
    }

    /// To the root, for an absolute link.
    fn jump_to_root(&mut self) -> SysResult<()> {
        if self.flags.contains(LookupFlags::BENEATH) {
            return err!(EXDEV);
        }
        if !Arc::ptr_eq(&self.place.mount, &self.root.mount) {
            self.no_crossing()?;
        }
        self.place = VfsPath::clone(&self.root);
        self.is_fresh = false;
        Ok(())
    }

    /// The entry `name`, through what is mounted on it, unless rules hide it. Search permission was checked.
    pub(super) fn child(
        &self,
        name: &[u8],
        rest: &dyn Fn() -> Vec<Vec<u8>>,
    ) -> SysResult<Option<VfsPath>> {
        if name.len() > NAME_MAX {
            return err!(ENAMETOOLONG);
        }
        let cached_only = self.flags.contains(LookupFlags::CACHED);
        let dir = &self.place.dentry;
        let ahead = Ahead { names: rest, intent: self.intent };
        let found = self.place.mount.superblock().lookup(dir, name, &ahead, cached_only)?;
        let found = found.map(|dentry| self.crossed(dentry)).transpose()?;
        Ok(found.filter(|place| !policed::is_hidden(place)))
    }

    /// Through what is mounted on a name just looked up.
    pub(super) fn crossed(&self, dentry: Arc<Dentry>) -> SysResult<VfsPath> {
        let (place, crossed) = self.place.sibling(dentry).cross_down();
        if crossed {
            self.no_crossing()?;
        }
        Ok(place)
    }
}
