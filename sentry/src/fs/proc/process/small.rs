//! Files of a line or two.

use std::sync::{Arc, atomic::Ordering};

use super::{NS_PER_TICK, Scope, Sort, Subject, stat::times};
use crate::{
    Errno, SysResult, err,
    fs::{
        proc::{
            access::{Look, may_look},
            put,
        },
        pseudo::{Content, FixedEntries, PseudoDir, PseudoFile, parse_decimal},
    },
    kernel::{Capability, Task, served},
    vfs::{FileDescription, FileType, Inode},
};

type Result = SysResult<()>;

pub(super) fn nothing(_: &Arc<Task>, _: Scope, _: &mut Vec<u8>) -> Result {
    Ok(())
}

pub(super) fn unreadable(_: &Arc<Task>, _: Scope, _: &mut Vec<u8>) -> Result {
    err!(EINVAL)
}

/// A setting that has no effect here.
pub(super) fn ignore(_: &Arc<Task>, _: &FileDescription, _: &[u8]) -> Result {
    Ok(())
}

/// A setting that a Linux in this configuration refuses too: ids are mapped once, at the start.
pub(super) fn refuse(_: &Arc<Task>, _: &FileDescription, _: &[u8]) -> Result {
    err!(EPERM)
}

pub(super) fn comm(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    out.extend_from_slice(&task.comm());
    put!(out, "\n");
    Ok(())
}

/// Only the process's own threads may name each other.
pub(super) fn set_comm(task: &Arc<Task>, _: &FileDescription, bytes: &[u8]) -> Result {
    if served().is_some_and(|caller| caller.pid() != task.pid()) {
        return err!(EINVAL);
    }
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    task.set_comm(&bytes[..end.min(15)]);
    Ok(())
}

pub(super) fn personality(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    if !may_look(task, Look::Attach) {
        return err!(EPERM);
    }
    put!(out, "{:08x}\n", task.personality());
    Ok(())
}

pub(super) fn limits(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    const LINES: [(&str, u32, &str); 16] = [
        ("Max cpu time", libc::RLIMIT_CPU, "seconds"),
        ("Max file size", libc::RLIMIT_FSIZE, "bytes"),
        ("Max data size", libc::RLIMIT_DATA, "bytes"),
        ("Max stack size", libc::RLIMIT_STACK, "bytes"),
        ("Max core file size", libc::RLIMIT_CORE, "bytes"),
        ("Max resident set", libc::RLIMIT_RSS, "bytes"),
        ("Max processes", libc::RLIMIT_NPROC, "processes"),
        ("Max open files", libc::RLIMIT_NOFILE, "files"),
        ("Max locked memory", libc::RLIMIT_MEMLOCK, "bytes"),
        ("Max address space", libc::RLIMIT_AS, "bytes"),
        ("Max file locks", libc::RLIMIT_LOCKS, "locks"),
        ("Max pending signals", libc::RLIMIT_SIGPENDING, "signals"),
        ("Max msgqueue size", libc::RLIMIT_MSGQUEUE, "bytes"),
        ("Max nice priority", libc::RLIMIT_NICE, ""),
        ("Max realtime priority", libc::RLIMIT_RTPRIO, ""),
        ("Max realtime timeout", libc::RLIMIT_RTTIME, "us"),
    ];
    put!(out, "{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    let value = |limit: u64| {
        if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() }
    };
    for (name, resource, unit) in LINES {
        let (soft, hard) = task.rlimit(resource);
        put!(out, "{name:<25} {:<20} {:<20} {unit:<10}\n", value(soft), value(hard));
    }
    Ok(())
}

pub(super) fn sched(task: &Arc<Task>, scope: Scope, out: &mut Vec<u8>) -> Result {
    out.extend_from_slice(&task.comm());
    put!(out, " ({}, #threads: {})\n", task.tid(), task.thread_group().thread_count());
    put!(out, "{:-<67}\n", "");
    let mut line = |name: &str, value: String| put!(out, "{name:<45}:{value:>21}\n");
    let ms = |ns: u64| format!("{}.{:06}", ns / 1_000_000, ns % 1_000_000);
    line("se.exec_start", ms(task.kernel().clocks.monotonic().0));
    line("se.sum_exec_runtime", ms(times(task, scope).total_ns()));
    line("nr_switches", "0".to_owned());
    line("nr_voluntary_switches", "0".to_owned());
    line("nr_involuntary_switches", "0".to_owned());
    line("policy", task.scheduling().0.to_string());
    line("prio", (120 + task.nice()).to_string());
    Ok(())
}

pub(super) fn schedstat(task: &Arc<Task>, scope: Scope, out: &mut Vec<u8>) -> Result {
    let ns = times(task, scope).total_ns();
    put!(out, "{ns} 0 {}\n", ns / NS_PER_TICK);
    Ok(())
}

pub(super) fn autogroup(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "/autogroup-0 nice 0\n");
    Ok(())
}

pub(super) fn syscall(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    if !may_look(task, Look::Attach) {
        return err!(EPERM);
    }
    // Divergence: the registers of a task in a call are its own thread's.
    put!(out, "running\n");
    Ok(())
}

pub(super) fn wchan(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "0");
    Ok(())
}

pub(super) fn stack(_: &Arc<Task>, _: Scope, _: &mut Vec<u8>) -> Result {
    match served() {
        Some(task) if !task.cred().has(Capability::SYS_ADMIN) => err!(EACCES),
        _ => Ok(()),
    }
}

pub(super) fn cpuset(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "/\n");
    Ok(())
}

pub(super) fn cgroup(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "0::/\n");
    Ok(())
}

pub(super) fn clear_refs(_: &Arc<Task>, _: &FileDescription, bytes: &[u8]) -> Result {
    match parse_decimal(bytes)? {
        1..=5 => Ok(()),
        _ => err!(EINVAL),
    }
}

pub(super) fn oom_score(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    let adjust = task.thread_group().oom_score_adj().load(Ordering::Relaxed);
    // Points are two thirds of what is used and of the adjustment, both in thousandths of memory.
    put!(out, "{}\n", (1000 + adjust) * 2 / 3);
    Ok(())
}

pub(super) fn oom_score_adj(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "{}\n", task.thread_group().oom_score_adj().load(Ordering::Relaxed));
    Ok(())
}

/// Lowering it takes CAP_SYS_RESOURCE.
fn adjust(task: &Task, file: &FileDescription, value: i64) -> Result {
    let value = i32::try_from(value).map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return err!(EINVAL);
    }
    let current = task.thread_group().oom_score_adj();
    if value < current.load(Ordering::Relaxed) && !file.cred().has(Capability::SYS_RESOURCE) {
        return err!(EACCES);
    }
    current.store(value, Ordering::Relaxed);
    Ok(())
}

pub(super) fn set_oom_score_adj(task: &Arc<Task>, file: &FileDescription, bytes: &[u8]) -> Result {
    adjust(task, file, parse_decimal(bytes)?)
}

/// The old scale: -17 to 15 (`oom_adj_read`).
pub(super) fn oom_adj(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    let adjust = task.thread_group().oom_score_adj().load(Ordering::Relaxed);
    let old = if adjust == 1000 { 15 } else { adjust * 17 / 1000 };
    put!(out, "{old}\n");
    Ok(())
}

pub(super) fn set_oom_adj(task: &Arc<Task>, file: &FileDescription, bytes: &[u8]) -> Result {
    let value = parse_decimal(bytes)?;
    if !(-17..=15).contains(&value) {
        return err!(EINVAL);
    }
    adjust(task, file, if value == 15 { 1000 } else { value * 1000 / 17 })
}

/// No login, no audit session.
pub(super) fn no_id(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "{}", u32::MAX);
    Ok(())
}

pub(super) fn coredump_filter(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "00000033\n");
    Ok(())
}

pub(super) fn io(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    if !may_look(task, Look::Read) {
        return err!(EACCES);
    }
    // Divergence: bytes are not counted.
    for name in
        ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"]
    {
        put!(out, "{name}: 0\n");
    }
    Ok(())
}

pub(super) fn id_map(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX);
    Ok(())
}

pub(super) fn setgroups(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "allow\n");
    Ok(())
}

pub(super) fn timer_slack(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "{}\n", task.timer_slack_ns().load(Ordering::Relaxed));
    Ok(())
}

pub(super) fn time_offsets(_: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    put!(out, "monotonic           0         0\nboottime            0         0\n");
    Ok(())
}

pub(super) fn children(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> Result {
    if task.is_leader() {
        for pid in task.kernel().tasks.children(task.pid()) {
            put!(out, "{pid} ");
        }
    }
    Ok(())
}

/// Security attributes: there is no security module.
#[derive(Debug)]
struct NoAttribute;

impl Content for NoAttribute {
    fn generate(&self, _: &mut Vec<u8>) -> Result {
        err!(EINVAL)
    }
}

/// `attr/`.
pub(super) fn attributes(subject: &Subject, index: u32) -> Arc<dyn Inode> {
    let mut entries = FixedEntries::new();
    for (name, at) in
        ["current", "prev", "exec", "fscreate", "keycreate", "sockcreate"].into_iter().zip(0..)
    {
        let perm = if name == "prev" { 0o444 } else { 0o666 };
        let attr = subject.attr(Sort::Attribute, at, FileType::Regular, perm);
        entries.add(name, PseudoFile::new(attr, Arc::new(NoAttribute)));
    }
    PseudoDir::new(subject.attr(Sort::File, index, FileType::Directory, 0o555), entries)
}
