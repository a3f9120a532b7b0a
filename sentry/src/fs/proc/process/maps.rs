//! `maps`, `smaps`, `smaps_rollup`, `numa_maps`.

use std::sync::Arc;

use platform::{PAGE_SIZE, Prot};

use super::{Scope, links::name_for_caller};
use crate::{
    SysResult,
    fs::proc::put,
    kernel::Task,
    mm::{MapEntry, MapName, VmaFlags},
};

/// The name column starts here (`seq_setwidth(m, 25 + sizeof(void *) * 6 - 1)`).
const NAME_COLUMN: usize = 73;

fn entries(task: &Task, sizes: bool) -> Vec<MapEntry> {
    // Nothing to show once it has exited.
    task.memory().map(|memory| memory.maps(sizes)).unwrap_or_default()
}

fn permissions(entry: &MapEntry) -> String {
    let letter = |bit, letter| if entry.prot.contains(bit) { letter } else { '-' };
    [
        letter(Prot::READ, 'r'),
        letter(Prot::WRITE, 'w'),
        letter(Prot::EXEC, 'x'),
        if entry.is_shared { 's' } else { 'p' },
    ]
    .iter()
    .collect()
}

fn name(entry: &MapEntry) -> Vec<u8> {
    match &entry.name {
        MapName::None => Vec::new(),
        MapName::Text(text) => text.clone(),
        // A newline in a name must not look like the end of a line.
        MapName::File(file) => {
            let mut escaped = Vec::new();
            for byte in name_for_caller(file.path()) {
                if byte == b'\n' {
                    escaped.extend_from_slice(b"\\012");
                } else {
                    escaped.push(byte);
                }
            }
            escaped
        }
    }
}

fn line(entry: &MapEntry, out: &mut Vec<u8>) {
    let start = out.len();
    let (major, minor) = (libc::major(entry.dev), libc::minor(entry.dev));
    put!(
        out,
        "{:08x}-{:08x} {} {:08x} {major:02x}:{minor:02x} {} ",
        entry.range.start,
        entry.range.end,
        permissions(entry),
        entry.offset,
        entry.ino
    );
    let name = name(entry);
    if !name.is_empty() {
        let width = out.len() - start;
        out.resize(out.len() + NAME_COLUMN.saturating_sub(width), b' ');
        out.extend_from_slice(&name);
    }
    out.push(b'\n');
}

pub(super) fn maps(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    for entry in entries(task, false) {
        line(&entry, out);
    }
    Ok(())
}

/// Sums over mappings, in bytes.
#[derive(Default)]
struct Sizes {
    resident: u64,
    anonymous: u64,
    file: u64,
    shared: u64,
    locked: u64,
}

impl Sizes {
    fn of(entry: &MapEntry) -> Self {
        let rest = entry.resident - entry.anonymous.min(entry.resident);
        let is_shmem = entry.is_shared && !matches!(entry.name, MapName::File(_));
        Self {
            resident: entry.resident,
            anonymous: entry.anonymous,
            file: if is_shmem { 0 } else { rest },
            shared: if is_shmem { rest } else { 0 },
            locked: if entry.flags.contains(VmaFlags::LOCKED) { entry.resident } else { 0 },
        }
    }

    fn add(&mut self, other: &Self) {
        self.resident += other.resident;
        self.anonymous += other.anonymous;
        self.file += other.file;
        self.shared += other.shared;
        self.locked += other.locked;
    }

    /// The lines from Rss on. `parts`: with the split of Pss, as the roll-up has it.
    fn lines(&self, parts: bool, out: &mut Vec<u8>) {
        let mut put_kib = |name: &str, bytes: u64| {
            put!(out, "{:<15} {:>8} kB\n", format!("{name}:"), bytes / 1024);
        };
        put_kib("Rss", self.resident);
        put_kib("Pss", self.resident);
        put_kib("Pss_Dirty", self.anonymous + self.shared);
        if parts {
            put_kib("Pss_Anon", self.anonymous);
            put_kib("Pss_File", self.file);
            put_kib("Pss_Shmem", self.shared);
        }
        put_kib("Shared_Clean", self.file);
        put_kib("Shared_Dirty", self.shared);
        put_kib("Private_Clean", 0);
        put_kib("Private_Dirty", self.anonymous);
        put_kib("Referenced", self.resident);
        put_kib("Anonymous", self.anonymous);
        for name in [
            "KSM",
            "LazyFree",
            "AnonHugePages",
            "ShmemPmdMapped",
            "FilePmdMapped",
            "Shared_Hugetlb",
            "Private_Hugetlb",
            "Swap",
            "SwapPss",
        ] {
            put_kib(name, 0);
        }
        put_kib("Locked", self.locked);
    }
}

fn vm_flags(entry: &MapEntry) -> String {
    let mut flags = String::new();
    let mut add = |on: bool, name: &str| {
        if on {
            flags.push_str(name);
            flags.push(' ');
        }
    };
    add(entry.prot.contains(Prot::READ), "rd");
    add(entry.prot.contains(Prot::WRITE), "wr");
    add(entry.prot.contains(Prot::EXEC), "ex");
    add(entry.is_shared, "sh");
    for name in ["mr", "mw", "me"] {
        add(true, name);
    }
    add(entry.is_shared, "ms");
    add(entry.flags.contains(VmaFlags::GROWSDOWN), "gd");
    add(entry.flags.contains(VmaFlags::LOCKED), "lo");
    add(entry.flags.contains(VmaFlags::SEQUENTIAL), "sr");
    add(entry.flags.contains(VmaFlags::RANDOM), "rr");
    add(entry.flags.contains(VmaFlags::DONTFORK), "dc");
    add(entry.flags.contains(VmaFlags::DONTDUMP), "dd");
    add(entry.flags.contains(VmaFlags::NORESERVE), "nr");
    add(entry.flags.contains(VmaFlags::WIPEONFORK), "wf");
    add(entry.flags.contains(VmaFlags::HUGEPAGE), "hg");
    add(entry.flags.contains(VmaFlags::NOHUGEPAGE), "nh");
    add(!entry.is_shared, "ac");
    flags
}

pub(super) fn smaps(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    for entry in entries(task, true) {
        line(&entry, out);
        let bytes = entry.range.end - entry.range.start;
        for (name, bytes) in
            [("Size", bytes), ("KernelPageSize", PAGE_SIZE), ("MMUPageSize", PAGE_SIZE)]
        {
            put!(out, "{:<15} {:>8} kB\n", format!("{name}:"), bytes / 1024);
        }
        Sizes::of(&entry).lines(false, out);
        put!(out, "THPeligible:           0\nVmFlags: {}\n", vm_flags(&entry));
    }
    Ok(())
}

pub(super) fn smaps_rollup(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    let entries = entries(task, true);
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
    let start = out.len();
    put!(out, "{:08x}-{:08x} ---p 00000000 00:00 0 ", first.range.start, last.range.end);
    let width = out.len() - start;
    out.resize(out.len() + NAME_COLUMN.saturating_sub(width), b' ');
    put!(out, "[rollup]\n");
    let mut sum = Sizes::default();
    for entry in &entries {
        sum.add(&Sizes::of(entry));
    }
    sum.lines(true, out);
    Ok(())
}

pub(super) fn numa_maps(task: &Arc<Task>, _: Scope, out: &mut Vec<u8>) -> SysResult<()> {
    for entry in entries(task, true) {
        put!(out, "{:08x} default", entry.range.start);
        match &entry.name {
            MapName::File(_) => {
                put!(out, " file=");
                out.extend_from_slice(&name(&entry));
            }
            MapName::Text(text) if text == b"[heap]" => put!(out, " heap"),
            MapName::Text(text) if text == b"[stack]" => put!(out, " stack"),
            _ => {}
        }
        let pages = entry.resident / PAGE_SIZE;
        if entry.anonymous > 0 {
            put!(out, " anon={0} dirty={0}", entry.anonymous / PAGE_SIZE);
        }
        if pages > 0 {
            put!(out, " N0={pages}");
        }
        put!(out, " kernelpagesize_kB=4\n");
    }
    Ok(())
}
