//! `/proc/cpuinfo`: the host's processors, as CPUID tells.

use platform::host::{cpu_count, cpu_identity};

use super::put;
use crate::{SysResult, kernel::Kernel};

pub(super) fn cpuinfo(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let cpu = cpu_identity();
    let count = cpu_count();
    let mhz = cpu.tsc_hz as f64 / 1e6;
    let largest =
        cpu.caches.iter().filter(|cache| cache.level <= 2).max_by_key(|cache| cache.level);
    let cache_kib = largest.map_or(0, |cache| cache.bytes() / 1024);
    for number in 0..count {
        put!(out, "processor\t: {number}\n");
        put!(out, "vendor_id\t: {}\n", cpu.vendor);
        put!(out, "cpu family\t: {}\n", cpu.family);
        put!(out, "model\t\t: {}\n", cpu.model);
        put!(out, "model name\t: {}\n", cpu.name);
        put!(out, "stepping\t: {}\n", cpu.stepping);
        put!(out, "cpu MHz\t\t: {mhz:.3}\n");
        put!(out, "cache size\t: {cache_kib} KB\n");
        put!(
            out,
            "physical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {number}\ncpu cores\t: {count}\n"
        );
        put!(out, "apicid\t\t: {number}\ninitial apicid\t: {number}\n");
        put!(
            out,
            "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\n",
            cpu.level
        );
        put!(out, "flags\t\t: {}\n", cpu.flags.join(" "));
        put!(out, "bugs\t\t:\n");
        put!(out, "bogomips\t: {:.2}\n", mhz * 2.0);
        put!(out, "clflush size\t: {0}\ncache_alignment\t: {0}\n", cpu.line_bytes);
        put!(
            out,
            "address sizes\t: {} bits physical, {} bits virtual\n",
            cpu.physical_bits,
            cpu.virtual_bits
        );
        put!(out, "power management:\n\n");
    }
    Ok(())
}
