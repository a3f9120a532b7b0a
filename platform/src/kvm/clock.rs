//! Clocks without a system call: guests run the host's vDSO on the host's own data, which they cannot write,
//! with the host's time-stamp counter. What they read is what the sentry reads, to the nanosecond.
//!
//! Whether a host can do that is tried when the platform is made. Where it cannot, or where the host's vDSO
//! itself makes system calls, clocks are system calls.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use super::{layout::*, machine::Machine, space::KvmSpace, trial};
use crate::{
    AddressSpace, PlatformError, Prot, Registers, host,
    memory::FileRange,
    regs::{CODE_64, DATA},
    stub::{layout::HOST_VDSO, own_vdso},
    vdso,
};

/// `call *%rax`, `syscall`.
const CODE: [u8; 4] = [0xff, 0xd0, 0x0f, 0x05];
const CODE_AT: u64 = 0x40_0000;
const DATA_AT: u64 = 0x50_0000;
/// Readings that must be right.
const READINGS: usize = 10;

/// Shows guests the host's vDSO; returns where, if it reads clocks right there.
pub(super) fn show(machine: &Arc<Machine>) -> Result<Option<u64>, PlatformError> {
    let Some(vdso) = place() else { return Ok(None) };
    let mut vcpu = machine.pool.acquire(machine, None)?;
    let set = vcpu.use_host_tsc();
    machine.pool.release(vcpu);
    let shown = set.and_then(|()| {
        machine.has_host_tsc.store(true, Ordering::Relaxed);
        let is_code = |offset| vdso.code.contains(&offset);
        machine.show_vdso(vdso.address, vdso.len, is_code)
    });
    if let Err(error) = shown {
        tracing::debug!(%error, "no clocks in guests");
        return Ok(None);
    }
    let at = HOST_VDSO + vdso.code.start;
    let works = try_clock(machine, at)?;
    if !works {
        tracing::debug!("the host's vDSO does not read clocks in guests");
    }
    Ok(works.then_some(at))
}

/// The host's vDSO in this process, with the pages of data before it.
struct Place {
    address: u64,
    len: u64,
    /// Where its code is, from the start.
    code: Range<u64>,
}

fn place() -> Option<Place> {
    let pieces = own_vdso();
    let address = pieces.iter().map(|piece| piece.0).min()?;
    let len = pieces.iter().map(|piece| piece.0 + piece.1 - address).max()?;
    let (code, code_len, _) = pieces.into_iter().find(|piece| piece.2)?;
    let start = code - address;
    (len <= VDSO_MAX).then_some(Place { address, len, code: start..start + code_len })
}

/// Reads the clock in a guest, between two readings of our own.
fn try_clock(machine: &Arc<Machine>, vdso: u64) -> Result<bool, PlatformError> {
    let Some(clock) = vdso::clock(Some(vdso)) else { return Ok(false) };
    let pages = machine
        .memory
        .allocate(2 * PAGE, None)
        .map_err(|errno| PlatformError::Host { what: "guest memory for a trial", errno })?;
    let tried = try_in(machine, clock, pages);
    machine.memory.release(pages);
    tried
}

fn try_in(machine: &Arc<Machine>, clock: u64, pages: FileRange) -> Result<bool, PlatformError> {
    let space = KvmSpace::new(machine.clone())?;
    let code = FileRange { start: pages.start, end: pages.start + PAGE };
    let data = FileRange { start: code.end, end: pages.end };
    machine.memory.slice(code).copy_from(&CODE);
    space.apply(&[
        trial::page(CODE_AT, code, Prot::READ | Prot::EXEC),
        trial::page(DATA_AT, data, Prot::READ | Prot::WRITE),
    ])?;
    for _ in 0..READINGS {
        let mut regs = Registers {
            rip: CODE_AT,
            rsp: DATA_AT + PAGE,
            cs: CODE_64,
            ss: DATA,
            rax: clock,
            rdi: libc::CLOCK_MONOTONIC as u64,
            rsi: DATA_AT,
            ..Registers::default()
        };
        let before = host::clock_monotonic_ns();
        let event = trial::run(machine, &space, &mut regs)?;
        let after = host::clock_monotonic_ns();
        let mut time = [0; 16];
        machine.memory.slice(data).copy_to(&mut time);
        let [seconds, nanoseconds] = [0, 8].map(|at| {
            let bytes = time.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        });
        let is_read = event.is_some_and(|event| trial::is_call(machine, event, &mut regs))
            && (regs.rip, regs.rax) == (CODE_AT + CODE.len() as u64, 0);
        let read = seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds);
        if !is_read || !(before..=after).contains(&read) {
            tracing::debug!(?event, before, read, after, rip = regs.rip, "a clock in a guest");
            return Ok(false);
        }
    }
    Ok(true)
}
