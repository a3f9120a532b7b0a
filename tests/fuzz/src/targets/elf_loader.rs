//! Files that a guest executes: whatever is in them, loading ends in bounded work with an image or an error number; the
//! host is told of whole pages of guest addresses only; and no memory stays when the image goes.
//!
//! An input is: a byte that chooses the stack limit, the length of the program in two bytes, the program, and the rest
//! as the file `/i`, which a program or script may name as its interpreter.

use std::{ops::Range, sync::Arc};

use linux_abi::Errno;
use platform::{
    AddressSpace, Backing, Context, MapOp, PAGE_SIZE, Platform, PlatformError, VdsoImage,
    memory::MemoryFile,
};
use sentry::{
    fs::tmpfs::{Tmpfs, TmpfsOptions},
    kernel::{Credentials, Kernel, SandboxLimits},
    loader::{ExecRequest, Identity, prepare},
    mm::MmLimits,
    vfs::{
        FileDescription, IoSrc, LookupFlags, MountFlags, MountNamespace, OpenHow, PathCx, open,
        open_exec,
    },
};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "elf_loader",
    run,
    seeds,
    max_len: 8192,
    memory: Some(|len| (2 << 20) + 64 * len),
};

const USER: Range<u64> = 0x1_0000..0x7fff_0000_0000;
const CREAT_RDWR: u32 = 0o102;

/// A host that takes every change, and looks whether it is one.
#[derive(Debug)]
struct PretendedSpace;

impl AddressSpace for PretendedSpace {
    fn apply(&self, ops: &[MapOp]) -> Result<(), PlatformError> {
        for op in ops {
            let (MapOp::Map { addr, len, .. }
            | MapOp::Unmap { addr, len }
            | MapOp::Protect { addr, len, .. }) = *op;
            assert!(addr % PAGE_SIZE == 0 && len % PAGE_SIZE == 0 && len > 0, "{op:?}");
            let end = addr.checked_add(len).expect("an end");
            assert!(USER.start <= addr && end <= USER.end, "{op:?}");
            if let MapOp::Map { backing: Backing::Memory(range), .. } = op {
                assert_eq!(range.len(), len);
            }
        }
        Ok(())
    }

    fn clear(&self) -> Result<(), PlatformError> {
        Ok(())
    }

    fn new_context(self: Arc<Self>) -> Result<Box<dyn Context>, PlatformError> {
        Err(PlatformError::Unsupported("nothing runs here".to_owned()))
    }
}

#[derive(Debug)]
struct PretendedPlatform(VdsoImage);

impl Platform for PretendedPlatform {
    fn name(&self) -> &'static str {
        "pretended"
    }

    fn user_range(&self) -> Range<u64> {
        USER
    }

    fn new_address_space(&self) -> Result<Arc<dyn AddressSpace>, PlatformError> {
        Ok(Arc::new(PretendedSpace))
    }

    fn vdso(&self) -> &VdsoImage {
        &self.0
    }
}

fn put(cx: &PathCx, path: &[u8], content: &[u8]) {
    let how = OpenHow::open(CREAT_RDWR, 0o755).expect("flags");
    let file: Arc<FileDescription> = open(cx, cx.cwd(), path, &how).expect("a file");
    let mut content = IoSrc::kernel(content);
    while !content.is_empty() {
        file.ops().write(&file, 0, &mut content).expect("room");
    }
}

fn run(data: &[u8]) {
    let [choice, low, high, rest @ ..] = data else { return };
    let len = usize::from(u16::from_le_bytes([*low, *high]));
    let (program, interpreter) = rest.split_at(len.min(rest.len()));
    let memory = Arc::new(MemoryFile::new(None).expect("memory"));
    {
        let image = vec![0; PAGE_SIZE as usize].into();
        let platform = Arc::new(PretendedPlatform(VdsoImage { image, sigreturn_offset: 0 }));
        let kernel = Kernel::new(platform, memory.clone(), SandboxLimits::default());
        let root = Tmpfs::new(&kernel.storage(), TmpfsOptions::with_mode(0o755));
        let namespace = MountNamespace::new(root, MountFlags::empty(), b"fuzz");
        let cx = PathCx::at_root(&namespace, Credentials::root());
        put(&cx, b"/p", program);
        put(&cx, b"/i", interpreter);
        load(&kernel, &cx, *choice);
    }
    assert_eq!(memory.used(), 0, "memory stays");
}

fn load(kernel: &Kernel, cx: &PathCx, choice: u8) {
    let stack_limit = [8 << 20, 0, PAGE_SIZE, u64::MAX][usize::from(choice % 4)];
    let opener = |path: &[u8]| open_exec(cx, cx.cwd(), path, LookupFlags::FOLLOW);
    let request = ExecRequest {
        file: opener(b"/p").expect("an executable file"),
        path: b"/p".to_vec(),
        argv: vec![b"p".to_vec(), vec![b'x'; usize::from(choice)]],
        envp: vec![b"A=b".to_vec()],
        stack_limit,
    };
    let prepared = match prepare(request, &opener) {
        Ok(prepared) => prepared,
        Err(error) => {
            let errno = error.errno();
            let known = [Errno::ENOEXEC, Errno::E2BIG, Errno::ELOOP, Errno::ELIBBAD];
            // And those of opening an interpreter by a name that the file chose.
            let opening = [Errno::ENOENT, Errno::EACCES, Errno::ENOTDIR, Errno::ENAMETOOLONG];
            assert!(known.contains(&errno) || opening.contains(&errno), "{errno:?}");
            return;
        }
    };
    assert!(prepared.comm().len() <= 15);
    let space = kernel.platform().new_address_space().expect("pretended");
    let identity = Identity::default();
    if let Ok(image) = prepared.load(kernel, space, &identity, &MmLimits::default(), false) {
        assert_eq!(image.stack_pointer % 16, 0);
        assert!(USER.contains(&image.stack_pointer));
    }
}

struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

fn elf(kind: u16, segments: &[Segment], tail: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(62_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for word in [0x40_1040_u64, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, segments.len() as u16, 64, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    for segment in segments {
        bytes.extend(segment.kind.to_le_bytes());
        bytes.extend(segment.flags.to_le_bytes());
        let Segment { offset, vaddr, filesz, memsz, align, .. } = *segment;
        for word in [offset, vaddr, vaddr, filesz, memsz, align] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.extend(tail);
    bytes
}

/// Programs of each kind.
fn seeds() -> Vec<Vec<u8>> {
    const LOAD: u32 = 1;
    const INTERP: u32 = 3;
    const STACK: u32 = 0x6474_e551;
    let base = |at: u64| {
        vec![
            Segment {
                kind: LOAD,
                flags: 5,
                offset: 0,
                vaddr: at,
                filesz: 0x200,
                memsz: 0x200,
                align: 0x1000,
            },
            Segment {
                kind: LOAD,
                flags: 6,
                offset: 0x200,
                vaddr: at + 0x1200,
                filesz: 0x40,
                memsz: 0x3000,
                align: 0x1000,
            },
            Segment { kind: STACK, flags: 6, offset: 0, vaddr: 0, filesz: 0, memsz: 0, align: 16 },
        ]
    };
    let tail = [0x90; 0x300];
    let fixed = elf(2, &base(0x40_0000), &tail);
    let relocatable = elf(3, &base(0), &tail);
    let mut segments = base(0);
    let at = 64 + 56 * 4;
    segments.push(Segment {
        kind: INTERP,
        flags: 4,
        offset: at,
        vaddr: at,
        filesz: 3,
        memsz: 3,
        align: 1,
    });
    let mut dynamic = elf(3, &segments, b"/i\0");
    dynamic.extend(tail);
    segments.truncate(2);
    segments.push(Segment {
        kind: LOAD,
        flags: 6,
        offset: 0,
        vaddr: 0x9000,
        filesz: 0,
        memsz: 0x2_0000_0000,
        align: 0x20_0000,
    });
    let large = elf(3, &segments, &tail);
    let pairs: [(&[u8], &[u8]); 8] = [
        (&fixed, b""),
        (&relocatable, b""),
        (&dynamic, &relocatable),
        (&dynamic, &fixed),
        (&large, b""),
        (b"#!/i -x\n", &relocatable),
        (b"#! /i", b"#!/p a b\n"),
        (b"#!/i\n", &dynamic),
    ];
    let input = |(program, interpreter): (&[u8], &[u8])| {
        let mut bytes = vec![0];
        bytes.extend((program.len() as u16).to_le_bytes());
        bytes.extend(program);
        bytes.extend(interpreter);
        bytes
    };
    pairs.into_iter().map(input).collect()
}
