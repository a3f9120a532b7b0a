//! One file of the overlay.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ranked_sync::Mutex;

use super::{
    Shared,
    attrs::{Attrs, Xattrs},
    dir_file::OverlayDirFile,
    file::{OverlayFile, open_lower},
};
use crate::{
    Errno, SysResult, err,
    fs::{dev, pipe::Pipe, tmpfs::ShmemFile},
    lock_order,
    vfs::{
        Creation, DirOps, FileOps, FileType, Inode, IoDst, IoSrc, Metadata, SetAttr, TimeSpec,
        VfsPath, XattrSetMode,
    },
};

/// Parent and name; `None` for the root and for what has no name any more.
pub(super) type Home = Option<(Arc<OverlayInode>, Vec<u8>)>;

/// See the module `overlay`.
pub(super) struct OverlayInode {
    this: Weak<OverlayInode>,
    pub(super) shared: Arc<Shared>,
    number: u64,
    pub(super) kind: FileType,
    pub(super) lower: Option<Arc<dyn Inode>>,
    /// Where it is, for pinning.
    home: Mutex<lock_order::Leaf, Home>,
    /// It has changes, is counted, and is held by its parent.
    pinned: AtomicBool,
    pub(super) state: Mutex<lock_order::OverlayInode, State>,
}

/// What differs from the lower file.
#[derive(Debug)]
pub(super) struct State {
    /// `None`: as below.
    pub(super) attrs: Option<Attrs>,
    pub(super) content: Content,
    /// `None`: as below.
    xattrs: Option<Xattrs>,
}

/// Content, where there is one in this layer.
#[derive(Debug)]
pub(super) enum Content {
    /// As below.
    Lower,
    File(Arc<ShmemFile>),
    Dir(Entries),
    Symlink(Vec<u8>),
    /// A socket's name; `None` when mknod(2) made it.
    Socket(Option<BoundSocket>),
    /// A device.
    Device,
    Fifo(Arc<Pipe>),
}

/// The socket bound to a node.
pub(super) struct BoundSocket(pub(super) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for BoundSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundSocket")
    }
}

/// The entries of a directory that are known here.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) slots: HashMap<Vec<u8>, Slot>,
    /// How many slots are not `Clean`: when 0, all is as below.
    pub(super) changed: usize,
}

/// One entry.
#[derive(Debug)]
pub(super) enum Slot {
    /// As below; still the same inode for as long as someone holds it.
    Clean(Weak<OverlayInode>),
    /// Changed or new. `hides_lower`: there is an entry of that name below.
    There { inode: Arc<OverlayInode>, hides_lower: bool },
    /// Removed, though it is there below.
    Gone,
}

impl OverlayInode {
    /// The overlay's view of a lower file, as entry `home.1` of `home.0`.
    pub(super) fn over(
        shared: &Arc<Shared>,
        lower: Arc<dyn Inode>,
        home: Home,
    ) -> SysResult<Arc<Self>> {
        let meta = lower.metadata()?;
        let kind = meta.file_type().ok_or(Errno::EIO)?;
        let make = || {
            let content = if kind == FileType::Directory {
                Content::Dir(Entries::default())
            } else {
                Content::Lower
            };
            Self::with(shared, meta.ino, kind, Some(lower.clone()), home.clone(), None, content)
        };
        if kind == FileType::Directory || meta.nlink < 2 {
            return Ok(make());
        }
        let mut linked = shared.linked.lock();
        let known = linked.get(&(meta.dev, meta.ino)).and_then(Weak::upgrade);
        Ok(known.unwrap_or_else(|| {
            let inode = make();
            linked.insert((meta.dev, meta.ino), Arc::downgrade(&inode));
            inode
        }))
    }

    /// A file that is only here.
    pub(super) fn new(
        shared: &Arc<Shared>,
        kind: FileType,
        rdev: u64,
        new: &Creation,
        content: impl FnOnce(u64) -> Content,
    ) -> SysResult<Arc<Self>> {
        shared.count_changed()?;
        let number = shared.new_number();
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        let attrs = Attrs::new(kind.mode_bits(), nlink, rdev, new);
        let inode = Self::with(shared, number, kind, None, None, Some(attrs), content(number));
        inode.pinned.store(true, Ordering::Relaxed);
        Ok(inode)
    }

    fn with(
        shared: &Arc<Shared>,
        number: u64,
        kind: FileType,
        lower: Option<Arc<dyn Inode>>,
        home: Home,
        attrs: Option<Attrs>,
        content: Content,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared: shared.clone(),
            number,
            kind,
            lower,
            home: Mutex::new(home),
            pinned: AtomicBool::new(false),
            state: Mutex::new(State { attrs, content, xattrs: None }),
        })
    }

    pub(super) fn strong(&self) -> SysResult<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ESTALE.into())
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn parent_number(&self) -> u64 {
        self.home.lock().as_ref().map_or(self.number, |(parent, _)| parent.number)
    }

    /// It has another name now, or none.
    pub(super) fn set_home(&self, home: Home) {
        let before = std::mem::replace(&mut *self.home.lock(), home);
        drop(before);
    }

    /// To be called before the first change: from now on it is held by its parent, and so are those above.
    pub(super) fn pin(&self) -> SysResult<()> {
        let mut next = self.strong()?;
        while !next.pinned.swap(true, Ordering::SeqCst) {
            next.shared.count_changed()?;
            next.hold_for_other_names()?;
            let Some((parent, name)) = next.home.lock().clone() else { break };
            if let Content::Dir(entries) = &mut parent.state.lock().content {
                entries.hold(&name, &next);
            }
            next = parent;
        }
        Ok(())
    }

    /// Device and number below, of a file that has several names there.
    fn link_key(&self) -> SysResult<Option<(u64, u64)>> {
        let Some(lower) = &self.lower else { return Ok(None) };
        if self.kind == FileType::Directory {
            return Ok(None);
        }
        let meta = lower.metadata()?;
        Ok((meta.nlink >= 2).then_some((meta.dev, meta.ino)))
    }

    /// From the first change on, names that nobody has looked up yet are to give this inode too.
    fn hold_for_other_names(self: &Arc<Self>) -> SysResult<()> {
        if let Some(key) = self.link_key()? {
            self.shared.changed_links.lock().insert(key, self.clone());
        }
        Ok(())
    }

    /// The last name is gone.
    pub(super) fn forget_other_names(&self) -> SysResult<()> {
        if let Some(key) = self.link_key()? {
            let held = self.shared.changed_links.lock().remove(&key);
            drop(held);
        }
        Ok(())
    }

    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::SeqCst)
    }

    /// Changes attributes, taking over the lower ones first.
    pub(super) fn change_attrs(&self, change: impl FnOnce(&mut Attrs)) -> SysResult<()> {
        self.pin()?;
        let known = self.state.lock().attrs.is_some();
        let below = match &self.lower {
            Some(lower) if !known => Some(Attrs::of(&lower.metadata()?)),
            _ => None,
        };
        let mut state = self.state.lock();
        let attrs = match (&mut state.attrs, below) {
            (Some(attrs), _) => attrs,
            (none, Some(below)) => none.insert(below),
            (None, None) => return err!(ESTALE),
        };
        change(attrs);
        Ok(())
    }

    /// The file's own content, if it has any here.
    pub(super) fn upper_file(&self) -> Option<Arc<ShmemFile>> {
        match &self.state.lock().content {
            Content::File(file) => Some(file.clone()),
            _ => None,
        }
    }

    /// The file's own content, copied up from below when there was none; only the first `keep`
    /// bytes of it.
    pub(super) fn copy_up(&self, keep: u64) -> SysResult<Arc<ShmemFile>> {
        if let Some(file) = self.upper_file() {
            return Ok(file);
        }
        let Some(lower) = &self.lower else { return err!(EINVAL) };
        self.change_attrs(|_| {})?;
        let file = self.shared.new_file(self.number);
        copy_content(&self.shared, lower, &file, keep)?;
        let mut state = self.state.lock();
        match &state.content {
            // Another task was faster.
            Content::File(file) => Ok(file.clone()),
            _ => {
                state.content = Content::File(file.clone());
                Ok(file)
            }
        }
    }

    /// The pipe of a fifo; one that is only below gets one here, as host fifos are never opened.
    fn fifo(&self) -> SysResult<Arc<Pipe>> {
        self.pin()?;
        let mut state = self.state.lock();
        if let Content::Fifo(pipe) = &state.content {
            return Ok(pipe.clone());
        }
        let pipe = Pipe::new_fifo();
        state.content = Content::Fifo(pipe.clone());
        Ok(pipe)
    }

    fn resize(&self, size: u64) -> SysResult<()> {
        let file = self.copy_up(size)?;
        file.set_size(size)
    }

    /// The extended attributes, those below taken over first.
    fn with_xattrs<T>(&self, f: impl FnOnce(&mut Xattrs) -> SysResult<T>) -> SysResult<T> {
        self.pin()?;
        let missing = self.state.lock().xattrs.is_none();
        let below = match &self.lower {
            Some(lower) if missing => read_xattrs(&**lower)?,
            _ => Xattrs::new(),
        };
        f(self.state.lock().xattrs.get_or_insert(below))
    }
}

fn read_xattrs(lower: &dyn Inode) -> SysResult<Xattrs> {
    let names = match lower.list_xattr() {
        Ok(names) => names,
        Err(error) if error.errno() == Errno::EOPNOTSUPP => return Ok(Xattrs::new()),
        Err(error) => return Err(error),
    };
    let mut xattrs = Xattrs::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if let Ok(value) = lower.get_xattr(name) {
            xattrs.insert(name.to_vec(), value);
        }
    }
    Ok(xattrs)
}

fn copy_content(
    shared: &Shared,
    lower: &Arc<dyn Inode>,
    to: &ShmemFile,
    keep: u64,
) -> SysResult<()> {
    let size = lower.metadata()?.size.min(keep);
    if size == 0 {
        return Ok(());
    }
    let reader = open_lower(shared, lower)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let want = usize::try_from(size - at).unwrap_or(usize::MAX).min(buffer.len());
        let n = reader.ops().read(&reader, at, &mut IoDst::kernel(&mut buffer[..want]))?;
        if n == 0 {
            break;
        }
        let bytes = buffer.get(..n).ok_or(Errno::EIO)?;
        at += to.write_at(at, &mut IoSrc::kernel(bytes))? as u64;
    }
    // What was cut off below in the meantime reads as zero.
    to.set_size(size)
}

impl Inode for OverlayInode {
    fn metadata(&self) -> SysResult<Metadata> {
        let (attrs, size) = {
            let state = self.state.lock();
            let size = match &state.content {
                Content::File(file) => Some((file.size(), file.blocks())),
                Content::Symlink(target) => Some((target.len() as u64, 0)),
                Content::Dir(entries) if self.lower.is_none() => {
                    Some((4096_u64.max(entries.slots.len() as u64 * 32), 8))
                }
                Content::Lower | Content::Dir(_) => None,
                Content::Socket(_) | Content::Device | Content::Fifo(_) => Some((0, 0)),
            };
            (state.attrs, size)
        };
        let mut meta = match &self.lower {
            Some(lower) => lower.metadata()?,
            None => Metadata {
                dev: self.shared.lower_dev,
                ino: self.number,
                mode: 0,
                nlink: 0,
                uid: 0,
                gid: 0,
                rdev: 0,
                size: 0,
                blksize: 4096,
                blocks: 0,
                atime: Default::default(),
                mtime: Default::default(),
                ctime: Default::default(),
                btime: None,
            },
        };
        // Files of other host file systems below keep a number of their own.
        if meta.dev == self.shared.lower_dev {
            meta.dev = self.shared.dev;
        }
        if let Some(attrs) = attrs {
            meta.mode = attrs.mode;
            meta.nlink = attrs.nlink;
            meta.uid = attrs.uid;
            meta.gid = attrs.gid;
            meta.rdev = attrs.rdev;
            meta.atime = attrs.atime;
            meta.mtime = attrs.mtime;
            meta.ctime = attrs.ctime;
            meta.btime = attrs.btime;
        }
        if let Some((size, blocks)) = size {
            meta.size = size;
            meta.blocks = blocks;
        }
        Ok(meta)
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        if let Some(size) = change.size {
            self.resize(size)?;
        }
        self.change_attrs(|attrs| attrs.apply(change))
    }

    fn open(self: Arc<Self>, path: &VfsPath, flags: u32) -> SysResult<Box<dyn FileOps>> {
        match self.kind {
            FileType::Regular => Ok(Box::new(OverlayFile::open(self)?)),
            FileType::Directory => Ok(Box::new(OverlayDirFile::open(self)?)),
            FileType::Symlink => err!(ELOOP),
            FileType::Socket => err!(ENXIO),
            FileType::Fifo => self.fifo()?.open(flags),
            FileType::CharDevice | FileType::BlockDevice => {
                dev::open_device(self.kind, self.metadata()?.rdev, path, flags)
            }
        }
    }

    fn as_dir(&self) -> Option<&dyn DirOps> {
        (self.kind == FileType::Directory).then_some(self)
    }

    fn read_link(&self) -> SysResult<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return err!(EINVAL);
        }
        if let Content::Symlink(target) = &self.state.lock().content {
            return Ok(target.clone());
        }
        self.lower.as_ref().ok_or(Errno::EIO)?.read_link()
    }

    fn get_xattr(&self, name: &[u8]) -> SysResult<Vec<u8>> {
        if let Some(xattrs) = &self.state.lock().xattrs {
            return xattrs.get(name).cloned().ok_or(Errno::ENODATA.into());
        }
        match &self.lower {
            Some(lower) => lower.get_xattr(name),
            None => err!(ENODATA),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], mode: XattrSetMode) -> SysResult<()> {
        // No access control lists: who sets one has to know that the mode bits are all there is.
        if name.starts_with(b"system.") {
            return err!(EOPNOTSUPP);
        }
        self.shared.memory.check_room()?;
        self.with_xattrs(|xattrs| match (mode, xattrs.contains_key(name)) {
            (XattrSetMode::Create, true) => err!(EEXIST),
            (XattrSetMode::Replace, false) => err!(ENODATA),
            _ => {
                let total: usize =
                    xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
                // XATTR_LIST_MAX is the limit of what listxattr could tell.
                if total + name.len() + value.len() > 64 << 10 {
                    return err!(ENOSPC);
                }
                xattrs.insert(name.to_vec(), value.to_vec());
                Ok(())
            }
        })?;
        self.change_attrs(|attrs| attrs.ctime = TimeSpec::now())
    }

    fn list_xattr(&self) -> SysResult<Vec<u8>> {
        if let Some(xattrs) = &self.state.lock().xattrs {
            return Ok(xattrs.keys().flat_map(|name| name.iter().copied().chain([0])).collect());
        }
        self.lower.as_ref().map_or(Ok(Vec::new()), |lower| lower.list_xattr())
    }

    fn remove_xattr(&self, name: &[u8]) -> SysResult<()> {
        self.with_xattrs(|xattrs| xattrs.remove(name).map(drop).ok_or(Errno::ENODATA.into()))?;
        self.change_attrs(|attrs| attrs.ctime = TimeSpec::now())
    }

    fn bound_socket(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        match &self.state.lock().content {
            Content::Socket(bound) => bound.as_ref().map(|bound| bound.0.clone()),
            _ => None,
        }
    }
}

impl Drop for OverlayInode {
    fn drop(&mut self) {
        if *self.pinned.get_mut() {
            self.shared.uncount_changed();
        }
        // A chain of 100,000 parents must not be dropped by recursion.
        let mut next = self.home.get_mut().take().map(|(parent, _)| parent);
        while let Some(parent) = next {
            let Some(mut last) = Arc::into_inner(parent) else { break };
            next = last.home.get_mut().take().map(|(parent, _)| parent);
        }
    }
}

impl fmt::Debug for OverlayInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "overlay inode {}", self.number)
    }
}
