//! Memory that was needed at the start and is not any more.

#![allow(unsafe_code, reason = "dl_iterate_phdr, madvise")]

use std::{ffi::c_void, ops::Range, slice};

use super::heap::trim_heap;
use crate::PAGE_SIZE;

/// Lets go of the pages of this program's text and constants, and of heap in reserve. What of it is used again comes back
/// by page faults, out of the host's page cache; what ran at the start only does not. To be called when a
/// process begins to wait.
pub fn leave_start_behind() {
    trim_heap();
    for part in constant_parts() {
        let (start, len) = (part.start as *mut c_void, part.end - part.start);
        // SAFETY: whole pages of private file mappings that were never written: they read the same afterwards.
        unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
    }
}

/// Where text and constants of this program are, in whole pages.
fn constant_parts() -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    // SAFETY: `note_program` gets the pointer to `parts` back, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(note_program), (&raw mut parts).cast()) };
    parts
}

/// Adds the read-only segments of the first object, which is the program.
unsafe extern "C" fn note_program(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    parts: *mut c_void,
) -> i32 {
    // SAFETY: the C library passes a valid description, and what `constant_parts` gave it.
    let (info, parts) = unsafe { (&*info, &mut *parts.cast::<Vec<Range<usize>>>()) };
    // SAFETY: so many program headers are there.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let page = PAGE_SIZE as usize;
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
        let end = start.saturating_add(header.p_filesz as usize);
        let (start, end) = (start.next_multiple_of(page), end & !(page - 1));
        if start < end {
            parts.push(start..end);
        }
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of this program's file in memory, in kB.
    fn resident_text() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn text_is_let_go_and_the_program_runs_on() {
        let parts = constant_parts();
        let code = constant_parts as *const () as usize;
        assert!(parts.iter().any(|part| part.contains(&code)), "{parts:?} {code:x}");
        // Brings all of it in.
        let mut sum = 0_u64;
        for address in parts.iter().cloned().flat_map(|part| part.step_by(PAGE_SIZE as usize)) {
            // SAFETY: mapped readable, and constant.
            sum += u64::from(unsafe { (address as *const u8).read_volatile() });
        }
        let before = resident_text();
        leave_start_behind();
        let after = resident_text();
        assert!(after < before, "{after} {before} {sum}");
    }
}
