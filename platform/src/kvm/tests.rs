//! What only this platform has: vCPUs that must go round, and tables that guests must not see.
//! All are skipped where there is no KVM.

use std::{sync::Arc, thread};

use super::{KvmPlatform, layout::*, space::KvmSpace, stub};
use crate::{
    AccessKind, AddressSpace, Backing, Context, MapOp, PlatformError, Prot, Trap,
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
    for addr in [CODE, IDT, SHARED_PDPT, SHARED_PT, FIRST_ROOT, DYNAMIC].map(|at| SYSTEM_VA + at) {
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
    for addr in (0..0x320).step_by(2).map(|at| SYSTEM_VA + CODE + at) {
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
    fn walk(host: &Host, table: u64, level: u32, is_user: bool, pages: &mut Vec<(u64, bool)>) {
        for entry in host.platform.machine.page(table) {
            let entry = entry.load(std::sync::atomic::Ordering::Relaxed);
            if entry & PRESENT == 0 {
                continue;
            }
            let is_user = is_user && entry & USER != 0;
            if level == 1 || entry & LARGE != 0 {
                pages.push((entry & ADDRESS, is_user));
            } else {
                walk(host, entry & ADDRESS, level - 1, is_user, pages);
            }
        }
    }
    let Some(host) = Host::new(None) else { return };
    let space = host.guest(&[0x0f, 0x05]);
    assert!(matches!(next(&mut *context(&space)), Trap::Syscall { .. }));
    let mut pages = Vec::new();
    walk(&host, space.target().root, 4, true, &mut pages);
    let is_system = |gpa: u64| gpa < FILES_GPA;
    assert!(pages.iter().filter(|(_, is_user)| *is_user).count() >= 2);
    for (gpa, is_user) in pages {
        assert_eq!(is_user, !is_system(gpa), "{gpa:#x}");
    }
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
