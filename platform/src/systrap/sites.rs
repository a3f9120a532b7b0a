//! Rewritten system-call sites of an address space.
//!
//! The five bytes from the site's `syscall` on become a jump to a detour near by:
//!
//! ```text
//! site:    syscall                         site:    jmp detour
//!          cmp rax, -4095          ──▶              (rest of the compare, never run)
//!          jae error                                jae error
//!
//! detour:  lea rcx, [call]         where the stub comes back to, plus two
//!          jmp lazaret_stub_call
//! call:    syscall                 when the stub cannot: traps as before
//!          cmp rax, -4095
//!          jmp site + 8
//! ```
//!
//! A thread may be about to return behind the site's old `syscall` (it sleeps in a call, or a
//! signal frame says so). The jump's distance is chosen so that its third byte is no instruction: who
//! comes there traps, and is sent on to the detour's copy. Where the instruction behind the call cannot be moved, the
//! `mov eax, number` before it is replaced instead, and the `syscall` stays what it is.

use std::{collections::BTreeMap, ops::Range};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic};
use ranked_sync::RwLock;

use crate::{PAGE_SIZE, Rewrite, lock_order, stub};

const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes of a jump with a 32-bit distance.
const JUMP_LEN: usize = 5;
/// `mov eax, imm32`.
const MOV_EAX: u8 = 0xb8;
const RET: u8 = 0xc3;
/// Bytes of a detour's place; the last eight are the address of the stub's entry.
const DETOUR_LEN: u64 = 64;
const ENTRY_AT: usize = 56;

/// First bytes that are no instruction in 64-bit mode, whatever follows (Intel SDM vol. 2, appendix A.3).
const INVALID: [u8; 18] = [
    0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x60, 0x61, 0x82, 0xce, 0xd4,
    0xd6, 0xea,
];

/// What was done at a site.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// The `syscall` instruction.
    at: u64,
    detour: u64,
    /// Bytes of the instruction behind it that the detour has; 0: the one before it.
    moved: u8,
}

impl Site {
    /// Offset in the detour of its `syscall`.
    fn call(&self) -> u64 {
        if self.moved == 0 { 18 } else { 13 }
    }

    /// The address in the guest's own code that is meant by one in the detour.
    fn guest_address(&self, at: u64) -> Option<u64> {
        let behind = self.call() + 2;
        match at.checked_sub(self.detour)? {
            0 if self.moved == 0 => self.at.checked_sub(JUMP_LEN as u64),
            at if at < behind => Some(self.at),
            at if at == behind => self.at.checked_add(2),
            at if at < DETOUR_LEN => self.at.checked_add(2 + u64::from(self.moved)),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Tables {
    sites: BTreeMap<u64, Site>,
    detours: BTreeMap<u64, Site>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sites {
    tables: RwLock<lock_order::CallSites, Tables>,
}

impl Sites {
    /// What a guest takes for its instruction pointer when the thread is at `rip`.
    pub(super) fn guest_address(&self, rip: u64) -> u64 {
        let tables = self.tables.read();
        let detour = tables.detours.range(..=rip).next_back();
        detour.and_then(|(_, site)| site.guest_address(rip)).unwrap_or(rip)
    }

    /// Where to go on for a guest that wants to go on at `rip`.
    pub(super) fn resume_at(&self, rip: u64) -> u64 {
        let tables = self.tables.read();
        let site = rip.checked_sub(2).and_then(|at| tables.sites.get(&at));
        site.filter(|site| site.moved > 0).map_or(rip, |site| site.detour + site.call() + 2)
    }

    /// Where a thread goes on that is at `rip` in a detour whose site has its own code again: the detour may be gone.
    pub(super) fn leave_detour(&self, rip: u64) -> Option<u64> {
        let tables = self.tables.read();
        let (_, site) = tables.detours.range(..=rip).next_back()?;
        let in_use = tables.sites.get(&site.at).is_some_and(|now| now.detour == site.detour);
        if in_use { None } else { site.guest_address(rip) }
    }

    pub(super) fn note(&self, rewrite: &Rewrite) {
        let site = Site { at: rewrite.site, detour: rewrite.detour_at, moved: rewrite.moved };
        let mut tables = self.tables.write();
        tables.sites.insert(site.at, site);
        tables.detours.insert(site.detour, site);
    }

    /// Detours stay known, as a thread may be in one, unless all that there is goes.
    pub(super) fn forget(&self, range: Range<u64>) {
        if range == (0..u64::MAX) {
            self.clear();
            return;
        }
        let mut tables = self.tables.write();
        tables.sites.retain(|at, _| !range.contains(at));
    }

    pub(super) fn clear(&self) {
        *self.tables.write() = Tables::default();
    }

    pub(super) fn inherit(&self, parent: &Self) {
        let theirs = parent.tables.read().clone();
        *self.tables.write() = theirs;
    }

    /// See [`crate::AddressSpace::plan_rewrite`].
    pub(super) fn plan(
        &self,
        site: u64,
        code_at: u64,
        code: &[u8],
        room: Range<u64>,
    ) -> Option<Rewrite> {
        let at = usize::try_from(site.checked_sub(code_at)?).ok()?;
        let page = usize::try_from(PAGE_SIZE).ok()?;
        if code.get(at..at.checked_add(2)?)? != SYSCALL {
            return None;
        }
        let behind = code.get(at + 2..)?;
        if at.checked_add(JUMP_LEN)? <= page
            && let Some(moved) = movable(behind)
            && let Some(detour_at) = self.free_detour(&room, |to| is_trap_behind(site, to))
        {
            return plan_behind(site, behind.get(..moved)?, detour_at);
        }
        let before = at.checked_sub(JUMP_LEN)?;
        let mov = code.get(before..at)?;
        // With a prefix it would load another register.
        let prefixed = before
            .checked_sub(1)
            .and_then(|at| code.get(at))
            .is_none_or(|byte| (0x40..=0x4f).contains(byte));
        if mov.first() != Some(&MOV_EAX) || prefixed {
            return None;
        }
        let detour_at =
            self.free_detour(&room, |to| distance(site - JUMP_LEN as u64, to).is_some())?;
        plan_before(site, mov, detour_at)
    }

    /// A place in `room` which is not taken, preferably in a page that is in use.
    fn free_detour(&self, room: &Range<u64>, suits: impl Fn(u64) -> bool) -> Option<u64> {
        let tables = self.tables.read();
        let free = |to: &u64| suits(*to) && !tables.detours.contains_key(to);
        let places = || (room.start..room.end).step_by(DETOUR_LEN as usize);
        let in_use = |to: &u64| {
            let page = to & !(PAGE_SIZE - 1);
            tables.detours.range(page..page + PAGE_SIZE).next().is_some()
        };
        places().filter(in_use).find(free).or_else(|| places().find(free))
    }
}

/// The distance of a jump at `from` to `to`.
fn distance(from: u64, to: u64) -> Option<[u8; 4]> {
    let next = from.checked_add(JUMP_LEN as u64)?;
    i32::try_from(to.wrapping_sub(next) as i64).ok().map(i32::to_le_bytes)
}

/// Will a thread that returns behind the call at `site` trap, when a jump to `to` is there?
fn is_trap_behind(site: u64, to: u64) -> bool {
    distance(site, to).is_some_and(|distance| INVALID.contains(&distance[1]))
}

/// How many bytes the instruction at the start of `code` has, if it covers what the jump
/// overwrites and does the same elsewhere.
fn movable(code: &[u8]) -> Option<usize> {
    const COVERED: usize = JUMP_LEN - 2;
    if code.first() == Some(&RET) {
        // Nobody comes to the padding behind it.
        let padding = code.get(1..COVERED)?;
        return padding.iter().all(|byte| matches!(byte, 0x90 | 0xcc)).then_some(1);
    }
    let insn = Decoder::with_ip(64, code, 0, DecoderOptions::NONE).decode();
    let plain = !insn.is_invalid()
        && insn.flow_control() == FlowControl::Next
        && !insn.is_ip_rel_memory_operand()
        && !matches!(insn.mnemonic(), Mnemonic::Syscall | Mnemonic::Sysenter);
    (plain && insn.len() >= COVERED && insn.len() <= 15).then_some(insn.len())
}

fn jump(from: u64, to: u64) -> Option<[u8; JUMP_LEN]> {
    let [a, b, c, d] = distance(from, to)?;
    Some([0xe9, a, b, c, d])
}

/// The code of a detour, with the stub's address at its end.
fn finish(mut code: Vec<u8>) -> Option<Vec<u8>> {
    if code.len() > ENTRY_AT {
        return None;
    }
    code.resize(ENTRY_AT, 0xcc);
    code.extend(stub::call_entry().to_le_bytes());
    Some(code)
}

/// `lea rcx, [rip + 6]`, `jmp [entry]`, `syscall`; the first two where the code is `len` long.
fn call_the_stub(code: &mut Vec<u8>) {
    code.extend([0x48, 0x8d, 0x0d, 6, 0, 0, 0]);
    let next = code.len() + 6;
    code.extend([0xff, 0x25, (ENTRY_AT - next) as u8, 0, 0, 0]);
    code.extend(SYSCALL);
}

fn plan_behind(site: u64, moved: &[u8], detour_at: u64) -> Option<Rewrite> {
    let mut detour = Vec::new();
    call_the_stub(&mut detour);
    detour.extend(moved);
    let from = detour_at.checked_add(detour.len() as u64)?;
    detour.extend(jump(from, site.checked_add(2 + moved.len() as u64)?)?);
    Some(Rewrite {
        site,
        patch_at: site,
        patch: jump(site, detour_at)?.to_vec(),
        detour_at,
        detour: finish(detour)?,
        moved: moved.len() as u8,
    })
}

fn plan_before(site: u64, mov: &[u8], detour_at: u64) -> Option<Rewrite> {
    let patch_at = site.checked_sub(JUMP_LEN as u64)?;
    let mut detour = mov.to_vec();
    call_the_stub(&mut detour);
    let from = detour_at.checked_add(detour.len() as u64)?;
    detour.extend(jump(from, site.checked_add(2)?)?);
    Some(Rewrite {
        site,
        patch_at,
        patch: jump(patch_at, detour_at)?.to_vec(),
        detour_at,
        detour: finish(detour)?,
        moved: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0x7000_0000_0000;
    const ROOM: Range<u64> = AT + 0x10_0000..AT + 0x11_0000;

    fn plan(code: &[u8], site: u64) -> Option<Rewrite> {
        Sites::default().plan(AT + site, AT, code, ROOM)
    }

    #[test]
    fn a_compare_behind_the_call_moves_into_the_detour() {
        let code = [0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x10];
        let rewrite = plan(&code, 0).unwrap();
        assert_eq!((rewrite.patch_at, rewrite.patch.len(), rewrite.moved), (AT, 5, 6));
        assert!(INVALID.contains(&rewrite.patch[2]), "{:x?}", rewrite.patch);
        assert_eq!(rewrite.detour.len() as u64, DETOUR_LEN);
        assert_eq!(rewrite.detour[13..21], code[..8]);
    }

    #[test]
    fn where_nothing_can_move_the_number_before_it_does() {
        // nop; mov eax, 39; syscall; jmp.
        let code = [0x90, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xfe, 0x90, 0x90];
        let rewrite = plan(&code, 6).unwrap();
        assert_eq!((rewrite.patch_at, rewrite.moved), (AT + 1, 0));
        assert_eq!(rewrite.detour[..5], code[1..6]);
        // mov r8d, 39; syscall; jmp.
        assert_eq!(plan(&[0x41, 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xfe], 6), None);
        // Too near to the end of the page, and no call at all.
        assert_eq!(plan(&[0x0f, 0x05, 0x48], 0), None);
        assert_eq!(plan(&[0x0f, 0x06, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff], 0), None);
    }

    #[test]
    fn only_the_first_page_is_changed() {
        // A page of nop; then mov eax, 39; syscall; cmp rax, -4095, moved along it byte by byte.
        let insns = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff];
        let page = PAGE_SIZE as usize;
        for (at, moved) in [(page - 10, Some(6)), (page - 9, Some(0)), (page - 6, Some(0))] {
            let mut code = vec![0x90; page + 15];
            code[at..at + insns.len()].copy_from_slice(&insns);
            let rewrite = plan(&code, at as u64 + 5);
            assert_eq!(rewrite.map(|rewrite| rewrite.moved), moved, "{at}");
        }
    }

    #[test]
    fn a_return_moves_only_when_padding_follows() {
        assert_eq!(plan(&[0x0f, 0x05, 0xc3, 0x90, 0x90], 0).unwrap().moved, 1);
        assert_eq!(plan(&[0x0f, 0x05, 0xc3, 0x55, 0x48], 0), None);
        // Relative to the instruction pointer.
        assert_eq!(plan(&[0x0f, 0x05, 0x48, 0x8b, 0x05, 1, 2, 3, 4], 0), None);
    }

    #[test]
    fn addresses_in_the_detour_are_the_guests_own() {
        let code = [0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x73, 0x10];
        let sites = Sites::default();
        let rewrite = sites.plan(AT, AT, &code, ROOM).unwrap();
        sites.note(&rewrite);
        let detour = rewrite.detour_at;
        for (at, means) in [(0, 0), (7, 0), (13, 0), (15, 2), (21, 8)] {
            assert_eq!(sites.guest_address(detour + at), AT + means, "{at}");
        }
        assert_eq!(sites.guest_address(detour + 64), detour + 64);
        assert_eq!(sites.resume_at(AT + 2), detour + 15);
        assert_eq!(sites.resume_at(AT + 8), AT + 8);
        assert_eq!(sites.leave_detour(detour + 15), None);
        sites.forget(AT..AT + 1);
        assert_eq!(sites.leave_detour(detour + 15), Some(AT + 2));
        assert_eq!(sites.leave_detour(detour + 64), None);
        assert_eq!(sites.resume_at(AT + 2), AT + 2);
        assert_eq!(sites.guest_address(detour), AT);
        // The place stays taken.
        assert_ne!(sites.plan(AT, AT, &code, ROOM).unwrap().detour_at, detour);
    }
}
