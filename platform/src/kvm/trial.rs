//! A first system call, made when the platform is: whether this host's KVM works, and how a SYSCALL
//! arrives. Some nested hosts run ring 3 natively and emulate ring 0; there, SYSCALL goes to its target
//! without a change of rings, which is a page fault with RIP and address at the target.

use std::sync::{Arc, atomic::Ordering};

use super::{
    exception,
    kick::KvmKicker,
    layout::*,
    machine::Machine,
    space::KvmSpace,
    stub,
    vcpu::{Entry, Event},
};
use crate::{
    AccessKind, AddressSpace, Backing, MapOp, PlatformError, Prot, Registers,
    memory::FileRange,
    regs::{CODE_64, DATA},
    vector,
};

/// `syscall`, and a jump back to it.
const CODE: [u8; 4] = [0x0f, 0x05, 0xeb, 0xfc];
const AT: u64 = 0x40_0000;
const TRIES: u32 = 10;

/// Whether a SYSCALL arrives as a page fault.
///
/// # Errors
/// `Unsupported` when it does not arrive at all.
pub(super) fn syscall_faults(machine: &Arc<Machine>) -> Result<bool, PlatformError> {
    let page = machine
        .memory
        .allocate(PAGE, None)
        .map_err(|errno| PlatformError::Host { what: "guest memory for a trial", errno })?;
    machine.memory.slice(page).copy_from(&CODE);
    let tried = try_syscall(machine, Backing::Memory(page));
    machine.memory.release(page);
    tried
}

/// `mov (%rbx), %al`, `mov %al, (%rbx)`, `syscall`.
const TOUCH: [u8; 6] = [0x8a, 0x03, 0x88, 0x03, 0x0f, 0x05];
const DATA_AT: u64 = 0x50_0000;
const ROUNDS: usize = 5;

/// Whether guests see what this process stores into page tables they use, as they do where the processor
/// walks those; KVM that keeps tables of its own instead does not look. Another page, no page and a page that may
/// not be written, one after the other, are each put in place of what the guest has just used.
pub(super) fn stores_show(machine: &Arc<Machine>) -> Result<bool, PlatformError> {
    let pages = machine
        .memory
        .allocate(3 * PAGE, None)
        .map_err(|errno| PlatformError::Host { what: "guest memory for a trial", errno })?;
    let shown = try_stores(machine, pages);
    machine.memory.release(pages);
    shown
}

/// Maps a page for a trial.
pub(super) fn page(addr: u64, range: FileRange, prot: Prot) -> MapOp {
    let backing = Backing::Memory(range);
    MapOp::Map { addr, len: PAGE, prot, backing, populate: true }
}

fn try_stores(machine: &Arc<Machine>, pages: FileRange) -> Result<bool, PlatformError> {
    let memory = |number: u64| FileRange {
        start: pages.start + number * PAGE,
        end: pages.start + (number + 1) * PAGE,
    };
    machine.memory.slice(memory(0)).copy_from(&TOUCH);
    machine.memory.slice(memory(1)).copy_from(&[1]);
    machine.memory.slice(memory(2)).copy_from(&[2]);
    let space = KvmSpace::new(machine.clone())?;
    space.apply(&[
        page(AT, memory(0), Prot::READ | Prot::EXEC),
        page(DATA_AT, memory(1), Prot::READ | Prot::WRITE),
    ])?;
    let [first, second] = [memory(1), memory(2)].map(|range| machine.memory_gpa(range.start));
    let rights = PRESENT | USER | USED | NO_EXECUTE;
    let writable = rights | WRITABLE;
    let (first, second) = (first?, second?);
    let read = |value: u64| (None, value);
    for _ in 0..ROUNDS {
        for (entry, (fault, value)) in [
            (first | writable, read(1)),
            (second | writable, read(2)),
            (0, (Some(AccessKind::Read), 0)),
            (first | writable, read(1)),
            (first | rights, (Some(AccessKind::Write), 1)),
        ] {
            space.store(DATA_AT, entry);
            let mut regs =
                Registers { rip: AT, cs: CODE_64, ss: DATA, rbx: DATA_AT, ..Registers::default() };
            let seen = match run(machine, &space, &mut regs)? {
                Some(event) if is_call(machine, event, &mut regs) => None,
                Some(Event::Exception { vector: vector::PAGE_FAULT, code, addr: DATA_AT }) => {
                    Some(exception::access(code))
                }
                other => {
                    tracing::debug!(?other, "page tables are changed by the stub");
                    space.give_up();
                    return Ok(false);
                }
            };
            if (seen, regs.rax & 0xff) != (fault, value) {
                space.give_up();
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether that is a system call, however this host brings it; RIP is behind it then.
pub(super) fn is_call(machine: &Machine, event: Event, regs: &mut Registers) -> bool {
    match event {
        Event::Syscall { compat: false } => true,
        Event::Exception { vector: vector::PAGE_FAULT, addr: stub::SYSCALL_VA, .. }
            if regs.rip == stub::SYSCALL_VA && machine.syscall_faults.load(Ordering::Relaxed) =>
        {
            regs.rip = regs.rcx;
            true
        }
        _ => false,
    }
}

/// Runs guest code until something happens. `None`: it was interrupted again and again.
pub(super) fn run(
    machine: &Arc<Machine>,
    space: &KvmSpace,
    regs: &mut Registers,
) -> Result<Option<Event>, PlatformError> {
    let kicker = KvmKicker::default();
    let mut vcpu = machine.pool.acquire(machine, None)?;
    for _ in 0..TRIES {
        let entry = Entry { target: space.target(), flags: 0, answers: None };
        match vcpu.run(machine, entry, &kicker, regs) {
            Ok((Event::Interrupted, _)) => {}
            Ok((event, _)) => {
                machine.pool.release(vcpu);
                return Ok(Some(event));
            }
            Err(error) => {
                machine.pool.discard(vcpu);
                return Err(error);
            }
        }
    }
    machine.pool.release(vcpu);
    Ok(None)
}

fn try_syscall(machine: &Arc<Machine>, backing: Backing) -> Result<bool, PlatformError> {
    let space = KvmSpace::new(machine.clone())?;
    let prot = Prot::READ | Prot::EXEC;
    space.apply(&[MapOp::Map { addr: AT, len: PAGE, prot, backing, populate: true }])?;
    let mut regs =
        Registers { rip: AT, cs: CODE_64, ss: DATA, rax: 39, rbx: 7, ..Registers::default() };
    let last = run(machine, &space, &mut regs)?;
    let is_right = (regs.rax, regs.rbx, regs.rcx) == (39, 7, AT + 2);
    let syscall = stub::SYSCALL_VA;
    match last {
        Some(Event::Syscall { compat: false }) if is_right && regs.rip == AT + 2 => Ok(false),
        Some(Event::Exception { vector: vector::PAGE_FAULT, addr, .. })
            if is_right && addr == syscall && regs.rip == syscall =>
        {
            Ok(true)
        }
        other => Err(PlatformError::Unsupported(format!(
            "this host's KVM does not run guests as a processor does: a system call came as {other:x?}"
        ))),
    }
}
