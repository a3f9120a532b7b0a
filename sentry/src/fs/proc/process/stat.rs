//! `stat` and `statm`.

use std::sync::Arc;

use super::{NS_PER_TICK, Scope};
use crate::{
    SysResult,
    fs::proc::{
        access::{Look, may_look},
        put,
    },
    kernel::{CpuTimes, RunState, Task},
    mm::{ImageInfo, MmUsage},
};

/// What a thread's line does not share with its process's.
pub(super) fn times(task: &Task, scope: Scope) -> CpuTimes {
    match scope {
        Scope::Process => task.thread_group().cpu_times(),
        Scope::Thread => task.cpu_times(),
    }
}

/// Ticks on the clock of the uptime.
fn start_ticks(task: &Task) -> u64 {
    task.start_time().0 / NS_PER_TICK
}

/// `priority` as ps shows it: 20 + nice, or below zero for real-time policies.
fn priority(task: &Task) -> i32 {
    let (policy, priority) = task.scheduling();
    match policy.cast_signed() {
        libc::SCHED_FIFO | libc::SCHED_RR => -1 - priority,
        _ => 20 + task.nice(),
    }
}

pub(super) fn stat(task: &Arc<Task>, scope: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    let group = task.thread_group();
    let memory = task.memory();
    let usage = memory.as_ref().map_or_else(MmUsage::default, |mm| mm.usage());
    let is_open = may_look(task, Look::Read);
    let image = memory.filter(|_| is_open).map_or_else(ImageInfo::default, |mm| mm.image());
    let used = times(task, scope);
    let children = group.child_cpu_times();
    let tty = group.session().and_then(|session| session.tty());
    let (tty_number, foreground) = tty.map_or((0, -1), |tty| (tty.device(), tty.foreground()));
    let ticks = |ns: u64| ns / NS_PER_TICK;
    put!(out, "{} (", task.tid());
    out.extend_from_slice(&task.comm());
    put!(
        out,
        ") {} {} {} {} {tty_number} {foreground} 4194304",
        task.run_state() as u8 as char,
        group.ppid(),
        group.process_group_id(),
        group.session_id(),
    );
    let (faults, major) = (0, 0);
    put!(out, " {faults} 0 {major} 0 {} {}", ticks(used.user_ns), ticks(used.system_ns));
    put!(out, " {} {}", ticks(children.user_ns), ticks(children.system_ns));
    let threads = group.thread_count();
    put!(out, " {} {} {threads} 0 {}", priority(task), task.nice(), start_ticks(task));
    put!(out, " {} {}", usage.total, usage.resident / platform::PAGE_SIZE);
    put!(out, " {}", task.rlimit(libc::RLIMIT_RSS).0);
    put!(out, " {} {} {} 0 0", image.code.start, image.code.end, image.stack_start);
    let (pending, _) = task.pending_signals();
    let (ignored, caught) = group.handlers().ignored_and_caught();
    // Only the first 31 fit: whoever wants all reads status.
    let low = |set: u64| set & 0x7fff_ffff;
    put!(out, " {} {} {} {}", low(pending.0), low(task.blocked().0), low(ignored.0), low(caught.0));
    let sleeping = u8::from(task.run_state() == RunState::Sleeping && is_open);
    let (policy, rt_priority) = task.scheduling();
    let exit_signal = if scope == Scope::Process || task.is_leader() { libc::SIGCHLD } else { -1 };
    put!(out, " {sleeping} 0 0 {exit_signal} 0 {rt_priority} {policy} 0 0 0");
    put!(
        out,
        " {} {} {} {} {} {} {} 0\n",
        image.data.start,
        image.data.end,
        image.brk_start,
        image.args.start,
        image.args.end,
        image.env.start,
        image.env.end
    );
    Ok(())
}

pub(super) fn statm(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    let usage = task.memory().map_or_else(MmUsage::default, |mm| mm.usage());
    let pages = |bytes: u64| bytes.div_ceil(platform::PAGE_SIZE);
    put!(
        out,
        "{} {} {} {} 0 {} 0\n",
        pages(usage.total),
        pages(usage.resident),
        pages(usage.resident_file + usage.resident_shared),
        pages(usage.text),
        pages(usage.data + usage.stack)
    );
    Ok(())
}
