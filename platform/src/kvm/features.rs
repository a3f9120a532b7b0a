//! The processor that guests see: the host's, as far as KVM lets ring 3 use it.

use std::arch::x86_64::{__cpuid, __cpuid_count, CpuidResult};

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use linux_abi::Errno;

use crate::PlatformError;

/// What a vCPU's control registers are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) cr4: u64,
    pub(super) xcr0: u64,
    /// Of guest-physical addresses.
    pub(super) address_bits: u32,
}

/// CPUID leaf 1, ECX: instructions of programs, and what goes with them. Some hosts' KVM offers none of them
/// although they work.
const PLAIN_1_ECX: u32 = bits(&[0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// Leaf 7, EBX: FSGSBASE, BMI, AVX2, ERMS, RDSEED, ADX, CLFLUSHOPT, CLWB, SHA, AVX-512.
const PLAIN_7_EBX: u32 = bits(&[0, 3, 5, 8, 9, 16, 17, 18, 19, 21, 23, 24, 26, 27, 28, 29, 30, 31]);
/// Leaf 7, ECX: AVX-512 VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ.
const PLAIN_7_ECX: u32 = bits(&[1, 6, 8, 9, 10, 11, 12, 14]);
/// Leaf 7, EDX: fast short REP MOVSB.
const PLAIN_7_EDX: u32 = bits(&[4]);
/// Leaf 0x8000_0001, ECX: LAHF, LZCNT, SSE4A, misaligned SSE, PREFETCHW.
const PLAIN_EXTENDED_ECX: u32 = bits(&[0, 5, 6, 7, 8]);

const ECX_XSAVE: u32 = 1 << 26;
const EBX_FSGSBASE: u32 = 1;
const EBX_SMEP: u32 = 1 << 7;
const EBX_SMAP: u32 = 1 << 20;
const ECX_UMIP: u32 = 1 << 2;
/// Protection keys: guests have none.
const ECX_PKU: u32 = bits(&[3, 4]);
/// AMX, which programs must ask for.
const EDX_AMX: u32 = bits(&[22, 24, 25]);

/// CR4: PAE, OSFXSR, OSXMMEXCPT; UMIP; FSGSBASE; OSXSAVE; SMEP; SMAP.
const CR4_BASE: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_FSGSBASE: u64 = 1 << 16;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;

/// x87, SSE, AVX, AVX-512.
const XCR0_KNOWN: u64 = 0b1110_0111;
const XCR0_AVX512: u64 = 0b1110_0000;

const fn bits(numbers: &[u32]) -> u32 {
    let (mut all, mut at) = (0, 0);
    while at < numbers.len() {
        all |= 1 << numbers[at];
        at += 1;
    }
    all
}

/// What guests' CPUID says, from what KVM supports, and what follows for the vCPUs.
pub(super) fn choose(supported: CpuId) -> Result<(CpuId, Features), PlatformError> {
    let is_hypervisor =
        |entry: &kvm_cpuid_entry2| (0x4000_0000..0x5000_0000).contains(&entry.function);
    let mut entries: Vec<_> =
        supported.as_slice().iter().copied().filter(|entry| !is_hypervisor(entry)).collect();
    let (host_1, host_7) = (__cpuid(1), __cpuid_count(7, 0));
    let host_extended = __cpuid(0x8000_0001);
    let mut features = Features { cr4: CR4_BASE, xcr0: 3, address_bits: 36 };
    let mut components = None;
    for entry in &mut entries {
        match (entry.function, entry.index) {
            (1, _) => {
                entry.ecx |= host_1.ecx & PLAIN_1_ECX;
                // Whether there is a hypervisor is the host's to say.
                entry.ecx = entry.ecx & !(1 << 31) | host_1.ecx & (1 << 31);
                if entry.ecx & ECX_XSAVE == 0 {
                    return Err(PlatformError::Unsupported(
                        "this host's processor lacks XSAVE".into(),
                    ));
                }
                features.cr4 |= CR4_OSXSAVE;
            }
            (7, 0) => {
                entry.ebx |= host_7.ebx & PLAIN_7_EBX;
                entry.ecx |= host_7.ecx & PLAIN_7_ECX;
                entry.edx |= host_7.edx & PLAIN_7_EDX;
                entry.ecx &= !ECX_PKU;
                entry.edx &= !EDX_AMX;
                for (there, bit) in [
                    (entry.ebx & EBX_FSGSBASE != 0, CR4_FSGSBASE),
                    (entry.ebx & EBX_SMEP != 0, CR4_SMEP),
                    (entry.ebx & EBX_SMAP != 0, CR4_SMAP),
                    (entry.ecx & ECX_UMIP != 0, CR4_UMIP),
                ] {
                    if there {
                        features.cr4 |= bit;
                    }
                }
            }
            (0xd, 0) => {
                components = Some(u64::from(entry.eax) | u64::from(entry.edx) << 32);
            }
            (0x8000_0001, _) => entry.ecx |= host_extended.ecx & PLAIN_EXTENDED_ECX,
            (0x8000_0008, _) => features.address_bits = entry.eax & 0xff,
            _ => {}
        }
    }
    let host: CpuidResult = __cpuid_count(0xd, 0);
    let host = u64::from(host.eax) | u64::from(host.edx) << 32;
    let mut xcr0 = host & components.unwrap_or(host) & XCR0_KNOWN;
    if xcr0 & XCR0_AVX512 != XCR0_AVX512 {
        xcr0 &= !XCR0_AVX512;
    }
    features.xcr0 = xcr0;
    let cpuid = CpuId::from_entries(&entries).map_err(|_| PlatformError::Host {
        what: "a table of processor features",
        errno: Errno::ENOMEM,
    })?;
    Ok((cpuid, features))
}
