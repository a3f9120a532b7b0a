//! Restartable sequences (rseq(2), `include/uapi/linux/rseq.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `RSEQ_FLAG_UNREGISTER`.
pub const FLAG_UNREGISTER: i32 = 1;
/// `cpu_id` of an area that is not registered (`RSEQ_CPU_ID_UNINITIALIZED`).
pub const CPU_ID_UNINITIALIZED: u32 = u32::MAX;
/// What is registered has this many bytes at least: those of the first `struct rseq`, with padding.
pub const SIZE_MIN: u32 = 32;
/// `struct rseq` up to its last member, and its alignment.
pub const FEATURE_SIZE: u32 = 28;
pub const ALIGN: u64 = 32;

/// Where the members of `struct rseq` are: `cpu_id_start` with `cpu_id` behind it, the address of a
/// [`CriticalSection`], flags, and `node_id` with `mm_cid` behind it.
pub const CPU_IDS: u64 = 0;
pub const CRITICAL_SECTION: u64 = 8;
pub const FLAGS: u64 = 16;
pub const NODE_AND_CID: u64 = 20;

/// `struct rseq_cs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CriticalSection {
    pub version: u32,
    pub flags: u32,
    pub start_ip: u64,
    /// Its length in bytes.
    pub post_commit_offset: u64,
    pub abort_ip: u64,
}

impl CriticalSection {
    /// Is `ip` in it?
    pub fn contains(&self, ip: u64) -> bool {
        ip.wrapping_sub(self.start_ip) < self.post_commit_offset
    }

    /// Is this one that a thread may be in, whose addresses lie below `end` (`rseq_get_rseq_cs`)?
    pub fn is_valid(&self, end: u64) -> bool {
        let behind = self.start_ip.checked_add(self.post_commit_offset);
        self.version == 0
            && self.start_ip < end
            && behind.is_some_and(|behind| behind < end)
            && self.abort_ip < end
            && !self.contains(self.abort_ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 0x7fff_ffff_f000;

    fn section(start_ip: u64, post_commit_offset: u64, abort_ip: u64) -> CriticalSection {
        CriticalSection { start_ip, post_commit_offset, abort_ip, ..CriticalSection::default() }
    }

    #[test]
    fn a_section_ends_before_its_last_byte() {
        let cs = section(0x1000, 0x10, 0x2000);
        assert!(cs.contains(0x1000) && cs.contains(0x100f));
        assert!(!cs.contains(0xfff) && !cs.contains(0x1010));
        assert!(!section(0x1000, 0, 0x2000).contains(0x1000));
    }

    #[test]
    fn what_no_thread_may_be_in_is_invalid() {
        assert!(section(0x1000, 0x10, 0x2000).is_valid(END));
        assert!(section(0x1000, 0x10, 0x1010).is_valid(END));
        for (start, len, abort) in [
            (0x1000, 0x10, 0x1000),
            (0x1000, 0x10, 0x100f),
            (0x1000, 0x10, END),
            (END, 0, 0x1000),
            (0x1000, END, 0x100),
            (0x1000, u64::MAX, 0x100),
        ] {
            assert!(!section(start, len, abort).is_valid(END), "{start:x} {len:x} {abort:x}");
        }
        assert!(!CriticalSection { version: 1, ..section(0x1000, 0x10, 0x2000) }.is_valid(END));
    }
}
