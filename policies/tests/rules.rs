//! Every rule of every policy lets through what it names, and nothing else gets through: the compiled programs are
//! asked about each call, as the kernel would (`seccomp_run_filters`).
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be checked has failed")]

use std::collections::{BTreeMap, BTreeSet};

use policies::Policy;
use seccompiler::sock_filter;
use serde::Deserialize;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;
/// Numbers of x32 have this bit.
const X32: u32 = 0x4000_0000;
/// More than there are calls.
const NUMBERS: u32 = 700;

#[derive(Deserialize)]
struct Filter {
    filter: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    syscall: String,
    #[serde(default)]
    args: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    index: usize,
    op: Op,
    val: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    MaskedEq(u64),
}

impl Condition {
    fn good(&self) -> u64 {
        self.val
    }

    fn bad(&self) -> u64 {
        match self.op {
            Op::Eq => self.val ^ 0x0101,
            Op::MaskedEq(mask) => self.val ^ mask,
        }
    }
}

/// What the kernel shows to filters.
#[derive(Clone, Copy, Default)]
struct Call {
    number: u32,
    arch: u32,
    args: [u64; 6],
}

impl Call {
    fn word(&self, at: u32) -> u32 {
        match at {
            0 => self.number,
            4 => self.arch,
            8 | 12 => 0,
            _ => {
                let arg = self.args[(at as usize - 16) / 8];
                if at.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
        }
    }
}

/// Runs one program of classic BPF, as far as the compiler's output goes.
fn run(program: &[sock_filter], call: &Call) -> u32 {
    let (mut at, mut a) = (0, 0_u32);
    loop {
        let insn = &program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { insn.jt } else { insn.jf });
        match insn.code {
            0x20 => a = call.word(insn.k),
            0x54 => a &= insn.k,
            0x05 => at += insn.k as usize,
            0x15 => at += jump(a == insn.k),
            0x25 => at += jump(a > insn.k),
            0x35 => at += jump(a >= insn.k),
            0x06 => return insn.k,
            code => panic!("instruction {code:#x} is not expected"),
        }
    }
}

/// The strictest answer of all programs: the lowest as a signed number.
fn ask(policy: &Policy, call: &Call) -> u32 {
    let answers = policy.programs().iter().map(|program| run(program, call));
    answers.min_by_key(|answer| *answer as i32).unwrap()
}

/// The numbers of calls, by what the compiler makes of their names.
fn number_of(name: &str) -> u32 {
    let json = format!(
        r#"{{"t": {{"mismatch_action": "allow", "match_action": "kill_process", "filter": [{{"syscall": "{name}"}}]}}}}"#
    );
    let map = seccompiler::compile_from_json(json.as_bytes(), seccompiler::TargetArch::x86_64);
    let program = &map.unwrap()["t"];
    let killed = |number: &u32| {
        run(program, &Call { number: *number, arch: X86_64, ..Call::default() }) == KILL_PROCESS
    };
    (0..NUMBERS).find(killed).unwrap()
}

fn check(policy: &Policy, text: &str) {
    let filters: BTreeMap<String, Filter> = serde_json::from_str(text).unwrap();
    let mut listed = BTreeSet::new();
    for rule in &filters["threads"].filter {
        let number = number_of(&rule.syscall);
        listed.insert(number);
        let mut call = Call { number, arch: X86_64, ..Call::default() };
        for condition in &rule.args {
            call.args[condition.index] = condition.good();
        }
        let answer = ask(policy, &call);
        // The second filter answers for this one.
        let is_refused = filters["refused"].filter.iter().any(|it| it.syscall == rule.syscall);
        let wanted = if is_refused { ERRNO | libc::ENOSYS as u32 } else { ALLOW };
        assert_eq!(answer, wanted, "{}", rule.syscall);
        for condition in &rule.args {
            let mut other = call;
            other.args[condition.index] = condition.bad();
            assert_eq!(ask(policy, &other), KILL_PROCESS, "{} with another argument", rule.syscall);
        }
        for other in [Call { arch: I386, ..call }, Call { number: number | X32, ..call }] {
            assert_eq!(ask(policy, &other), KILL_PROCESS, "{} by another entry", rule.syscall);
        }
    }
    for number in (0..NUMBERS).chain([u32::MAX]).filter(|number| !listed.contains(number)) {
        let call = Call { number, arch: X86_64, ..Call::default() };
        assert_eq!(ask(policy, &call), KILL_PROCESS, "call {number} is not listed");
    }
}

#[test]
fn the_gofer_may_do_what_is_listed_and_nothing_else() {
    check(&policies::GOFER, include_str!("../seccomp/gofer.json"));
}

#[test]
fn the_sentry_may_do_what_is_listed_and_nothing_else() {
    check(&policies::SENTRY, include_str!("../seccomp/sentry.json"));
}

#[test]
fn only_the_ptrace_platform_may_trace() {
    let call = |number| Call { number, arch: X86_64, ..Call::default() };
    for name in ["ptrace", "process_vm_readv"] {
        assert_eq!(ask(&policies::SENTRY_SYSTRAP, &call(number_of(name))), KILL_PROCESS, "{name}");
    }
    assert_eq!(ask(&policies::SENTRY_SYSTRAP, &call(number_of("close"))), ALLOW);
}
