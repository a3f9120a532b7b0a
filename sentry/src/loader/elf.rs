//! ELF files (elf(5)). Everything in them is hostile: each number is checked before it is used.

use linux_abi::Errno;
use platform::{PAGE_SIZE, Prot};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::read_at;
use crate::{SysResult, vfs::FileDescription};

/// `Elf64_Ehdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

/// `Elf64_Phdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_PHDR: u32 = 6;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
/// All program headers together, in bytes (ELF_MIN_ALIGN of 64-bit Linux is a page; this is its limit).
const PROGRAM_HEADERS_MAX: usize = 64 << 10;

/// A PT_LOAD segment. `vaddr + memsz` does not overflow, `filesz ≤ memsz`, and `vaddr` and `offset` agree in
/// their distance from a page boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) vaddr: u64,
    pub(super) offset: u64,
    pub(super) filesz: u64,
    pub(super) memsz: u64,
    pub(super) prot: Prot,
}

/// What of an ELF file matters for running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Elf {
    /// May be put anywhere (ET_DYN).
    pub(super) is_relocatable: bool,
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment>,
    /// PT_INTERP, without the NUL.
    pub(super) interpreter: Option<Vec<u8>>,
    /// PT_GNU_STACK asks for an executable stack.
    pub(super) is_stack_executable: bool,
    /// Where the program headers are, as an address in the image; 0 when they are in no segment.
    pub(super) phdr_vaddr: u64,
    pub(super) phnum: u16,
    /// Largest alignment a segment asks for; at least a page, a power of two.
    pub(super) align: u64,
}

impl Elf {
    /// Reads and checks the headers; `bad` for a file that is not a sound ELF file for this machine.
    pub(super) fn read(file: &FileDescription, bad: Errno) -> SysResult<Self> {
        // Headers, program headers and the interpreter's path are nearly always in the first page.
        let mut head = vec![0; PAGE_SIZE as usize];
        let got = read_at(file, 0, &mut head)?;
        head.truncate(got);
        let read = |offset: u64, buffer: &mut [u8]| -> SysResult<bool> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let end = start.saturating_add(buffer.len());
            if let Some(bytes) = head.get(start..end) {
                buffer.copy_from_slice(bytes);
                return Ok(true);
            }
            Ok(read_at(file, offset, buffer)? == buffer.len())
        };
        let mut bytes = [0; size_of::<Header>()];
        if !read(0, &mut bytes)? {
            return Err(bad.into());
        }
        let header = Header::read_from_bytes(&bytes).map_err(|_| bad)?;
        let count = check_header(&header).ok_or(bad)?;
        let mut table = vec![0; count * size_of::<ProgramHeader>()];
        if !read(header.phoff, &mut table)? {
            return Err(bad.into());
        }
        let (mut elf, interpreter) = Self::parse(&header, &table).ok_or(bad)?;
        if let Some((offset, len)) = interpreter {
            let mut path = vec![0; len];
            if !read(offset, &mut path)? || path.pop() != Some(0) {
                return Err(bad.into());
            }
            // The name ends at the first NUL, wherever the segment ends.
            let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
            path.truncate(end);
            elf.interpreter = Some(path);
        }
        Ok(elf)
    }

    /// From the headers alone: also where the interpreter's path is and how long, with its NUL.
    fn parse(header: &Header, table: &[u8]) -> Option<(Self, Option<(u64, usize)>)> {
        let mut elf = Self {
            is_relocatable: header.kind == ET_DYN,
            entry: header.entry,
            segments: Vec::new(),
            interpreter: None,
            is_stack_executable: false,
            phdr_vaddr: 0,
            phnum: header.phnum,
            align: PAGE_SIZE,
        };
        let mut interpreter = None;
        let mut phdr_segment = None;
        for entry in table.chunks_exact(size_of::<ProgramHeader>()) {
            let program = ProgramHeader::read_from_bytes(entry).ok()?;
            match program.kind {
                PT_LOAD => {
                    if program.align.is_power_of_two() {
                        elf.align = elf.align.max(program.align);
                    }
                    elf.segments.extend(segment(&program)?);
                }
                PT_INTERP if interpreter.is_none() => {
                    let len = usize::try_from(program.filesz).ok()?;
                    if !(2..=libc::PATH_MAX as usize).contains(&len) {
                        return None;
                    }
                    interpreter = Some((program.offset, len));
                }
                PT_PHDR => phdr_segment = Some(program.vaddr),
                PT_GNU_STACK => elf.is_stack_executable = program.flags & PF_X != 0,
                _ => {}
            }
        }
        // Linux maps in file order and takes the segments to ascend.
        if elf.segments.is_empty()
            || !elf.segments.is_sorted_by(|a, b| a.vaddr.saturating_add(a.memsz) <= b.vaddr)
        {
            return None;
        }
        let table_end = header.phoff.checked_add(table.len() as u64)?;
        let holds = |s: &&Segment| {
            s.offset <= header.phoff && table_end <= s.offset.saturating_add(s.filesz)
        };
        elf.phdr_vaddr = phdr_segment.or_else(|| {
            elf.segments.iter().find(holds).map(|s| s.vaddr.wrapping_add(header.phoff - s.offset))
        })?;
        Some((elf, interpreter))
    }

    /// Addresses that the segments cover, in whole pages, before relocation.
    pub(super) fn span(&self) -> Option<std::ops::Range<u64>> {
        let (first, last) = (self.segments.first()?, self.segments.last()?);
        let end = last.vaddr.checked_add(last.memsz)?.checked_next_multiple_of(PAGE_SIZE)?;
        Some(first.vaddr & !(PAGE_SIZE - 1)..end)
    }
}

/// The number of program headers of a header that is good for this machine.
fn check_header(header: &Header) -> Option<usize> {
    let count = usize::from(header.phnum);
    let size = count.checked_mul(size_of::<ProgramHeader>())?;
    let good = header.ident.starts_with(MAGIC)
        && matches!(header.kind, ET_EXEC | ET_DYN)
        && header.machine == EM_X86_64
        && usize::from(header.phentsize) == size_of::<ProgramHeader>()
        && (1..=PROGRAM_HEADERS_MAX).contains(&size);
    good.then_some(count)
}

/// A PT_LOAD header as a segment; the inner `None` for an empty one.
#[expect(clippy::option_option, reason = "bad, or good but nothing to map")]
fn segment(program: &ProgramHeader) -> Option<Option<Segment>> {
    if program.memsz == 0 {
        return Some(None);
    }
    let end = program.vaddr.checked_add(program.memsz)?.checked_next_multiple_of(PAGE_SIZE)?;
    let file_end =
        program.offset.checked_add(program.filesz)?.checked_next_multiple_of(PAGE_SIZE)?;
    let agrees = program.filesz == 0 || program.vaddr % PAGE_SIZE == program.offset % PAGE_SIZE;
    if program.filesz > program.memsz || !agrees || end > 1 << 47 || file_end > 1 << 62 {
        return None;
    }
    let mut prot = Prot::empty();
    prot.set(Prot::READ, program.flags & PF_R != 0);
    prot.set(Prot::WRITE, program.flags & PF_W != 0);
    prot.set(Prot::EXEC, program.flags & PF_X != 0);
    Some(Some(Segment {
        vaddr: program.vaddr,
        offset: program.offset,
        filesz: program.filesz,
        memsz: program.memsz,
        prot,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn header(kind: u16, phnum: u16) -> Header {
        let mut header = Header::new_zeroed();
        header.ident[..6].copy_from_slice(MAGIC);
        (header.kind, header.machine, header.phentsize) = (kind, EM_X86_64, 56);
        (header.phnum, header.phoff, header.entry) = (phnum, 64, 0x1040);
        header
    }

    fn load(vaddr: u64, offset: u64, filesz: u64, memsz: u64) -> ProgramHeader {
        let flags = PF_R | PF_X;
        ProgramHeader {
            kind: PT_LOAD,
            flags,
            offset,
            vaddr,
            paddr: 0,
            filesz,
            memsz,
            align: 0x1000,
        }
    }

    fn parse(programs: &[ProgramHeader]) -> Option<Elf> {
        let header = header(ET_DYN, programs.len() as u16);
        check_header(&header)?;
        Elf::parse(&header, programs.as_bytes()).map(|(elf, _)| elf)
    }

    #[test]
    fn a_plain_file_gives_its_segments() {
        let elf = parse(&[load(0, 0, 0x1000, 0x1000), load(0x2010, 0x1010, 0x10, 0x3000)]).unwrap();
        assert_eq!(elf.span(), Some(0..0x6000));
        assert_eq!((elf.segments.len(), elf.phdr_vaddr), (2, 64));
    }

    #[test]
    fn senseless_segments_are_refused() {
        for bad in [
            load(0, 0, 0x2000, 0x1000),
            load(u64::MAX - 10, 0, 0, 100),
            load(1 << 47, 0, 0, 100),
            load(0x10, 0x20, 0x10, 0x10),
            load(0, u64::MAX - 0x2fff, 0x2fff, 0x3000),
        ] {
            assert_eq!(parse(&[load(0, 0, 0x1000, 0x1000), bad]), None, "{bad:?}");
        }
        assert_eq!(parse(&[load(0x1000, 0, 0x1000, 0x1000), load(0, 0, 16, 16)]), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn foreign_headers_are_refused() {
        assert!(check_header(&header(ET_DYN, 1)).is_some());
        assert!(check_header(&header(1, 1)).is_none());
        assert!(check_header(&header(ET_EXEC, 0)).is_none());
        assert!(check_header(&header(ET_EXEC, u16::MAX)).is_none());
        let foreign = Header { machine: 3, ..header(ET_EXEC, 1) };
        assert!(check_header(&foreign).is_none());
    }

    #[test]
    fn noise_never_panics() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..20_000 {
            let mut table = [0_u8; 56 * 3];
            for byte in &mut table {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                *byte = if seed & 0x300 == 0 { (seed >> 32) as u8 } else { 0 };
            }
            table[0] = 1;
            if let Some((elf, _)) = Elf::parse(&header(ET_DYN, 3), &table) {
                assert!(elf.span().is_some_and(|span| !span.is_empty()));
            }
        }
    }
}
