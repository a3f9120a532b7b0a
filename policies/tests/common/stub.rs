//! The policies of stub processes.

use policies::StubPolicy;
use serde::Deserialize;

use super::{ALLOW, Call, KILL_PROCESS, X86_64, number_of};

pub(crate) const NOTIFY: u32 = 0x7fc0_0000;
pub(crate) const TRACE: u32 = 0x7ff0_0000;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    #[default]
    Allow,
    Notify,
    Trace,
    KillProcess,
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Self::Allow => ALLOW,
            Self::Notify => NOTIFY,
            Self::Trace => TRACE,
            Self::KillProcess => KILL_PROCESS,
        }
    }
}

#[derive(Deserialize)]
struct File {
    otherwise: Action,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
pub(crate) struct Rule {
    syscall: serde_json::Value,
    #[serde(default)]
    action: Action,
    from: Option<String>,
    within: Option<String>,
    #[serde(default)]
    pub(crate) args: Vec<Condition>,
    pub(crate) comment: String,
}

#[derive(Deserialize)]
pub(crate) struct Condition {
    pub(crate) index: usize,
    op: Op,
    val: serde_json::Value,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    Lt,
    Le,
    Ge,
    Set,
}

impl Condition {
    pub(crate) fn value(&self) -> u64 {
        self.val.as_str().map_or_else(|| self.val.as_u64().unwrap(), address)
    }

    pub(crate) fn holds(&self, arg: u64) -> bool {
        let value = self.value();
        match self.op {
            Op::Eq => arg == value,
            Op::Lt => arg < value,
            Op::Le => arg <= value,
            Op::Ge => arg >= value,
            Op::Set => arg & value == value,
        }
    }
}

impl Rule {
    pub(crate) fn name(&self) -> String {
        self.syscall.as_str().map_or_else(|| self.syscall.to_string(), str::to_owned)
    }

    pub(crate) fn number(&self) -> u32 {
        self.syscall.as_str().map_or_else(|| self.syscall.as_u64().unwrap() as u32, number_of)
    }

    pub(crate) fn action(&self) -> u32 {
        self.action.value()
    }

    /// Where the call may come from.
    pub(crate) fn origin(&self) -> u64 {
        let page = self.within.as_deref().map_or(0, |page| address(page) + 2);
        self.from.as_deref().map_or(page, address)
    }

    fn fits(&self, call: &Call) -> bool {
        let from = self.from.as_deref().is_none_or(|from| call.ip == address(from));
        let page = |page: &str| (address(page)..address(page) + 4096).contains(&call.ip);
        let within = self.within.as_deref().is_none_or(page);
        let args = self.args.iter().all(|condition| condition.holds(call.args[condition.index]));
        call.arch == X86_64 && call.number == self.number() && from && within && args
    }
}

/// Addresses as they might be: all different in both halves.
pub(crate) fn address(name: &str) -> u64 {
    match name {
        "USER_END" => 0x7fff_0000_0000,
        "TEXT" => 0x7fff_f000_0000,
        "AFTER_SIGRETURN" => 0x7fff_f000_0345,
        "AFTER_YIELD" => 0x7fff_f000_0456,
        "CONST" => 0x7ff1_f001_0000,
        "ACKS" => 0x7ff1_f001_0a00,
        "CONST_END" => 0x7ff1_f001_1000,
        "ZYGOTE" => 0x7ff2_f002_0000,
        "COMMAND" => 0x7ff3_f003_0000,
        "NEVER" => 0x7ff3_f003_0004,
        "BATCH" => 0x7ff3_f003_0030,
        "SLOTS" => 0x7ff4_4000_0000,
        "SLOTS_END" => 0x7ff4_8000_0000,
        "CLONE_PROCESS" => 0x1411,
        "CLONE_THREAD" => 0x5_0f00,
        _ => panic!("no address: {name}"),
    }
}

/// As it is written and as it is compiled.
pub(crate) struct Written {
    pub(crate) role: &'static str,
    pub(crate) policy: StubPolicy,
    pub(crate) otherwise: u32,
    pub(crate) rules: Vec<Rule>,
}

impl Written {
    fn new(role: &'static str, policy: StubPolicy, texts: &[&str]) -> Self {
        let files = texts.iter().map(|text| serde_json::from_str::<File>(text).unwrap());
        let (mut rules, mut otherwise) = (Vec::new(), ALLOW);
        for file in files {
            otherwise = file.otherwise.value();
            rules.extend(file.rules);
        }
        Self { role, policy, otherwise, rules }
    }

    /// What is to be answered.
    pub(crate) fn expected(&self, call: &Call) -> u32 {
        self.rules.iter().find(|rule| rule.fits(call)).map_or(self.otherwise, Rule::action)
    }
}

/// Of all roles.
pub(crate) fn all_policies() -> [Written; 6] {
    let stub = include_str!("../../seccomp/stub.json");
    let helper = include_str!("../../seccomp/helper.json");
    [
        Written::new(
            "stub, systrap",
            policies::STUB_SYSTRAP,
            &[stub, include_str!("../../seccomp/stub_systrap.json")],
        ),
        Written::new(
            "stub, ptrace",
            policies::STUB_PTRACE,
            &[stub, include_str!("../../seccomp/stub_ptrace.json")],
        ),
        Written::new(
            "helper thread, systrap",
            policies::HELPER_SYSTRAP,
            &[helper, include_str!("../../seccomp/helper_systrap.json")],
        ),
        Written::new(
            "helper thread, ptrace",
            policies::HELPER_PTRACE,
            &[helper, include_str!("../../seccomp/helper_ptrace.json")],
        ),
        Written::new(
            "guest thread, systrap",
            policies::GUEST_SYSTRAP,
            &[include_str!("../../seccomp/guest_systrap.json")],
        ),
        Written::new(
            "guest thread, ptrace",
            policies::GUEST_PTRACE,
            &[include_str!("../../seccomp/guest_ptrace.json")],
        ),
    ]
}
