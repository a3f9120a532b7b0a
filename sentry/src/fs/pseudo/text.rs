//! Numbers in what the guest writes into pseudo files.

use linux_abi::Errno;

/// A decimal number with white space around it, as most files of proc and sys take it
/// (`kstrtol` in Linux). `EINVAL` for anything else, also for nothing.
pub fn parse_decimal(bytes: &[u8]) -> Result<i64, Errno> {
    let text = std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0')
        .parse()
        .map_err(|_| Errno::EINVAL)
}
