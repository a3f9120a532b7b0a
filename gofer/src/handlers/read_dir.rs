//! Listing directories.

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
};

use gofer_wire::{Attr, FileType, TreePath, path::check_name, reply::DirItem};
use linux_abi::Errno;
use rustix::fs::{Mode, OFlags, RawDir, openat};

use crate::{
    attr::{self, errno},
    connection::Reply,
    tree::{OPEN, Tree},
};

/// What one `getdents64` brings.
const BUFFER: usize = 32 << 10;

/// Directories told along are at most so deep in those that were named.
const MAX_DEPTH: usize = 8;

/// Lists the directory at `path`: its attributes, and then its entries, in as many packets as they need.
pub(super) fn read_dir(
    tree: &Tree,
    path: TreePath<'_>,
    attrs: bool,
    reply: &mut Reply<'_>,
) -> Result<(), Errno> {
    let (dir, sealed) = tree.open_directory(path)?;
    let attr = attr::of(&dir)?;
    list(&dir, &attr, sealed, attrs, reply, &mut |_| {}).map(drop)
}

/// A directory to be listed: `name` in `parent`.
struct Next {
    parent: Rc<OwnedFd>,
    name: Vec<u8>,
    /// From the directory that the request named to `parent`.
    above: Vec<u8>,
    depth: usize,
}

impl Next {
    fn path(&self) -> Vec<u8> {
        let mut path = self.above.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(&self.name);
        path
    }
}

/// Lists the directories `names` of the one at `base`, and what is below them, in the order of a walk
/// that goes down first, until `budget` entries were told.
pub(super) fn read_dirs(
    tree: &Tree,
    base: TreePath<'_>,
    names: TreePath<'_>,
    (attrs, budget): (bool, u32),
    reply: &mut Reply<'_>,
) -> Result<(), Errno> {
    let (base, sealed) = tree.open_directory(base)?;
    if sealed {
        return Err(Errno::ENOENT);
    }
    let device = attr::of(&base)?.dev;
    let base = Rc::new(base);
    let mut told: usize = 0;
    let budget = usize::try_from(budget).unwrap_or(usize::MAX);
    let mut to_do: Vec<Next> = names
        .names()
        .map(|name| Next { parent: base.clone(), name: name.to_vec(), above: Vec::new(), depth: 1 })
        .collect();
    to_do.reverse();
    let mut is_first = true;
    while let Some(next) = to_do.pop() {
        if !is_first && told >= budget {
            break;
        }
        let flags = OPEN | OFlags::DIRECTORY | OFlags::RDONLY;
        let opened = openat(&*next.parent, next.name.as_slice(), flags, Mode::empty());
        let opened = opened.map_err(errno).and_then(|dir| {
            let attr = attr::of(&dir)?;
            // Only a mount can bring another file system.
            let sealed = attr.dev != device && tree.is_sealed(dir.as_fd())?;
            Ok((dir, attr, sealed))
        });
        let (dir, attr, sealed) = match opened {
            Ok(opened) => opened,
            Err(errno) if is_first => return Err(errno),
            Err(_) => continue,
        };
        if !is_first {
            // It has to be asked for by itself, as what is below is on another file system.
            if attr.dev != device {
                continue;
            }
            reply.put_bool(true);
            reply.put_bytes(&next.path());
        }
        is_first = false;
        let mut below = Vec::new();
        told += list(&dir, &attr, sealed, attrs, reply, &mut |name| below.push(name.to_vec()))?;
        if next.depth < MAX_DEPTH && attr.dev == device {
            let (parent, above) = (Rc::new(dir), next.path());
            to_do.extend(below.into_iter().rev().map(|name| Next {
                parent: parent.clone(),
                name,
                above: above.clone(),
                depth: next.depth + 1,
            }));
        }
    }
    reply.put_bool(false);
    Ok(())
}

/// Tells a directory's attributes and entries; how many there were. `found` gets the names of directories.
fn list(
    dir: &OwnedFd,
    attr: &Attr,
    sealed: bool,
    attrs: bool,
    reply: &mut Reply<'_>,
    found: &mut dyn FnMut(&[u8]),
) -> Result<usize, Errno> {
    reply.put(attr);
    if sealed {
        reply.put(&DirItem::End);
        return Ok(0);
    }
    let mut told: usize = 0;
    let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                reply.put(&DirItem::Failed(errno(error)));
                return Ok(told);
            }
        };
        let name = entry.file_name().to_bytes();
        // Besides `.` and `..` this leaves out what a broken file system makes up.
        if check_name(name).is_err() {
            continue;
        }
        let (ino, kind) = (entry.ino(), attr::entry_type(entry.file_type()));
        let attr = if attrs { attr::of_name(dir, name).ok() } else { None };
        if kind == FileType::Directory {
            found(name);
        }
        reply.put_entry(name, ino, kind, attr.as_ref());
        reply.flush_full()?;
        told = told.saturating_add(1);
    }
    reply.put(&DirItem::End);
    Ok(told)
}
