//! `#!` lines (`fs/binfmt_script.c`).

use linux_abi::Errno;

use super::HEAD_BYTES;

/// What a `#!` line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) interpreter: Vec<u8>,
    /// All the rest of the line, as one argument.
    pub(super) argument: Option<Vec<u8>>,
}

/// The script's line, if `head`, the start of a file, is one. `ENOEXEC` for a line that names no interpreter, or
/// whose interpreter is cut off by the end of what is looked at.
pub(super) fn parse(head: &[u8]) -> Result<Option<Script>, Errno> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let (line, whole) = match rest.iter().position(|&byte| byte == b'\n') {
        Some(end) => (rest.get(..end).unwrap_or_default(), true),
        // A file that ends before the buffer does is filled up with NULs there.
        None => (rest, head.len() < HEAD_BYTES),
    };
    let line = line.split(|&byte| byte == 0).next().unwrap_or_default();
    let skip = line.iter().take_while(|byte| is_blank(byte)).count();
    let line = line.get(skip..).unwrap_or_default();
    let name_len = line.iter().position(&is_blank).unwrap_or(line.len());
    let (name, argument) = line.split_at_checked(name_len).unwrap_or_default();
    if name.is_empty() || (!whole && argument.is_empty() && !rest.contains(&0)) {
        return Err(Errno::ENOEXEC);
    }
    let argument = argument.trim_ascii_start();
    let end = argument.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    let argument = argument.get(..end).filter(|argument| !argument.is_empty());
    Ok(Some(Script { interpreter: name.to_vec(), argument: argument.map(<[u8]>::to_vec) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &[u8]) -> (String, Option<String>) {
        let script = parse(head).unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(script.interpreter), script.argument.map(text))
    }

    #[test]
    fn interpreter_and_one_argument() {
        assert_eq!(parsed(b"#!/bin/sh\necho"), ("/bin/sh".into(), None));
        assert_eq!(parsed(b"#! /bin/sh  -e -x \t\n"), ("/bin/sh".into(), Some("-e -x".into())));
        assert_eq!(parsed(b"#!/bin/sh"), ("/bin/sh".into(), None));
        assert_eq!(parse(b"\x7fELF").unwrap(), None);
    }

    #[test]
    fn no_interpreter_is_enoexec() {
        for bad in [&b"#!"[..], b"#!\n", b"#!   \n/bin/sh", b"#! \0"] {
            assert_eq!(parse(bad), Err(Errno::ENOEXEC), "{bad:?}");
        }
    }

    #[test]
    fn a_cut_off_interpreter_is_enoexec_but_a_cut_off_argument_is_not() {
        let mut head = b"#!/".to_vec();
        head.resize(HEAD_BYTES, b'a');
        assert_eq!(parse(&head), Err(Errno::ENOEXEC));
        if let Some(byte) = head.get_mut(10) {
            *byte = b' ';
        }
        assert_eq!(parsed(&head).0, "/aaaaaaa");
    }
}
