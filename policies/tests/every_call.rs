//! Every system call there is, in the kernel: a process that makes one which its policy does not list is killed.
//! Each is made by a child of its own, with arguments that no rule allows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be checked has failed")]
#![allow(unsafe_code, reason = "fork, and system calls by number")]

mod common;

use std::{arch::asm, collections::BTreeMap};

use common::*;
use policies::Policy;

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

/// Makes a call in a child that is bound by `policy`. The signal that ended the child; `None` when the call returned.
fn outcome(policy: &Policy, entry: Entry, number: i64) -> Option<i32> {
    const ALL: u64 = u64::MAX;
    // SAFETY: the child makes system calls only, and uses nothing that a thread of the parent might hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: it reads one structure of ours.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &no_core) };
        let bound = policy.install().is_ok();
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
    for number in 0..i64::from(NUMBERS) {
        if !listed.get(&number).is_some_and(|without_arguments| *without_arguments) {
            let signal = outcome(policy, Entry::Syscall, number);
            let is_exempt = number == URETPROBE && signal == Some(libc::SIGILL)
                || number == UPROBE && signal.is_none();
            assert!(is_exempt || signal == Some(libc::SIGSYS), "{role}: call {number}: {signal:?}");
        }
    }
    // write(2) and getpid(2): as numbers of x32, and of 32-bit programs.
    for number in [libc::SYS_write, libc::SYS_getpid] {
        let signal = outcome(policy, Entry::Syscall, number | i64::from(X32));
        assert_eq!(signal, Some(libc::SIGSYS), "{role}: x32 call {number}");
    }
    for number in [4, 20] {
        let signal = outcome(policy, Entry::Int80, number);
        // SIGSEGV: a kernel without 32-bit programs.
        assert!(matches!(signal, Some(libc::SIGSYS | libc::SIGSEGV)), "{role}: int 0x80, {number}");
    }
}

#[test]
fn whatever_is_not_listed_kills() {
    all_policies().iter().for_each(check);
}
