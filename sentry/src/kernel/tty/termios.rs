//! Terminal settings: termios(3), and shorthands for asking them.

use linux_abi::{
    Termios2,
    termios::{NCCS, Termio, Termios},
};

/// Places in `c_cc` (`asm-generic/termbits.h`).
pub(super) mod cc {
    pub(in super::super) const VINTR: usize = 0;
    pub(in super::super) const VQUIT: usize = 1;
    pub(in super::super) const VERASE: usize = 2;
    pub(in super::super) const VKILL: usize = 3;
    pub(in super::super) const VEOF: usize = 4;
    pub(in super::super) const VTIME: usize = 5;
    pub(in super::super) const VMIN: usize = 6;
    pub(in super::super) const VSTART: usize = 8;
    pub(in super::super) const VSTOP: usize = 9;
    pub(in super::super) const VSUSP: usize = 10;
    pub(in super::super) const VEOL: usize = 11;
    pub(in super::super) const VREPRINT: usize = 12;
    pub(in super::super) const VWERASE: usize = 14;
    pub(in super::super) const VLNEXT: usize = 15;
    pub(in super::super) const VEOL2: usize = 16;
}

/// A control character that is switched off.
pub(super) const DISABLED: u8 = 0;

/// EXTPROC, which the `libc` crate does not name everywhere.
pub(super) const EXTPROC: u32 = 0o200000;

const DEFAULT_SPEED: u32 = 38400;

/// What a new terminal's control characters are (`INIT_C_CC`).
const DEFAULT_CC: [u8; NCCS] = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0];

/// The settings of one terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings(pub(super) Termios2);

impl Default for Settings {
    /// Those of a new pseudo-terminal (`tty_std_termios`, `unix98_pty_init`).
    fn default() -> Self {
        Self(Termios2 {
            base: Termios {
                c_iflag: libc::ICRNL | libc::IXON,
                c_oflag: libc::OPOST | libc::ONLCR,
                c_cflag: libc::B38400 | libc::CS8 | libc::CREAD,
                c_lflag: libc::ISIG
                    | libc::ICANON
                    | libc::ECHO
                    | libc::ECHOE
                    | libc::ECHOK
                    | libc::ECHOCTL
                    | libc::ECHOKE
                    | libc::IEXTEN,
                c_line: 0,
                c_cc: DEFAULT_CC,
            },
            c_ispeed: DEFAULT_SPEED,
            c_ospeed: DEFAULT_SPEED,
        })
    }
}

impl Settings {
    /// Any of these bits of `c_iflag`?
    pub(super) fn input(&self, flags: u32) -> bool {
        self.0.base.c_iflag & flags != 0
    }

    /// Any of these bits of `c_oflag`?
    pub(super) fn output(&self, flags: u32) -> bool {
        self.0.base.c_oflag & flags != 0
    }

    /// Any of these bits of `c_lflag`?
    pub(super) fn local(&self, flags: u32) -> bool {
        self.0.base.c_lflag & flags != 0
    }

    /// The control character at `which`, one of [`cc`].
    pub(super) fn char(&self, which: usize) -> u8 {
        self.0.base.c_cc.get(which).copied().unwrap_or(DISABLED)
    }

    /// Is `c` that control character, and is it switched on?
    pub(super) fn is_char(&self, c: u8, which: usize) -> bool {
        c != DISABLED && self.char(which) == c
    }

    pub(super) fn is_canonical(&self) -> bool {
        self.local(libc::ICANON)
    }

    /// Input goes by lines and the other side does not edit them itself.
    pub(super) fn edits_lines(&self) -> bool {
        self.is_canonical() && !self.local(EXTPROC)
    }

    /// `^S` and `^Q` stop and start output, as TIOCPKT reports it.
    pub(super) fn has_usual_flow_control(&self) -> bool {
        self.input(libc::IXON) && self.char(cc::VSTOP) == 0o23 && self.char(cc::VSTART) == 0o21
    }

    /// With what TCSETS gives. Speeds follow `c_cflag`; a pty always has eight bits and a receiver
    /// (`pty_set_termios`).
    pub(super) fn with_termios(self, new: Termios) -> Self {
        let speed = baud_rate(new.c_cflag & CBAUD).unwrap_or(self.0.c_ospeed);
        Self(Termios2 { base: new, c_ispeed: speed, c_ospeed: speed }).for_pty()
    }

    /// With what TCSETS2 gives.
    pub(super) fn with_termios2(self, new: Termios2) -> Self {
        if new.base.c_cflag & CBAUD == BOTHER {
            Self(new).for_pty()
        } else {
            self.with_termios(new.base)
        }
    }

    /// With what TCSETA gives: the low 16 bits of each flag word, the first eight characters.
    pub(super) fn with_termio(self, new: Termio) -> Self {
        let mut base = self.0.base;
        let low = |old: u32, new: u16| old & 0xffff_0000 | u32::from(new);
        base.c_iflag = low(base.c_iflag, new.c_iflag);
        base.c_oflag = low(base.c_oflag, new.c_oflag);
        base.c_cflag = low(base.c_cflag, new.c_cflag);
        base.c_lflag = low(base.c_lflag, new.c_lflag);
        base.c_line = new.c_line;
        base.c_cc[..8].copy_from_slice(&new.c_cc);
        self.with_termios(base)
    }

    /// For TCGETA.
    pub(super) fn termio(&self) -> Termio {
        let base = self.0.base;
        let mut c_cc = [0; 8];
        c_cc.copy_from_slice(&base.c_cc[..8]);
        Termio {
            c_iflag: base.c_iflag as u16,
            c_oflag: base.c_oflag as u16,
            c_cflag: base.c_cflag as u16,
            c_lflag: base.c_lflag as u16,
            c_line: base.c_line,
            c_cc,
            pad: 0,
        }
    }

    fn for_pty(mut self) -> Self {
        let cflag = &mut self.0.base.c_cflag;
        *cflag = *cflag & !(libc::CSIZE | libc::PARENB) | libc::CS8 | libc::CREAD;
        self
    }
}

const CBAUD: u32 = 0o10017;
const BOTHER: u32 = 0o10000;

/// Bits per second of a `B…` code; `None` for a code that has none.
fn baud_rate(code: u32) -> Option<u32> {
    const LOW: [u32; 16] =
        [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
    const HIGH: [u32; 15] = [
        57600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000,
        1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000,
    ];
    if code < 16 {
        LOW.get(code as usize).copied()
    } else {
        HIGH.get((code & 0o17).checked_sub(1)? as usize).copied()
    }
}
