//! Mount options of tmpfs.

use std::fmt;

use platform::PAGE_SIZE;

use crate::{Errno, SysResult, err};

/// `size=50%` of the machine's memory is what Linux gives by default; so do we.
const DEFAULT_PART: u64 = 2;
/// Without `nr_inodes=`.
const DEFAULT_INODES: u64 = 1 << 20;

/// As given to mount(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Permissions of the root.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// `size=` or `nr_blocks=`, in pages.
    pub pages: Option<u64>,
    /// `nr_inodes=`.
    pub inodes: Option<u64>,
    /// Does `uid=` or `gid=` show in /proc/mounts?
    named_owner: bool,
}

impl Default for TmpfsOptions {
    fn default() -> Self {
        Self { mode: 0o1777, uid: 0, gid: 0, pages: None, inodes: None, named_owner: false }
    }
}

impl TmpfsOptions {
    /// The root's permissions, else the defaults.
    pub fn with_mode(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }

    /// From `size=64m,mode=755`; `EINVAL` for what is not understood.
    pub fn parse(text: &[u8], uid: u32, gid: u32) -> SysResult<Self> {
        let mut options = Self { uid, gid, ..Self::default() };
        let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "size" => options.pages = Some(no_limit(parse_size(value)?.div_ceil(PAGE_SIZE))),
                "nr_blocks" => options.pages = Some(no_limit(parse_size(value)?)),
                "nr_inodes" => options.inodes = Some(no_limit(parse_size(value)?)),
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.mode = mode & 0o7777;
                }
                "uid" => {
                    options.uid = value.parse().map_err(|_| Errno::EINVAL)?;
                    options.named_owner = true;
                }
                "gid" => {
                    options.gid = value.parse().map_err(|_| Errno::EINVAL)?;
                    options.named_owner = true;
                }
                // How pages are laid out and swapped: nothing changes for the guest.
                "huge" | "mpol" | "inode64" | "inode32" | "noswap" => {}
                _ => return err!(EINVAL),
            }
        }
        Ok(options)
    }

    /// What fits, in pages, on a machine with `total` bytes of memory.
    pub(super) fn size_pages(&self, total: u64) -> u64 {
        self.pages.unwrap_or(total / DEFAULT_PART / PAGE_SIZE)
    }

    pub(super) fn inode_limit(&self) -> u64 {
        self.inodes.unwrap_or(DEFAULT_INODES)
    }
}

/// 0 stands for "no limit".
fn no_limit(value: u64) -> u64 {
    if value == 0 { u64::MAX } else { value }
}

/// A number with `k`, `m`, `g` or `%` (of the machine's memory) behind it.
fn parse_size(text: &str) -> SysResult<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    let factor = match text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "%" => platform::host::total_memory() / 100,
        _ => return err!(EINVAL),
    };
    number.checked_mul(factor).ok_or(Errno::EINVAL.into())
}

impl fmt::Display for TmpfsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pages) = self.pages.filter(|&pages| pages != u64::MAX) {
            write!(f, ",size={}k", pages.saturating_mul(PAGE_SIZE / 1024))?;
        }
        if let Some(inodes) = self.inodes.filter(|&inodes| inodes != u64::MAX) {
            write!(f, ",nr_inodes={inodes}")?;
        }
        if self.mode != 0o1777 {
            write!(f, ",mode={:o}", self.mode)?;
        }
        if self.named_owner {
            write!(f, ",uid={},gid={}", self.uid, self.gid)?;
        }
        f.write_str(",inode64")
    }
}
