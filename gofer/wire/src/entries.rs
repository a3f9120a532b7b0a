//! The entries of a directory, close together in memory: a few allocations for all, whatever their number.

use crate::{
    attr::{Attr, FileType},
    codec::{Malformed, Reader, Wire},
    path::check_name,
};

/// The entries of a directory, in the order the host told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    names: Vec<u8>,
    list: Vec<Packed>,
    attrs: Vec<Attr>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a [u8],
    /// `d_ino`: at a mount point, the inode underneath.
    pub ino: u64,
    pub kind: FileType,
    /// When asked for; `None` also for an entry that vanished in between.
    pub attr: Option<&'a Attr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    ino: u64,
    /// Where its name ends; it begins where the last one's ended.
    name_end: u32,
    /// Which of the attributes; [`NONE`] if there are none.
    attr: u32,
    kind: FileType,
}

const NONE: u32 = u32::MAX;

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The entry at a place of the list.
    pub fn get(&self, at: usize) -> Option<Entry<'_>> {
        let entry = self.list.get(at)?;
        let start = match at.checked_sub(1) {
            Some(before) => self.list.get(before)?.name_end,
            None => 0,
        };
        Some(Entry {
            name: self.names.get(start as usize..entry.name_end as usize)?,
            ino: entry.ino,
            kind: entry.kind,
            attr: self.attrs.get(entry.attr as usize),
        })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        const NOTHING: Entry<'_> = Entry { name: b"", ino: 0, kind: FileType::Unknown, attr: None };
        (0..self.len()).map(|at| self.get(at).unwrap_or(NOTHING))
    }

    /// Appends an entry as it comes over the wire.
    pub(crate) fn decode_one(&mut self, from: &mut Reader<'_>) -> Result<(), Malformed> {
        let too_many = |_| Malformed("directory too long");
        let (name, ino, kind, attr) = entry(from)?;
        let end = self.names.len().saturating_add(name.len());
        let name_end = u32::try_from(end).map_err(too_many)?;
        let at =
            if attr.is_some() { u32::try_from(self.attrs.len()).map_err(too_many)? } else { NONE };
        self.names.extend_from_slice(name);
        self.list.push(Packed { ino, name_end, attr: at, kind });
        self.attrs.extend(attr);
        Ok(())
    }

    /// Gives back the room for more.
    pub(crate) fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.list.shrink_to_fit();
        self.attrs.shrink_to_fit();
    }
}

/// Name, number, kind and attributes.
type Parts<'a> = (&'a [u8], u64, FileType, Option<Attr>);

/// The parts of an entry, its name checked.
pub(crate) fn entry<'a>(from: &mut Reader<'a>) -> Result<Parts<'a>, Malformed> {
    let name = from.bytes(crate::MAX_NAME)?;
    check_name(name).map_err(|_| Malformed("name of a directory entry"))?;
    Ok((name, from.u64()?, FileType::decode(from)?, from.option(Attr::decode)?))
}
