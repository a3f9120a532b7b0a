//! Which pages of a sparse file are where in the memory file.

use std::collections::BTreeMap;

use platform::{
    PAGE_SIZE,
    memory::{FileRange, MemoryFile},
};

use super::shmem::PageQuota;
use crate::Errno;

/// Extents by the file offset of their first page. They do not overlap; neighbours that lie together
/// in the memory file too are one.
#[derive(Debug, Default)]
pub(super) struct Extents {
    by_offset: BTreeMap<u64, FileRange>,
    pages: u64,
}

impl Extents {
    /// Pages in use.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// The extent that holds `offset`, from there on.
    fn at(&self, offset: u64) -> Option<FileRange> {
        let (&start, &range) = self.by_offset.range(..=offset).next_back()?;
        let skip = offset - start;
        (skip < range.len()).then(|| range.sub(skip, range.len() - skip))
    }

    /// Where the bytes from `offset` on lie together, at most `len`; `None` in a hole.
    pub(super) fn run_at(&self, offset: u64, len: u64) -> Option<FileRange> {
        self.at(offset).map(|range| range.sub(0, range.len().min(len)))
    }

    /// Where the first data at or after `offset` starts.
    pub(super) fn next_data(&self, offset: u64) -> Option<u64> {
        if self.at(offset).is_some() {
            return Some(offset);
        }
        self.by_offset.range(offset..).next().map(|(&start, _)| start)
    }

    /// Where the first hole at or after `offset` starts.
    pub(super) fn next_hole(&self, mut offset: u64) -> u64 {
        while let Some(range) = self.at(offset) {
            offset = offset.saturating_add(range.len());
        }
        offset
    }

    /// Calls `f` for each run of the bytes in order: where it is (`None`: a hole), and its length.
    pub(super) fn each_run(
        &self,
        offset: u64,
        len: u64,
        mut f: impl FnMut(Option<FileRange>, u64),
    ) {
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            if let Some(range) = self.run_at(at, end - at) {
                f(Some(range), range.len());
                at += range.len();
            } else {
                let next = self.next_data(at).unwrap_or(end).min(end);
                f(None, next - at);
                at = next;
            }
        }
    }

    /// Gives pages to all holes among the bytes. How many of the bytes, from the first on, have pages then;
    /// an error when not even the first.
    pub(super) fn fill(
        &mut self,
        memory: &MemoryFile,
        quota: &PageQuota,
        offset: u64,
        len: u64,
    ) -> Result<u64, Errno> {
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let last = end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EFBIG)?;
        let mut at = offset & !(PAGE_SIZE - 1);
        while at < last {
            if let Some(range) = self.at(at) {
                at = at.saturating_add(range.len());
                continue;
            }
            let hole = self.next_data(at).unwrap_or(last).min(last) - at;
            match self.fill_hole(memory, quota, at, hole) {
                Ok(filled) => at += filled,
                Err(_) if at > offset => return Ok(at.min(end) - offset),
                Err(errno) => return Err(errno),
            }
        }
        Ok(len)
    }

    /// Gives pages to (the start of) a hole; how many bytes.
    fn fill_hole(
        &mut self,
        memory: &MemoryFile,
        quota: &PageQuota,
        at: u64,
        hole: u64,
    ) -> Result<u64, Errno> {
        let before = self.by_offset.range(..at).next_back().map(|(&start, &range)| (start, range));
        let near = before.map(|(_, range)| range.end);
        // All at once if there is room; else page by page, to use what room there is.
        let mut bytes = hole;
        if quota.charge(bytes / PAGE_SIZE).is_err() {
            bytes = PAGE_SIZE;
            quota.charge(1)?;
        }
        let range = match memory.allocate(bytes, near) {
            Ok(range) => range,
            Err(errno) => {
                quota.uncharge(bytes / PAGE_SIZE);
                return Err(errno);
            }
        };
        self.pages += bytes / PAGE_SIZE;
        match before {
            Some((start, old)) if start + old.len() == at && old.end == range.start => {
                self.by_offset.insert(start, FileRange { start: old.start, end: range.end });
            }
            _ => {
                self.by_offset.insert(at, range);
            }
        }
        Ok(bytes)
    }

    /// Takes the pages from `start` to `end` (page boundaries) out and gives them back.
    pub(super) fn remove(&mut self, memory: &MemoryFile, quota: &PageQuota, start: u64, end: u64) {
        self.split(start);
        self.split(end);
        let gone: Vec<u64> = self.by_offset.range(start..end).map(|(&at, _)| at).collect();
        for at in gone {
            if let Some(range) = self.by_offset.remove(&at) {
                let pages = range.len() / PAGE_SIZE;
                memory.release(range);
                quota.uncharge(pages);
                self.pages = self.pages.saturating_sub(pages);
            }
        }
    }

    /// Cuts the extent that reaches across `at`, if one does.
    fn split(&mut self, at: u64) {
        if let Some((&start, &range)) = self.by_offset.range(..at).next_back()
            && at - start < range.len()
        {
            let head = at - start;
            self.by_offset.insert(start, range.sub(0, head));
            self.by_offset.insert(at, range.sub(head, range.len() - head));
        }
    }

    /// Sets bytes to zero where there are pages.
    pub(super) fn zero(&self, memory: &MemoryFile, offset: u64, len: u64) {
        self.each_run(offset, len, |range, _| {
            if let Some(range) = range {
                memory.slice(range).fill(0);
            }
        });
    }
}
