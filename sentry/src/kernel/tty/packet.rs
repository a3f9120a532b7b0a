//! Packet mode (TIOCPKT in ioctl_tty(2)): what the master's status byte says.

pub(super) const DATA: u8 = 0;
pub(super) const FLUSH_READ: u8 = 1;
pub(super) const FLUSH_WRITE: u8 = 2;
pub(super) const STOP: u8 = 4;
pub(super) const START: u8 = 8;
pub(super) const NO_STOP: u8 = 16;
pub(super) const DO_STOP: u8 = 32;
pub(super) const IOCTL: u8 = 64;
