//! Files whose content is made when it is read.

use std::{any::Any, fmt, sync::Arc};

use ranked_sync::Mutex;

use super::Attr;
use crate::{
    Errno, SysResult, err,
    kernel::Credentials,
    lock_order,
    vfs::{AccessMask, FileDescription, FileOps, Inode, IoDst, IoSrc, Metadata, SetAttr, VfsPath},
};

/// Most bytes taken by one write to a pseudo file: a page, as in sysfs and sysctl.
const WRITE_MAX: usize = 4096;

/// What is in a pseudo file.
pub trait Content: Send + Sync + fmt::Debug + 'static {
    /// Appends the whole content, as it is now.
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()>;

    /// Takes what was written at `offset`: at most a page; says how much of it counts.
    fn store(&self, _file: &FileDescription, _offset: u64, _bytes: &[u8]) -> SysResult<usize> {
        err!(EINVAL)
    }

    /// Asked at open(2), with its flags, after the mode bits allowed it.
    fn check_open(&self, _flags: u32) -> SysResult<()> {
        Ok(())
    }

    /// True where nobody may write, not even root (sysctl and sysfs files without a writer).
    fn is_sealed(&self) -> bool {
        false
    }
}

/// Content from a function.
pub struct Generated<F>(pub F);

impl<F> fmt::Debug for Generated<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generated")
    }
}

impl<F> Content for Generated<F>
where
    F: Fn(&mut Vec<u8>) -> SysResult<()> + Send + Sync + 'static,
{
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        self.0(out)
    }
    fn store(&self, _file: &FileDescription, _offset: u64, _bytes: &[u8]) -> SysResult<usize> {
        // A write to a proc file that has no writer (`proc_reg_write` in Linux).
        err!(EIO)
    }
}

/// Content from one function, and a second one that takes what is written.
pub struct Writable<F, W>(pub F, pub W);

impl<F, W> fmt::Debug for Writable<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writable")
    }
}

impl<F, W> Content for Writable<F, W>
where
    F: Fn(&mut Vec<u8>) -> SysResult<()> + Send + Sync + 'static,
    W: Fn(&FileDescription, &[u8]) -> SysResult<()> + Send + Sync + 'static,
{
    fn generate(&self, out: &mut Vec<u8>) -> SysResult<()> {
        self.0(out)
    }
    fn store(&self, file: &FileDescription, _offset: u64, bytes: &[u8]) -> SysResult<usize> {
        self.1(file, bytes)?;
        Ok(bytes.len())
    }
}

/// A regular file of a pseudo file system.
#[derive(Debug)]
pub struct PseudoFile {
    attr: Attr,
    content: Arc<dyn Content>,
}

impl PseudoFile {
    pub fn new(attr: Attr, content: Arc<dyn Content>) -> Arc<Self> {
        Arc::new(Self { attr, content })
    }
}

impl Inode for PseudoFile {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attr.metadata())
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attr.set(change)
    }

    fn open(self: Arc<Self>, _path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        self.content.check_open(flags)?;
        Ok(Box::new(Snapshot::new(self.content.clone())))
    }

    fn check_access(&self, cred: &Credentials, want: AccessMask) -> SysResult<()> {
        if want.contains(AccessMask::WRITE) && self.content.is_sealed() {
            return err!(EACCES);
        }
        crate::vfs::check_mode(&self.attr.metadata(), cred, want)
    }
}

/// An open pseudo file. Reading at offset 0 takes a snapshot, and later reads go on in it
/// (`seq_file` in Linux), so that a reader never sees two halves of different times.
#[derive(Debug)]
pub struct Snapshot {
    content: Arc<dyn Content>,
    taken: Mutex<lock_order::Leaf, Option<Arc<[u8]>>>,
}

impl Snapshot {
    pub fn new(content: Arc<dyn Content>) -> Self {
        Self { content, taken: Mutex::new(None) }
    }

    fn bytes(&self, fresh: bool) -> SysResult<Arc<[u8]>> {
        if !fresh && let Some(bytes) = self.taken.lock().clone() {
            return Ok(bytes);
        }
        let mut out = Vec::new();
        self.content.generate(&mut out)?;
        let bytes: Arc<[u8]> = out.into();
        let before = self.taken.lock().replace(bytes.clone());
        drop(before);
        Ok(bytes)
    }
}

impl FileOps for Snapshot {
    fn read(&self, _file: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let bytes = self.bytes(offset == 0)?;
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        if rest.is_empty() { Ok(0) } else { Ok(dst.put(rest)?) }
    }

    fn write(&self, file: &FileDescription, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        let bytes = src.take_vec(WRITE_MAX)?;
        let stored = self.content.store(file, offset, &bytes)?;
        Ok(stored.min(bytes.len()))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(
        &self,
        _file: &FileDescription,
        current: u64,
        to: crate::vfs::SeekFrom,
    ) -> SysResult<u64> {
        use crate::vfs::SeekFrom;
        // seq_lseek and default_llseek know no end, holes or data.
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => current.checked_add_signed(by),
            SeekFrom::End(_) | SeekFrom::Data(_) | SeekFrom::Hole(_) => None,
        };
        target.filter(|&at| at <= i64::MAX as u64).ok_or(Errno::EINVAL.into())
    }

    fn is_pollable(&self) -> bool {
        false
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
