//! Compiles the filters in `seccomp/`, so that a process which starts has only to install them.

use std::{env, error::Error, fmt::Write, fs, path::Path};

use seccompiler::{BpfMap, compile_from_json};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=seccomp");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let mut code = String::new();
    for entry in fs::read_dir("seccomp")? {
        let path = entry?.path();
        let role = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a policy has no name")?;
        let compiled = compile_from_json(fs::File::open(&path)?, arch.as_str().try_into()?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        write_policy(&mut code, role, &compiled)?;
    }
    let out = env::var_os("OUT_DIR").ok_or("cargo names no output directory")?;
    fs::write(Path::new(&out).join("policies.rs"), code)?;
    Ok(())
}

/// A static by the role's name.
fn write_policy(code: &mut String, role: &str, filters: &BpfMap) -> std::fmt::Result {
    let mut names: Vec<_> = filters.keys().collect();
    names.sort();
    writeln!(code, "/// Of `seccomp/{role}.json`.")?;
    writeln!(code, "pub static {}: Policy = Policy {{ filters: &[", role.to_uppercase())?;
    for program in names.into_iter().filter_map(|name| filters.get(name)) {
        writeln!(code, "&[")?;
        for insn in program {
            let (op, jt, jf, k) = (insn.code, insn.jt, insn.jf, insn.k);
            writeln!(code, "sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},")?;
        }
        writeln!(code, "],")?;
    }
    writeln!(code, "] }};")
}
