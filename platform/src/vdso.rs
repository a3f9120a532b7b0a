//! The vDSO that guests see: an ELF image of our own, whose functions go on in the
//! host's vDSO. Stub processes have that at a fixed place (`layout::HOST_VDSO`), so
//! that reading a clock costs a guest what it costs a program of the host.

mod elf;

use crate::{PAGE_SIZE, VdsoImage, stub::own_vdso};

/// Built by `build.rs` from `vdso/vdso.S` and `vdso/vdso.lds`.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.so"));

/// Where `vdso.lds` puts the table of addresses to go on at, and the restorer.
const TARGETS: usize = 0x800;
const SIGRETURN: u64 = 0x841;

/// The functions, in the order of the table.
const FUNCTIONS: [&[u8]; 5] = [
    b"__vdso_clock_gettime",
    b"__vdso_gettimeofday",
    b"__vdso_time",
    b"__vdso_clock_getres",
    b"__vdso_getcpu",
];

/// Which of the host's functions are to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Functions {
    All,
    /// But for `getcpu`, which takes the processor's number from where a host's kernel puts it.
    Clocks,
}

/// The image for a sandbox in whose stub processes the host's vDSO is at `host_vdso`.
/// Functions that are not to be had there make the system call.
pub(crate) fn image(host_vdso: Option<u64>, functions: Functions) -> VdsoImage {
    let mut image = IMAGE.to_vec();
    image.resize(IMAGE.len().next_multiple_of(PAGE_SIZE as usize), 0);
    let table = image.get_mut(TARGETS..TARGETS + 8 * FUNCTIONS.len()).unwrap_or_default();
    for (entry, name) in table.chunks_exact_mut(8).zip(FUNCTIONS) {
        let is_used = functions == Functions::All || name != b"__vdso_getcpu";
        let at = if is_used { target(name, host_vdso) } else { None };
        entry.copy_from_slice(&at.unwrap_or(0).to_ne_bytes());
    }
    VdsoImage { image: image.into(), sigreturn_offset: SIGRETURN }
}

/// `image`, whose `getcpu` makes the system call.
pub(crate) fn with_getcpu_call(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let at = FUNCTIONS.iter().position(|&name| name == b"__vdso_getcpu").unwrap_or_default();
    if let Some(entry) = image.get_mut(TARGETS + 8 * at..TARGETS + 8 * (at + 1)) {
        entry.fill(0);
    }
    image
}

/// Where the host's `clock_gettime` is in stub processes.
pub(crate) fn clock(host_vdso: Option<u64>) -> Option<u64> {
    target(b"__vdso_clock_gettime", host_vdso)
}

/// Where the host's function is in stub processes.
fn target(name: &[u8], host_vdso: Option<u64>) -> Option<u64> {
    host_vdso?.checked_add(elf::symbol(host_image()?, name)?)
}

/// The host's vDSO in this process.
fn host_image() -> Option<&'static [u8]> {
    #[allow(unsafe_code, reason = "reads the vDSO")]
    fn bytes(start: u64, len: u64) -> &'static [u8] {
        let start = std::ptr::with_exposed_provenance::<u8>(start as usize);
        // SAFETY: the host's kernel mapped the vDSO there, readable and never changing;
        // nothing in this process unmaps it.
        unsafe { std::slice::from_raw_parts(start, len as usize) }
    }
    own_vdso().into_iter().find(|piece| piece.2).map(|(start, len, _)| bytes(start, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_a_page_with_all_functions() {
        let vdso = image(None, Functions::All);
        assert_eq!(vdso.image.len() as u64, PAGE_SIZE);
        for name in FUNCTIONS {
            assert!(elf::symbol(&vdso.image, name).is_some());
            let alias = name.strip_prefix(b"__vdso_").unwrap();
            assert_eq!(elf::symbol(&vdso.image, alias), elf::symbol(&vdso.image, name));
        }
        assert_eq!(elf::symbol(&vdso.image, b"__vdso_clock"), None);
        let restorer = &vdso.image[SIGRETURN as usize..][..9];
        assert_eq!(restorer, [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]);
    }

    #[test]
    fn functions_go_on_in_the_host_vdso() {
        let base = 0x7000_0000;
        let vdso = image(Some(base), Functions::All);
        for (entry, name) in vdso.image[TARGETS..].chunks_exact(8).zip(FUNCTIONS) {
            let target = u64::from_ne_bytes(entry.try_into().unwrap());
            assert_eq!(target.checked_sub(base), elf::symbol(host_image().unwrap(), name));
        }
        assert_eq!(image(None, Functions::All).image[TARGETS..TARGETS + 40], [0; 40]);
        let called = vdso.with_getcpu_call();
        assert_eq!(called[TARGETS..TARGETS + 32], vdso.image[TARGETS..TARGETS + 32]);
        assert_eq!(called[TARGETS + 32..TARGETS + 40], [0; 8]);
    }
}
