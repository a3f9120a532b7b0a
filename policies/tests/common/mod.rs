//! The policies as they are written down, and the compiled programs, run as the kernel runs them.
#![allow(dead_code, reason = "each test uses its own part")]

use std::collections::BTreeMap;

use policies::Policy;
use seccompiler::sock_filter;
use serde::Deserialize;

pub(crate) mod stub;

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(crate) const ALLOW: u32 = 0x7fff_0000;
/// Numbers of x32 have this bit.
pub(crate) const X32: u32 = 0x4000_0000;
/// More than there are calls.
pub(crate) const NUMBERS: u32 = 700;

#[derive(Deserialize)]
struct Stage {
    match_action: Action,
    filter: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Allow,
    Errno(u32),
}

#[derive(Deserialize)]
pub(crate) struct Rule {
    pub(crate) syscall: String,
    #[serde(default)]
    pub(crate) args: Vec<Condition>,
    pub(crate) comment: String,
    /// Its stage's.
    #[serde(skip)]
    pub(crate) answer: u32,
}

#[derive(Deserialize)]
pub(crate) struct Condition {
    pub(crate) index: usize,
    /// How much of the argument the kernel looks at: of a pointer, all.
    #[serde(rename = "type")]
    pub(crate) width: Width,
    pub(crate) op: Op,
    pub(crate) val: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Width {
    Dword,
    Qword,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    Eq,
    MaskedEq(u64),
}

impl Condition {
    pub(crate) fn good(&self) -> u64 {
        self.val
    }

    /// Arguments that do not hold.
    pub(crate) fn bad(&self) -> Vec<u64> {
        let mut bad = vec![match self.op {
            Op::Eq => self.val ^ 0x0101,
            Op::MaskedEq(mask) => self.val ^ mask,
        }];
        if let Width::Qword = self.width {
            bad.push(self.val ^ 1 << 32);
            bad.push(self.val ^ 1 << 63);
        }
        bad
    }
}

/// What the kernel shows to filters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) arch: u32,
    /// Behind the instruction.
    pub(crate) ip: u64,
    pub(crate) args: [u64; 6],
}

impl Call {
    pub(crate) fn word(&self, at: u32) -> u32 {
        match at {
            0 => self.number,
            4 => self.arch,
            8 => self.ip as u32,
            12 => (self.ip >> 32) as u32,
            _ => {
                let arg = self.args[(at as usize - 16) / 8];
                if at.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
        }
    }
}

/// Runs one program of classic BPF, as far as the compiler's output goes.
pub(crate) fn run(program: &[sock_filter], call: &Call) -> u32 {
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

/// What the kernel would do about the call.
pub(crate) fn ask(policy: &Policy, call: &Call) -> u32 {
    run(policy.program(), call)
}

/// The numbers of calls, by what the compiler makes of their names.
pub(crate) fn number_of(name: &str) -> u32 {
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

/// A policy as it is written and as it is compiled.
pub(crate) struct Written {
    pub(crate) role: &'static str,
    pub(crate) policy: &'static Policy,
    pub(crate) rules: Vec<Rule>,
}

impl Written {
    fn new(role: &'static str, policy: &'static Policy, texts: &[&str]) -> Self {
        let mut rules = Vec::new();
        for text in texts {
            let stages: BTreeMap<String, Stage> = serde_json::from_str(text).unwrap();
            for stage in stages.into_values() {
                let answer = match stage.match_action {
                    Action::Allow => ALLOW,
                    Action::Errno(errno) => ERRNO | errno,
                };
                rules.extend(stage.filter.into_iter().map(|rule| Rule { answer, ..rule }));
            }
        }
        Self { role, policy, rules }
    }
}

/// Of all roles.
pub(crate) fn all_policies() -> [Written; 5] {
    let sentry = include_str!("../../seccomp/sentry.json");
    let systrap = include_str!("../../seccomp/sentry_systrap.json");
    let ptrace = include_str!("../../seccomp/sentry_ptrace.json");
    let kvm = include_str!("../../seccomp/sentry_kvm.json");
    [
        Written::new(
            "launcher",
            &policies::LAUNCHER,
            &[include_str!("../../seccomp/launcher.json")],
        ),
        Written::new("gofer", &policies::GOFER, &[include_str!("../../seccomp/gofer.json")]),
        Written::new("systrap", &policies::SENTRY_SYSTRAP, &[systrap, sentry]),
        Written::new("ptrace", &policies::SENTRY_PTRACE, &[ptrace, sentry]),
        Written::new("kvm", &policies::SENTRY_KVM, &[kvm, sentry]),
    ]
}
