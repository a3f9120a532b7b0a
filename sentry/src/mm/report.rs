//! What /proc shows of an address space, and where futexes are.

use std::{ops::Range, sync::Arc};

use linux_abi::Errno;
use platform::{PAGE_SIZE, Prot, memory::FileRange};

use super::{
    ImageInfo, MemoryManager,
    pma::Owner,
    state::MmState,
    vma::{MappedFile, Source, VmaFlags},
};
use crate::vfs::FileDescription;

/// The name in the last column of /proc/PID/maps.
#[derive(Clone, Debug)]
pub enum MapName {
    None,
    /// The path of the file.
    File(Arc<FileDescription>),
    /// `[heap]`, `[stack]`, `[vdso]`, `[anon:…]`, `/dev/zero (deleted)` …
    Text(Vec<u8>),
}

/// One line of /proc/PID/maps, and what smaps adds.
#[derive(Clone, Debug)]
pub struct MapEntry {
    pub range: Range<u64>,
    pub prot: Prot,
    pub flags: VmaFlags,
    /// MAP_SHARED, or may become so: `s` instead of `p`.
    pub is_shared: bool,
    pub offset: u64,
    pub dev: u64,
    pub ino: u64,
    pub name: MapName,
    /// Bytes in memory, and those of them which are the mapping's own.
    pub resident: u64,
    pub anonymous: u64,
}

/// Sums for /proc/PID/statm and status, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmUsage {
    /// VmSize.
    pub total: u64,
    /// VmRSS, and its parts.
    pub resident: u64,
    pub resident_file: u64,
    pub resident_shared: u64,
    pub locked: u64,
    /// VmData and VmStk together.
    pub data: u64,
    pub stack: u64,
    pub text: u64,
}

impl MemoryManager {
    /// The lines of /proc/PID/maps. `sizes`: with resident sizes, which costs host calls.
    pub fn maps(&self, sizes: bool) -> Vec<MapEntry> {
        let mut entries = Vec::new();
        let mut objects = Vec::new();
        {
            let state = self.state.read();
            entries.reserve(state.vmas.len());
            for (range, vma) in state.vmas.iter() {
                let (object, offset) = match &vma.source {
                    Source::File { file, offset } => (Some(file.clone()), *offset),
                    Source::Anonymous => (None, 0),
                };
                let (resident, anonymous) =
                    if sizes { self.resident(&state, range.clone()) } else { (0, 0) };
                entries.push(MapEntry {
                    name: name(&state.image, &range, vma),
                    range,
                    prot: vma.prot,
                    flags: vma.flags,
                    is_shared: vma.is_shared(),
                    offset,
                    dev: 0,
                    ino: 0,
                    resident,
                    anonymous,
                });
                objects.push(object);
            }
        }
        // Without the lock: a file system may have to ask for it.
        for (entry, object) in entries.iter_mut().zip(objects) {
            if let Some(object) = object {
                (entry.dev, entry.ino) = object.mappable.identity();
            }
        }
        entries
    }

    /// Bytes in memory, and how many of them belong to the mapping alone. Pages of host files count as being there.
    fn resident(&self, state: &MmState, range: Range<u64>) -> (u64, u64) {
        let (mut resident, mut anonymous) = (0, 0);
        for (part, pma) in state.pmas.clipped(range) {
            let len = part.end - part.start;
            let here = match pma.memory(len) {
                Some(memory) => self.data_bytes(memory),
                None => len,
            };
            resident += here;
            if pma.owner == Owner::Own {
                anonymous += here;
            }
        }
        (resident, anonymous)
    }

    fn data_bytes(&self, range: FileRange) -> u64 {
        let mut sum = 0;
        self.memory.data_ranges(range, &mut |data| sum += data.len());
        sum
    }

    /// Sums for statm and status.
    pub fn usage(&self) -> MmUsage {
        let state = self.state.read();
        let mut usage = MmUsage { total: state.total, locked: state.locked, ..MmUsage::default() };
        for (range, vma) in state.vmas.iter() {
            let len = range.end - range.start;
            if vma.flags.contains(VmaFlags::GROWSDOWN) {
                usage.stack += len;
            } else if vma.is_data() {
                usage.data += len;
            } else if vma.prot.contains(Prot::EXEC) && !vma.is_anonymous() {
                usage.text += len;
            }
            let (resident, anonymous) = self.resident(&state, range);
            usage.resident += resident;
            match &vma.source {
                Source::File { file, .. } if file.file.is_none() => {
                    usage.resident_shared += resident - anonymous;
                }
                _ => usage.resident_file += resident - anonymous,
            }
        }
        usage
    }

    /// An upper bound of the bytes it has in memory, without asking the host: private writable mappings of
    /// ordinary size, and code.
    pub fn in_use_at_most(&self) -> u64 {
        /// Larger ones are reservations (stacks of threads, arenas), hardly touched.
        const ORDINARY: u64 = 64 << 20;
        let state = self.state.read();
        let sizes = state.vmas.iter().map(|(range, _)| range.end - range.start);
        sizes.filter(|&size| size <= ORDINARY).sum()
    }

    /// What a futex that processes may share is known by (`get_futex_key` in `kernel/futex/core.c`): for a shared
    /// mapping the object and the offset in it. `None` for private memory, where it is the address.
    pub fn shared_place(&self, addr: u64) -> Option<((u64, u64), u64)> {
        let (object, at) = {
            let state = self.state.read();
            let (range, vma) = state.vmas.find(addr)?;
            match &vma.source {
                Source::File { file, offset } if vma.is_shared() => {
                    (file.clone(), offset.saturating_add(addr - range.start))
                }
                _ => return None,
            }
        };
        Some((object.mappable.identity(), at))
    }

    /// The object mapped at exactly `addr`, for shmdt(2): with the offset and length.
    pub fn mapped_at(&self, addr: u64) -> Option<(Arc<MappedFile>, u64, u64)> {
        let state = self.state.read();
        let (range, vma) = state.vmas.find(addr)?;
        match &vma.source {
            Source::File { file, offset } if range.start == addr => {
                Some((file.clone(), *offset, range.end - range.start))
            }
            _ => None,
        }
    }

    /// Unmaps all that belongs to one mapping of `object`, which began at `addr` (shmdt(2)).
    pub fn unmap_object(&self, addr: u64, object: &Arc<MappedFile>) -> Result<(), Errno> {
        let mut state = self.write_state();
        let parts: Vec<_> = state
            .vmas
            .iter()
            .filter(|(range, vma)| {
                range.start >= addr
                    && matches!(&vma.source, Source::File { file, .. } if Arc::ptr_eq(file, object))
            })
            .map(|(range, _)| range)
            .collect();
        for part in parts {
            self.unmap_locked(&mut state, part)?;
        }
        Ok(())
    }

    /// Is there a mapping everywhere in the range?
    pub fn is_mapped(&self, range: Range<u64>) -> bool {
        self.state.read().covered_until(&range) >= range.end
    }

    /// Changes what prctl(PR_SET_MM) and the like may change.
    pub fn update_image(&self, change: impl FnOnce(&mut ImageInfo)) {
        change(&mut self.write_state().image);
    }
}

fn name(image: &ImageInfo, range: &Range<u64>, vma: &super::Vma) -> MapName {
    if let Source::File { file, .. } = &vma.source {
        return match &file.file {
            Some(file) => MapName::File(file.clone()),
            None if super::ShmSegment::of(&file.mappable).is_some() => {
                let key = super::ShmSegment::of(&file.mappable).map_or(0, |segment| segment.key);
                MapName::Text(format!("/SYSV{key:08x} (deleted)").into_bytes())
            }
            None => match &vma.name {
                Some(name) => MapName::Text([b"[anon_shmem:", &name[..], b"]"].concat()),
                None => MapName::Text(b"/dev/zero (deleted)".to_vec()),
            },
        };
    }
    if vma.flags.contains(VmaFlags::VDSO) {
        return MapName::Text(b"[vdso]".to_vec());
    }
    let brk_end = image.brk.next_multiple_of(PAGE_SIZE);
    if range.start <= image.brk && range.end >= image.brk_start && brk_end > image.brk_start {
        return MapName::Text(b"[heap]".to_vec());
    }
    if range.contains(&image.stack_start) {
        return MapName::Text(b"[stack]".to_vec());
    }
    match &vma.name {
        Some(name) => MapName::Text([b"[anon:", &name[..], b"]"].concat()),
        None => MapName::None,
    }
}
