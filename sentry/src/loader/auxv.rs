//! The auxiliary vector (getauxval(3), `create_elf_tables` in `fs/binfmt_elf.c`).

use linux_abi::rseq;
use platform::{PAGE_SIZE, host};

const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_RSEQ_FEATURE_SIZE: u64 = 27;
const AT_RSEQ_ALIGN: u64 = 28;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;
const AT_MINSIGSTKSZ: u64 = 51;
const AT_NULL: u64 = 0;

/// `USER_HZ`.
const CLOCK_TICKS: u64 = 100;

/// Who runs the new image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    /// AT_SECURE: the image gained privileges.
    pub secure: bool,
}

/// What only the loader knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) phdr: u64,
    pub(super) phnum: u64,
    /// Where the interpreter is; 0 when there is none.
    pub(super) base: u64,
    pub(super) entry: u64,
    pub(super) platform: u64,
    pub(super) random: u64,
    pub(super) execfn: u64,
    pub(super) vdso: Option<u64>,
    /// Are there restartable sequences?
    pub(super) has_rseq: bool,
}

/// Type and value of each entry, in the order Linux has them.
pub(super) fn entries(places: &Places, identity: &Identity) -> Vec<(u64, u64)> {
    let (hwcap, hwcap2) = host::hwcap();
    let mut entries = Vec::with_capacity(24);
    entries.extend(places.vdso.map(|vdso| (AT_SYSINFO_EHDR, vdso)));
    entries.extend([
        (AT_MINSIGSTKSZ, host::min_signal_stack()),
        (AT_HWCAP, hwcap),
        (AT_PAGESZ, PAGE_SIZE),
        (AT_CLKTCK, CLOCK_TICKS),
        (AT_PHDR, places.phdr),
        (AT_PHENT, 56),
        (AT_PHNUM, places.phnum),
        (AT_BASE, places.base),
        (AT_FLAGS, 0),
        (AT_ENTRY, places.entry),
        (AT_UID, identity.uid.into()),
        (AT_EUID, identity.euid.into()),
        (AT_GID, identity.gid.into()),
        (AT_EGID, identity.egid.into()),
        (AT_SECURE, identity.secure.into()),
        (AT_RANDOM, places.random),
        (AT_HWCAP2, hwcap2),
        (AT_EXECFN, places.execfn),
        (AT_PLATFORM, places.platform),
    ]);
    if places.has_rseq {
        entries.push((AT_RSEQ_FEATURE_SIZE, rseq::FEATURE_SIZE.into()));
        entries.push((AT_RSEQ_ALIGN, rseq::ALIGN));
    }
    entries.push((AT_NULL, 0));
    entries
}
