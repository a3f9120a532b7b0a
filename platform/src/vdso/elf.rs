//! Finding a dynamic symbol in a loaded ELF image (elf(5)).

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NULL: u64 = 0;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const SYMBOL_LEN: u64 = 24;
const SHN_UNDEF: u16 = 0;
/// More than any vDSO has.
const SYMBOLS_MAX: u64 = 256;

fn bytes<const N: usize>(image: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    image.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(image: &[u8], at: u64) -> Option<u16> {
    bytes(image, at).map(u16::from_ne_bytes)
}

fn u32_at(image: &[u8], at: u64) -> Option<u32> {
    bytes(image, at).map(u32::from_ne_bytes)
}

fn u64_at(image: &[u8], at: u64) -> Option<u64> {
    bytes(image, at).map(u64::from_ne_bytes)
}

/// The offset in `image` of the symbol with this name, if it is defined there.
pub(super) fn symbol(image: &[u8], name: &[u8]) -> Option<u64> {
    let headers = u64_at(image, 32)?;
    let header_len = u64::from(u16_at(image, 54)?);
    let header = |n: u16| headers.checked_add(u64::from(n) * header_len);
    let (mut base, mut dynamic) = (None, None);
    for n in 0..u16_at(image, 56)? {
        let at = header(n)?;
        match u32_at(image, at)? {
            PT_LOAD if base.is_none() => {
                base = u64_at(image, at + 16)?.checked_sub(u64_at(image, at + 8)?);
            }
            PT_DYNAMIC => dynamic = u64_at(image, at + 8),
            _ => {}
        }
    }
    let (base, dynamic) = (base?, dynamic?);
    let (mut strings, mut symbols) = (None, None);
    for at in (dynamic..).step_by(16) {
        let value = u64_at(image, at.checked_add(8)?)?.checked_sub(base);
        match u64_at(image, at)? {
            DT_NULL => break,
            DT_STRTAB => strings = value,
            DT_SYMTAB => symbols = value,
            _ => {}
        }
    }
    let (strings, symbols) = (strings?, symbols?);
    // Linkers put the strings behind the symbols; there is no other count in the table.
    let count = strings.checked_sub(symbols)? / SYMBOL_LEN;
    for n in 0..count.min(SYMBOLS_MAX) {
        let at = symbols.checked_add(n * SYMBOL_LEN)?;
        let start = usize::try_from(strings.checked_add(u32_at(image, at)?.into())?).ok()?;
        let found =
            image.get(start..)?.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0));
        if found && u16_at(image, at + 6)? != SHN_UNDEF {
            return u64_at(image, at + 8)?.checked_sub(base);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_images_have_no_symbols() {
        let image = super::super::IMAGE;
        assert!(symbol(image, b"clock_gettime").is_some());
        for len in 0..image.len().min(0x500) {
            let _ = symbol(&image[..len], b"clock_gettime");
        }
        assert_eq!(symbol(&[0xff; 4096], b"clock_gettime"), None);
    }
}
