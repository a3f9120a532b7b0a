//! A hostile guest thread: it writes what it likes into its slot, which the sentry reads, and then jumps where it likes, into
//! the stub as well, with registers of its choice. Whatever the platform makes of it, it comes back with a trap or an error;
//! registers and extended state that it hands out are such as a processor can load; and other guests run on as before.
//!
//! An input is the platform, then steps: what is written where, where to go on with which registers, and what the
//! sentry does about the trap that comes of it.

use std::{
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use arbitrary::Unstructured;
use platform::{
    AddressSpace, Backing, Context, Kick, MapOp, Platform, PlatformKind, Prot, Registers, Trap,
    memory::{FileRange, MemoryFile},
};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "stub_context",
    run,
    seeds,
    max_len: 2048,
    // A stub process for each input, and what it takes to talk to it.
    memory: None,
};

const CODE: u64 = 0x40_0000;
const DATA: u64 = 0x50_0000;
const PAGE: u64 = 4096;
/// Where detours of rewritten calls go.
const DETOURS: u64 = CODE + (2 << 20);
const DETOURS_LEN: u64 = 64 << 10;
/// The stub's code, its constants and orders, and slots (`platform/src/stub/layout.rs`).
const TEXT: u64 = 0x7fff_f000_0000;
const CONST: u64 = 0x7fff_f001_0000;
const SLOTS: u64 = 0x7fff_4000_0000;
const SLOT_SIZE: u64 = 32 << 10;
/// Steps of one input, at most: each may have to be cut short by a kick.
const STEPS: usize = 8;
/// A guest that computes is interrupted that often.
const KICKS: Duration = Duration::from_millis(1);

/// Writes `rcx` bytes from `rsi` at `r11` in the slot, and goes to `r15` with three registers replaced. Behind it, what else there is
/// to do.
const PROGRAM: &[(u64, &[u8])] = &[
    // rdgsbase rdi; add rdi, r11; rep movsb; mov rdi, r12; mov rsi, r13; mov rcx, r14; jmp r15
    (
        0,
        &[
            0xf3, 0x48, 0x0f, 0xae, 0xcf, 0x4c, 0x01, 0xdf, 0xf3, 0xa4, 0x4c, 0x89, 0xe7, 0x4c,
            0x89, 0xee, 0x4c, 0x89, 0xf1, 0x41, 0xff, 0xe7,
        ],
    ),
    (32, &[0x0f, 0x05, 0x0f, 0x0b]),             // syscall; ud2
    (48, &[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0]), // mov rax, [0]
    (64, &[0xcd, 0x80, 0x0f, 0x0b]),             // int 0x80; ud2
    (80, &[0xcc, 0xeb, 0xfd]),                   // int3; jmp
    (96, &[0xeb, 0xfe]),                         // jmp
    (112, &[0xf3, 0x48, 0x0f, 0xae, 0xdf, 0x0f, 0x05, 0x0f, 0x0b]), // wrgsbase rdi; syscall; ud2
    (SITE, &[0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xeb, 0xf6]), // syscall; cmp rax, -4095; jmp
];
/// The call that is rewritten.
const SITE: u64 = 128;

/// One platform, with a guest that is to notice nothing.
struct Host {
    memory: Arc<MemoryFile>,
    platform: Arc<dyn Platform>,
    kicks: mpsc::Sender<Option<Arc<dyn Kick>>>,
}

impl Host {
    /// `None` where this host cannot run it.
    fn new(kind: PlatformKind) -> Option<Self> {
        let memory = Arc::new(MemoryFile::new(None).expect("a memory file"));
        let platform = platform::create(kind, memory.clone(), None).ok()?;
        let (kicks, kicked) = mpsc::channel();
        thread::spawn(move || {
            let mut current: Option<Arc<dyn Kick>> = None;
            loop {
                match kicked.recv_timeout(KICKS) {
                    Ok(next) => current = next,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        if let Some(kicker) = &current {
                            kicker.kick();
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Some(Self { memory, platform, kicks })
    }

    fn of(is_ptrace: bool) -> Option<&'static Self> {
        static SYSTRAP: OnceLock<Option<Host>> = OnceLock::new();
        static PTRACE: OnceLock<Option<Host>> = OnceLock::new();
        match is_ptrace {
            false => SYSTRAP.get_or_init(|| Self::new(PlatformKind::Systrap)).as_ref(),
            true => PTRACE.get_or_init(|| Self::new(PlatformKind::Ptrace)).as_ref(),
        }
    }
}

/// An address space with the program in it.
struct Guest {
    host: &'static Host,
    space: Arc<dyn AddressSpace>,
    data: FileRange,
    ranges: Vec<FileRange>,
}

fn map(addr: u64, range: FileRange, prot: Prot) -> MapOp {
    MapOp::Map { addr, len: range.len(), prot, backing: Backing::Memory(range), populate: false }
}

impl Guest {
    fn new(host: &'static Host) -> Self {
        let mut page = vec![0xcc; PAGE as usize];
        for (at, code) in PROGRAM {
            page.get_mut(*at as usize..).expect("a page")[..code.len()].copy_from_slice(code);
        }
        let space = host.platform.new_address_space().expect("an address space");
        let allocate = |len| host.memory.allocate(len, None).expect("memory");
        let (text, data) = (allocate(PAGE), allocate(PAGE));
        let mut ranges = vec![text, data];
        let mut ops = vec![
            map(CODE, text, Prot::READ | Prot::EXEC),
            map(DATA, data, Prot::READ | Prot::WRITE),
        ];
        let room = DETOURS..DETOURS + DETOURS_LEN;
        let rewrite = space.plan_rewrite(CODE + SITE, CODE, &page, room);
        if let Some(rewrite) = &rewrite {
            let at = (rewrite.patch_at - CODE) as usize;
            page[at..at + rewrite.patch.len()].copy_from_slice(&rewrite.patch);
            let detours = allocate(DETOURS_LEN);
            let slice = host.memory.slice(detours);
            let at = (rewrite.detour_at - DETOURS) as usize;
            slice.sub(at, rewrite.detour.len()).copy_from(&rewrite.detour);
            ops.push(map(DETOURS, detours, Prot::READ | Prot::EXEC));
            ranges.push(detours);
        }
        host.memory.slice(text).copy_from(&page);
        space.apply(&ops).expect("mappings");
        if let Some(rewrite) = &rewrite {
            space.note_rewrite(rewrite);
        }
        Self { host, space, data, ranges }
    }

    fn context(&self) -> Box<dyn Context> {
        self.space.clone().new_context().expect("a context")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // The guest's mappings of it are gone before others get it.
        let _ = self.space.clear();
        for range in self.ranges.drain(..) {
            self.host.memory.release(range);
        }
    }
}

/// What a step does.
struct Step<'a> {
    offset: u64,
    bytes: &'a [u8],
    then: u64,
    rax: u64,
    registers: [u64; 3],
    after: u8,
}

fn step<'a>(input: &mut Unstructured<'a>) -> arbitrary::Result<Step<'a>> {
    let [target, place, after] = input.arbitrary::<[u8; 3]>()?;
    let offset = u64::from(input.arbitrary::<u16>()?) % SLOT_SIZE;
    let len = usize::from(input.arbitrary::<u16>()?) % 1024;
    let inside = u64::from(input.arbitrary::<u16>()?) % PAGE;
    let (wanted, _) = PROGRAM[usize::from(target) % PROGRAM.len()];
    let then = match target / 64 {
        0 | 1 => CODE + wanted,
        2 => TEXT + inside,
        _ => {
            [DATA, CONST, SLOTS, 0, 1 << 47, u64::MAX, TEXT + PAGE, DETOURS][usize::from(place % 8)]
        }
    };
    let rax = input.arbitrary::<u16>()?.into();
    let mut registers = [0; 3];
    for register in &mut registers {
        let value = input.arbitrary::<u32>()?;
        // Near something of importance, or far from anything.
        *register = match value >> 29 {
            0 => u64::from(value),
            1 => DATA + u64::from(value % 8192),
            2 => SLOTS + u64::from(value % (4 << 15)),
            3 => TEXT + u64::from(value % 8192),
            4 => CODE + u64::from(value % 256),
            _ => u64::from(value) << 33 | u64::from(value),
        };
    }
    let bytes = input.bytes(len.min(input.len()))?;
    Ok(Step { offset, bytes, then, rax, registers, after })
}

fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(kind) = input.arbitrary::<u8>() else { return };
    let Some(host) = Host::of(kind % 8 == 7) else { return };
    let (witness, guest) = (Guest::new(host), Guest::new(host));
    let mut seen = witness.context();
    witness_call(&mut *seen, 1);
    {
        let mut context = guest.context();
        let _ = host.kicks.send(Some(context.kicker()));
        for _ in 0..STEPS {
            let Ok(step) = step(&mut input) else { break };
            if attack(&guest, &mut *context, &step).is_none() {
                break;
            }
        }
        let _ = host.kicks.send(None);
    }
    witness_call(&mut *seen, 2);
}

/// An honest guest makes a system call.
fn witness_call(context: &mut dyn Context, number: u64) {
    let registers = context.registers().expect("registers of an honest guest");
    (registers.rip, registers.rax, registers.r15) = (CODE + 32, number, number << 40);
    for _ in 0..1000 {
        match context.switch().expect("an honest guest runs") {
            Trap::Interrupted => {}
            trap => {
                assert!(matches!(trap, Trap::Syscall { number: made, .. } if made == number));
                break;
            }
        }
    }
    let registers = context.registers().expect("registers of an honest guest");
    assert_eq!((registers.rip, registers.r15), (CODE + 34, number << 40));
}

/// One step; `None` when the guest is no more.
fn attack(guest: &Guest, context: &mut dyn Context, step: &Step<'_>) -> Option<()> {
    let data = guest.host.memory.slice(guest.data);
    data.sub(0, step.bytes.len()).copy_from(step.bytes);
    let set = |registers: &mut Registers| {
        let own = *registers;
        *registers =
            Registers { eflags: 0x202, fs_base: own.fs_base, cs: own.cs, ss: own.ss, ..own };
        (registers.rip, registers.rax) = (CODE, step.rax);
        (registers.rsi, registers.rcx, registers.r11) =
            (DATA, step.bytes.len() as u64, step.offset);
        [registers.r12, registers.r13, registers.r14] = step.registers;
        registers.r15 = step.then;
        registers.rsp = if step.after & 64 != 0 { step.registers[0] } else { DATA + PAGE };
    };
    if step.after & 128 == 0 {
        set(context.registers().ok()?);
    }
    for round in 0..4u8 {
        let trap = context.switch().ok()?;
        if let Trap::Syscall { number, .. } = trap {
            context.set_return(number ^ u64::from(round));
        }
        match step.after.rotate_right(round.into()) % 8 {
            0 => return Some(()),
            1 => check_registers(context.registers().ok()?),
            2 => check_state(&context.xstate().ok()?.bytes),
            3 => {
                check_registers(context.registers().ok()?);
                check_state(&context.xstate().ok()?.bytes);
            }
            4 => context.set_single_step(round % 2 == 0).ok()?,
            5 => {
                let state = context.xstate().ok()?;
                let len = state.bytes.len().min(step.bytes.len());
                state.bytes[..len].copy_from_slice(&step.bytes[..len]);
            }
            6 => {
                let registers = context.registers().ok()?;
                (registers.gs_base, registers.fs_base) = (step.registers[0], step.registers[1]);
            }
            _ => set(context.registers().ok()?),
        }
    }
    Some(())
}

fn check_registers(registers: &Registers) {
    const SEGMENTS: [u64; 3] = [0x23, 0x2b, 0x33];
    assert!(SEGMENTS.contains(&registers.ss), "{registers:x?}");
}

/// What XRSTOR would fault on (Intel SDM, volume 1, 13.8): compaction, and reserved bytes of the header.
fn check_state(bytes: &[u8]) {
    let header = bytes.get(512..576).expect("a header");
    assert!(header[8..].iter().all(|byte| *byte == 0), "{header:x?}");
}

/// A step of each kind, on both platforms.
fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for kind in [0, 7] {
        for (target, place) in (0..8).map(|n| (n, 0)).chain([(128, 0), (192, 0), (192, 4)]) {
            for after in [0x00, 0x53, 0x1b, 0x2c, 0x77] {
                let mut input = vec![kind];
                for (offset, fill) in [(0u16, 0u8), (64, 1), (16 << 10, 0xff), (384, 0x40)] {
                    input.extend([target, place, after]);
                    input.extend(offset.to_le_bytes());
                    input.extend(160u16.to_le_bytes());
                    input.extend(0x100u16.to_le_bytes());
                    input.extend(39u16.to_le_bytes());
                    input.extend([1, 0, 0, 0x20, 2, 0, 0, 0x40, 3, 0, 0, 0x60]);
                    input.extend([fill; 160]);
                }
                all.push(input);
            }
        }
    }
    all
}
