//! Listing directories.

use std::mem::MaybeUninit;

use gofer_wire::{DirEntry, TreePath, path::check_name, reply::DirItem};
use linux_abi::Errno;
use rustix::fs::RawDir;

use crate::{
    attr::{self, errno},
    connection::Reply,
    tree::Tree,
};

/// What one `getdents64` brings.
const BUFFER: usize = 32 << 10;

/// Lists the directory at `path`: its attributes, and then its entries, in as many packets as they need.
pub(super) fn read_dir(
    tree: &Tree,
    path: TreePath<'_>,
    attrs: bool,
    reply: &mut Reply<'_>,
) -> Result<(), Errno> {
    let (dir, sealed) = tree.open_directory(path)?;
    let attr = attr::of(&dir)?;
    reply.put(&attr);
    if sealed {
        reply.put(&DirItem::End);
        return Ok(());
    }
    let mut buffer: Vec<MaybeUninit<u8>> = vec![MaybeUninit::uninit(); BUFFER];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                reply.put(&DirItem::Failed(errno(error)));
                return Ok(());
            }
        };
        let name = entry.file_name().to_bytes();
        // Besides `.` and `..` this leaves out what a broken file system makes up.
        if check_name(name).is_err() {
            continue;
        }
        let (ino, kind) = (entry.ino(), attr::entry_type(entry.file_type()));
        let attr = if attrs { attr::of_name(&dir, name).ok() } else { None };
        reply.put(&DirItem::Entry(DirEntry { name: name.to_vec(), ino, kind, attr }));
        reply.flush_full()?;
    }
    reply.put(&DirItem::End);
    Ok(())
}
