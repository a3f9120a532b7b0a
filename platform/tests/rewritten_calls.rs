//! Calls from rewritten sites: the same to see as before, for the guest and for the sentry.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::*;
use platform::{AccessKind, Answers, Backing, Context, MapOp, PlatformKind, Prot, Trap};

/// `syscall; cmp rax, -4095; jmp` back.
const LOOP: &[u8] = &[0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xeb, 0xf6];
/// A call that the stub never answers.
const READ: u64 = 0;

fn rewritten(code: &[u8], offset: u64) -> Option<(Host, Guest)> {
    let host = Host::new(PlatformKind::Systrap)?;
    let guest = host.guest(code);
    assert!(guest.rewrite(code, offset));
    Some((host, guest))
}

fn kick_now_and_then(context: &dyn Context, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (kicker, stop) = (context.kicker(), stop.clone());
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_micros(60));
            kicker.kick();
        }
    })
}

#[test]
fn arguments_results_and_registers_are_those_of_a_system_call() {
    let Some((_host, guest)) = rewritten(LOOP, 0) else { return };
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9) = (1, 2, 3, 4, 5, 6);
    (regs.rbx, regs.rbp, regs.r12, regs.r15, regs.fs_base) = (7, 8, 9, 10, 0x1000);
    for round in 0..3000 {
        let number = READ + round % 7;
        if round == 0 {
            context.registers().unwrap().rax = number;
        } else {
            context.set_return(number);
        }
        assert_eq!(next_syscall(&mut *context), (number, [1, 2, 3, 4, 5, 6]), "round {round}");
        if round % 100 == 0 {
            let regs = *context.registers().unwrap();
            assert_eq!((regs.rip, regs.rcx, regs.orig_rax), (CODE + 2, CODE + 2, number));
            assert_eq!((regs.rbx, regs.rbp, regs.r12, regs.r15), (7, 8, 9, 10));
            assert_eq!((regs.rsp, regs.fs_base, regs.gs_base), (DATA + PAGE, 0x1000, 0));
        }
    }
}

#[test]
fn registers_can_be_changed_in_a_call() {
    let Some((_host, guest)) = rewritten(LOOP, 0) else { return };
    let mut context = guest.context(0);
    next_syscall(&mut *context);
    for value in 0..500 {
        let regs = context.registers().unwrap();
        (regs.rax, regs.rdi, regs.rbx) = (READ, value, value + 1);
        (regs.fs_base, regs.gs_base) = (value << 12, if value % 5 == 4 { 0x2000 } else { 0 });
        let (_, args) = next_syscall(&mut *context);
        assert_eq!(args[0], value);
        let regs = context.registers().unwrap();
        assert_eq!((regs.rbx, regs.fs_base), (value + 1, value << 12));
        assert_eq!(regs.gs_base, if value % 5 == 4 { 0x2000 } else { 0 });
        assert_eq!(regs.rip, CODE + 2);
        regs.gs_base = 0;
    }
}

#[test]
fn vector_state_survives_and_can_be_changed() {
    let Some((_host, guest)) = rewritten(LOOP, 0) else { return };
    let mut context = guest.context(0);
    next_syscall(&mut *context);
    let state = context.xstate().unwrap();
    state.bytes[512] |= 2;
    state.bytes[160..176].fill(7);
    for round in 0..200u8 {
        context.set_return(READ);
        next_syscall(&mut *context);
        let state = context.xstate().unwrap();
        let expected = if round == 0 { 7 } else { round - 1 };
        assert_eq!(state.bytes[160..176], [expected; 16], "round {round}");
        // All zero is the initial state, which need not be there.
        state.bytes[512] |= 2;
        state.bytes[160..176].fill(round);
    }
}

#[test]
fn kicks_lose_no_call_and_make_none_twice() {
    let Some((_host, guest)) = rewritten(LOOP, 0) else { return };
    let mut context = guest.context(0);
    let stop = Arc::new(AtomicBool::new(false));
    let kicks = kick_now_and_then(&*context, &stop);
    let (mut expected, mut interrupted) = (0, 0);
    context.registers().unwrap().rax = 0;
    while expected < 60_000 {
        match context.switch().unwrap() {
            Trap::Syscall { number, .. } => {
                assert_eq!(number, expected % 300);
                expected += 1;
                context.set_return(expected % 300);
            }
            Trap::Interrupted => {
                interrupted += 1;
                if interrupted % 3 == 0 {
                    let rip = context.registers().unwrap().rip;
                    assert!([CODE, CODE + 2, CODE + 8].contains(&rip), "{rip:x}");
                }
                if interrupted % 4 == 0 {
                    context.xstate().unwrap();
                }
            }
            other => panic!("{other:x?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    kicks.join().unwrap();
    assert!(interrupted > 10, "{interrupted}");
}

#[test]
fn a_thread_that_returns_behind_the_old_instruction_goes_on() {
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    let guest = host.guest(LOOP);
    let mut context = guest.context(0);
    next_syscall(&mut *context);
    assert!(guest.rewrite(LOOP, 0));
    for number in 1..20 {
        context.set_return(number);
        assert_eq!(next_syscall(&mut *context).0, number);
        // As after a signal handler.
        let regs = context.registers().unwrap();
        assert_eq!(regs.rip, CODE + 2);
    }
}

#[test]
fn the_stub_answers_what_it_was_told() {
    // At 0: LOOP; the answer goes to memory, then a call that the sentry sees.
    let code = [
        0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, // syscall; cmp rax, -4095
        0x48, 0x89, 0x03, // mov [rbx], rax
        0xb8, 1, 0, 0, 0, 0x0f, 0x05, // mov eax, 1; syscall
    ];
    let Some((_host, guest)) = rewritten(&code, 0) else { return };
    let mut context = guest.context(0);
    context.set_answers(Some(Answers { ids: [11, 12, 13, 14, 15, 16], yields: true }));
    let mut ask = |number: u64, arg: u64| {
        let regs = context.registers().unwrap();
        (regs.rip, regs.rax, regs.rbx, regs.rdi) = (CODE, number, DATA, arg);
        (regs.rsi, regs.r12) = (DATA + 64, 99);
        let trap = next_syscall(&mut *context);
        let regs = context.registers().unwrap();
        if trap.0 == 1 {
            assert_eq!((regs.rsi, regs.rdi, regs.r12), (DATA + 64, arg, 99));
            assert_eq!(regs.rsp, DATA + PAGE);
        }
        (trap.0, guest.data_u64(0))
    };
    for (number, answer) in [(39, 11), (186, 12), (102, 13), (104, 14), (107, 15), (108, 16)] {
        assert_eq!(ask(number, 0), (1, answer), "{number}");
    }
    assert_eq!(ask(24, 0), (1, 0), "sched_yield");
    // The clock, as the host says it; and a clock that only the sentry knows.
    let before = platform::host::clock_monotonic_ns();
    assert_eq!(ask(228, 1), (1, 0));
    let now = guest.data_u64(64) * 1_000_000_000 + guest.data_u64(72);
    assert!(now >= before && now < before + 1_000_000_000);
    assert_eq!(ask(228, 2).0, 228);
    assert_eq!(ask(110, 0).0, 110, "getppid is not among the answers");
    context.set_answers(None);
    let regs = context.registers().unwrap();
    (regs.rip, regs.rax) = (CODE, 39);
    assert_eq!(next_syscall(&mut *context).0, 39);
}

#[test]
fn a_bad_address_for_the_clock_is_the_sentrys_business() {
    let code = [0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0xeb, 0xf6];
    let Some((_host, guest)) = rewritten(&code, 0) else { return };
    let mut context = guest.context(0);
    context.set_answers(Some(Answers { ids: [1; 6], yields: true }));
    let regs = context.registers().unwrap();
    (regs.rax, regs.rdi, regs.rsi) = (228, 1, 0x10);
    assert_eq!(next_syscall(&mut *context), (228, [1, 0x10, 0, 0, 0, 0]));
    assert_eq!(context.registers().unwrap().rip, CODE + 2);
}

#[test]
fn a_guest_that_uses_gs_itself_traps() {
    let Some((_host, guest)) = rewritten(LOOP, 0) else { return };
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.gs_base, regs.rax) = (DATA, 39);
    context.set_answers(Some(Answers { ids: [1; 6], yields: true }));
    assert_eq!(next_syscall(&mut *context).0, 39);
    let regs = context.registers().unwrap();
    assert_eq!((regs.gs_base, regs.rip), (DATA, CODE + 2));
}

/// Where the processor has protection keys, text can be executed and not read.
#[test]
fn code_that_reads_its_own_text_faults_where_the_host_can_tell() {
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    // mov rax, [rdi]; jmp self.
    let code = [0x48, 0x8b, 0x07, 0xeb, 0xfe];
    let guest = host.guest(&code);
    let text = host.memory.allocate(PAGE, None).unwrap();
    host.memory.slice(text).copy_from(&code);
    let backing = Backing::Memory(text);
    let op = MapOp::Map { addr: CODE, len: PAGE, prot: Prot::EXEC, backing, populate: false };
    guest.space.apply(&[op]).unwrap();
    let mut context = guest.context(0);
    context.registers().unwrap().rdi = CODE;
    let kicker = context.kicker();
    let kick = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        kicker.kick();
    });
    let trap = context.switch().unwrap();
    kick.join().unwrap();
    let has_keys = std::fs::read_to_string("/proc/cpuinfo").unwrap().contains(" ospke");
    let fault = Trap::Fault { addr: CODE, access: AccessKind::Read };
    assert_eq!(trap, if has_keys { fault } else { Trap::Interrupted });
}

/// A guest that knows the slot writes what it likes while calls are made: it may harm itself, no
/// one else.
#[test]
fn a_guest_that_writes_its_slot_harms_only_itself() {
    // mov r14, gs base; then: mov [r14 + rbx], eax; mov eax, ecx …; syscall; cmp; jmp back.
    let code = [
        0xf3, 0x49, 0x0f, 0xae, 0xce, // rdgsbase r14
        0x41, 0x89, 0x04, 0x1e, // mov [r14 + rbx], eax
        0x31, 0xc0, // xor eax, eax
        0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, // syscall; cmp
        0xeb, 0xeb, // jmp to the rdgsbase
    ];
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    for word in [64, 68, 128, 192, 200, 208, 640, 768, 384, 464, 512, 536, 552] {
        for value in [0u64, 1, 2, 3, 4, 5, 6, 7, 8, u64::MAX] {
            let guest = host.guest(&code);
            assert!(guest.rewrite(&code, 11));
            let mut context = guest.context(0);
            let regs = context.registers().unwrap();
            (regs.rbx, regs.rax) = (word, value);
            let kicker = context.kicker();
            let kicks = thread::spawn(move || {
                for _ in 0..20 {
                    thread::sleep(Duration::from_micros(500));
                    kicker.kick();
                }
            });
            // Whatever happens: it comes back.
            for _ in 0..10 {
                match context.switch() {
                    Ok(Trap::Interrupted) => {}
                    Ok(_) => context.set_return(value),
                    Err(_) => break,
                }
            }
            kicks.join().unwrap();
        }
    }
}
