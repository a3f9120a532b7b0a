//! Changes of an address space, gathered so that one hand-off does them all.

use std::{ops::Range, sync::Arc};

use platform::{Backing, MapOp, Prot};

use super::{pma::Pma, range_map::RangeValue};

/// Operations in order; neighbours which continue each other become one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    ops: Vec<MapOp>,
}

impl Batch {
    pub(super) fn ops(&self) -> &[MapOp] {
        &self.ops
    }

    /// Maps a page range where it is.
    pub(super) fn map(&mut self, range: Range<u64>, pma: &Pma, populate: bool) {
        // A mapping takes the place of what is there.
        while let Some(MapOp::Unmap { addr, len }) = self.ops.last()
            && range.start <= *addr
            && addr.saturating_add(*len) <= range.end
        {
            self.ops.pop();
        }
        let len = range.end.saturating_sub(range.start);
        let (prot, backing) = (pma.host_prot(), pma.backing(len));
        if let Some(MapOp::Map { addr, len: last_len, prot: last_prot, backing: last, populate: p }) =
            self.ops.last_mut()
            && *last_prot == prot
            && *p == populate
            && addr.checked_add(*last_len) == Some(range.start)
            && extend(last, *last_len, &backing)
        {
            *last_len += len;
            return;
        }
        self.ops.push(MapOp::Map { addr: range.start, len, prot, backing, populate });
    }

    /// Maps the pages `part` of the page range `all`, which is `pma`.
    pub(super) fn map_part(
        &mut self,
        all: &Range<u64>,
        part: Range<u64>,
        pma: &Pma,
        populate: bool,
    ) {
        if part.start < part.end {
            let mut pma = pma.clone();
            pma.advance(part.start - all.start);
            self.map(part, &pma, populate);
        }
    }

    pub(super) fn unmap(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let size = range.end - range.start;
        if let Some(MapOp::Unmap { addr, len }) = self.ops.last_mut()
            && addr.checked_add(*len) == Some(range.start)
        {
            *len += size;
            return;
        }
        self.ops.push(MapOp::Unmap { addr: range.start, len: size });
    }

    pub(super) fn protect(&mut self, range: Range<u64>, new: Prot) {
        if range.is_empty() {
            return;
        }
        let size = range.end - range.start;
        if let Some(MapOp::Protect { addr, len, prot }) = self.ops.last_mut()
            && *prot == new
            && addr.checked_add(*len) == Some(range.start)
        {
            *len += size;
            return;
        }
        self.ops.push(MapOp::Protect { addr: range.start, len: size, prot: new });
    }
}

/// The addresses that a change is about.
pub(super) fn op_range(op: &MapOp) -> Range<u64> {
    let (MapOp::Map { addr, len, .. }
    | MapOp::Unmap { addr, len }
    | MapOp::Protect { addr, len, .. }) = *op;
    addr..addr.saturating_add(len)
}

/// Makes `last` longer by `next`, when that lies right behind its `len` bytes.
fn extend(last: &mut Backing, len: u64, next: &Backing) -> bool {
    match (last, next) {
        (Backing::Memory(last), Backing::Memory(next)) if last.end == next.start => {
            last.end = next.end;
            true
        }
        (
            Backing::Host { file, offset, shared },
            Backing::Host { file: next_file, offset: next_offset, shared: next_shared },
        ) => {
            Arc::ptr_eq(file, next_file)
                && shared == next_shared
                && offset.checked_add(len) == Some(*next_offset)
        }
        _ => false,
    }
}
