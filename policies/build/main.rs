//! Compiles the filters in `seccomp/`, so that a process which starts has only to install one.

mod stub;

use std::{env, error::Error, fmt::Write, fs, path::Path};

use seccompiler::{BpfProgram, compile_from_json, sock_filter};

/// Each policy, and the files whose stages it is made of, in this order.
const POLICIES: [(&str, &[&str]); 5] = [
    ("LAUNCHER", &["launcher"]),
    ("GOFER", &["gofer"]),
    ("SENTRY_SYSTRAP", &["sentry_systrap", "sentry"]),
    ("SENTRY_PTRACE", &["sentry_ptrace", "sentry"]),
    ("SENTRY_KVM", &["sentry_kvm", "sentry"]),
];

/// `BPF_RET`, `BPF_JMP | BPF_JA`: linux/bpf_common.h.
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
/// SECCOMP_RET_LOG: a stage that says so leaves it to the next one.
const GO_ON: u32 = 0x7ffc_0000;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=seccomp");
    let mut code = String::new();
    for (name, files) in POLICIES {
        let mut stages = Vec::new();
        for file in files {
            stages.extend(compile(file)?);
        }
        write_policy(
            &mut code,
            name,
            files,
            &join(stages).map_err(|what| format!("{name}: {what}"))?,
        )?;
    }
    stub::write_policies(&mut code)?;
    let out = env::var_os("OUT_DIR").ok_or("cargo names no output directory")?;
    fs::write(Path::new(&out).join("policies.rs"), code)?;
    Ok(())
}

/// The stages in a file, by their names.
fn compile(file: &str) -> Result<Vec<BpfProgram>, Box<dyn Error>> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let path = format!("seccomp/{file}.json");
    let compiled = compile_from_json(fs::File::open(&path)?, arch.as_str().try_into()?);
    let mut stages: Vec<_> =
        compiled.map_err(|error| format!("{path}: {error}"))?.into_iter().collect();
    stages.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(stages.into_iter().map(|(_, program)| program).collect())
}

/// One program of all stages. A filter each would say the same, but each costs every call that is judged by its arguments.
fn join(stages: Vec<BpfProgram>) -> Result<BpfProgram, &'static str> {
    let goes_on = |insn: &sock_filter| insn.code == RETURN && insn.k == GO_ON;
    let last = stages.len().saturating_sub(1);
    let mut joined = BpfProgram::new();
    for (number, mut stage) in stages.into_iter().enumerate() {
        if stage.iter().any(goes_on) == (number == last) {
            return Err("each stage but the last, and only these, must go on (`log`)");
        }
        let len = stage.len();
        for (at, insn) in stage.iter_mut().enumerate().filter(|(_, insn)| goes_on(insn)) {
            *insn = sock_filter {
                code: JUMP,
                jt: 0,
                jf: 0,
                k: u32::try_from(len - at - 1).unwrap_or(u32::MAX),
            };
        }
        joined.append(&mut stage);
    }
    Ok(joined)
}

/// A static of that name.
fn write_policy(
    code: &mut String,
    name: &str,
    files: &[&str],
    program: &BpfProgram,
) -> std::fmt::Result {
    writeln!(code, "/// Of {} in `seccomp/`.", files.join(" and "))?;
    writeln!(code, "pub static {name}: Policy = Policy {{ program: &[")?;
    for insn in program {
        let (op, jt, jf, k) = (insn.code, insn.jt, insn.jf, insn.k);
        writeln!(code, "sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},")?;
    }
    writeln!(code, "] }};")
}
