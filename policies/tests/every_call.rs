//! Every system call there is, in the kernel: a process that makes one which its policy does not list is killed.
//! Each is made by a child of its own, with arguments that no rule allows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be checked has failed")]
#![allow(unsafe_code, reason = "fork, and system calls by number")]

mod common;

use std::{arch::asm, collections::BTreeMap};

use common::*;

/// Kernels that have these two let them pass all filters: they do nothing outside of a probe's trampoline.
const URETPROBE: i64 = 335;
const UPROBE: i64 = 336;

/// How a call enters the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Syscall,
    /// `int 0x80`: the numbers mean other calls.
    Int80,
}

/// Makes a call in a child that is bound by what `install` installs. The signal that ended the child; `None` when the
/// call returned.
fn outcome(install: impl Fn() -> bool, entry: Entry, number: i64) -> Option<i32> {
    const ALL: u64 = u64::MAX;
    // SAFETY: the child makes system calls only, and uses nothing that a thread of the parent might hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: it reads one structure of ours.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &no_core) };
        let bound = install();
        // SAFETY: no call that takes these arguments reads or writes memory: all addresses are invalid.
        unsafe {
            if !bound {
                libc::kill(libc::getpid(), libc::SIGABRT);
            }
            match entry {
                Entry::Syscall => drop(libc::syscall(number, ALL, ALL, ALL, ALL, ALL, ALL)),
                Entry::Int80 => asm!(
                    "int 0x80", inlateout("rax") number => _,
                    in("rcx") ALL, in("rdx") ALL, in("rsi") ALL, in("rdi") ALL,
                    lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
                ),
            }
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: it writes the status, and the child is ours.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

fn check(Written { role, policy, rules }: &Written) {
    // Of each listed call: is it listed without arguments?
    let mut listed: BTreeMap<i64, bool> = BTreeMap::new();
    for rule in rules {
        *listed.entry(number_of(&rule.syscall).into()).or_default() |= rule.args.is_empty();
    }
    let install = || policy.install().is_ok();
    for number in 0..i64::from(NUMBERS) {
        if !listed.get(&number).is_some_and(|without_arguments| *without_arguments) {
            let signal = outcome(install, Entry::Syscall, number);
            let is_exempt = number == URETPROBE && signal == Some(libc::SIGILL)
                || number == UPROBE && signal.is_none();
            assert!(is_exempt || signal == Some(libc::SIGSYS), "{role}: call {number}: {signal:?}");
        }
    }
    // write(2) and getpid(2): as numbers of x32, and of 32-bit programs.
    for number in [libc::SYS_write, libc::SYS_getpid] {
        let signal = outcome(install, Entry::Syscall, number | i64::from(X32));
        assert_eq!(signal, Some(libc::SIGSYS), "{role}: x32 call {number}");
    }
    for number in [4, 20] {
        let signal = outcome(install, Entry::Int80, number);
        // SIGSEGV: a kernel without 32-bit programs.
        assert!(matches!(signal, Some(libc::SIGSYS | libc::SIGSEGV)), "{role}: int 0x80, {number}");
    }
}

/// Of a stub process: nothing that is called from elsewhere passes.
fn check_stub(written: &stub::Written) {
    let program = written.policy.resolve(|name| Some(stub::address(name))).unwrap();
    let install = || seccompiler::apply_filter(&program).is_ok();
    let from_anywhere = |number: i64| {
        let mut fitting = written.rules.iter().filter(|rule| i64::from(rule.number()) == number);
        fitting.any(|rule| rule.origin() == 0 && rule.args.is_empty())
    };
    for number in (0..i64::from(NUMBERS)).filter(|number| ![URETPROBE, UPROBE].contains(number)) {
        if from_anywhere(number) {
            continue;
        }
        match written.otherwise {
            KILL_PROCESS => {
                let signal = outcome(install, Entry::Syscall, number);
                assert_eq!(signal, Some(libc::SIGSYS), "{}: call {number}", written.role);
            }
            _ => {
                let refused = refused(install, number);
                assert!(refused, "{}: call {number} is not refused", written.role);
            }
        }
    }
}

/// Does the call fail with ENOSYS, in a child that can make no call any more? The child says so by the instruction that
/// ends it. (Who would be notified is not there: that is ENOSYS, too.)
fn refused(install: impl Fn() -> bool, number: i64) -> bool {
    // SAFETY: as in `outcome`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: as in `outcome`; the instructions raise signals that end the child.
        unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &no_core);
            if install()
                && libc::syscall(number, -1, -1, -1, -1, -1, -1) == -1
                && *libc::__errno_location() == libc::ENOSYS
            {
                asm!("ud2", options(noreturn));
            }
            asm!("int3", "ud2", options(noreturn));
        }
    }
    assert!(child > 0);
    let mut status = 0;
    // SAFETY: as in `outcome`.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGILL
}

#[test]
fn nothing_passes_in_stub_processes_but_from_the_stub() {
    stub::all_policies().iter().for_each(check_stub);
}

#[test]
fn whatever_is_not_listed_kills() {
    all_policies().iter().for_each(check);
}
