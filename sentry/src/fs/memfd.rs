//! memfd_create(2) and its seals (`mm/memfd.c`).

use std::{any::Any, fmt, sync::Arc};

use ranked_sync::Mutex;

use super::{
    anon::{self, InodeAttributes},
    tmpfs::{PageQuota, ShmemFile, allocate_shmem, seek_shmem},
};
use crate::{
    Errno, SysResult, err,
    kernel::{Credentials, CurrentTask, Kernel},
    lock_order,
    vfs::{
        FileDescription, FileOps, FileType, Inode, IoDst, IoSrc, Mappable, Metadata, SeekFrom,
        SetAttr, VfsPath,
    },
};

const SEAL_SEAL: u32 = libc::F_SEAL_SEAL as u32;
const SEAL_GROW: u32 = libc::F_SEAL_GROW as u32;
const SEAL_SHRINK: u32 = libc::F_SEAL_SHRINK as u32;
const SEAL_WRITE: u32 = libc::F_SEAL_WRITE as u32;
const SEAL_FUTURE_WRITE: u32 = libc::F_SEAL_FUTURE_WRITE as u32;
const SEAL_EXEC: u32 = 0x20;
const ALL_SEALS: u32 =
    SEAL_SEAL | SEAL_GROW | SEAL_SHRINK | SEAL_WRITE | SEAL_FUTURE_WRITE | SEAL_EXEC;

/// A file without a directory.
pub struct MemfdInode {
    file: Arc<ShmemFile>,
    attributes: Mutex<lock_order::InodeNested, InodeAttributes>,
}

#[derive(Debug)]
struct MemfdOps {
    inode: Arc<MemfdInode>,
}

/// A new one, open for reading and writing. `sealable`: MFD_ALLOW_SEALING; `noexec`: MFD_NOEXEC_SEAL.
pub fn create(
    kernel: &Kernel,
    name: &[u8],
    sealable: bool,
    noexec: bool,
    cred: Arc<Credentials>,
) -> Arc<FileDescription> {
    let permissions = if noexec { 0o666 } else { 0o777 };
    let attributes = InodeAttributes::new(FileType::Regular.mode_bits() | permissions, &cred);
    let meta = attributes.metadata();
    let file =
        ShmemFile::new(kernel.memory().clone(), PageQuota::unlimited(), (meta.dev, meta.ino));
    if noexec {
        file.set_seals(SEAL_EXEC);
    } else if sealable {
        file.set_seals(0);
    }
    let inode = Arc::new(MemfdInode { file, attributes: Mutex::new(attributes) });
    let name = format!("/memfd:{} (deleted)", String::from_utf8_lossy(name));
    let flags = libc::O_RDWR as u32 | 0o100_000;
    anon::open_inode(Box::new(MemfdOps { inode: inode.clone() }), inode, name, flags, cred)
}

impl Inode for MemfdInode {
    fn metadata(&self) -> SysResult<Metadata> {
        let meta = self.attributes.lock().metadata();
        Ok(Metadata { nlink: 0, size: self.file.size(), blocks: self.file.blocks(), ..meta })
    }

    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        let mut attributes = self.attributes.lock();
        if let Some(mode) = change.mode
            && self.file.seals() & SEAL_EXEC != 0
            && (mode ^ attributes.metadata().mode) & 0o111 != 0
        {
            return err!(EPERM);
        }
        let rest = SetAttr { size: None, ..*change };
        attributes.change(&rest)?;
        drop(attributes);
        if let Some(size) = change.size {
            self.file.set_size(size)?;
        }
        Ok(())
    }

    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        Ok(Box::new(MemfdOps { inode: self }))
    }
}

impl MemfdOps {
    fn file(&self) -> &Arc<ShmemFile> {
        &self.inode.file
    }

    /// F_ADD_SEALS (`memfd_add_seals`).
    fn add_seals(&self, file: &FileDescription, mut seals: u32) -> SysResult<()> {
        if !file.is_writable() {
            return err!(EPERM);
        }
        if seals & !ALL_SEALS != 0 {
            return err!(EINVAL);
        }
        let old = self.file().seals();
        if old & SEAL_SEAL != 0 {
            return err!(EPERM);
        }
        if seals & SEAL_WRITE != 0
            && old & SEAL_WRITE == 0
            && self.file().mappings().is_some_and(crate::mm::MappingSet::has_writable_mapping)
        {
            return err!(EBUSY);
        }
        let executable = self.inode.attributes.lock().metadata().mode & 0o111 != 0;
        if seals & SEAL_EXEC != 0 && executable {
            seals |= SEAL_SHRINK | SEAL_GROW | SEAL_WRITE | SEAL_FUTURE_WRITE;
        }
        self.file().set_seals(old | seals);
        Ok(())
    }
}

impl FileOps for MemfdOps {
    fn read(&self, _file: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        self.file().read_at(offset, dst)
    }

    fn write(&self, _file: &FileDescription, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        self.file().write_at(offset, src)
    }

    fn append(&self, _file: &FileDescription, src: &mut IoSrc<'_>) -> SysResult<(u64, usize)> {
        self.file().append(src)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        seek_shmem(self.file(), current, to)
    }

    fn mappable(&self, _file: &FileDescription) -> Option<Arc<dyn Mappable>> {
        Some(self.file().clone())
    }

    fn is_write_sealed(&self) -> bool {
        self.file().seals() & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0
    }

    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn allocate(&self, _file: &FileDescription, mode: u32, offset: u64, len: u64) -> SysResult<()> {
        allocate_shmem(self.file(), mode, offset, len)
    }

    fn fcntl(
        &self,
        _task: &mut CurrentTask,
        file: &FileDescription,
        command: u32,
        arg: u64,
    ) -> SysResult<u64> {
        match command as i32 {
            libc::F_GET_SEALS => Ok(self.file().seals().into()),
            libc::F_ADD_SEALS => {
                let seals = u32::try_from(arg).map_err(|_| Errno::EINVAL)?;
                self.add_seals(file, seals).map(|()| 0)
            }
            _ => err!(EINVAL),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for MemfdInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemfdInode")
    }
}
