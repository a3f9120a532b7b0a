//! What each platform must do, with guest code made by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use common::*;
use platform::{
    AccessKind, Backing, Context, MapOp, PlatformError, PlatformKind, Prot, Trap, host,
    host::Parker,
};

/// Runs each test on each platform.
macro_rules! on_all_platforms {
    ($($name:ident),* $(,)?; with_stub_processes: $($stub:ident),* $(,)?) => {
        mod systrap {
            $(#[test] fn $name() { super::run(platform::PlatformKind::Systrap, super::$name) })*
            $(#[test] fn $stub() { super::run(platform::PlatformKind::Systrap, super::$stub) })*
        }
        mod kvm { $(#[test] fn $name() { super::run(platform::PlatformKind::Kvm, super::$name) })* }
        mod ptrace {
            $(#[test] fn $name() { super::run(platform::PlatformKind::Ptrace, super::$name) })*
            $(#[test] fn $stub() { super::run(platform::PlatformKind::Ptrace, super::$stub) })*
        }
    };
}

fn run(kind: PlatformKind, test: fn(&Host)) {
    if let Some(host) = Host::new(kind) {
        test(&host);
    }
}

on_all_platforms! {
    syscall_arguments_and_result,
    registers_after_a_syscall_can_be_changed,
    int80_is_a_compat_call,
    results_that_look_like_restarts_are_kept,
    a_fault_is_resolved_by_mapping,
    unmap_and_protect_take_effect,
    execution_of_data_faults,
    exceptions_have_signal_and_code,
    vector_state_survives_and_can_be_changed,
    segment_bases_are_kept,
    a_spinning_guest_can_be_kicked,
    kicks_before_entry_are_not_lost,
    kicks_never_lose_a_result,
    many_contexts_in_one_space,
    many_spaces,
    stub_code_does_nothing_for_a_guest,
    clear_leaves_nothing,
    a_renewed_space_keeps_nothing,
    a_context_can_move,
    single_steps,
    new_contexts_start_clean,
    many_changes_in_one_batch,
    a_file_that_became_shorter_is_a_bus_error,
    the_vdso_reads_the_clock_without_a_call;
    with_stub_processes:
    a_killed_stub_is_an_error,
}

/// `syscall` then a jump back to it.
const LOOP: &[u8] = &[0x0f, 0x05, 0xeb, 0xfc];

fn syscall_arguments_and_result(host: &Host) {
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.rax, regs.rdi, regs.rsi, regs.rdx) = (39, 1, 2, 3);
    (regs.r10, regs.r8, regs.r9) = (4, 5, u64::MAX);
    assert_eq!(next_syscall(&mut *context), (39, [1, 2, 3, 4, 5, u64::MAX]));
    // The result is the next call's number.
    context.set_return(231);
    assert_eq!(next_syscall(&mut *context).0, 231);
    for number in 0..100 {
        context.set_return(number);
        assert_eq!(next_syscall(&mut *context).0, number);
    }
}

fn registers_after_a_syscall_can_be_changed(host: &Host) {
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    regs.rax = 7;
    (regs.rbx, regs.rbp, regs.r12, regs.r13, regs.r14, regs.r15) = (1, 2, 3, 4, 5, 6);
    next_syscall(&mut *context);
    let regs = *context.registers().unwrap();
    assert_eq!((regs.rax, regs.orig_rax, regs.rip), (7, 7, CODE + 2));
    assert_eq!((regs.rbx, regs.rbp, regs.r12, regs.r13, regs.r14, regs.r15), (1, 2, 3, 4, 5, 6));
    assert_eq!(regs.rsp, DATA + PAGE);
    assert_eq!((regs.cs, regs.ss), (0x33, 0x2b));
    assert_eq!(regs.rcx, CODE + 2);
    context.set_return(11);
    let regs = context.registers().unwrap();
    assert_eq!(regs.rax, 11);
    regs.rdi = 77;
    regs.rbx = 78;
    let (number, args) = next_syscall(&mut *context);
    assert_eq!((number, args[0]), (11, 77));
    assert_eq!(context.registers().unwrap().rbx, 78);
}

fn int80_is_a_compat_call(host: &Host) {
    let guest = host.guest(&[0xcd, 0x80, 0xeb, 0xfc]);
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.rax, regs.rbx, regs.rcx) = (20, 1, 2);
    let trap = next(&mut *context);
    let Trap::Syscall { number: 20, args, compat: true } = trap else { panic!("{trap:x?}") };
    assert_eq!(args[..2], [1, 2]);
    assert_eq!(context.registers().unwrap().rip, CODE + 2);
}

fn results_that_look_like_restarts_are_kept(host: &Host) {
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    let kicker = context.kicker();
    for code in [512i64, 513, 514, 516] {
        next_syscall(&mut *context);
        context.set_return((-code) as u64);
        kicker.kick();
        assert_eq!(context.switch().unwrap(), Trap::Interrupted);
        assert_eq!(next_syscall(&mut *context).0 as i32, -code as i32);
    }
}

fn a_fault_is_resolved_by_mapping(host: &Host) {
    // mov rax, [rbx]; mov [rbx], rcx; syscall
    let guest = host.guest(&[0x48, 0x8b, 0x03, 0x48, 0x89, 0x0b, 0x0f, 0x05]);
    let mut context = guest.context(0);
    let addr = 0x1234_5008;
    let regs = context.registers().unwrap();
    (regs.rbx, regs.rcx) = (addr, 99);
    assert_eq!(next(&mut *context), Trap::Fault { addr, access: AccessKind::Read });
    let page = host.memory.allocate(PAGE, None).unwrap();
    host.memory.slice(page).sub(8, 8).copy_from(&55u64.to_ne_bytes());
    let map = |prot| MapOp::Map {
        addr: addr & !0xfff,
        len: PAGE,
        prot,
        backing: Backing::Memory(page),
        populate: true,
    };
    guest.space.apply(&[map(Prot::READ)]).unwrap();
    assert_eq!(next(&mut *context), Trap::Fault { addr, access: AccessKind::Write });
    assert_eq!(context.registers().unwrap().rip, CODE + 3);
    guest.space.apply(&[map(Prot::READ | Prot::WRITE)]).unwrap();
    assert_eq!(next_syscall(&mut *context).0, 55);
    let mut word = [0; 8];
    host.memory.slice(page).sub(8, 8).copy_to(&mut word);
    assert_eq!(u64::from_ne_bytes(word), 99);
}

fn unmap_and_protect_take_effect(host: &Host) {
    // mov [rbx], rcx; syscall; jmp back
    let guest = host.guest(&[0x48, 0x89, 0x0b, 0x0f, 0x05, 0xeb, 0xf9]);
    let mut context = guest.context(0);
    context.registers().unwrap().rbx = DATA;
    next_syscall(&mut *context);
    guest.space.apply(&[MapOp::Protect { addr: DATA, len: PAGE, prot: Prot::READ }]).unwrap();
    let fault = Trap::Fault { addr: DATA, access: AccessKind::Write };
    assert_eq!(next(&mut *context), fault);
    let writable = Prot::READ | Prot::WRITE;
    guest.space.apply(&[MapOp::Protect { addr: DATA, len: PAGE, prot: writable }]).unwrap();
    next_syscall(&mut *context);
    guest.space.apply(&[MapOp::Unmap { addr: DATA, len: PAGE }]).unwrap();
    assert_eq!(next(&mut *context), fault);
    let refused = guest.space.apply(&[MapOp::Protect { addr: DATA, len: PAGE, prot: writable }]);
    assert!(matches!(refused, Err(PlatformError::Host { .. })), "{refused:?}");
    let outside = guest.space.apply(&[MapOp::Unmap { addr: 0x7fff_f000_0000, len: PAGE }]);
    assert!(matches!(outside, Err(PlatformError::Host { .. })), "{outside:?}");
}

fn execution_of_data_faults(host: &Host) {
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    context.registers().unwrap().rip = DATA;
    assert_eq!(next(&mut *context), Trap::Fault { addr: DATA, access: AccessKind::Execute });
}

fn exceptions_have_signal_and_code(host: &Host) {
    let cases: &[(&[u8], i32, i32)] = &[
        // ud2: ILL_ILLOPN
        (&[0x0f, 0x0b], libc::SIGILL, 2),
        // xor edx, edx; xor ecx, ecx; div ecx: FPE_INTDIV
        (&[0x31, 0xd2, 0x31, 0xc9, 0xf7, 0xf1], libc::SIGFPE, 1),
        // int3: SI_KERNEL
        (&[0xcc], libc::SIGTRAP, 0x80),
        // hlt: general protection, SI_KERNEL
        (&[0xf4], libc::SIGSEGV, 0x80),
        // mov rax, 1 << 63; mov rax, [rax]: not canonical
        (&[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x48, 0x8b, 0], libc::SIGSEGV, 0x80),
    ];
    for (code, signal, si_code) in cases {
        let guest = host.guest(code);
        let mut context = guest.context(0);
        let trap = next(&mut *context);
        let Trap::Exception(info) = trap else { panic!("{code:x?}: {trap:x?}") };
        assert_eq!((info.signal, info.code), (*signal, *si_code), "{code:x?}");
        if *signal == libc::SIGILL || *signal == libc::SIGFPE {
            let rip = context.registers().unwrap().rip;
            assert_eq!(info.addr, rip, "{code:x?}");
        }
    }
}

/// Offset of the upper halves of the ymm registers in the XSAVE area.
const YMM_HIGH: usize = 576;

fn vector_state_survives_and_can_be_changed(host: &Host) {
    // syscall; vaddps ymm0, ymm0, ymm1; jmp back
    let guest = host.guest(&[0x0f, 0x05, 0xc5, 0xfc, 0x58, 0xc1, 0xeb, 0xf8]);
    let mut contexts = [guest.context(0), guest.context(0)];
    for (n, context) in contexts.iter_mut().enumerate() {
        next_syscall(&mut **context);
        let state = context.xstate().unwrap();
        // All components but x87 and up to AVX; each lane 1.0 + n and 2.0.
        state.bytes[512] |= 7;
        for lane in 0..4 {
            let put = |bytes: &mut [u8], at: usize, value: f32| {
                bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            };
            put(&mut state.bytes, 160 + 4 * lane, 1.0 + n as f32);
            put(&mut state.bytes, YMM_HIGH + 4 * lane, 1.0 + n as f32);
            put(&mut state.bytes, 176 + 4 * lane, 2.0);
            put(&mut state.bytes, YMM_HIGH + 16 + 4 * lane, 2.0);
        }
    }
    for round in 1..6 {
        for (n, context) in contexts.iter_mut().enumerate() {
            next_syscall(&mut **context);
            if round < 5 {
                continue;
            }
            let state = context.xstate().unwrap();
            let at = |at: usize| f32::from_ne_bytes(state.bytes[at..at + 4].try_into().unwrap());
            let expected = 1.0 + n as f32 + 2.0 * round as f32;
            assert_eq!((at(160), at(172)), (expected, expected));
            assert_eq!((at(YMM_HIGH), at(YMM_HIGH + 12)), (expected, expected));
        }
    }
}

fn segment_bases_are_kept(host: &Host) {
    // syscall; mov rdi, fs:[0]; rdgsbase rsi; jmp back
    let guest = host.guest(&[
        0x0f, 0x05, 0x64, 0x48, 0x8b, 0x3c, 0x25, 0, 0, 0, 0, 0xf3, 0x48, 0x0f, 0xae, 0xce, 0xeb,
        0xee,
    ]);
    host.memory.slice(guest.data).copy_from(&4242u64.to_ne_bytes());
    let mut context = guest.context(0);
    next_syscall(&mut *context);
    let regs = context.registers().unwrap();
    (regs.fs_base, regs.gs_base) = (DATA, 0x7777_0000);
    for _ in 0..3 {
        let (_, args) = next_syscall(&mut *context);
        assert_eq!((args[0], args[1]), (4242, 0x7777_0000));
    }
    let regs = context.registers().unwrap();
    assert_eq!((regs.fs_base, regs.gs_base), (DATA, 0x7777_0000));
}

/// `jmp` to itself.
const SPIN: &[u8] = &[0xeb, 0xfe];

fn a_spinning_guest_can_be_kicked(host: &Host) {
    let guest = host.guest(SPIN);
    let mut context = guest.context(0);
    let kicker = context.kicker();
    let go = Arc::new(Parker::new());
    let (times, kicked) = mpsc::channel();
    let theirs = go.clone();
    let other = thread::spawn(move || {
        for _ in 0..20 {
            theirs.park(None);
            thread::sleep(Duration::from_millis(2));
            times.send(Instant::now()).unwrap();
            kicker.kick();
        }
    });
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        go.unpark();
        // An extra, spurious return is allowed; a lost kick would hang here.
        let kicked = loop {
            assert_eq!(context.switch().unwrap(), Trap::Interrupted);
            if let Ok(kicked) = kicked.try_recv() {
                break kicked;
            }
        };
        worst = worst.max(kicked.elapsed());
        assert_eq!(context.registers().unwrap().rip, CODE);
    }
    other.join().unwrap();
    eprintln!("slowest kick: {worst:?}");
}

fn kicks_before_entry_are_not_lost(host: &Host) {
    let guest = host.guest(SPIN);
    let mut context = guest.context(0);
    context.kicker().kick();
    context.kicker().kick();
    assert_eq!(context.switch().unwrap(), Trap::Interrupted);
}

fn kicks_never_lose_a_result(host: &Host) {
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    context.registers().unwrap().rax = 400;
    let kicker = context.kicker();
    let (stop, stopped) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            kicker.kick();
            thread::sleep(Duration::from_micros(30));
        }
    });
    // From Linux 6.11 on, uretprobe (335) and uprobe (336) pass all seccomp filters; they
    // do nothing outside a probe's trampoline but raise SIGILL or fail.
    for expected in 400..3400 {
        let number = loop {
            match context.switch().unwrap() {
                Trap::Syscall { number, .. } => break number,
                Trap::Interrupted => {}
                other => panic!("at {expected}: {other:x?} {:x?}", context.registers()),
            }
        };
        assert_eq!(number, expected);
        if expected % 7 == 0 {
            assert_eq!(context.registers().unwrap().orig_rax, expected);
        }
        context.set_return(expected + 1);
    }
    drop(stop);
    other.join().unwrap();
}

fn many_contexts_in_one_space(host: &Host) {
    let guest = host.guest(LOOP);
    let mut contexts: Vec<_> = (0..200).map(|_| guest.context(0)).collect();
    for round in 0..3u64 {
        for (n, context) in contexts.iter_mut().enumerate() {
            let number = n as u64 * 10 + round;
            if round == 0 {
                context.registers().unwrap().rax = number;
            } else {
                context.set_return(number);
            }
            assert_eq!(next_syscall(&mut **context).0, number);
        }
    }
    contexts.truncate(100);
    // Threads that were left behind serve new contexts.
    for n in 0..50 {
        let mut context = guest.context(0);
        context.registers().unwrap().rax = n;
        assert_eq!(next_syscall(&mut *context).0, n);
        assert_eq!(context.registers().unwrap().rbx, 0);
    }
}

fn many_spaces(host: &Host) {
    let mut guests = Vec::new();
    for n in 0..100 {
        let guest = host.guest(LOOP);
        let mut context = guest.context(0);
        context.registers().unwrap().rax = n;
        guests.push((guest, context));
    }
    for (n, (_, context)) in guests.iter_mut().enumerate() {
        assert_eq!(next_syscall(&mut **context).0, n as u64);
    }
}

/// The host's processes whose parent's parent is this one: stubs, below a zygote.
fn stub_of(context: &mut dyn Context) -> i32 {
    // A stub process is found by what it runs on: its threads' memory has our code.
    let _ = context;
    let own = std::process::id();
    let mut newest = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let ours = maps.lines().any(|line| line.starts_with("00666000-"));
        if ours && pid != own as i32 {
            newest = pid;
        }
    }
    newest
}

fn a_killed_stub_is_an_error(host: &Host) {
    let guest = host.guest(SPIN);
    let page = host.memory.allocate(PAGE, None).unwrap();
    let mark = MapOp::Map {
        addr: 0x66_6000,
        len: PAGE,
        prot: Prot::READ,
        backing: Backing::Memory(page),
        populate: false,
    };
    guest.space.apply(&[mark]).unwrap();
    let mut context = guest.context(0);
    let pid = stub_of(&mut *context);
    assert_ne!(pid, 0, "the stub process is found");
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        // SAFETY: the number is that of the stub process just found.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    });
    let result = context.switch();
    assert!(matches!(result, Err(PlatformError::StubDied(_))), "{result:?}");
    killer.join().unwrap();
    assert!(context.switch().is_err());
    let changed = guest.space.apply(&[MapOp::Unmap { addr: DATA, len: PAGE }]);
    assert!(matches!(changed, Err(PlatformError::StubDied(_))), "{changed:?}");
    assert!(guest.space.clone().new_context().is_err());
    // Others are not harmed.
    syscall_arguments_and_result(host);
}

fn stub_code_does_nothing_for_a_guest(host: &Host) {
    // A guest that jumps to any system-call instruction of the stub with any number gets
    // a trap, never a host call.
    const TEXT: u64 = 0x7fff_f000_0000;
    // mov rax, [rbx]; mov [rdx], rax …: copy the stub's text for us. rcx quadwords.
    let copy = [0xf3, 0x48, 0xa5, 0x0f, 0x05];
    let guest = host.guest(&copy);
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.rsi, regs.rdi, regs.rcx, regs.rax) = (TEXT, DATA, 512, 1);
    let trap = next(&mut *context);
    if let Trap::Fault { .. } = trap {
        // This platform has no such page.
        return;
    }
    let mut text = [0; 4096];
    host.memory.slice(guest.data).copy_to(&mut text);
    let calls: Vec<usize> = (0..4095).filter(|at| text[*at..*at + 2] == [0x0f, 0x05]).collect();
    assert!(calls.len() > 3);
    for at in calls {
        for number in [libc::SYS_getpid, libc::SYS_mmap, libc::SYS_exit_group, libc::SYS_clone] {
            let guest = host.guest(&copy);
            let mut context = guest.context(0);
            let regs = context.registers().unwrap();
            regs.rip = TEXT + at as u64;
            regs.rax = number as u64;
            assert_eq!(next_syscall(&mut *context).0, number as u64, "at {at:x}");
        }
    }
    // The doorbell, rung by the guest with made-up arguments.
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    context.registers().unwrap().rax = 0x4c5a_0000;
    assert_eq!(next_syscall(&mut *context).0, 0x4c5a_0000);
}

fn a_renewed_space_keeps_nothing(host: &Host) {
    // mov rax, [rdi]; then LOOP
    const READ: &[u8] = &[0x48, 0x8b, 0x07, 0x0f, 0x05, 0xeb, 0xfc];
    let guest = host.guest(READ);
    let mut context = guest.context(3);
    context.registers().unwrap().rbx = 7;
    next_syscall(&mut *context);
    drop(context);
    if !guest.space.renew().unwrap() {
        return;
    }
    assert!(guest.space.is_alive());
    let slot = guest.space.clone().new_context().unwrap();
    drop(slot);
    let code = host.memory.allocate(PAGE, None).unwrap();
    host.memory.slice(code).copy_from(READ);
    let (prot, backing) = (Prot::READ | Prot::EXEC, Backing::Memory(code));
    guest
        .space
        .apply(&[MapOp::Map { addr: CODE, len: PAGE, prot, backing, populate: false }])
        .unwrap();
    let mut context = guest.context(0);
    assert_eq!(context.registers().unwrap().rbx, 0);
    context.registers().unwrap().rdi = DATA;
    assert!(matches!(next(&mut *context), Trap::Fault { addr: DATA, .. }));
    // One that has a second thread is not used again.
    let mut second = guest.context(3);
    next_syscall(&mut *second);
    drop((context, second));
    assert!(!guest.space.renew().unwrap());
}

fn clear_leaves_nothing(host: &Host) {
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    next_syscall(&mut *context);
    guest.space.clear().unwrap();
    let fault = Trap::Fault { addr: CODE + 2, access: AccessKind::Execute };
    assert_eq!(next(&mut *context), fault);
}

fn a_context_can_move(host: &Host) {
    let guest = host.guest(LOOP);
    let mut parent = guest.context(0);
    let mut child = guest.context(0);
    child.registers().unwrap().rbx = 5;
    next_syscall(&mut *child);
    let other = host.guest(LOOP);
    child.move_to(other.space.clone()).unwrap();
    let regs = child.registers().unwrap();
    assert_eq!((regs.rbx, regs.rip, regs.rax), (0, 0, 0));
    (regs.rip, regs.rax) = (CODE, 3);
    assert_eq!(next_syscall(&mut *child).0, 3);
    guest.space.clear().unwrap();
    child.set_return(4);
    assert_eq!(next_syscall(&mut *child).0, 4);
    assert!(matches!(next(&mut *parent), Trap::Fault { .. }));
}

fn single_steps(host: &Host) {
    // nop; nop; nop; syscall
    let guest = host.guest(&[0x90, 0x90, 0x90, 0x0f, 0x05]);
    let mut context = guest.context(0);
    context.set_single_step(true).unwrap();
    for step in 1..3 {
        let trap = next(&mut *context);
        let Trap::Exception(info) = trap else { panic!("{trap:x?}") };
        assert_eq!(info.signal, libc::SIGTRAP);
        let regs = context.registers().unwrap();
        assert_eq!((regs.rip, regs.eflags & 0x100), (CODE + step, 0));
    }
    context.set_single_step(false).unwrap();
    next_syscall(&mut *context);
    assert_eq!(context.registers().unwrap().eflags & 0x100, 0);
}

fn new_contexts_start_clean(host: &Host) {
    let guest = host.guest(LOOP);
    for _ in 0..3 {
        let mut context = guest.context(0);
        next_syscall(&mut *context);
        let state = context.xstate().unwrap();
        assert!(state.bytes[160..416].iter().all(|byte| *byte == 0), "xmm registers");
        state.bytes[512] |= 2;
        state.bytes[160..416].fill(1);
        let regs = context.registers().unwrap();
        assert_eq!((regs.rbx, regs.r12, regs.r15, regs.fs_base), (0, 0, 0, 0));
        (regs.rbx, regs.r12, regs.fs_base) = (1, 1, 0x1000);
        next_syscall(&mut *context);
    }
}

fn many_changes_in_one_batch(host: &Host) {
    let guest = host.guest(LOOP);
    let range = host.memory.allocate(400 * PAGE, None).unwrap();
    // Every other page, so that none can be joined.
    let ops: Vec<MapOp> = (0..200)
        .map(|n| MapOp::Map {
            addr: 0x1000_0000 + 2 * n * PAGE,
            len: PAGE,
            prot: Prot::READ,
            backing: Backing::Memory(range.sub(2 * n * PAGE, PAGE)),
            populate: false,
        })
        .collect();
    guest.space.apply(&ops).unwrap();
    guest.space.apply(&[MapOp::Unmap { addr: 0x1000_0000, len: 400 * PAGE }]).unwrap();
    let mut context = guest.context(0);
    assert_eq!(next_syscall(&mut *context).0, 0);
    assert_eq!(guest.data_u64(0), 0);
}

fn a_file_that_became_shorter_is_a_bus_error(host: &Host) {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    const FILE: u64 = 0x6000_0000;
    // mov rax, [rbx]; syscall; jmp back
    let guest = host.guest(&[0x48, 0x8b, 0x03, 0x0f, 0x05, 0xeb, 0xf9]);
    let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 2 * PAGE).unwrap();
    rustix::io::pwrite(&file, &[7; 8], PAGE).unwrap();
    let file = Arc::new(file);
    let backing = Backing::Host { file: file.clone(), offset: 0, shared: true };
    let (len, prot) = (4 * PAGE, Prot::READ);
    guest.space.apply(&[MapOp::Map { addr: FILE, len, prot, backing, populate: false }]).unwrap();
    let mut context = guest.context(0);
    context.registers().unwrap().rbx = FILE + PAGE;
    assert_eq!(next_syscall(&mut *context).0, 0x0707_0707);
    let is_bus_error = |trap: Trap, addr: u64| {
        let Trap::Exception(info) = trap else { panic!("{trap:x?}") };
        assert_eq!((info.signal, info.code, info.addr), (libc::SIGBUS, 2, addr));
    };
    context.registers().unwrap().rbx = FILE + 2 * PAGE;
    is_bus_error(next(&mut *context), FILE + 2 * PAGE);
    ftruncate(&*file, PAGE).unwrap();
    context.registers().unwrap().rbx = FILE + PAGE + 8;
    is_bus_error(next(&mut *context), FILE + PAGE + 8);
    // What it has again is there again.
    ftruncate(&*file, 2 * PAGE).unwrap();
    assert_eq!(next_syscall(&mut *context).0, 0);
}

fn the_vdso_reads_the_clock_without_a_call(host: &Host) {
    const VDSO: u64 = 0x7000_0000;
    let vdso = host.platform.vdso();
    if host.platform.name() == "kvm" && vdso.image[0x800..0x808] == [0; 8] {
        eprintln!("skipped: clocks are system calls on this host's KVM");
        return;
    }
    // The first function is clock_gettime: endbr64; mov rax, [rip + ...
    let start = [0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x8b, 0x05];
    let function = vdso.image.windows(7).position(|bytes| bytes == start).unwrap() as u64;
    // mov edi, r12d; lea rsi, [rbx]; call r13; dec r14; jnz back; syscall; jmp back
    let guest = host.guest(&[
        0x44, 0x89, 0xe7, 0x48, 0x8d, 0x33, 0x41, 0xff, 0xd5, 0x49, 0xff, 0xce, 0x75, 0xf2, 0x0f,
        0x05, 0xeb, 0xee,
    ]);
    let len = vdso.image.len() as u64;
    let page = host.memory.allocate(len, None).unwrap();
    host.memory.slice(page).copy_from(&vdso.image);
    let prot = Prot::READ | Prot::EXEC;
    let backing = Backing::Memory(page);
    guest.space.apply(&[MapOp::Map { addr: VDSO, len, prot, backing, populate: false }]).unwrap();
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.r12, regs.rbx, regs.r13, regs.r14) = (1, DATA, VDSO + function, 10_000);
    let before = host::clock_monotonic_ns();
    let start = Instant::now();
    // clock_gettime has returned 0, which is in rax.
    assert_eq!(next_syscall(&mut *context).0, 0);
    eprintln!("10,000 times clock_gettime in a guest: {:?}", start.elapsed());
    let now = guest.data_u64(0) * 1_000_000_000 + guest.data_u64(8);
    assert!((before..=host::clock_monotonic_ns()).contains(&now));
    // A clock which the host's vDSO cannot read makes it call from there.
    context.registers().unwrap().r12 = libc::CLOCK_PROCESS_CPUTIME_ID as u64;
    context.registers().unwrap().r14 = 1;
    let (number, args) = next_syscall(&mut *context);
    assert_eq!((number as i64, args[0], args[1]), (libc::SYS_clock_gettime, 2, DATA));
    context.set_return(0);
    assert_eq!(next_syscall(&mut *context).0, 0);
}
