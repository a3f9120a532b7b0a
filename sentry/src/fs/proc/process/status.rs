//! `status`.

use std::sync::Arc;

use platform::host::cpu_count;

use super::Scope;
use crate::{
    SysResult,
    fs::proc::put,
    kernel::{RunState, Task},
};

pub(super) fn status(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "Name:\t");
    escape(&task.comm(), out);
    put!(out, "\n");
    if let Some(fs) = task.fs_context() {
        put!(out, "Umask:\t0{:03o}\n", fs.state().umask);
    }
    identity(task, out);
    memory(task, out);
    signals(task, out);
    capabilities(task, out);
    placement(out);
    Ok(())
}

/// Names may hold anything; lines must stay lines.
fn escape(name: &[u8], out: &mut Vec<u8>) {
    for &byte in name {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => out.push(byte),
        }
    }
}

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Running => "R (running)",
        RunState::Sleeping => "S (sleeping)",
        RunState::Uninterruptible => "D (disk sleep)",
        RunState::Stopped => "T (stopped)",
        RunState::Traced => "t (tracing stop)",
        RunState::Zombie => "Z (zombie)",
        RunState::Dead => "X (dead)",
    }
}

fn identity(task: &Task, out: &mut Vec<u8>) {
    let group = task.thread_group();
    let cred = task.cred();
    put!(out, "State:\t{}\n", state_name(task.run_state()));
    put!(out, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}\n", group.pid(), task.tid(), group.ppid());
    put!(out, "TracerPid:\t{}\n", task.tracer_tid());
    put!(out, "Uid:\t{}\t{}\t{}\t{}\n", cred.uid, cred.euid, cred.suid, cred.fsuid);
    put!(out, "Gid:\t{}\t{}\t{}\t{}\n", cred.gid, cred.egid, cred.sgid, cred.fsgid);
    let highest = task.fd_table().and_then(|table| table.list().last().map(|fd| fd.0 as usize + 1));
    put!(out, "FDSize:\t{}\n", highest.unwrap_or(0).next_power_of_two().max(64));
    put!(out, "Groups:\t");
    for group in cred.groups.iter() {
        put!(out, "{group} ");
    }
    if cred.groups.is_empty() {
        put!(out, " ");
    }
    put!(
        out,
        "\nNStgid:\t{}\nNSpid:\t{}\nNSpgid:\t{}\nNSsid:\t{}\nKthread:\t0\n",
        group.pid(),
        task.tid(),
        group.process_group_id(),
        group.session_id()
    );
}

fn memory(task: &Task, out: &mut Vec<u8>) {
    let Some(memory) = task.memory() else { return };
    let usage = memory.usage();
    let anonymous =
        usage.resident.saturating_sub(usage.resident_file).saturating_sub(usage.resident_shared);
    let libraries = usage.text.saturating_sub(exe_bytes(&memory));
    let lines = [
        ("VmPeak", usage.total),
        ("VmSize", usage.total),
        ("VmLck", usage.locked),
        ("VmPin", 0),
        ("VmHWM", usage.resident),
        ("VmRSS", usage.resident),
        ("RssAnon", anonymous),
        ("RssFile", usage.resident_file),
        ("RssShmem", usage.resident_shared),
        ("VmData", usage.data),
        ("VmStk", usage.stack),
        ("VmExe", exe_bytes(&memory)),
        ("VmLib", libraries),
        ("VmPTE", usage.resident / 512),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ];
    for (name, bytes) in lines {
        put!(out, "{name}:\t{:>8} kB\n", bytes / 1024);
    }
    put!(out, "CoreDumping:\t0\nTHP_enabled:\t1\nuntag_mask:\t0xffffffffffffffff\n");
}

fn exe_bytes(memory: &crate::mm::MemoryManager) -> u64 {
    let code = memory.image().code;
    code.end.saturating_sub(code.start)
}

fn signals(task: &Task, out: &mut Vec<u8>) {
    let group = task.thread_group();
    let (own, shared) = task.pending_signals();
    let (ignored, caught) = group.handlers().ignored_and_caught();
    let count = own.0.count_ones() + shared.0.count_ones();
    put!(out, "Threads:\t{}\n", group.thread_count().max(1));
    put!(out, "SigQ:\t{count}/{}\n", task.rlimit(libc::RLIMIT_SIGPENDING).0);
    let sets = [
        ("SigPnd", own.0),
        ("ShdPnd", shared.0),
        ("SigBlk", task.blocked().0),
        ("SigIgn", ignored.0),
        ("SigCgt", caught.0),
    ];
    for (name, set) in sets {
        put!(out, "{name}:\t{set:016x}\n");
    }
}

fn capabilities(task: &Task, out: &mut Vec<u8>) {
    let cred = task.cred();
    let sets = [
        ("CapInh", cred.inheritable),
        ("CapPrm", cred.permitted),
        ("CapEff", cred.effective),
        ("CapBnd", cred.bounding),
        ("CapAmb", cred.ambient),
    ];
    for (name, set) in sets {
        put!(out, "{name}:\t{:016x}\n", set.bits());
    }
    put!(out, "NoNewPrivs:\t{}\n", u8::from(cred.no_new_privs));
    let mode = task.seccomp_mode();
    put!(out, "Seccomp:\t{mode}\nSeccomp_filters:\t{}\n", u8::from(mode == 2));
    put!(
        out,
        "Speculation_Store_Bypass:\tvulnerable\nSpeculationIndirectBranch:\talways enabled\n"
    );
}

fn placement(out: &mut Vec<u8>) {
    let count = cpu_count().clamp(1, 64);
    let mask = u64::MAX >> (64 - count);
    let last = count - 1;
    let list = if last == 0 { "0".to_owned() } else { format!("0-{last}") };
    put!(out, "Cpus_allowed:\t{mask:x}\nCpus_allowed_list:\t{list}\n");
    put!(out, "Mems_allowed:\t1\nMems_allowed_list:\t0\n");
    put!(out, "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n");
}
