//! The line discipline (`drivers/tty/n_tty.c`; termios(3)): from typed bytes to what programs
//! read, with echoes, editing, signals and flow control. Pure: it knows no task and no file.

use smallvec::SmallVec;

use super::{
    echo::is_control,
    input::{Cell, Input},
    output::Output,
    packet,
    termios::{Settings, cc},
};

/// One terminal's line discipline.
#[derive(Debug, Default)]
pub(super) struct LineDiscipline {
    pub(super) settings: Settings,
    pub(super) input: Input,
    pub(super) output: Output,
    /// The next byte is taken as it is (`^V`).
    literal_next: bool,
    /// Erased bytes are being printed backwards (ECHOPRT).
    pub(super) erasing: bool,
    /// The column where the line being edited began.
    pub(super) line_column: usize,
    /// Signals for the foreground group, to be sent when the lock is released.
    pub(super) signals: SmallVec<[i32; 2]>,
    /// What packet mode has to report: `TIOCPKT_*` bits.
    pub(super) packet_events: u8,
}

impl LineDiscipline {
    /// Takes typed bytes, as many as there is room for; how many.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> usize {
        for (done, &byte) in bytes.iter().enumerate() {
            if !self.has_room() {
                return done;
            }
            self.receive_byte(byte);
        }
        bytes.len()
    }

    /// May more be typed? A line that is too long loses bytes but never blocks, as nobody could end it.
    pub(super) fn has_room(&self) -> bool {
        !self.input.is_full() || (self.settings.is_canonical() && !self.input.has_line())
    }

    fn receive_byte(&mut self, byte: u8) {
        let settings = self.settings;
        if std::mem::take(&mut self.literal_next) {
            return self.receive_plain(strip(&settings, byte));
        }
        let byte = strip(&settings, byte);
        if settings.local(super::termios::EXTPROC) {
            return self.store(byte);
        }
        if self.flow_control(byte) || self.signal(byte) {
            return;
        }
        let byte = match byte {
            b'\r' if settings.input(libc::IGNCR) => return,
            b'\r' if settings.input(libc::ICRNL) => b'\n',
            b'\n' if settings.input(libc::INLCR) => b'\r',
            byte => byte,
        };
        if settings.is_canonical() && self.edit(byte) {
            return;
        }
        self.receive_plain(byte);
    }

    /// Echoes and stores a byte that has no meaning.
    fn receive_plain(&mut self, byte: u8) {
        if self.is_discarding() {
            return;
        }
        if self.settings.local(libc::ECHO) {
            self.finish_erasing();
            if byte == b'\n' {
                self.echo_raw(byte);
            } else {
                self.note_line_start();
                self.echo(byte);
            }
        }
        if byte == 0xff && self.settings.input(libc::PARMRK) {
            self.store(byte);
        }
        self.store(byte);
    }

    /// Is the line so long that only its end is taken?
    fn is_discarding(&self) -> bool {
        self.settings.is_canonical() && self.input.is_full()
    }

    fn store(&mut self, byte: u8) {
        if !self.input.is_full() {
            self.input.push(byte);
        }
    }

    /// `^S` and `^Q`; true when the byte was one of them.
    fn flow_control(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        if !settings.input(libc::IXON) {
            return false;
        }
        if settings.is_char(byte, cc::VSTART) {
            self.start_output();
            return true;
        }
        if settings.is_char(byte, cc::VSTOP) {
            self.stop_output();
            return true;
        }
        let is_signal =
            [cc::VINTR, cc::VQUIT, cc::VSUSP].iter().any(|&c| settings.is_char(byte, c));
        if self.output.stopped && settings.input(libc::IXANY) && !is_signal {
            self.start_output();
        }
        false
    }

    pub(super) fn stop_output(&mut self) {
        if !self.output.stopped {
            self.output.stopped = true;
            self.packet_events = self.packet_events & !packet::START | packet::STOP;
        }
    }

    /// Unless TCOOFF stopped it: then only TCOON helps.
    pub(super) fn start_output(&mut self) {
        if self.output.stopped && !self.output.stopped_by_call {
            self.output.stopped = false;
            self.packet_events = self.packet_events & !packet::STOP | packet::START;
        }
    }

    /// INTR, QUIT, SUSP; true when the byte was one of them.
    fn signal(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        if !settings.local(libc::ISIG) {
            return false;
        }
        let signal = if settings.is_char(byte, cc::VINTR) {
            libc::SIGINT
        } else if settings.is_char(byte, cc::VQUIT) {
            libc::SIGQUIT
        } else if settings.is_char(byte, cc::VSUSP) {
            libc::SIGTSTP
        } else {
            return false;
        };
        self.raise(signal);
        if settings.input(libc::IXON) {
            self.start_output();
        }
        if settings.local(libc::ECHO) {
            self.echo(byte);
        }
        true
    }

    /// Signals the foreground group and, unless NOFLSH, drops what waits in both directions (`isig`).
    pub(super) fn raise(&mut self, signal: i32) {
        self.signals.push(signal);
        if !self.settings.local(libc::NOFLSH) {
            self.flush_output();
            self.flush_input();
        }
    }

    pub(super) fn flush_input(&mut self) {
        self.input.clear();
        self.erasing = false;
        self.literal_next = false;
        self.packet_events |= packet::FLUSH_READ;
    }

    pub(super) fn flush_output(&mut self) {
        self.output.clear();
        self.packet_events |= packet::FLUSH_WRITE;
    }

    /// Line editing and line ends; true when the byte meant something.
    fn edit(&mut self, byte: u8) -> bool {
        let settings = self.settings;
        let extended = settings.local(libc::IEXTEN);
        let is = |which| settings.is_char(byte, which);
        if is(cc::VERASE) || is(cc::VKILL) || (extended && is(cc::VWERASE)) {
            self.erase(byte);
        } else if extended && is(cc::VLNEXT) {
            self.literal_next = true;
            if settings.local(libc::ECHO) {
                self.finish_erasing();
                if settings.local(libc::ECHOCTL) {
                    self.echo_raw(b'^');
                    self.echo_raw(8);
                }
            }
        } else if extended && is(cc::VREPRINT) && settings.local(libc::ECHO) {
            self.reprint(byte);
        } else if byte == b'\n' {
            if settings.local(libc::ECHO | libc::ECHONL) {
                self.echo_raw(b'\n');
            }
            self.input.end_line(Cell::LineEnd(b'\n'));
        } else if is(cc::VEOF) {
            self.input.end_line(Cell::Eof);
        } else if is(cc::VEOL) || (extended && is(cc::VEOL2)) {
            if settings.local(libc::ECHO) {
                self.note_line_start();
                self.echo(byte);
            }
            if byte == 0xff && settings.input(libc::PARMRK) {
                self.store(byte);
            }
            self.input.end_line(Cell::LineEnd(byte));
        } else {
            return false;
        }
        true
    }

    fn reprint(&mut self, byte: u8) {
        self.finish_erasing();
        self.echo(byte);
        self.echo_raw(b'\n');
        let line: Vec<Cell> = self.input.editing().collect();
        for cell in line {
            self.echo(cell.byte());
        }
    }

    /// The first byte of a line is about to be echoed: remember where.
    fn note_line_start(&mut self) {
        if self.input.editing_len() == 0 {
            self.line_column = self.output.column;
        }
    }

    /// New settings, with what that means for the bytes already there (`n_tty_set_termios`).
    pub(super) fn set_settings(&mut self, new: Settings) {
        let old = std::mem::replace(&mut self.settings, new);
        if old.is_canonical() != new.is_canonical()
            || old.local(super::termios::EXTPROC) != new.local(super::termios::EXTPROC)
        {
            if new.is_canonical() {
                self.input.become_canonical();
            } else {
                self.input.become_raw();
            }
            self.erasing = false;
            self.literal_next = false;
        }
        if old.input(libc::IXON) && !new.input(libc::IXON) && !self.output.stopped_by_call {
            self.start_output();
        }
        if old.has_usual_flow_control() != new.has_usual_flow_control() {
            let (set, clear) = if new.has_usual_flow_control() {
                (packet::DO_STOP, packet::NO_STOP)
            } else {
                (packet::NO_STOP, packet::DO_STOP)
            };
            self.packet_events = self.packet_events & !clear | set;
        }
        if (old.0.base.c_lflag ^ new.0.base.c_lflag) & super::termios::EXTPROC != 0 {
            self.packet_events |= packet::IOCTL;
        }
    }

    /// Is there something a reader could take? In raw mode `minimum` bytes.
    pub(super) fn is_readable(&self, minimum: usize) -> bool {
        if self.settings.edits_lines() {
            self.input.has_line()
        } else {
            self.input.len() >= minimum.max(1)
        }
    }

    /// Takes up to `max` bytes for a reader; `None` when it would have to wait.
    pub(super) fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        if self.settings.edits_lines() {
            self.input.take_line(max)
        } else if self.input.len() == 0 {
            None
        } else {
            Some(self.input.take_raw(max))
        }
    }

    /// What ECHOCTL shows as `^X`.
    pub(super) fn shows_caret(&self, byte: u8) -> bool {
        self.settings.local(libc::ECHOCTL) && is_control(byte) && byte != b'\t'
    }
}

/// ISTRIP and IUCLC.
fn strip(settings: &Settings, byte: u8) -> u8 {
    let byte = if settings.input(libc::ISTRIP) { byte & 0x7f } else { byte };
    if settings.input(libc::IUCLC) && settings.local(libc::IEXTEN) {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}
