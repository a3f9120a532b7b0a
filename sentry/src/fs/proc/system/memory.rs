//! `/proc/meminfo` and its relatives.

use super::put;
use crate::{SysResult, kernel::Kernel};

/// Bytes of memory in the sandbox: all, and in use.
pub(in crate::fs) fn totals(kernel: &Kernel) -> (u64, u64) {
    let total = kernel.memory().total();
    (total, kernel.memory().used().min(total))
}

pub(super) fn meminfo(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let (total, used) = totals(kernel);
    let (total, used) = (total / 1024, used / 1024);
    let free = total - used;
    let zero = 0;
    let lines = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", zero),
        ("Cached", zero),
        ("SwapCached", zero),
        ("Active", used),
        ("Inactive", zero),
        ("Active(anon)", used),
        ("Inactive(anon)", zero),
        ("Active(file)", zero),
        ("Inactive(file)", zero),
        ("Unevictable", zero),
        ("Mlocked", zero),
        ("SwapTotal", zero),
        ("SwapFree", zero),
        ("Zswap", zero),
        ("Zswapped", zero),
        ("Dirty", zero),
        ("Writeback", zero),
        ("AnonPages", used),
        ("Mapped", zero),
        ("Shmem", zero),
        ("KReclaimable", zero),
        ("Slab", zero),
        ("SReclaimable", zero),
        ("SUnreclaim", zero),
        ("KernelStack", zero),
        ("PageTables", zero),
        ("SecPageTables", zero),
        ("NFS_Unstable", zero),
        ("Bounce", zero),
        ("WritebackTmp", zero),
        ("CommitLimit", total / 2),
        ("Committed_AS", used),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", zero),
        ("VmallocChunk", zero),
        ("Percpu", zero),
        ("HardwareCorrupted", zero),
        ("AnonHugePages", zero),
        ("ShmemHugePages", zero),
        ("ShmemPmdMapped", zero),
        ("FileHugePages", zero),
        ("FilePmdMapped", zero),
    ];
    for (name, kib) in lines {
        put!(out, "{:<16}{kib:>8} kB\n", format!("{name}:"));
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        put!(out, "{:<16}{:>8}\n", format!("{name}:"), 0);
    }
    for (name, kib) in [("Hugepagesize", 2048), ("Hugetlb", 0), ("DirectMap4k", total)] {
        put!(out, "{:<16}{kib:>8} kB\n", format!("{name}:"));
    }
    Ok(())
}

pub(super) fn vmstat(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let (total, used) = totals(kernel);
    let (free, used) = ((total - used) / 4096, used / 4096);
    put!(out, "nr_free_pages {free}\nnr_active_anon {used}\nnr_anon_pages {used}\n");
    for name in [
        "nr_inactive_anon",
        "nr_inactive_file",
        "nr_active_file",
        "nr_unevictable",
        "nr_mlock",
        "nr_mapped",
        "nr_file_pages",
        "nr_dirty",
        "nr_writeback",
        "nr_slab_reclaimable",
        "nr_slab_unreclaimable",
        "nr_page_table_pages",
        "nr_kernel_stack",
        "nr_shmem",
        "pgpgin",
        "pgpgout",
        "pswpin",
        "pswpout",
        "pgfree",
        "pgfault",
        "pgmajfault",
        "oom_kill",
    ] {
        put!(out, "{name} 0\n");
    }
    Ok(())
}

pub(super) fn buddyinfo(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let (total, used) = totals(kernel);
    let blocks = (total - used) / (4096 << 10);
    put!(out, "Node 0, zone   Normal ");
    for _ in 0..10 {
        put!(out, "{:>6} ", 0);
    }
    put!(out, "{blocks:>6} \n");
    Ok(())
}

pub(super) fn zoneinfo(kernel: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let (total, used) = totals(kernel);
    let (pages, free) = (total / 4096, (total - used) / 4096);
    put!(
        out,
        "Node 0, zone   Normal\n  pages free     {free}\n        boost    0\n        min      {}\n",
        pages / 1024
    );
    put!(out, "        low      {}\n        high     {}\n", pages / 819, pages / 682);
    put!(out, "        spanned  {pages}\n        present  {pages}\n        managed  {pages}\n");
    Ok(())
}
