//! What all directories do alike when they are read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{DirEntry, DirSink, FileDescription, FileType, SeekFrom};
use crate::{Errno, SysResult, err};

/// A device number for a file system that is on no device (`get_anon_bdev`).
pub fn allocate_dev() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(24);
    // Major 0; minors have 20 bits, of which the upper 12 lie above the major.
    let minor = NEXT.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
    libc::makedev(0, minor as u32)
}

/// Reports `.` and `..` (positions 0 and 1). The position to go on from, 2 or more once both are
/// reported; `None` when the first did not fit.
pub fn iterate_dots(
    file: &FileDescription,
    from: u64,
    sink: &mut DirSink<'_>,
) -> SysResult<Option<u64>> {
    let mut position = from;
    if position >= 2 {
        return Ok(Some(position));
    }
    let dentry = &file.path().dentry;
    let dots: [(&[u8], _); 2] = [(b".", None), (b"..", dentry.parent())];
    for (at, (name, parent)) in dots.iter().enumerate().skip(position as usize) {
        let inode = parent.as_ref().unwrap_or(dentry).inode();
        let ino = inode.metadata()?.ino;
        let next = at as u64 + 1;
        if !sink(DirEntry { name, ino, kind: Some(FileType::Directory), next }) {
            return Ok((position > from).then_some(position));
        }
        position = next;
    }
    Ok(Some(position))
}

/// lseek(2) in a directory whose positions are just numbers (`generic_file_llseek`, without an end).
pub fn seek_directory(current: u64, to: SeekFrom) -> SysResult<u64> {
    let target = match to {
        SeekFrom::Start(at) => Some(at),
        SeekFrom::Current(by) => current.checked_add_signed(by),
        _ => return err!(EINVAL),
    };
    target.filter(|&at| at <= i64::MAX as u64).ok_or(Errno::EINVAL.into())
}
