//! What only this platform has: vCPUs that must go round, and tables that guests must not see.
//! All are skipped where there is no KVM.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{KvmPlatform, layout::*, space::KvmSpace, stub};
use crate::{
    AccessKind, AddressSpace, Answers, Backing, Context, MapOp, PlatformError, Prot, Trap,
    memory::MemoryFile,
};

const CODE_AT: u64 = 0x40_0000;
const DATA_AT: u64 = 0x50_0000;

struct Host {
    memory: Arc<MemoryFile>,
    platform: KvmPlatform,
}

impl Host {
    fn new(vcpus: Option<usize>) -> Option<Self> {
        let memory = Arc::new(MemoryFile::new(None).unwrap());
        let made = super::open_kvm()
            .and_then(|device| KvmPlatform::with_vcpus(device, memory.clone(), vcpus));
        match made {
            Ok(platform) => Some(Self { memory, platform }),
            Err(PlatformError::Unsupported(why)) => {
                eprintln!("skipped: {why}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn page(&self) -> Backing {
        Backing::Memory(self.memory.allocate(PAGE, None).unwrap())
    }

    fn guest(&self, code: &[u8]) -> Arc<KvmSpace> {
        let space = Arc::new(KvmSpace::new(self.platform.machine.clone()).unwrap());
        let text = self.memory.allocate(PAGE, None).unwrap();
        self.memory.slice(text).copy_from(code);
        let text = Backing::Memory(text);
        space
            .apply(&[
                map(CODE_AT, text, Prot::READ | Prot::EXEC),
                map(DATA_AT, self.page(), Prot::READ | Prot::WRITE),
            ])
            .unwrap();
        space
    }
}

fn map(addr: u64, backing: Backing, prot: Prot) -> MapOp {
    MapOp::Map { addr, len: PAGE, prot, backing, populate: false }
}

fn context(space: &Arc<KvmSpace>) -> Box<dyn Context> {
    let mut context = space.clone().new_context().unwrap();
    let regs = context.registers().unwrap();
    (regs.rip, regs.rsp, regs.rbx) = (CODE_AT, DATA_AT + PAGE, DATA_AT);
    context
}

fn next(context: &mut dyn Context) -> Trap {
    loop {
        match context.switch().unwrap() {
            Trap::Interrupted => {}
            trap => return trap,
        }
    }
}

#[test]
fn more_spinning_threads_than_vcpus_take_turns() {
    let Some(host) = Host::new(Some(2)) else { return };
    // Until there is something at rbx: cmp byte [rbx], 0; je back; syscall
    let waits = host.guest(&[0x80, 0x3b, 0, 0x74, 0xfb, 0x0f, 0x05]);
    // mov byte [rbx], 1; syscall
    let page = host.memory.allocate(PAGE, None).unwrap();
    host.memory.slice(page).copy_from(&[0xc6, 0x03, 1, 0x0f, 0x05]);
    let backing = Backing::Memory(page);
    waits.apply(&[map(CODE_AT + PAGE, backing, Prot::READ | Prot::EXEC)]).unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..5)
            .map(|n| {
                let space = waits.clone();
                scope.spawn(move || {
                    let mut context = context(&space);
                    context.registers().unwrap().rax = n;
                    next(&mut *context)
                })
            })
            .collect();
        let mut waker = context(&waits);
        waker.registers().unwrap().rip = CODE_AT + PAGE;
        assert!(matches!(next(&mut *waker), Trap::Syscall { .. }));
        for (n, waiting) in (0..).zip(waiting) {
            let trap = waiting.join().unwrap();
            assert!(matches!(trap, Trap::Syscall { number, .. } if number == n), "{trap:x?}");
        }
    });
}

#[test]
fn state_follows_a_context_from_vcpu_to_vcpu() {
    let Some(host) = Host::new(Some(1)) else { return };
    // syscall; jmp back
    let spaces = [host.guest(&[0x0f, 0x05, 0xeb, 0xfc]), host.guest(&[0x0f, 0x05, 0xeb, 0xfc])];
    let mut contexts = spaces.each_ref().map(context);
    for (n, context) in (1u8..).zip(&mut contexts) {
        let state = context.xstate().unwrap();
        state.bytes[512] |= 2;
        state.bytes[160..176].fill(n);
        context.registers().unwrap().fs_base = u64::from(n) << 12;
    }
    for _ in 0..3 {
        for (n, context) in (1u8..).zip(&mut contexts) {
            assert!(matches!(next(&mut **context), Trap::Syscall { .. }));
            assert_eq!(context.xstate().unwrap().bytes[160..176], [n; 16]);
            assert_eq!(context.registers().unwrap().fs_base, u64::from(n) << 12);
        }
    }
}

#[test]
fn the_system_area_is_out_of_a_guests_reach() {
    let Some(host) = Host::new(None) else { return };
    // mov al, [rbx]; mov [rbx], al; jmp rbx
    let space = host.guest(&[0x8a, 0x03, 0x88, 0x03, 0xff, 0xe3]);
    let mut context = context(&space);
    let fixed = [CODE, IDT, SHARED_PDPT, SHARED_PT, FIRST_ROOT, DYNAMIC].map(|at| SYSTEM_VA + at);
    // The first vCPU's way in, and its answers.
    let entry = [ENTRIES_VA, ENTRIES_VA + PAGE + V_ANSWERS];
    for addr in fixed.into_iter().chain(entry) {
        for (rip, access) in [(CODE_AT, AccessKind::Read), (CODE_AT + 2, AccessKind::Write)] {
            let regs = context.registers().unwrap();
            (regs.rip, regs.rbx) = (rip, addr);
            assert_eq!(next(&mut *context), Trap::Fault { addr, access });
        }
    }
    // Nor is it put there by the sentry.
    context.registers().unwrap().rip = stub::SYSCALL_VA;
    assert!(matches!(next(&mut *context), Trap::Exception(info) if info.signal == libc::SIGSEGV));
    // Jumps to all of the stub but the system-call entry, which some hosts cannot tell from SYSCALL.
    let ways_in = (0x3f0..0x4a0).map(|at| ENTRIES_VA + at);
    for addr in (0..0x320).step_by(2).map(|at| SYSTEM_VA + CODE + at).chain(ways_in) {
        if addr == stub::SYSCALL_VA {
            continue;
        }
        let regs = context.registers().unwrap();
        (regs.rip, regs.rbx) = (CODE_AT + 4, addr);
        assert_eq!(next(&mut *context), Trap::Fault { addr, access: AccessKind::Execute });
    }
}

#[test]
fn no_entry_gives_ring_3_the_system_area() {
    fn walk(host: &Host, table: u64, level: u32, rights: u64, pages: &mut Vec<(u64, u64)>) {
        for entry in host.platform.machine.page(table) {
            let entry = entry.load(Ordering::Relaxed);
            if entry & PRESENT == 0 {
                continue;
            }
            let rights = rights & entry;
            if level == 1 || entry & LARGE != 0 {
                pages.push((entry & ADDRESS, rights));
            } else {
                walk(host, entry & ADDRESS, level - 1, rights, pages);
            }
        }
    }
    let Some(host) = Host::new(None) else { return };
    let space = host.guest(&[0x0f, 0x05]);
    assert!(matches!(next(&mut *context(&space)), Trap::Syscall { .. }));
    let mut pages = Vec::new();
    walk(&host, space.target().root, 4, USER | WRITABLE, &mut pages);
    let is_system = |gpa: u64| gpa < VDSO_GPA;
    assert!(pages.iter().filter(|(_, rights)| rights & USER != 0).count() >= 2);
    for (gpa, rights) in pages {
        assert_eq!(rights & USER != 0, !is_system(gpa), "{gpa:#x}");
        let is_vdso = (VDSO_GPA..FILES_GPA).contains(&gpa);
        assert!(!is_vdso || rights & WRITABLE == 0, "{gpa:#x}");
    }
}

/// A host where SYSCALL comes to ring 0.
fn host_that_answers() -> Option<Host> {
    let host = Host::new(None)?;
    let faults = host.platform.machine.syscall_faults.load(Ordering::Relaxed);
    if faults {
        eprintln!("skipped: this host's KVM does not bring SYSCALL to ring 0");
    }
    (!faults).then_some(host)
}

const IDS: Answers = Answers { ids: [11, 12, 13, 14, 15, 16], yields: true };

#[test]
fn ids_are_answered_without_an_exit() {
    let Some(host) = host_that_answers() else { return };
    // mov eax, 39; syscall; mov r8, rax; mov eax, 186; syscall; mov r9, rax; dec rbp; jnz back;
    // mov eax, 102; syscall; mov r10, rax; mov eax, 57; syscall
    let space = host.guest(&[
        0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x49, 0x89, 0xc0, 0xb8, 186, 0, 0, 0, 0x0f, 0x05, 0x49,
        0x89, 0xc1, 0x48, 0xff, 0xcd, 0x75, 0xe7, 0xb8, 102, 0, 0, 0, 0x0f, 0x05, 0x49, 0x89, 0xc2,
        0xb8, 57, 0, 0, 0, 0x0f, 0x05,
    ]);
    let mut context = context(&space);
    let regs = context.registers().unwrap();
    (regs.rbp, regs.rdx, regs.rsi, regs.r12) = (10_000, 1, 2, 3);
    regs.gs_base = 0x1234_5000;
    context.set_answers(Some(IDS));
    let before = host.platform.machine.pool.exits();
    assert!(matches!(next(&mut *context), Trap::Syscall { number: 57, .. }));
    let exits = host.platform.machine.pool.exits() - before;
    assert!(exits < 1000, "{exits} exits for 20,001 calls");
    let regs = *context.registers().unwrap();
    assert_eq!((regs.r8, regs.r9, regs.r10), (11, 12, 13));
    assert_eq!((regs.rdx, regs.rsi, regs.r12, regs.gs_base), (1, 2, 3, 0x1234_5000));
    assert_eq!(regs.rcx, regs.rip);
    // Without answers, and with a number that only looks like one in part, calls leave.
    context.registers().unwrap().rip = CODE_AT;
    context.set_answers(None);
    assert!(matches!(next(&mut *context), Trap::Syscall { number: 39, .. }));
    context.set_answers(Some(IDS));
    for number in [0, 38, 40, 187, 39 + 256, 39 + 512, 39 | 1 << 31, u64::MAX] {
        let regs = context.registers().unwrap();
        (regs.rip, regs.rax) = (CODE_AT + 5, number);
        let wanted = i64::from(number as i32) as u64;
        let trap = next(&mut *context);
        assert!(matches!(trap, Trap::Syscall { number, .. } if number == wanted), "{trap:x?}");
        assert_eq!(context.registers().unwrap().orig_rax, number);
    }
    // A step is seen by whoever steps.
    context.registers().unwrap().rip = CODE_AT + 5;
    context.set_return(39);
    context.set_single_step(true).unwrap();
    assert!(matches!(next(&mut *context), Trap::Syscall { number: 39, .. }));
}

#[test]
fn kicks_in_the_middle_of_answers_change_nothing() {
    let Some(host) = host_that_answers() else { return };
    // mov eax, 39; syscall; cmp eax, 11; je back; ud2
    let space =
        host.guest(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x83, 0xf8, 11, 0x74, 0xf4, 0x0f, 0x0b]);
    let mut context = context(&space);
    context.set_answers(Some(IDS));
    let kicker = context.kicker();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                kicker.kick();
                thread::yield_now();
            }
        });
        let mut calls = 0;
        for _ in 0..1000 {
            match context.switch().unwrap() {
                Trap::Interrupted => {}
                Trap::Syscall { number: 39, .. } => {
                    calls += 1;
                    context.set_return(11);
                }
                trap => panic!("{trap:x?}"),
            }
            assert!((CODE_AT..CODE_AT + 12).contains(&context.registers().unwrap().rip));
        }
        eprintln!("{calls} calls were interrupted before their answer");
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_large_space_goes_at_once_and_its_tables_are_used_again() {
    let Some(host) = Host::new(None) else { return };
    let machine = &host.platform.machine;
    let backing = host.page();
    let fill = |space: &KvmSpace| {
        // Each page in a table of its own.
        let ops: Vec<_> = (10..1000).map(|n| map(n << 21, backing.clone(), Prot::READ)).collect();
        space.apply(&ops).unwrap();
    };
    let exits = || machine.pool.exits();
    let space = host.guest(&[0x0f, 0x05]);
    fill(&space);
    let (before, made) = (exits(), machine.pages_made());
    drop(space);
    assert_eq!(exits(), before, "nothing is cleared yet");
    let space = host.guest(&[0x0f, 0x05]);
    fill(&space);
    assert_eq!(machine.pages_made(), made);
    assert!(matches!(next(&mut *context(&space)), Trap::Syscall { .. }));
    // What is not mapped there is not left from the one before.
    let mut reader = context(&space);
    space.apply(&[MapOp::Unmap { addr: 0, len: 1 << 40 }]).unwrap();
    reader.registers().unwrap().rip = 15 << 21;
    let fault = Trap::Fault { addr: 15 << 21, access: AccessKind::Execute };
    assert_eq!(next(&mut *reader), fault);
}

#[test]
fn empty_tables_are_used_again() {
    let Some(host) = Host::new(None) else { return };
    let space = host.guest(&[0x0f, 0x05]);
    let backing = host.page();
    let mut made = 0;
    for round in 0..200u64 {
        // Each in tables of three levels of its own.
        let addr = (round % 100 + 1) << 39 | 0x1000;
        space.apply(&[map(addr, backing.clone(), Prot::READ)]).unwrap();
        space.apply(&[MapOp::Unmap { addr, len: PAGE }]).unwrap();
        if round == 2 {
            made = host.platform.machine.pages_made();
        }
    }
    assert_eq!(host.platform.machine.pages_made(), made);
    drop(space);
    drop(host.guest(&[0x0f, 0x05]));
    assert_eq!(host.platform.machine.pages_made(), made, "a root, too");
}
