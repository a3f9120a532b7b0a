//! What the processor says of itself (CPUID), in the words of /proc/cpuinfo.

use std::arch::x86_64::{__cpuid_count, CpuidResult};

/// A processor's identity.
#[derive(Clone, Debug, Default)]
pub struct CpuIdentity {
    pub vendor: String,
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
    pub name: String,
    /// The highest basic leaf.
    pub level: u32,
    pub flags: Vec<&'static str>,
    pub physical_bits: u32,
    pub virtual_bits: u32,
    /// Bytes of a cache line.
    pub line_bytes: u32,
    pub caches: Vec<Cache>,
    /// Cycles of the time-stamp counter in a second; 0 where CPUID does not tell.
    pub tsc_hz: u64,
}

/// One cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    pub level: u32,
    /// 1 data, 2 instructions, 3 both.
    pub kind: u32,
    pub line_bytes: u32,
    pub ways: u32,
    pub sets: u32,
    /// Logical processors that share it.
    pub shared_by: u32,
}

impl Cache {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        u64::from(self.line_bytes) * u64::from(self.ways) * u64::from(self.sets)
    }
}

fn leaf(number: u32, sub: u32) -> CpuidResult {
    __cpuid_count(number, sub)
}

/// Where a flag's bit is: leaf, sub-leaf, register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}
use Register::{Eax, Ebx, Ecx, Edx};

/// The names of `arch/x86/include/asm/cpufeatures.h`, as the bits of each register; an empty name is a
/// bit that is not shown.
#[rustfmt::skip]
const FLAGS: &[(u32, u32, Register, &[&str])] = &[
    (1, 0, Edx, &["fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge",
        "mca", "cmov", "pat", "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht",
        "tm", "ia64", "pbe"]),
    (0x8000_0001, 0, Edx, &["", "", "", "", "", "", "", "", "", "", "", "syscall", "", "", "", "", "", "", "",
        "mp", "nx", "", "mmxext", "", "", "fxsr_opt", "pdpe1gb", "rdtscp", "", "lm", "3dnowext", "3dnow"]),
    (0x8000_0007, 0, Edx, &["", "", "", "", "", "", "", "hw_pstate", "constant_tsc", "cpb"]),
    (1, 0, Ecx, &["pni", "pclmulqdq", "dtes64", "monitor", "ds_cpl", "vmx", "smx", "est", "tm2", "ssse3", "cid",
        "sdbg", "fma", "cx16", "xtpr", "pdcm", "", "pcid", "dca", "sse4_1", "sse4_2", "x2apic", "movbe", "popcnt",
        "tsc_deadline_timer", "aes", "xsave", "", "avx", "f16c", "rdrand", "hypervisor"]),
    (0x8000_0001, 0, Ecx, &["lahf_lm", "cmp_legacy", "svm", "extapic", "cr8_legacy", "abm", "sse4a",
        "misalignsse", "3dnowprefetch", "osvw", "ibs", "xop", "skinit", "wdt", "", "lwp", "fma4", "tce", "",
        "nodeid_msr", "", "tbm", "topoext", "perfctr_core", "perfctr_nb", "", "bpext", "ptsc", "perfctr_llc",
        "mwaitx"]),
    (7, 0, Ebx, &["fsgsbase", "tsc_adjust", "sgx", "bmi1", "hle", "avx2", "", "smep", "bmi2", "erms", "invpcid",
        "rtm", "cqm", "", "mpx", "rdt_a", "avx512f", "avx512dq", "rdseed", "adx", "smap", "avx512ifma", "",
        "clflushopt", "clwb", "intel_pt", "avx512pf", "avx512er", "avx512cd", "sha_ni", "avx512bw", "avx512vl"]),
    (0xd, 1, Eax, &["xsaveopt", "xsavec", "xgetbv1", "xsaves"]),
    (7, 1, Eax, &["sha512", "sm3", "sm4", "", "avx_vnni", "avx512_bf16", "", "cmpccxadd", "", "", "fzrm", "fsrs", "fsrc", "", "", "",
        "", "", "", "", "", "amx_fp16", "", "avx_ifma", "", "", "lam"]),
    (0x8000_0008, 0, Ebx, &["clzero", "irperf", "xsaveerptr", "", "rdpru", "", "", "", "", "wbnoinvd"]),
    (6, 0, Eax, &["dtherm", "ida", "arat", "", "pln", "", "pts", "hwp"]),
    (7, 0, Ecx, &["", "avx512vbmi", "umip", "pku", "ospke", "waitpkg", "avx512_vbmi2", "", "gfni", "vaes",
        "vpclmulqdq", "avx512_vnni", "avx512_bitalg", "tme", "avx512_vpopcntdq", "", "la57", "", "", "", "", "",
        "rdpid", "", "bus_lock_detect", "cldemote", "", "movdiri", "movdir64b", "enqcmd"]),
    (7, 0, Edx, &["", "", "avx512_4vnniw", "avx512_4fmaps", "fsrm", "", "", "", "avx512_vp2intersect", "",
        "md_clear", "", "", "", "serialize", "", "", "", "pconfig", "arch_lbr", "", "", "amx_bf16",
        "avx512_fp16", "amx_tile", "amx_int8", "", "", "flush_l1d", "arch_capabilities"]),
];

/// Asks the processor this thread runs on.
pub fn cpu_identity() -> CpuIdentity {
    let basic = leaf(0, 0);
    let extended = leaf(0x8000_0000, 0).eax;
    let version = leaf(1, 0).eax;
    let (mut family, mut model) = ((version >> 8) & 0xf, (version >> 4) & 0xf);
    if family == 6 || family == 0xf {
        model |= (version >> 12) & 0xf0;
    }
    if family == 0xf {
        family += (version >> 20) & 0xff;
    }
    let sizes = if extended >= 0x8000_0008 { leaf(0x8000_0008, 0).eax } else { 0x3024 };
    CpuIdentity {
        vendor: text(&[basic.ebx, basic.edx, basic.ecx]),
        family,
        model,
        stepping: version & 0xf,
        name: brand(extended),
        level: basic.eax,
        flags: flags(basic.eax, extended),
        physical_bits: sizes & 0xff,
        virtual_bits: (sizes >> 8) & 0xff,
        line_bytes: ((leaf(1, 0).ebx >> 8) & 0xff) * 8,
        caches: caches(basic.eax, extended),
        tsc_hz: tsc_hz(basic.eax),
    }
}

fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

fn brand(extended: u32) -> String {
    if extended < 0x8000_0004 {
        return "unknown".to_owned();
    }
    let words: Vec<u32> = (0x8000_0002..=0x8000_0004)
        .map(|number| leaf(number, 0))
        .flat_map(|part| [part.eax, part.ebx, part.ecx, part.edx])
        .collect();
    text(&words)
}

fn flags(level: u32, extended: u32) -> Vec<&'static str> {
    let mut found = Vec::new();
    for &(number, sub, register, names) in FLAGS {
        let highest = if number >= 0x8000_0000 { extended } else { level };
        if number > highest || (number == 7 && sub > leaf(7, 0).eax) {
            continue;
        }
        let part = leaf(number, sub);
        let bits = match register {
            Eax => part.eax,
            Ebx => part.ebx,
            Ecx => part.ecx,
            Edx => part.edx,
        };
        let set =
            names.iter().enumerate().filter(|(bit, name)| bits >> bit & 1 == 1 && !name.is_empty());
        found.extend(set.map(|(_, &name)| name));
        if number == 0x8000_0007 {
            // What Linux concludes rather than reads.
            found.extend(["rep_good", "nopl", "xtopology"]);
            if bits & (1 << 8) != 0 {
                found.push("nonstop_tsc");
            }
            found.push("cpuid");
        }
    }
    found
}

fn caches(level: u32, extended: u32) -> Vec<Cache> {
    // AMD and Intel describe caches in the same form, in leaves of their own.
    let has_amd = extended >= 0x8000_001d && leaf(0x8000_001d, 0).eax & 0x1f != 0;
    let number = if has_amd { 0x8000_001d } else { 4 };
    if !has_amd && level < 4 {
        return Vec::new();
    }
    let parts = (0..8).map(|sub| leaf(number, sub)).take_while(|part| part.eax & 0x1f != 0);
    parts
        .map(|part| Cache {
            level: (part.eax >> 5) & 7,
            kind: part.eax & 0x1f,
            line_bytes: (part.ebx & 0xfff) + 1,
            ways: ((part.ebx >> 22) & 0x3ff) + 1,
            sets: part.ecx.wrapping_add(1),
            shared_by: ((part.eax >> 14) & 0xfff) + 1,
        })
        .collect()
}

fn tsc_hz(level: u32) -> u64 {
    if level >= 0x15 {
        let part = leaf(0x15, 0);
        if part.eax != 0 && part.ebx != 0 && part.ecx != 0 {
            return u64::from(part.ecx) * u64::from(part.ebx) / u64::from(part.eax);
        }
    }
    if level >= 0x16 {
        return u64::from(leaf(0x16, 0).eax & 0xffff) * 1_000_000;
    }
    // Under a hypervisor that says so (leaf 0x40000010, kHz).
    if leaf(1, 0).ecx >> 31 == 1 && leaf(0x4000_0000, 0).eax >= 0x4000_0010 {
        return u64::from(leaf(0x4000_0010, 0).eax) * 1000;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_those_of_the_host_kernel() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let line = info.lines().find(|line| line.starts_with("flags")).unwrap();
        let theirs: Vec<&str> = line.split_once(':').unwrap().1.split_whitespace().collect();
        let identity = cpu_identity();
        // The host may hide what the processor has, but nothing it shows may be missing of what programs test for.
        for flag in ["fpu", "sse2", "syscall", "nx", "avx", "avx2", "bmi2", "aes", "sha_ni", "fma"]
        {
            assert_eq!(theirs.contains(&flag), identity.flags.contains(&flag), "{flag}");
        }
        let name = info.lines().find(|line| line.starts_with("model name")).unwrap();
        assert_eq!(name.split_once(": ").unwrap().1.trim(), identity.name);
    }
}
