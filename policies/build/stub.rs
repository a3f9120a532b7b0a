//! Compiles the filters of stub processes: they look at where a call comes from as well, and hand calls over, which
//! seccompiler's rules have no words for. Addresses have names, which the platform knows when it runs.

use std::{env, error::Error, fmt::Write, fs};

use seccompiler::{compile_from_json, sock_filter};
use serde::Deserialize;

/// Each policy, and the files whose rules it is made of.
const POLICIES: [(&str, &[&str]); 6] = [
    ("STUB_SYSTRAP", &["stub", "stub_systrap"]),
    ("STUB_PTRACE", &["stub", "stub_ptrace"]),
    ("HELPER_SYSTRAP", &["helper", "helper_systrap"]),
    ("HELPER_PTRACE", &["helper", "helper_ptrace"]),
    ("GUEST_SYSTRAP", &["guest_systrap"]),
    ("GUEST_PTRACE", &["guest_ptrace"]),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What becomes of a call that fits no rule.
    otherwise: Action,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Action {
    #[default]
    Allow,
    /// Hands it over to the listener.
    Notify,
    /// ENOSYS: there is no tracer who would ask. Gives way to a later filter's `notify`.
    Trace,
    KillProcess,
}

impl Action {
    /// `SECCOMP_RET_*`: linux/seccomp.h.
    fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Notify => 0x7fc0_0000,
            Self::Trace => 0x7ff0_0000,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// A name, or the number of one that the kernel does not know.
    syscall: Number,
    #[serde(default)]
    action: Action,
    /// The address behind the instruction that makes the call.
    from: Option<String>,
    /// The page that instruction is in.
    within: Option<String>,
    #[serde(default)]
    args: Vec<Condition>,
    #[serde(rename = "comment")]
    _comment: String,
}

/// The address behind the instruction that makes a call, or of the page which that is in.
#[derive(Clone, Copy, PartialEq)]
enum Origin<'a> {
    Instruction(&'a str),
    Page(&'a str),
}

impl Rule {
    fn origin(&self) -> Option<Origin<'_>> {
        let page = self.within.as_deref().map(Origin::Page);
        self.from.as_deref().map(Origin::Instruction).or(page)
    }
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Number {
    Name(String),
    Number(u32),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    index: u32,
    op: Op,
    val: Value,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Eq,
    Lt,
    Le,
    Ge,
    /// Of the low half: all these bits are set.
    Set,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Value {
    Number(u64),
    /// An address.
    Place(String),
}

impl Value {
    fn place(name: &str) -> Self {
        Self::Place(name.to_owned())
    }
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const IP: u32 = 8;
const ARGS: u32 = 16;
const X86_64: u32 = 0xc000_003e;
const PAGE: u32 = 4096;

/// A place in the program that is not known yet.
#[derive(Clone, Copy)]
struct Label(usize);

/// A branch that goes there, or to the next instruction.
type Branch = Option<Label>;

#[derive(Default)]
struct Assembler {
    code: Vec<sock_filter>,
    branches: Vec<[Branch; 2]>,
    labels: Vec<usize>,
    /// Instructions whose constant is to be added to a half of an address: which, its name, is it the upper half.
    places: Vec<(usize, String, bool)>,
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.labels.push(0);
        Label(self.labels.len() - 1)
    }

    fn put(&mut self, label: Label) {
        self.labels[label.0] = self.code.len();
    }

    fn add(&mut self, code: u16, k: u32, branches: [Branch; 2]) {
        self.code.push(sock_filter { code, jt: 0, jf: 0, k });
        self.branches.push(branches);
    }

    fn load(&mut self, offset: u32) {
        self.add(LOAD, offset, [None, None]);
    }

    /// Compares with a half of the value, and `more`.
    fn compare(&mut self, code: u16, value: &Value, more: u32, upper: bool, branches: [Branch; 2]) {
        let k = match value {
            Value::Number(number) => (if upper { number >> 32 } else { *number }) as u32,
            Value::Place(name) => {
                self.places.push((self.code.len(), name.clone(), upper));
                0
            }
        };
        self.add(code, k + more, branches);
    }

    /// Goes on where the condition holds, else to `fails`.
    fn condition(&mut self, Condition { index, op, val, .. }: &Condition, fails: Label) {
        let low = ARGS + 8 * index;
        let holds = self.label();
        if !matches!(op, Op::Set) {
            self.load(low + 4);
            match op {
                Op::Eq | Op::Set => {}
                Op::Lt | Op::Le => self.compare(GREATER, val, 0, true, [Some(fails), None]),
                Op::Ge => self.compare(GREATER, val, 0, true, [Some(holds), None]),
            }
            let smaller = if matches!(op, Op::Lt | Op::Le) { holds } else { fails };
            self.compare(EQUAL, val, 0, true, [None, Some(smaller)]);
        }
        self.load(low);
        match op {
            Op::Eq => self.compare(EQUAL, val, 0, false, [None, Some(fails)]),
            Op::Lt => self.compare(NOT_LESS, val, 0, false, [Some(fails), None]),
            Op::Le => self.compare(GREATER, val, 0, false, [Some(fails), None]),
            Op::Ge => self.compare(NOT_LESS, val, 0, false, [None, Some(fails)]),
            Op::Set => {
                self.compare(AND, val, 0, false, [None, None]);
                self.compare(EQUAL, val, 0, false, [None, Some(fails)]);
            }
        }
        self.put(holds);
    }

    /// Rules of calls that come from the same place; what fits none goes to `otherwise`.
    fn rules(&mut self, rules: &[&Rule], otherwise: Label) -> Result<(), Box<dyn Error>> {
        self.load(ARCH);
        self.add(EQUAL, X86_64, [None, Some(otherwise)]);
        let mut has_number = false;
        for rule in rules {
            let next = self.label();
            if !has_number {
                self.load(NUMBER);
            }
            has_number = rule.args.is_empty();
            self.add(EQUAL, number(&rule.syscall)?, [None, Some(next)]);
            for condition in &rule.args {
                self.condition(condition, next);
            }
            self.add(RETURN, rule.action.value(), [None, None]);
            self.put(next);
        }
        Ok(())
    }

    /// The program, where all jumps are as short as they have to be.
    fn finish(mut self) -> Result<Self, Box<dyn Error>> {
        for (at, branches) in self.branches.iter().enumerate() {
            let distance = |branch: &Branch| match branch {
                Some(label) => u8::try_from(self.labels[label.0] - at - 1),
                None => Ok(0),
            };
            (self.code[at].jt, self.code[at].jf) =
                (distance(&branches[0])?, distance(&branches[1])?);
        }
        Ok(self)
    }
}

/// The number of a call, which is what the filter for that call alone compares with last.
fn number(call: &Number) -> Result<u32, Box<dyn Error>> {
    let name = match call {
        Number::Name(name) => name,
        Number::Number(number) => return Ok(*number),
    };
    let rule = format!(
        r#"{{"t": {{"mismatch_action": "allow", "match_action": "trap", "filter": [{{"syscall": "{name}"}}]}}}}"#
    );
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let compiled = compile_from_json(rule.as_bytes(), arch.as_str().try_into()?)?;
    let last = compiled["t"].iter().rfind(|insn| insn.code == EQUAL).ok_or("no comparison")?;
    Ok(last.k)
}

fn compile(files: &[&str]) -> Result<Assembler, Box<dyn Error>> {
    let mut otherwise = None;
    let mut rules = Vec::new();
    for file in files {
        let path = format!("seccomp/{file}.json");
        let file: File = serde_json::from_slice(&fs::read(&path)?)
            .map_err(|error| format!("{path}: {error}"))?;
        if otherwise.is_some_and(|other| other != file.otherwise) {
            return Err(format!("{path}: another `otherwise`").into());
        }
        otherwise = Some(file.otherwise);
        rules.extend(file.rules);
    }
    let action = otherwise.ok_or("no file")?.value();
    // By where calls come from, which decides first: almost all calls come from the guest's own code.
    let mut groups: Vec<(Option<Origin<'_>>, Vec<&Rule>)> = Vec::new();
    for rule in &rules {
        match groups.iter_mut().find(|(origin, _)| *origin == rule.origin()) {
            Some((_, rules)) => rules.push(rule),
            None => groups.push((rule.origin(), vec![rule])),
        }
    }
    groups.sort_by_key(|(origin, _)| origin.is_none());
    let mut code = Assembler::default();
    let mut bodies = Vec::new();
    for (origin, rules) in &groups {
        let Some(origin) = origin else {
            let end = code.label();
            code.rules(rules, end)?;
            code.put(end);
            continue;
        };
        if bodies.is_empty() {
            code.load(IP);
        }
        let body = code.label();
        bodies.push((body, origin, rules));
        match origin {
            Origin::Instruction(address) => {
                code.compare(EQUAL, &Value::place(address), 0, false, [Some(body), None]);
            }
            Origin::Page(address) => {
                let (page, next) = (Value::place(address), code.label());
                code.compare(NOT_LESS, &page, 0, false, [None, Some(next)]);
                code.compare(NOT_LESS, &page, PAGE, false, [None, Some(body)]);
                code.put(next);
            }
        }
    }
    code.add(RETURN, action, [None, None]);
    for (body, origin, rules) in bodies {
        let end = code.label();
        code.put(body);
        let (Origin::Instruction(address) | Origin::Page(address)) = origin;
        code.load(IP + 4);
        code.compare(EQUAL, &Value::place(address), 0, true, [None, Some(end)]);
        code.rules(rules, end)?;
        code.put(end);
        code.add(RETURN, action, [None, None]);
    }
    code.finish()
}

pub(crate) fn write_policies(code: &mut String) -> Result<(), Box<dyn Error>> {
    for (name, files) in POLICIES {
        let Assembler { code: program, places, .. } =
            compile(files).map_err(|error| format!("{name}: {error}"))?;
        writeln!(code, "/// Of {} in `seccomp/`.", files.join(" and "))?;
        writeln!(code, "pub static {name}: StubPolicy = StubPolicy {{ program: &[")?;
        for sock_filter { code: op, jt, jf, k } in program {
            writeln!(code, "sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},")?;
        }
        writeln!(code, "], places: &[")?;
        for (at, name, upper) in places {
            writeln!(code, "Place {{ at: {at}, name: {name:?}, upper: {upper} }},")?;
        }
        writeln!(code, "] }};")?;
    }
    Ok(())
}
