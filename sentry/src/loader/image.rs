//! Building the image: segments, heap, stack, vDSO.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use linux_abi::Errno;
use platform::{AddressSpace, PAGE_SIZE, Prot, VdsoImage, host};

use super::{
    Prepared,
    auxv::{Identity, Places},
    elf::{Elf, Segment},
    stack::{self, Contents},
};
use crate::{
    kernel::Kernel,
    mm::{ImageInfo, MapRequest, MappedFile, MemoryManager, MmLimits, Placement, Source, VmaFlags},
    user::{UserAddr, UserMemory},
    vfs::FileDescription,
};

/// Programs that may be anywhere go here (ELF_ET_DYN_BASE: two thirds of the address space).
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// Pages by which mappings and programs are shifted (`vm.mmap_rnd_bits`), and stacks.
const MMAP_RANDOM_PAGES: u64 = 1 << 28;
const STACK_RANDOM_PAGES: u64 = 1 << 22;
/// Bytes by which the heap is shifted.
const BRK_RANDOM: u64 = 32 << 20;
/// The stack has room for so much, beyond its contents, without a fault.
const STACK_ROOM: u64 = 128 << 10;
/// Room left for the stack above the mmap base, at least and at most.
const STACK_GAP_MIN: u64 = 128 << 20;

/// A new image, ready to run.
#[derive(Debug)]
pub struct LoadedImage {
    pub mm: Arc<MemoryManager>,
    /// The first instruction.
    pub entry: u64,
    /// The stack pointer; all other general registers are zero.
    pub stack_pointer: u64,
}

/// Random numbers: one draw from the host for all of an image.
struct Dice {
    /// Off: everything goes where it would without randomization (ADDR_NO_RANDOMIZE).
    enabled: bool,
    words: std::array::IntoIter<[u8; 8], 8>,
}

impl Dice {
    fn new(enabled: bool) -> Result<Self, Errno> {
        let mut words = [[0; 8]; 8];
        host::fill_random(words.as_flattened_mut())?;
        Ok(Self { enabled, words: words.into_iter() })
    }

    /// 8 random bytes.
    fn word(&mut self) -> [u8; 8] {
        // There are more words than uses.
        self.words.next().unwrap_or_default()
    }

    /// A number below `bound`, which is a power of two; 0 when switched off.
    fn below(&mut self, bound: u64) -> u64 {
        if self.enabled { u64::from_le_bytes(self.word()) & (bound - 1) } else { 0 }
    }
}

/// An ELF file in memory.
struct Placed {
    /// Added to the addresses in the file.
    bias: u64,
    entry: u64,
    code: Range<u64>,
    data: Range<u64>,
    /// Behind the last segment.
    end: u64,
}

impl Prepared {
    /// Builds the image in `space`, in place of what is there. On failure the process has no image any more and must die.
    /// `limits` are the process's; `randomize` is false under ADDR_NO_RANDOMIZE (personality(2)).
    pub fn load(
        self,
        kernel: &Kernel,
        space: Arc<dyn AddressSpace>,
        identity: &Identity,
        limits: &MmLimits,
        randomize: bool,
    ) -> Result<LoadedImage, Errno> {
        let platform = kernel.platform();
        let user = platform.user_range();
        let mm = MemoryManager::new(space, kernel.memory().clone(), user.clone());
        mm.limits().copy_from(limits);
        mm.start_building();
        let mut dice = Dice::new(randomize)?;

        let top = (user.end - PAGE_SIZE - dice.below(STACK_RANDOM_PAGES) * PAGE_SIZE) & !15;
        let stack_gap = STACK_RANDOM_PAGES * PAGE_SIZE
            + self.stack_limit.clamp(STACK_GAP_MIN, (user.end / 6).saturating_mul(5));
        let shift = dice.below(MMAP_RANDOM_PAGES) * PAGE_SIZE;
        let base = user.end.saturating_sub(stack_gap).saturating_sub(shift);
        mm.set_mmap_base(base.max(user.start.saturating_add(STACK_GAP_MIN)));

        let program_base = match &self.interpreter {
            Some(_) if self.elf.is_relocatable => {
                Some(PROGRAM_BASE + dice.below(MMAP_RANDOM_PAGES) * PAGE_SIZE)
            }
            _ => None,
        };
        let program = place(&mm, &self.file, &self.elf, program_base)?;
        let interpreter = match &self.interpreter {
            Some((file, elf)) => {
                // Only the program itself stays closed to writers while it runs.
                file.allow_write_access();
                Some(place(&mm, file, elf, None)?)
            }
            None => None,
        };
        // A program among the mappings (static PIE) would soon have its heap run into them.
        let heap = if self.elf.is_relocatable && self.interpreter.is_none() {
            PROGRAM_BASE
        } else {
            program.end
        };
        let heap = heap + (dice.below(BRK_RANDOM) & !(PAGE_SIZE - 1));
        let has_rseq = kernel.has_rseq();
        let vdso = map_vdso(&mm, platform.vdso(), has_rseq)?;

        let mut random = [0; 16];
        for half in random.chunks_exact_mut(8) {
            half.copy_from_slice(&dice.word());
        }
        let contents = Contents {
            argv: &self.argv,
            envp: &self.envp,
            path: &self.path,
            random,
            shift: dice.below(8192) & !15,
        };
        let places = Places {
            phdr: program.bias.wrapping_add(self.elf.phdr_vaddr),
            phnum: self.elf.phnum.into(),
            base: interpreter.as_ref().map_or(0, |interpreter| interpreter.bias),
            entry: program.entry,
            platform: 0,
            random: 0,
            execfn: 0,
            vdso,
            has_rseq,
        };
        let stack_len = (stack::size(&contents) + STACK_ROOM).next_multiple_of(PAGE_SIZE);
        let top = top & !(PAGE_SIZE - 1);
        map_stack(&mm, top, stack_len, self.elf.is_stack_executable)?;
        let stack = stack::build(top, &contents, places, identity);
        mm.copy_out(UserAddr(stack.pointer), &stack.bytes)?;

        mm.set_image(ImageInfo {
            exe: Some(self.file.clone()),
            code: program.code,
            data: program.data,
            brk_start: heap,
            brk: heap,
            stack_start: stack.pointer,
            args: stack.args,
            env: stack.env,
            auxv: stack.auxv.into(),
            vdso: vdso.unwrap_or(0),
        });
        mm.finish_building()?;
        let entry = interpreter.map_or(program.entry, |interpreter| interpreter.entry);
        Ok(LoadedImage { mm, entry, stack_pointer: stack.pointer })
    }
}

/// Maps the segments of an ELF file: where it says, or near `wanted`, or anywhere.
fn place(
    mm: &MemoryManager,
    file: &Arc<FileDescription>,
    elf: &Elf,
    wanted: Option<u64>,
) -> Result<Placed, Errno> {
    let span = elf.span().ok_or(Errno::ENOEXEC)?;
    let len = span.end - span.start;
    let bias = if elf.is_relocatable {
        let at = match wanted {
            Some(at) => at & !(elf.align - 1),
            // Room for aligning it inside.
            None => {
                let room = len.checked_add(elf.align - PAGE_SIZE).ok_or(Errno::ENOMEM)?;
                let at = mm.find_place(room).ok_or(Errno::ENOMEM)?;
                // As high as it goes, so that the next mapping is its neighbour.
                (at + (elf.align - PAGE_SIZE)) & !(elf.align - 1)
            }
        };
        at.wrapping_sub(span.start)
    } else {
        0
    };
    let mappable = file.ops().mappable(file).ok_or(Errno::ENOEXEC)?;
    let mapped = Arc::new(MappedFile { mappable, file: Some(file.clone()) });
    let (mut code, mut data, mut end) = (0..0, 0..0, 0);
    for segment in &elf.segments {
        map_segment(mm, &mapped, segment, bias)?;
        let start = bias.wrapping_add(segment.vaddr);
        let file_end = start.saturating_add(segment.filesz);
        if segment.prot.contains(Prot::EXEC) {
            code = if code.is_empty() { start..file_end } else { code.start.min(start)..file_end };
        } else if data.is_empty() || segment.prot.contains(Prot::WRITE) {
            data = start..file_end;
        }
        end = start.saturating_add(segment.memsz).next_multiple_of(PAGE_SIZE);
    }
    Ok(Placed { bias, entry: bias.wrapping_add(elf.entry), code, data, end })
}

/// Maps one segment: its part of the file, and zeros behind.
fn map_segment(
    mm: &MemoryManager,
    file: &Arc<MappedFile>,
    segment: &Segment,
    bias: u64,
) -> Result<(), Errno> {
    let start = bias.checked_add(segment.vaddr).ok_or(Errno::ENOMEM)?;
    let into_page = start % PAGE_SIZE;
    let page = start - into_page;
    let file_end = start.checked_add(segment.filesz).ok_or(Errno::ENOMEM)?;
    let end = start.checked_add(segment.memsz).ok_or(Errno::ENOMEM)?;
    let zero_from = if segment.filesz == 0 {
        page
    } else {
        let mut request =
            MapRequest::anonymous(page, file_end - page, segment.prot, Placement::FixedNoReplace);
        let offset = segment.offset.checked_sub(into_page).ok_or(Errno::ENOEXEC)?;
        request.source = Source::File { file: file.clone(), offset };
        mm.map(request)?;
        file_end.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::ENOMEM)?
    };
    if end > file_end && zero_from > file_end && segment.prot.contains(Prot::WRITE) {
        let zeros = [0; PAGE_SIZE as usize];
        let len = (zero_from.min(end.next_multiple_of(PAGE_SIZE)) - file_end) as usize;
        mm.copy_out(UserAddr(file_end), zeros.get(..len).unwrap_or(&zeros))?;
    }
    if end > zero_from {
        let request = MapRequest::anonymous(
            zero_from,
            end - zero_from,
            segment.prot,
            Placement::FixedNoReplace,
        );
        mm.map(request)?;
    }
    Ok(())
}

fn map_stack(mm: &MemoryManager, top: u64, len: u64, executable: bool) -> Result<(), Errno> {
    let mut prot = Prot::READ | Prot::WRITE;
    prot.set(Prot::EXEC, executable);
    let start = top.checked_sub(len).ok_or(Errno::ENOMEM)?;
    if len > mm.limits().stack.load(Ordering::Relaxed).max(len.min(STACK_ROOM)) {
        return Err(Errno::E2BIG);
    }
    let mut request = MapRequest::anonymous(start, len, prot, Placement::Fixed);
    request.flags = VmaFlags::GROWSDOWN | VmaFlags::STACK;
    mm.map(request).map(|_| ())
}

/// Maps the platform's vDSO, if it has one; its address. `has_rseq`: the host's number of the processor is not what
/// `getcpu` says.
fn map_vdso(mm: &MemoryManager, vdso: &VdsoImage, has_rseq: bool) -> Result<Option<u64>, Errno> {
    if vdso.image.is_empty() {
        return Ok(None);
    }
    let len = vdso.image.len() as u64;
    let mut request = MapRequest::anonymous(0, len, Prot::READ | Prot::WRITE, Placement::Anywhere);
    request.flags = VmaFlags::VDSO;
    let at = mm.map(request)?;
    if has_rseq {
        mm.copy_out(UserAddr(at), &vdso.with_getcpu_call())?;
    } else {
        mm.copy_out(UserAddr(at), &vdso.image)?;
    }
    mm.protect(at, len, Prot::READ | Prot::EXEC, false)?;
    Ok(Some(at))
}
