//! NUMA policies on a machine with one node, and protection keys on a CPU without them.

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    user::{UserAddr, UserMemory, UserRef},
};

/// Policies are numbered up to MPOL_WEIGHTED_INTERLEAVE.
const MPOL_MAX: u32 = 6;
const MPOL_DEFAULT: u32 = 0;
const MPOL_LOCAL: u32 = 4;
const MPOL_MODE_FLAGS: u32 = 0xe000;
const MPOL_F_NODE: u64 = 1;
const MPOL_F_ADDR: u64 = 2;
const MPOL_F_MEMS_ALLOWED: u64 = 4;
/// Bits a node mask may have (a page of them).
const NODE_BITS_MAX: u64 = 4096 * 8;

pub(super) fn sys_get_mempolicy(
    task: &mut CurrentTask,
    mode: UserRef<i32>,
    mask: UserAddr,
    max_node: u64,
    addr: UserAddr,
    flags: u64,
) -> SysResult<()> {
    let allowed = flags & MPOL_F_MEMS_ALLOWED != 0;
    let of_addr = flags & MPOL_F_ADDR != 0;
    if flags & !(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED) != 0
        || (allowed && flags & (MPOL_F_NODE | MPOL_F_ADDR) != 0)
        || (!of_addr && !addr.is_null())
        || (!mask.is_null() && max_node < 1)
    {
        return err!(EINVAL);
    }
    if of_addr {
        let mut byte = [0];
        task.mm().copy_in(addr, &mut byte)?;
    } else if flags & MPOL_F_NODE != 0 {
        // Only asked of interleaving policies.
        return err!(EINVAL);
    }
    if let Some(mode) = mode.non_null() {
        // The default policy, or node 0.
        task.mm().write_obj(mode, &0)?;
    }
    if !mask.is_null() {
        let bytes = max_node.min(NODE_BITS_MAX).div_ceil(64) * 8;
        let mut nodes = vec![0_u8; bytes as usize];
        if let Some(first) = nodes.first_mut() {
            *first = allowed.into();
        }
        task.mm().copy_out(mask, &nodes)?;
    }
    Ok(())
}

pub(super) fn sys_set_mempolicy(
    task: &mut CurrentTask,
    mode: u32,
    mask: UserAddr,
    max_node: u64,
) -> SysResult<()> {
    check_policy(task, mode, mask, max_node)
}

pub(super) fn sys_mbind(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    mode: u32,
    mask: UserAddr,
    max_node: u64,
    flags: u32,
) -> SysResult<()> {
    if flags & !7 != 0 || !addr.is_page_aligned() {
        return err!(EINVAL);
    }
    check_policy(task, mode, mask, max_node)?;
    let Some(end) = addr.0.checked_add(len) else { return err!(EINVAL) };
    if len > 0 && !task.mm().is_mapped(addr.0..end) {
        return err!(EFAULT);
    }
    Ok(())
}

/// A policy on the one node there is changes nothing; what names other nodes, or none where there must be one,
/// is `EINVAL` as on such a machine.
fn check_policy(task: &mut CurrentTask, mode: u32, mask: UserAddr, max_node: u64) -> SysResult<()> {
    let mode = mode & !MPOL_MODE_FLAGS;
    if mode > MPOL_MAX {
        return err!(EINVAL);
    }
    let mut nodes = Vec::new();
    if !mask.is_null() && max_node > 1 {
        // The kernel takes one bit less than it is told.
        let bits = max_node - 1;
        if bits > NODE_BITS_MAX {
            return err!(EINVAL);
        }
        nodes.resize((bits.div_ceil(64) * 8) as usize, 0_u8);
        task.mm().copy_in(mask, &mut nodes)?;
    }
    let only_first =
        nodes.iter().enumerate().all(|(at, &byte)| byte == 0 || (at == 0 && byte == 1));
    let empty = nodes.iter().all(|&byte| byte == 0);
    // MPOL_PREFERRED (1) may be without nodes.
    let good = match mode {
        MPOL_DEFAULT | MPOL_LOCAL => empty,
        1 => only_first,
        _ => only_first && !empty,
    };
    if good { Ok(()) } else { err!(EINVAL) }
}

pub(super) fn sys_pkey_alloc(_task: &mut CurrentTask, flags: u64, rights: u64) -> SysResult<i32> {
    if flags != 0 || rights & !3 != 0 {
        return err!(EINVAL);
    }
    err!(ENOSPC)
}

pub(super) fn sys_pkey_free(_task: &mut CurrentTask, _key: i32) -> SysResult<()> {
    err!(EINVAL)
}

pub(super) fn sys_pkey_mprotect(
    task: &mut CurrentTask,
    addr: UserAddr,
    len: u64,
    prot: u32,
    key: i32,
) -> SysResult<()> {
    // -1 is mprotect; no other key is ever allocated.
    if key != -1 {
        return err!(EINVAL);
    }
    super::mmap::sys_mprotect(task, addr, len, prot)
}

pub(super) fn sys_map_shadow_stack(
    _task: &mut CurrentTask,
    _addr: UserAddr,
    _len: u64,
    _flags: u32,
) -> SysResult<()> {
    err!(EOPNOTSUPP)
}
