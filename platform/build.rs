//! Builds the vDSO image that guests get: a shared object of its own, with the linker
//! that links the program.

use std::{env, path::Path, process::Command};

fn main() {
    let sources = ["src/vdso/vdso.S", "src/vdso/vdso.lds"];
    for source in sources {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=CC");
    let Some(out) = env::var_os("OUT_DIR") else {
        println!("cargo::error=OUT_DIR is not set");
        return;
    };
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let [source, script] = sources;
    let status = Command::new(&compiler)
        .args(["-shared", "-nostdlib", "-m64", "-s"])
        .args(["-Wl,-soname=linux-vdso.so.1", "-Wl,--hash-style=both", "-Wl,--eh-frame-hdr"])
        .args(["-Wl,-Bsymbolic", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"])
        .arg(format!("-Wl,-T,{script}"))
        .arg("-o")
        .arg(Path::new(&out).join("vdso.so"))
        .arg(source)
        .status();
    match status {
        Ok(status) if status.success() => {}
        other => println!("cargo::error=cannot build the vDSO with {compiler:?}: {other:?}"),
    }
}
