//! `/dev/null`, `/dev/zero`, `/dev/full` (null(4), full(4); `drivers/char/mem.c`).

use std::any::Any;

use crate::{
    SysResult, err,
    vfs::{FileDescription, FileOps, IoDst, IoSrc, SeekFrom},
};

/// Reads as empty, takes anything.
#[derive(Debug)]
pub(super) struct Null;

/// Reads as zeros, takes anything.
#[derive(Debug)]
pub(super) struct Zero;

/// Reads as zeros, is always full.
#[derive(Debug)]
pub(super) struct Full;

/// One copy of so much costs little more than a small one.
static ZEROS: [u8; 256 << 10] = [0; 256 << 10];

fn read_zeros(dst: &mut IoDst<'_>) -> SysResult<usize> {
    let mut total = 0;
    while !dst.is_empty() {
        let want = dst.len().min(ZEROS.len());
        match dst.put(&ZEROS[..want]) {
            Ok(n) => {
                total += n;
                if n < want {
                    break;
                }
            }
            Err(_) if total > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(total)
}

/// These take all of it without looking at the memory.
fn swallow(src: &mut IoSrc<'_>) -> SysResult<usize> {
    let all = src.len();
    src.advance(all);
    Ok(all)
}

/// Wherever one seeks, the position is 0 (`null_lseek`).
macro_rules! seeks_to_zero {
    () => {
        fn is_seekable(&self) -> bool {
            true
        }
        fn is_pollable(&self) -> bool {
            false
        }
        fn seek(&self, _file: &FileDescription, _current: u64, _to: SeekFrom) -> SysResult<u64> {
            Ok(0)
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    };
}

impl FileOps for Null {
    fn read(&self, _: &FileDescription, _: u64, _: &mut IoDst<'_>) -> SysResult<usize> {
        Ok(0)
    }
    fn write(&self, _: &FileDescription, _: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        swallow(src)
    }
    seeks_to_zero!();
}

impl FileOps for Zero {
    fn read(&self, _: &FileDescription, _: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        read_zeros(dst)
    }
    fn write(&self, _: &FileDescription, _: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        swallow(src)
    }
    fn maps_as_zeros(&self) -> bool {
        true
    }
    seeks_to_zero!();
}

impl FileOps for Full {
    fn read(&self, _: &FileDescription, _: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        read_zeros(dst)
    }
    fn write(&self, _: &FileDescription, _: u64, _: &mut IoSrc<'_>) -> SysResult<usize> {
        err!(ENOSPC)
    }
    seeks_to_zero!();
}
