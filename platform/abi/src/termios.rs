//! Terminal settings as the kernel and guests exchange them (ioctl_tty(2),
//! `include/uapi/asm-generic/termbits.h`). Flag constants are those of the `libc` crate.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Control characters in the kernel's structures.
pub const NCCS: usize = 19;

/// `struct termios` of TCGETS and TCSETS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termios {
    pub c_iflag: u32,
    pub c_oflag: u32,
    pub c_cflag: u32,
    pub c_lflag: u32,
    pub c_line: u8,
    pub c_cc: [u8; NCCS],
}

/// `struct termios2` of TCGETS2 and TCSETS2: speeds in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termios2 {
    pub base: Termios,
    pub c_ispeed: u32,
    pub c_ospeed: u32,
}

/// `struct termio` of TCGETA and TCSETA. The padding byte is spelled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termio {
    pub c_iflag: u16,
    pub c_oflag: u16,
    pub c_cflag: u16,
    pub c_lflag: u16,
    pub c_line: u8,
    pub c_cc: [u8; 8],
    pub pad: u8,
}

/// `struct winsize` of TIOCGWINSZ.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}
