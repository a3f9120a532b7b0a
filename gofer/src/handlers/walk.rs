//! Looking up several names in one go.

use std::os::fd::{AsFd, OwnedFd};

use gofer_wire::{Attr, FileType, TreePath, WalkEnd, reply::WalkBody, request::Walk};
use linux_abi::Errno;
use rustix::fs::{Mode, openat, readlinkat};

use super::open::open_name;
use crate::{
    attr::{self, errno},
    connection::Reply,
    tree::{Handle, NAME_ONLY, Tree},
};

/// A name that changes while it is looked at is looked at again this often.
const RETRIES: u32 = 4;

/// Walks, and opens the last file if asked to.
pub(super) fn walk(tree: &Tree, request: &Walk<'_>, reply: &mut Reply<'_>) -> Result<(), Errno> {
    let mut walker = Walker::start(tree, request)?;
    let base = attr::of(&walker.dir)?;
    let end = walker.run(request);
    let mut body = WalkBody { base, attrs: Vec::new(), end, file: None };
    if body.end == WalkEnd::Complete
        && let Some(attr) = walker.attrs.last().copied()
        && attr.file_type() == FileType::Regular
    {
        let file = walker.open_last(request, &attr, &mut body);
        if let Some((file, attr)) = file {
            // The attributes are those of the file that is donated.
            if let Some(last) = walker.attrs.last_mut() {
                *last = attr;
            }
            reply.donate(file);
        }
    }
    body.attrs = walker.attrs;
    reply.put(&body);
    Ok(())
}

struct Walker<'t> {
    tree: &'t Tree,
    /// The directory to look the next name up in.
    dir: Handle<'t>,
    /// Its content is not served.
    sealed: bool,
    attrs: Vec<Attr>,
    /// The last name, once it was found in `dir`.
    last: Option<Vec<u8>>,
}

impl<'t> Walker<'t> {
    fn start(tree: &'t Tree, request: &Walk<'_>) -> Result<Self, Errno> {
        let (dir, sealed) = tree.directory(request.base.path)?;
        Ok(Self { tree, dir, sealed, attrs: Vec::new(), last: None })
    }

    fn run(&mut self, request: &Walk<'_>) -> WalkEnd {
        let mut names = request.names.names().peekable();
        while let Some(name) = names.next() {
            if self.sealed {
                return WalkEnd::Missing;
            }
            let step = match names.peek() {
                Some(_) => self.descend(name),
                None => self.arrive(name),
            };
            match step {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(Errno::ENOENT) => return WalkEnd::Missing,
                Err(errno) => return WalkEnd::Failed(errno),
            }
        }
        WalkEnd::Complete
    }

    /// Goes down into `name`, below which there are more.
    fn descend(&mut self, name: &[u8]) -> Result<Option<WalkEnd>, Errno> {
        let next = openat(&self.dir, name, NAME_ONLY, Mode::empty()).map_err(errno)?;
        let attr = attr::of(&next)?;
        let end = match attr.file_type() {
            FileType::Directory => None,
            FileType::Symlink => Some(WalkEnd::Symlink(link_target(&next, b"")?)),
            _ => Some(WalkEnd::NotDirectory),
        };
        // Only a mount can bring another file system.
        let same = self.attrs.last().is_some_and(|above| above.dev == attr.dev);
        if end.is_none() && !same {
            self.sealed = self.tree.is_sealed(next.as_fd())?;
        }
        self.attrs.push(attr);
        self.dir = Handle::Below(next);
        Ok(end)
    }

    /// Looks at the last name, which needs no descriptor.
    fn arrive(&mut self, name: &[u8]) -> Result<Option<WalkEnd>, Errno> {
        let mut tries = 0;
        let (attr, end) = loop {
            let attr = attr::of_name(&self.dir, name)?;
            if attr.file_type() != FileType::Symlink {
                break (attr, None);
            }
            match link_target(&self.dir, name) {
                Ok(target) => break (attr, Some(WalkEnd::Symlink(target))),
                // It is no link any more.
                Err(Errno::EINVAL) if tries < RETRIES => tries += 1,
                Err(errno) => return Err(errno),
            }
        };
        self.attrs.push(attr);
        self.last = Some(name.to_vec());
        Ok(end)
    }

    /// Opens the last file as asked.
    fn open_last(
        &self,
        request: &Walk<'_>,
        attr: &Attr,
        body: &mut WalkBody,
    ) -> Option<(OwnedFd, Attr)> {
        let name = self.last.as_deref()?;
        let open = |how| open_name(self.tree, &self.dir, name, how, attr);
        match request.open.map(open)? {
            Ok(file) => {
                body.file = Some(None);
                Some(file)
            }
            Err(errno) => {
                body.file = Some(Some(errno));
                None
            }
        }
    }
}

/// The target of the link `name` in `dir`; of `dir` itself for the empty name.
fn link_target(dir: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let target = readlinkat(dir, name, Vec::new()).map_err(errno)?.into_bytes();
    // Some file systems have links to nothing; no reply could carry that.
    if target.is_empty() { Err(Errno::ENOENT) } else { Ok(target) }
}

/// Where the link at `path` points.
pub(super) fn read_link(tree: &Tree, path: TreePath<'_>) -> Result<Vec<u8>, Errno> {
    // Of the root, which is no link, the answer is EINVAL.
    let (dir, name) = tree.parent(path).map_err(|errno| match errno {
        Errno::EBUSY => Errno::EINVAL,
        other => other,
    })?;
    link_target(&dir, name)
}
