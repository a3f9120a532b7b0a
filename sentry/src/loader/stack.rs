//! The initial stack: strings, auxiliary vector, environment, arguments (`create_elf_tables`, `copy_strings`).

use std::ops::Range;

use super::auxv::{self, Identity, Places};

/// AT_PLATFORM.
const PLATFORM: &[u8] = b"x86_64\0";

/// The initial contents of a stack.
#[derive(Debug)]
pub(super) struct InitialStack {
    /// Where `bytes` go; they end at the top of the stack.
    pub(super) pointer: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) args: Range<u64>,
    pub(super) env: Range<u64>,
    pub(super) auxv: Vec<u8>,
}

/// What goes on the stack.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) argv: &'a [Vec<u8>],
    pub(super) envp: &'a [Vec<u8>],
    pub(super) path: &'a [u8],
    /// AT_RANDOM.
    pub(super) random: [u8; 16],
    /// Bytes left empty between strings and tables, to make addresses less predictable.
    pub(super) shift: u64,
}

/// An upper bound of what `build` makes.
pub(super) fn size(contents: &Contents<'_>) -> u64 {
    let strings: u64 =
        contents.argv.iter().chain(contents.envp).map(|s| s.len() as u64 + 1 + 8).sum();
    strings + contents.path.len() as u64 + contents.shift + 1024
}

/// The stack below `top`, which is 16-byte aligned and larger than `size`. `places` gets the addresses on the stack.
pub(super) fn build(
    top: u64,
    contents: &Contents<'_>,
    mut places: Places,
    identity: &Identity,
) -> InitialStack {
    // From low to high: argument strings, environment strings, path, 8 zero bytes.
    let mut strings = Vec::new();
    let mut offsets = Vec::new();
    for string in contents.argv.iter().chain(contents.envp) {
        offsets.push(strings.len() as u64);
        strings.extend_from_slice(string);
        strings.push(0);
    }
    let path_offset = strings.len() as u64;
    strings.extend_from_slice(contents.path);
    strings.push(0);
    strings.extend_from_slice(&[0; 8]);
    let strings_at = top - strings.len() as u64;
    places.execfn = strings_at + path_offset;

    // Below them: platform string, random bytes.
    places.platform = (strings_at - contents.shift - PLATFORM.len() as u64) & !15;
    places.random = places.platform - 16;

    // Below those: argc, argv, envp, auxv, so that argc is 16-byte aligned.
    let auxv = auxv::entries(&places, identity);
    let pointers = (contents.argv.len() + contents.envp.len() + 3) as u64;
    let tables = (pointers + 2 * auxv.len() as u64) * 8;
    let pointer = (places.random - tables) & !15;

    let mut bytes = Vec::with_capacity((top - pointer) as usize);
    let mut push = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
    push(contents.argv.len() as u64);
    let (arg_offsets, env_offsets) =
        offsets.split_at_checked(contents.argv.len()).unwrap_or((&offsets, &[]));
    for list in [arg_offsets, env_offsets] {
        list.iter().for_each(|&offset| push(strings_at + offset));
        push(0);
    }
    for &(kind, value) in &auxv {
        push(kind);
        push(value);
    }
    bytes.resize((places.random - pointer) as usize, 0);
    bytes.extend_from_slice(&contents.random);
    bytes.extend_from_slice(PLATFORM);
    bytes.resize((strings_at - pointer) as usize, 0);
    bytes.extend_from_slice(&strings);

    let env_start = strings_at + env_offsets.first().copied().unwrap_or(path_offset);
    let auxv = auxv.iter().flat_map(|&(kind, value)| [kind, value]).flat_map(u64::to_le_bytes);
    InitialStack {
        pointer,
        bytes,
        args: strings_at..env_start,
        env: env_start..places.execfn,
        auxv: auxv.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_to_strings() {
        let argv = [b"prog".to_vec(), b"one".to_vec()];
        let envp = [b"A=b".to_vec()];
        let contents =
            Contents { argv: &argv, envp: &envp, path: b"/bin/prog", random: [7; 16], shift: 40 };
        let places = Places {
            phdr: 1,
            phnum: 2,
            base: 3,
            entry: 4,
            platform: 0,
            random: 0,
            execfn: 0,
            vdso: None,
            has_rseq: false,
        };
        let top = 0x7000_0000_0000;
        let stack = build(top, &contents, places, &Identity::default());
        assert_eq!(stack.pointer % 16, 0);
        assert_eq!(stack.pointer + stack.bytes.len() as u64, top);
        assert!(stack.bytes.len() as u64 <= size(&contents));
        let word = |index: usize| {
            let bytes = &stack.bytes[index * 8..index * 8 + 8];
            u64::from_le_bytes(bytes.try_into().unwrap())
        };
        let string = |addr: u64| {
            let at = (addr - stack.pointer) as usize;
            let end = stack.bytes[at..].iter().position(|&b| b == 0).unwrap();
            String::from_utf8(stack.bytes[at..at + end].to_vec()).unwrap()
        };
        assert_eq!((word(0), word(3), word(5)), (2, 0, 0));
        assert_eq!(
            (string(word(1)), string(word(2)), string(word(4))),
            ("prog".into(), "one".into(), "A=b".into())
        );
        assert_eq!(stack.args, word(1)..word(4));
        let find = |kind: u64| {
            (6..).step_by(2).find(|&at| word(at) == kind).map(|at| word(at + 1)).unwrap()
        };
        assert_eq!((string(find(31)), string(find(15))), ("/bin/prog".into(), "x86_64".into()));
        assert_eq!((find(3), find(9)), (1, 4));
    }
}
