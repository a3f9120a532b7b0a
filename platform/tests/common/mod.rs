//! A guest made by hand: code bytes in memory-file pages, a stack, one context.

#![allow(dead_code, unreachable_pub, reason = "each test program uses some of it")]

use std::sync::Arc;

use platform::{
    AddressSpace, Backing, Context, MapOp, Platform, PlatformError, PlatformKind, Prot, Trap,
    memory::{FileRange, MemoryFile},
};

pub const CODE: u64 = 0x40_0000;
pub const DATA: u64 = 0x50_0000;
pub const PAGE: u64 = 4096;

pub struct Host {
    pub memory: Arc<MemoryFile>,
    pub platform: Arc<dyn Platform>,
}

impl Host {
    /// `None` when the host cannot run this platform; the test is then skipped.
    pub fn new(kind: PlatformKind) -> Option<Self> {
        let memory = Arc::new(MemoryFile::new(None).unwrap());
        match platform::create(kind, memory.clone(), None) {
            Ok(platform) => Some(Self { memory, platform }),
            Err(PlatformError::Unsupported(why)) => {
                eprintln!("skipped: {why}");
                None
            }
            Err(error) => panic!("{kind:?}: {error}"),
        }
    }

    /// An address space with `code` at [`CODE`] and one page of data at [`DATA`].
    pub fn guest(&self, code: &[u8]) -> Guest {
        let space = self.platform.new_address_space().unwrap();
        let len = (code.len() as u64).next_multiple_of(PAGE);
        let text = self.memory.allocate(len, None).unwrap();
        self.memory.slice(text).copy_from(code);
        let data = self.memory.allocate(PAGE, None).unwrap();
        let map = |addr, range: FileRange, prot| MapOp::Map {
            addr,
            len: range.len(),
            prot,
            backing: Backing::Memory(range),
            populate: false,
        };
        space
            .apply(&[
                map(CODE, text, Prot::READ | Prot::EXEC),
                map(DATA, data, Prot::READ | Prot::WRITE),
            ])
            .unwrap();
        Guest { memory: self.memory.clone(), space, data }
    }
}

pub struct Guest {
    pub memory: Arc<MemoryFile>,
    pub space: Arc<dyn AddressSpace>,
    pub data: FileRange,
}

impl Guest {
    /// A context about to run at `offset` of the code, its stack at the end of the data.
    pub fn context(&self, offset: u64) -> Box<dyn Context> {
        let mut context = self.space.clone().new_context().unwrap();
        let regs = context.registers().unwrap();
        regs.rip = CODE + offset;
        regs.rsp = DATA + PAGE;
        context
    }

    /// Rewrites the system call at `offset` of the code, whose bytes are `code`. False where the
    /// platform does not do that.
    pub fn rewrite(&self, code: &[u8], offset: u64) -> bool {
        const ROOM: u64 = CODE + (2 << 20);
        let mut page = code.to_vec();
        page.resize(PAGE as usize, 0);
        let room = ROOM..ROOM + (64 << 10);
        let Some(rewrite) = self.space.plan_rewrite(CODE + offset, CODE, &page, room.clone())
        else {
            return false;
        };
        let text = self.memory.allocate(PAGE, None).unwrap();
        let at = (rewrite.patch_at - CODE) as usize;
        page[at..at + rewrite.patch.len()].copy_from_slice(&rewrite.patch);
        self.memory.slice(text).copy_from(&page);
        let detours = self.memory.allocate(room.end - room.start, None).unwrap();
        let slice = self.memory.slice(detours);
        slice.sub((rewrite.detour_at - ROOM) as usize, 64).copy_from(&rewrite.detour);
        let map = |addr, range: FileRange| MapOp::Map {
            addr,
            len: range.len(),
            prot: Prot::READ | Prot::EXEC,
            backing: Backing::Memory(range),
            populate: false,
        };
        self.space.apply(&[map(ROOM, detours), map(CODE, text)]).unwrap();
        self.space.note_rewrite(&rewrite);
        true
    }

    pub fn data_u64(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory.slice(self.data).sub(offset, 8).copy_to(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

/// The next trap that is not a spurious interruption.
pub fn next(context: &mut dyn Context) -> Trap {
    for _ in 0..10 {
        match context.switch().unwrap() {
            Trap::Interrupted => {}
            trap => return trap,
        }
    }
    panic!("only interruptions");
}

/// The number and arguments of the system call that must come next.
pub fn next_syscall(context: &mut dyn Context) -> (u64, [u64; 6]) {
    match next(context) {
        Trap::Syscall { number, args, .. } => (number, args),
        other => panic!("no system call: {other:x?}"),
    }
}
