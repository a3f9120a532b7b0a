//! `/proc/stat`, `uptime`, `loadavg`: how busy the system is.

use platform::host::cpu_count;

use super::put;
use crate::{
    SysResult,
    fs::proc::process::NS_PER_TICK,
    kernel::{CpuTimes, Kernel, RunState},
};

/// Processor time of all tasks that still exist.
fn used(kernel: &Kernel) -> CpuTimes {
    let mut sum = CpuTimes::default();
    for process in kernel.tasks.processes() {
        sum.add(process.cpu_times());
        sum.add(process.child_cpu_times());
    }
    sum
}

fn idle_ns(kernel: &Kernel, used: CpuTimes) -> u64 {
    kernel.clocks.uptime_ns().saturating_mul(cpu_count() as u64).saturating_sub(used.total_ns())
}

/// Tasks that run now, and all of them.
fn running(kernel: &Kernel) -> (usize, usize) {
    let (mut running, mut all) = (0, 0);
    for process in kernel.tasks.processes() {
        let threads = process.threads();
        all += threads.len();
        running += threads.iter().filter(|task| task.run_state() == RunState::Running).count();
    }
    (running, all)
}

pub(super) fn stat(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let used = used(kernel);
    let idle = idle_ns(kernel, used);
    let line = |parts: u64| {
        let ticks = |ns: u64| ns / parts / NS_PER_TICK;
        format!("{} 0 {} {} 0 0 0 0 0 0", ticks(used.user_ns), ticks(used.system_ns), ticks(idle))
    };
    put!(out, "cpu  {}\n", line(1));
    let count = cpu_count();
    for cpu in 0..count {
        put!(out, "cpu{cpu} {}\n", line(count.max(1) as u64));
    }
    let boot_s =
        (kernel.clocks.realtime_ns().saturating_sub(kernel.clocks.uptime_ns())) / 1_000_000_000;
    put!(out, "intr 0\nctxt 0\nbtime {boot_s}\nprocesses {}\n", kernel.tasks.last_pid());
    put!(out, "procs_running {}\nprocs_blocked 0\n", running(kernel).0.max(1));
    put!(out, "softirq 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(())
}

pub(super) fn uptime(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let hundredths = |ns: u64| (ns / 1_000_000_000, ns / 10_000_000 % 100);
    let (s, c) = hundredths(kernel.clocks.uptime_ns());
    let (idle_s, idle_c) = hundredths(idle_ns(kernel, used(kernel)));
    put!(out, "{s}.{c:02} {idle_s}.{idle_c:02}\n");
    Ok(())
}

pub(super) fn loadavg(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    // Divergence: no averages are kept; what runs now stands for all three.
    let (running, all) = running(kernel);
    let load = running.saturating_sub(1);
    put!(out, "{load}.00 {load}.00 {load}.00 {running}/{all} {}\n", kernel.tasks.last_pid());
    Ok(())
}

fn cpu_columns(out: &mut Vec<u8>, indent: usize) {
    put!(out, "{:indent$}", "");
    for cpu in 0..cpu_count() {
        put!(out, "{:<11}", format!("CPU{cpu}"));
    }
    put!(out, "\n");
}

pub(super) fn interrupts(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    cpu_columns(out, 11);
    Ok(())
}

pub(super) fn softirqs(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    cpu_columns(out, 20);
    for name in [
        "HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER",
        "RCU",
    ] {
        put!(out, "{name:>12}:");
        for _ in 0..cpu_count() {
            put!(out, " {:>10}", 0);
        }
        put!(out, "\n");
    }
    Ok(())
}
