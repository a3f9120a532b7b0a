//! Every rule of every policy lets through what it names, and nothing else gets through: the compiled programs are
//! asked about each call, as the kernel would (`seccomp_run_filters`).
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be checked has failed")]

mod common;

use std::collections::BTreeSet;

use common::*;

/// The arguments that a rule names, and for each of them calls with others.
fn calls(rule: &Rule) -> (Call, Vec<Call>) {
    let mut call = Call { number: number_of(&rule.syscall), arch: X86_64, ..Call::default() };
    for condition in &rule.args {
        call.args[condition.index] = condition.good();
    }
    let others = |condition: &Condition| {
        let index = condition.index;
        condition.bad().into_iter().map(move |bad| {
            let mut other = call;
            other.args[index] = bad;
            other
        })
    };
    (call, rule.args.iter().flat_map(others).collect())
}

#[test]
fn what_is_listed_is_allowed_and_nothing_else() {
    for Written { role, policy, rules } in all_policies() {
        let mut listed = BTreeSet::new();
        for rule in &rules {
            let name = &rule.syscall;
            let (call, others) = calls(rule);
            listed.insert(call.number);
            assert_eq!(ask(policy, &call), rule.answer, "{role}: {name}");
            for other in others {
                assert_eq!(ask(policy, &other), KILL_PROCESS, "{role}: {name}, other arguments");
            }
            let number = call.number | X32;
            for other in [Call { arch: I386, ..call }, Call { number, ..call }] {
                assert_eq!(ask(policy, &other), KILL_PROCESS, "{role}: {name}, another entry");
            }
        }
        for number in (0..NUMBERS).chain([u32::MAX]).filter(|number| !listed.contains(number)) {
            let call = Call { number, arch: X86_64, ..Call::default() };
            assert_eq!(ask(policy, &call), KILL_PROCESS, "{role}: call {number} is not listed");
        }
    }
}

#[test]
fn each_rule_says_who_makes_the_call() {
    for Written { role, rules, .. } in all_policies() {
        for rule in rules {
            assert!(!rule.comment.is_empty(), "{role}: {}", rule.syscall);
        }
    }
}

/// Half of a pointer says nothing: an address can be chosen whose lower half is zero.
#[test]
fn pointers_are_looked_at_as_a_whole() {
    const POINTERS: [(&str, usize); 1] = [("prlimit64", 2)];
    for Written { role, rules, .. } in all_policies() {
        for rule in &rules {
            for condition in &rule.args {
                let is_pointer = POINTERS.contains(&(rule.syscall.as_str(), condition.index));
                let is_whole = matches!(condition.width, Width::Qword);
                assert_eq!(is_whole, is_pointer, "{role}: {}", rule.syscall);
            }
        }
    }
}

#[test]
fn only_the_ptrace_platform_may_trace() {
    let call = |number| Call { number, arch: X86_64, ..Call::default() };
    for name in ["ptrace", "process_vm_readv"] {
        assert_eq!(ask(&policies::SENTRY_SYSTRAP, &call(number_of(name))), KILL_PROCESS, "{name}");
    }
    assert_eq!(ask(&policies::SENTRY_SYSTRAP, &call(number_of("close"))), ALLOW);
}

/// Counts that docs/security.md gives.
#[test]
fn the_documentation_says_how_many_calls_each_role_may_make() {
    let text = include_str!("../../docs/security.md");
    let mut calls: Vec<(&str, BTreeSet<String>)> = Vec::new();
    for Written { role, rules, .. } in all_policies() {
        let role = match role {
            "systrap" => "sentry, systrap",
            "ptrace" => "sentry, ptrace",
            "kvm" => "sentry, kvm",
            role => role,
        };
        let allowed = rules.into_iter().filter(|rule| rule.answer == ALLOW);
        calls.push((role, allowed.map(|rule| rule.syscall).collect()));
    }
    for stub::Written { role, rules, .. } in stub::all_policies() {
        let allowed = rules.iter().filter(|rule| rule.action() == ALLOW);
        calls.push((role, allowed.map(stub::Rule::name).collect()));
    }
    for (role, calls) in calls {
        let row = format!("| {role} | {} |", calls.len());
        assert!(text.contains(&row), "docs/security.md has no row `{row}`");
    }
}
