//! A first system call, made when the platform is: whether this host's KVM works, and how a SYSCALL
//! arrives. Some nested hosts run ring 3 natively and emulate ring 0; there, SYSCALL goes to its target
//! without a change of rings, which is a page fault with RIP and address at the target.

use std::sync::Arc;

use super::{kick::KvmKicker, layout::PAGE, machine::Machine, space::KvmSpace, stub, vcpu::Event};
use crate::{
    AddressSpace, Backing, MapOp, PlatformError, Prot, Registers,
    regs::{CODE_64, DATA},
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

fn try_syscall(machine: &Arc<Machine>, backing: Backing) -> Result<bool, PlatformError> {
    let space = KvmSpace::new(machine.clone())?;
    let prot = Prot::READ | Prot::EXEC;
    space.apply(&[MapOp::Map { addr: AT, len: PAGE, prot, backing, populate: true }])?;
    let kicker = KvmKicker::default();
    let mut regs =
        Registers { rip: AT, cs: CODE_64, ss: DATA, rax: 39, rbx: 7, ..Registers::default() };
    let mut vcpu = machine.pool.acquire(machine, None)?;
    let mut last = None;
    for _ in 0..TRIES {
        match vcpu.run(machine, space.target(), &kicker, &mut regs, 0) {
            Ok((Event::Interrupted, _)) => {}
            Ok((event, _)) => {
                last = Some(event);
                break;
            }
            Err(error) => {
                machine.pool.discard(vcpu);
                return Err(error);
            }
        }
    }
    machine.pool.release(vcpu);
    let is_right = (regs.rax, regs.rbx, regs.rcx) == (39, 7, AT + 2);
    let syscall = stub::SYSCALL_VA;
    match last {
        Some(Event::Syscall { compat: false }) if is_right && regs.rip == AT + 2 => Ok(false),
        Some(Event::Exception { vector: stub::VECTOR_PAGE_FAULT, addr, .. })
            if is_right && addr == syscall && regs.rip == syscall =>
        {
            Ok(true)
        }
        other => Err(PlatformError::Unsupported(format!(
            "this host's KVM does not run guests as a processor does: a system call came as {other:x?}"
        ))),
    }
}
