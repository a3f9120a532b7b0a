//! What systrap does when a guest is hostile or resources run out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::{
    thread,
    time::{Duration, Instant},
};

use common::*;
use platform::{PlatformError, PlatformKind};

/// `syscall` then a jump back to it.
const LOOP: &[u8] = &[0x0f, 0x05, 0xeb, 0xfc];

/// A guest blocks our signal by a frame of its own and spins: its process ends, late but
/// surely.
#[test]
#[ignore = "takes ten seconds"]
fn a_guest_that_blocks_the_kick_is_killed() {
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    const TEXT: u64 = 0x7fff_f000_0000;
    // Copies the stub's text, makes a call; at 8: spins.
    let guest = host.guest(&[0xf3, 0x48, 0xa5, 0x0f, 0x05, 0x90, 0x90, 0x90, 0xeb, 0xfe]);
    let mut context = guest.context(0);
    let regs = context.registers().unwrap();
    (regs.rsi, regs.rdi, regs.rcx) = (TEXT, DATA, 512);
    next_syscall(&mut *context);
    let mut text = [0; 4096];
    let data = host.memory.slice(guest.data);
    data.copy_to(&mut text);
    let sigreturn = [0xb8, 15, 0, 0, 0, 0x0f, 0x05];
    let at = text.windows(7).position(|bytes| bytes == sigreturn).unwrap() as u64;
    data.fill(0);
    let put = |offset: usize, value: u64| {
        data.sub(offset, 8).copy_from(&value.to_ne_bytes());
    };
    put(168, CODE + 8);
    put(176, 0x202);
    put(184, 0x33 | 0x2b << 48);
    put(296, u64::MAX);
    let regs = context.registers().unwrap();
    (regs.rip, regs.rsp) = (TEXT + at, DATA);
    let kicker = context.kicker();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        kicker.kick();
    });
    let result = context.switch();
    assert!(matches!(result, Err(PlatformError::StubDied(_))), "{result:?}");
}

/// Far more threads than cores: all can be made, run and left.
#[test]
fn two_thousand_contexts() {
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    let guest = host.guest(LOOP);
    let mut contexts = Vec::new();
    for n in 1000..3000 {
        let mut context = guest.context(0);
        context.registers().unwrap().rax = n;
        assert_eq!(next_syscall(&mut *context).0, n);
        contexts.push(context);
    }
}

/// When descriptors run out, making contexts and spaces fails; nothing hangs, and what is
/// there goes on.
#[test]
#[ignore = "uses up all descriptors of the process"]
fn no_descriptors_left_is_an_error() {
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    let guest = host.guest(LOOP);
    let mut first = guest.context(0);
    next_syscall(&mut *first);
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    hoard.truncate(hoard.len().saturating_sub(5));
    let mut contexts = Vec::new();
    let error = loop {
        match guest.space.clone().new_context() {
            Ok(context) => contexts.push(context),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PlatformError::Host { .. }), "{error}");
    let mut spaces = Vec::new();
    let error = loop {
        match host.platform.new_address_space() {
            Ok(space) => spaces.push(space),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, PlatformError::Host { .. }), "{error}");
    first.set_return(12);
    assert_eq!(next_syscall(&mut *first).0, 12);
    drop((hoard, contexts, spaces));
    let mut again = guest.context(0);
    again.registers().unwrap().rax = 5;
    assert_eq!(next_syscall(&mut *again).0, 5);
}

/// A fork bomb's worth of guest processes: they come and go, and nothing is left behind.
#[test]
#[ignore = "heavy"]
fn a_thousand_spaces_leave_nothing_behind() {
    let Some(host) = Host::new(PlatformKind::Systrap) else { return };
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut before = 0;
    for round in 0..3 {
        let start = Instant::now();
        let mut guests = Vec::new();
        for n in 0..1000 {
            let guest = host.guest(LOOP);
            let mut context = guest.context(0);
            context.registers().unwrap().rax = 1000 + n;
            assert_eq!(next_syscall(&mut *context).0, 1000 + n);
            guests.push((guest, context));
        }
        let made = start.elapsed();
        drop(guests);
        // The reaper closes the last descriptors.
        thread::sleep(Duration::from_millis(500));
        eprintln!("round {round}: made in {made:?}, all in {:?}", start.elapsed());
        if round == 0 {
            before = descriptors();
        }
    }
    assert!(descriptors() <= before + 3, "{} then {}", before, descriptors());
}
