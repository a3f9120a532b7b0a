//! Page ranges: where the bytes of a mapping are.

use std::{os::fd::OwnedFd, sync::Arc};

use platform::{Backing, Prot, memory::FileRange};

use super::range_map::RangeValue;

/// Pages that have a place ("pma", after gVisor). Lies inside VMAs of the same protection.
#[derive(Clone, Debug)]
pub(super) struct Pma {
    /// What the guest may do: the VMA's, kept here so that user access needs one look-up.
    pub(super) prot: Prot,
    pub(super) owner: Owner,
    pub(super) place: Place,
}

/// Whose pages they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The mapped object's, in a shared mapping: writes go to it.
    Shared,
    /// The mapped object's, in a private mapping: a write copies.
    Borrowed,
    /// This mapping's own (and, after fork, its copies').
    Own,
}

#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the memory file, from `offset` on; this page range holds one count on each page.
    /// `cow`: others may have the pages too; a write copies first.
    Memory { offset: u64, cow: bool },
    /// In a host file. Not shared: read-only, a write copies into the memory file first.
    Host { file: Arc<OwnedFd>, offset: u64, shared: bool },
}

impl Pma {
    /// Does a write need a copy first?
    pub(super) fn copies_on_write(&self) -> bool {
        matches!(self.place, Place::Memory { cow: true, .. } | Place::Host { shared: false, .. })
    }

    /// The protection to map with.
    pub(super) fn host_prot(&self) -> Prot {
        if self.prot.contains(Prot::WRITE) && self.copies_on_write() {
            (self.prot - Prot::WRITE) | Prot::READ
        } else {
            self.prot
        }
    }

    /// The backing of the first `len` bytes.
    pub(super) fn backing(&self, len: u64) -> Backing {
        match &self.place {
            Place::Memory { offset, .. } => {
                Backing::Memory(FileRange { start: *offset, end: offset.saturating_add(len) })
            }
            Place::Host { file, offset, shared } => {
                Backing::Host { file: file.clone(), offset: *offset, shared: *shared }
            }
        }
    }

    /// The counted range of the memory file, if it is there.
    pub(super) fn memory(&self, len: u64) -> Option<FileRange> {
        match self.place {
            Place::Memory { offset, .. } => {
                Some(FileRange { start: offset, end: offset.saturating_add(len) })
            }
            Place::Host { .. } => None,
        }
    }
}

impl Place {
    /// Becomes that of what is `by` bytes further on.
    pub(super) fn advance(&mut self, by: u64) {
        match self {
            Self::Memory { offset, .. } | Self::Host { offset, .. } => {
                *offset = offset.wrapping_add(by);
            }
        }
    }
}

impl RangeValue for Pma {
    fn advance(&mut self, by: u64) {
        self.place.advance(by);
    }

    fn joins(&self, len: u64, next: &Self) -> bool {
        self.prot == next.prot
            && self.owner == next.owner
            && match (&self.place, &next.place) {
                (
                    Place::Memory { offset, cow },
                    Place::Memory { offset: next_offset, cow: next_cow },
                ) => cow == next_cow && offset.checked_add(len) == Some(*next_offset),
                (
                    Place::Host { file, offset, shared },
                    Place::Host { file: next_file, offset: next_offset, shared: next_shared },
                ) => {
                    Arc::ptr_eq(file, next_file)
                        && shared == next_shared
                        && offset.checked_add(len) == Some(*next_offset)
                }
                _ => false,
            }
    }
}
