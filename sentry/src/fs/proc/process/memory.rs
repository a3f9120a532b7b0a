//! What is read out of a process's memory: `cmdline`, `environ`, `auxv`, `mem`, `pagemap`.

use std::{any::Any, ops::Range, sync::Arc};

use super::{Scope, Sort, Subject};
use crate::{
    Errno, SysResult, err,
    fs::{
        proc::access::{self, Look},
        pseudo::Attr,
    },
    kernel::{Task, ptrace::poke},
    mm::MemoryManager,
    user::{UserAddr, UserMemory},
    vfs::{
        FileDescription, FileOps, FileType, Inode, IoDst, IoSrc, Metadata, SeekFrom, SetAttr,
        VfsPath,
    },
};

/// Most of an argument or environment area that is shown; the guest chooses its size.
const AREA_MAX: u64 = 6 << 20;

/// Reads what is readable of an area.
fn copy_area(memory: &MemoryManager, area: Range<u64>, out: &mut Vec<u8>) -> SysResult<()> {
    let len = area.end.saturating_sub(area.start).min(AREA_MAX) as usize;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    let got = if len == 0 {
        0
    } else {
        memory.copy_in_partial(UserAddr(area.start), &mut bytes).unwrap_or(0)
    };
    bytes.truncate(got);
    out.append(&mut bytes);
    Ok(())
}

/// The arguments. When the program wrote over the final NUL (setproctitle), what it wrote goes on into the
/// environment, up to the first NUL (`get_mm_cmdline`).
pub(super) fn cmdline(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    let Some(memory) = task.memory() else { return Ok(()) };
    let image = memory.image();
    copy_area(&memory, image.args.clone(), out)?;
    if out.last().is_some_and(|&byte| byte != 0) && image.env.start == image.args.end {
        let mut title = std::mem::take(out);
        copy_area(&memory, image.env, &mut title)?;
        let end = title.iter().position(|&byte| byte == 0).map_or(title.len(), |at| at + 1);
        title.truncate(end);
        *out = title;
    }
    Ok(())
}

pub(super) fn environ(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    let Some(memory) = task.memory() else { return Ok(()) };
    let env = memory.image().env;
    copy_area(&memory, env, out)
}

pub(super) fn auxv(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    if let Some(memory) = task.memory() {
        out.extend_from_slice(&memory.image().auxv);
    }
    Ok(())
}

/// The inode of `mem` or `pagemap`.
#[derive(Debug)]
struct MemoryNode {
    attr: Attr,
    subject: Subject,
    is_pagemap: bool,
}

pub(super) fn mem(subject: &Subject, index: u32) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::File, index, FileType::Regular, 0o600);
    Arc::new(MemoryNode { attr, subject: subject.clone(), is_pagemap: false })
}

pub(super) fn pagemap(subject: &Subject, index: u32) -> Arc<dyn Inode> {
    let attr = subject.attr(Sort::File, index, FileType::Regular, 0o400);
    Arc::new(MemoryNode { attr, subject: subject.clone(), is_pagemap: true })
}

impl Inode for MemoryNode {
    fn metadata(&self) -> SysResult<Metadata> {
        Ok(self.attr.metadata())
    }
    fn set_attr(&self, change: &SetAttr) -> SysResult<()> {
        self.attr.set(change)
    }
    fn open(self: Arc<Self>, _path: &VfsPath, _flags: u32) -> SysResult<Box<dyn FileOps>> {
        let task = self.subject.task()?;
        access::check(&task, if self.is_pagemap { Look::Read } else { Look::Attach })?;
        // The memory of now: an execve afterwards does not show (`proc_mem_open`).
        let memory = task.memory();
        Ok(if self.is_pagemap { Box::new(PageMap { memory }) } else { Box::new(Mem { memory }) })
    }
}

/// An open `mem`: positions are addresses.
#[derive(Debug)]
struct Mem {
    memory: Option<Arc<MemoryManager>>,
}

const CHUNK_BYTES: usize = 4096;

impl FileOps for Mem {
    fn read(&self, _: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let Some(memory) = &self.memory else { return Ok(0) };
        let mut chunk = [0; CHUNK_BYTES];
        let mut total = 0;
        while !dst.is_empty() {
            let addr = UserAddr(offset).offset(total as u64)?;
            let want = dst.len().min(CHUNK_BYTES);
            match memory.copy_in_partial(addr, &mut chunk[..want]) {
                Ok(0) | Err(_) if total > 0 => break,
                Ok(0) | Err(_) => return err!(EIO),
                Ok(n) => {
                    let put = dst.put(&chunk[..n])?;
                    total += put;
                    if put < n {
                        break;
                    }
                }
            }
        }
        Ok(total)
    }

    fn write(&self, _: &FileDescription, offset: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        let Some(memory) = &self.memory else { return Ok(0) };
        let mut chunk = [0; CHUNK_BYTES];
        let mut total = 0;
        while !src.is_empty() {
            let addr = UserAddr(offset).offset(total as u64)?;
            let got = src.take(&mut chunk)?;
            // Debuggers write breakpoints into code through here.
            let written = memory
                .copy_out_partial(addr, &chunk[..got])
                .or_else(|_| poke(memory, addr, &chunk[..got]).map(|()| got));
            match written {
                Ok(0) | Err(_) if total > 0 => break,
                Ok(0) | Err(_) => return err!(EIO),
                Ok(n) => {
                    total += n;
                    if n < got {
                        break;
                    }
                }
            }
        }
        Ok(total)
    }

    fn is_seekable(&self) -> bool {
        true
    }
    fn is_pollable(&self) -> bool {
        false
    }
    fn seek(&self, _: &FileDescription, current: u64, to: SeekFrom) -> SysResult<u64> {
        match to {
            SeekFrom::Start(at) => Ok(at),
            SeekFrom::Current(by) => Ok(current.wrapping_add_signed(by)),
            SeekFrom::End(_) | SeekFrom::Data(_) | SeekFrom::Hole(_) => err!(EINVAL),
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open `pagemap`: eight bytes for each page. Frame numbers are hidden, as from all without
/// CAP_SYS_ADMIN; what is told is whether a page is there, and whether it is a file's.
#[derive(Debug)]
struct PageMap {
    memory: Option<Arc<MemoryManager>>,
}

const ENTRY_BYTES: u64 = 8;
const PAGE_PRESENT: u64 = 1 << 63;

impl FileOps for PageMap {
    fn read(&self, _: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let Some(memory) = &self.memory else { return Ok(0) };
        if !offset.is_multiple_of(ENTRY_BYTES) || !(dst.len() as u64).is_multiple_of(ENTRY_BYTES) {
            return err!(EINVAL);
        }
        let end = memory.user_range().end;
        let mut total = 0;
        while !dst.is_empty() {
            let page = (offset + total as u64) / ENTRY_BYTES;
            let Some(addr) = page.checked_mul(platform::PAGE_SIZE).filter(|&addr| addr < end)
            else {
                break;
            };
            let present = memory.is_mapped(addr..addr + platform::PAGE_SIZE);
            let entry = if present { PAGE_PRESENT } else { 0 };
            total += dst.put(&entry.to_ne_bytes())?;
        }
        Ok(total)
    }
    fn is_seekable(&self) -> bool {
        true
    }
    fn is_pollable(&self) -> bool {
        false
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
