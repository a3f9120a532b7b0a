//! The filters of stub processes say of each call what their rules say, wherever it comes from.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be checked has failed")]

mod common;

use common::{
    stub::{Condition, Rule, Written, address, all_policies},
    *,
};
use seccompiler::sock_filter;

/// A call that fits the rule. Of two conditions on one argument, the first is a lower bound.
fn fitting(written: &Written, rule: &Rule) -> Call {
    let mut call =
        Call { number: rule.number(), arch: X86_64, ip: rule.origin(), ..Call::default() };
    let choices = |condition: &Condition| [condition.value(), condition.value().wrapping_sub(1)];
    for condition in rule.args.iter().rev() {
        let same = rule.args.iter().filter(|other| other.index == condition.index);
        let fits = |arg: &u64| same.clone().all(|other| other.holds(*arg));
        if let Some(arg) = choices(condition).into_iter().find(fits) {
            call.args[condition.index] = arg;
        }
    }
    assert_eq!(written.expected(&call), rule.action(), "{}: {}", written.role, rule.name());
    call
}

/// The call with something else.
fn others(rule: &Rule, call: Call) -> Vec<Call> {
    let mut others = vec![
        Call { arch: I386, ..call },
        Call { number: call.number | X32, ..call },
        Call { ip: 0, ..call },
        Call { ip: call.ip ^ 1 << 32, ..call },
        Call { ip: call.ip ^ 1 << 13, ..call },
        Call { ip: call.ip - call.ip % 4096, ..call },
        Call { ip: (call.ip - call.ip % 4096).wrapping_sub(1), ..call },
        Call { ip: call.ip - call.ip % 4096 + 4095, ..call },
        Call { ip: call.ip - call.ip % 4096 + 4096, ..call },
    ];
    for condition in &rule.args {
        let value = condition.value();
        let near = [value, value.wrapping_sub(1), value + 1, value ^ 1 << 32, value ^ 1 << 33];
        for arg in near.into_iter().chain([0, u64::MAX, u64::from(u32::MAX), 1 << 63]) {
            let mut other = call;
            other.args[condition.index] = arg;
            others.push(other);
        }
    }
    others
}

fn program(written: &Written) -> Vec<sock_filter> {
    written.policy.resolve(|name| Some(address(name))).unwrap()
}

#[test]
fn each_call_is_answered_as_the_rules_say() {
    for written in all_policies() {
        let (program, role) = (program(&written), written.role);
        for rule in &written.rules {
            let call = fitting(&written, rule);
            assert_eq!(run(&program, &call), rule.action(), "{role}: {}", rule.name());
            let mut refused = 0;
            for other in others(rule, call) {
                let expected = written.expected(&other);
                refused += usize::from(expected == written.otherwise);
                assert_eq!(run(&program, &other), expected, "{role}: {}: {other:x?}", rule.name());
            }
            // Another architecture is always refused, and other arguments.
            assert!(refused > rule.args.len(), "{role}: {}: {refused}", rule.name());
        }
    }
}

#[test]
fn no_other_number_gets_through() {
    for written in all_policies() {
        let program = program(&written);
        for number in (0..NUMBERS).chain([u32::MAX]) {
            if written.rules.iter().all(|rule| rule.number() != number) {
                for ip in written.rules.iter().map(Rule::origin) {
                    let call = Call { number, arch: X86_64, ip, ..Call::default() };
                    assert_eq!(
                        run(&program, &call),
                        written.otherwise,
                        "{}: {number}",
                        written.role
                    );
                }
            }
        }
    }
}

/// Almost all calls of a guest are made by its own code: that they are to be handed over must be plain at once.
#[test]
fn a_guests_own_calls_are_decided_by_where_they_come_from() {
    let stages = all_policies()
        .into_iter()
        .filter(|written| ["stub, systrap", "guest thread, systrap"].contains(&written.role));
    for written in stages {
        let program = program(&written);
        let loads = program.iter().take_while(|insn| insn.code != 0x06);
        assert!(loads.count() <= 3, "{}", written.role);
    }
}

#[test]
fn each_rule_says_what_it_is_for() {
    for written in all_policies() {
        for rule in &written.rules {
            assert!(!rule.comment.is_empty(), "{}: {}", written.role, rule.name());
        }
    }
}
