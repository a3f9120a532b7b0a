//! Open regular files.

use std::{any::Any, sync::Arc};

use super::{ShmemFile, TmpfsInode};
use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    vfs::{FileDescription, FileOps, IoDst, IoSrc, Mappable, MountFlags, SeekFrom, StatusFlags},
};

#[derive(Debug)]
pub(super) struct RegularOps {
    pub(super) inode: Arc<TmpfsInode>,
    pub(super) file: Arc<ShmemFile>,
}

impl FileOps for RegularOps {
    fn read(&self, file: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let n = self.file.read_at(offset, dst)?;
        let quiet = file.flags().contains(StatusFlags::NOATIME)
            || file.path().mount.flags().contains(MountFlags::NOATIME);
        if !quiet {
            self.inode.touch_accessed();
        }
        Ok(n)
    }

    fn write(&self, _file: &FileDescription, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        let n = self.file.write_at(offset, src)?;
        if n > 0 {
            self.inode.touch_modified();
        }
        Ok(n)
    }

    fn append(&self, _file: &FileDescription, src: &mut IoSrc<'_>) -> SysResult<(u64, usize)> {
        let (at, n) = self.file.append(src)?;
        if n > 0 {
            self.inode.touch_modified();
        }
        Ok((at, n))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        seek_shmem(&self.file, current, to)
    }

    fn mappable(&self, _file: &FileDescription) -> Option<Arc<dyn Mappable>> {
        Some(self.file.clone())
    }

    fn sync(&self, _file: &FileDescription, _data_only: bool) -> SysResult<()> {
        Ok(())
    }

    fn allocate(&self, _file: &FileDescription, mode: u32, offset: u64, len: u64) -> SysResult<()> {
        allocate_shmem(&self.file, mode, offset, len)?;
        self.inode.touch_modified();
        Ok(())
    }

    /// Files with names take no seals.
    fn fcntl(
        &self,
        _task: &mut CurrentTask,
        _file: &FileDescription,
        command: u32,
        _arg: u64,
    ) -> SysResult<u64> {
        match command as i32 {
            libc::F_GET_SEALS => Ok(self.file.seals().into()),
            libc::F_ADD_SEALS => err!(EPERM),
            _ => err!(EINVAL),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// lseek(2) in such a file.
pub fn seek_shmem(file: &ShmemFile, current: u64, to: SeekFrom) -> SysResult<u64> {
    let target = match to {
        SeekFrom::Start(at) => Some(at),
        SeekFrom::Current(by) => current.checked_add_signed(by),
        SeekFrom::End(by) => file.size().checked_add_signed(by),
        SeekFrom::Data(at) => return file.seek(at, true),
        SeekFrom::Hole(at) => return file.seek(at, false),
    };
    target.filter(|&at| at <= super::MAX_FILE_SIZE).ok_or(Errno::EINVAL.into())
}

/// fallocate(2) on such a file; collapsing and inserting ranges is not there, as in Linux.
pub fn allocate_shmem(file: &ShmemFile, mode: u32, offset: u64, len: u64) -> SysResult<()> {
    const KEEP_SIZE: u32 = libc::FALLOC_FL_KEEP_SIZE as u32;
    const PUNCH: u32 = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
    const ZERO: u32 = libc::FALLOC_FL_ZERO_RANGE as u32;
    const ZERO_KEEP: u32 = ZERO | KEEP_SIZE;
    match mode {
        0 | KEEP_SIZE => file.allocate(offset, len, mode == KEEP_SIZE),
        PUNCH => file.punch_hole(offset, len),
        ZERO | ZERO_KEEP => {
            file.punch_hole(offset, len)?;
            file.allocate(offset, len, mode == ZERO_KEEP)
        }
        _ => err!(EOPNOTSUPP),
    }
}
