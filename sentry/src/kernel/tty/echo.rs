//! Echoes, and erasing in the line being edited.

use super::{line_discipline::LineDiscipline, termios::cc};

/// A control character as ECHOCTL knows it.
pub(super) fn is_control(byte: u8) -> bool {
    byte.is_ascii_control()
}

/// What one erase character takes away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Char,
    Word,
    Line,
}

impl LineDiscipline {
    /// Echoes a byte, control characters as `^X` with ECHOCTL.
    pub(super) fn echo(&mut self, byte: u8) {
        if self.shows_caret(byte) {
            self.output.put_raw(b'^');
            self.output.put_raw(byte ^ 0o100);
            self.output.column = self.output.column.wrapping_add(2);
        } else {
            self.echo_raw(byte);
        }
    }

    /// Echoes a byte as itself.
    pub(super) fn echo_raw(&mut self, byte: u8) {
        let settings = self.settings;
        self.output.echo(&settings, byte);
    }

    /// Ends the `/` of ECHOPRT.
    pub(super) fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.echo_raw(b'/');
        }
    }

    /// ERASE, WERASE or KILL was typed (`eraser` in n_tty).
    pub(super) fn erase(&mut self, typed: u8) {
        if self.input.editing_len() == 0 {
            return;
        }
        let settings = self.settings;
        let extent = if settings.is_char(typed, cc::VERASE) {
            Extent::Char
        } else if settings.is_char(typed, cc::VWERASE) && settings.local(libc::IEXTEN) {
            Extent::Word
        } else {
            Extent::Line
        };
        if extent == Extent::Line && !self.erases_line_visibly() {
            return;
        }
        let mut in_word = false;
        while let Some((first, count)) = self.last_char() {
            if extent == Extent::Word {
                if first.is_ascii_alphanumeric() || first == b'_' {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            self.remove_char(extent, first, count);
            if extent == Extent::Char {
                break;
            }
        }
        if self.input.editing_len() == 0 && settings.local(libc::ECHO) {
            self.finish_erasing();
        }
    }

    /// KILL: does each byte have to be erased from the screen? If not, it is all done here.
    fn erases_line_visibly(&mut self) -> bool {
        let settings = self.settings;
        let wants = [libc::ECHO, libc::ECHOK, libc::ECHOKE, libc::ECHOE];
        if wants.iter().all(|&flag| settings.local(flag)) {
            return true;
        }
        self.input.drop_editing();
        if settings.local(libc::ECHO) {
            self.finish_erasing();
            self.echo(settings.char(cc::VKILL));
            if settings.local(libc::ECHOK) {
                self.echo_raw(b'\n');
            }
        }
        false
    }

    /// The first byte of the last character, and how many bytes it has. `None` when there is none, or
    /// only the tail of one.
    fn last_char(&self) -> Option<(u8, usize)> {
        let continues = |byte: u8| self.settings.input(libc::IUTF8) && byte & 0xc0 == 0x80;
        for (at, cell) in self.input.editing().rev().enumerate() {
            let byte = cell.byte();
            if !continues(byte) {
                return Some((byte, at + 1));
            }
        }
        None
    }

    fn remove_char(&mut self, extent: Extent, first: u8, count: usize) {
        let settings = self.settings;
        let mut bytes: Vec<u8> = Vec::with_capacity(count);
        for _ in 0..count {
            bytes.extend(self.input.pop().map(super::input::Cell::byte));
        }
        if !settings.local(libc::ECHO) {
            return;
        }
        if settings.local(libc::ECHOPRT) {
            if !self.erasing {
                self.echo_raw(b'\\');
                self.erasing = true;
            }
            self.echo(first);
            // Popped last byte first; the first one is echoed already.
            for &byte in bytes.iter().rev().skip(1) {
                self.output.put_raw(byte);
            }
        } else if extent == Extent::Char && !settings.local(libc::ECHOE) {
            self.echo(settings.char(cc::VERASE));
        } else if first == b'\t' {
            self.erase_tab();
        } else {
            if is_control(first) && settings.local(libc::ECHOCTL) {
                self.erase_cell();
            }
            if !is_control(first) || settings.local(libc::ECHOCTL) {
                self.erase_cell();
            }
        }
    }

    fn erase_cell(&mut self) {
        for byte in [8, b' ', 8] {
            self.output.put_raw(byte);
        }
        self.output.column = self.output.column.saturating_sub(1);
    }

    /// Goes back over a tab: as far as the cells since the last tab (or the start of the line) left open.
    fn erase_tab(&mut self) {
        let mut cells = 0_usize;
        let mut after_tab = false;
        for cell in self.input.editing().rev() {
            let byte = cell.byte();
            if byte == b'\t' {
                after_tab = true;
                break;
            }
            if is_control(byte) {
                if self.settings.local(libc::ECHOCTL) {
                    cells += 2;
                }
            } else if !(self.settings.input(libc::IUTF8) && byte & 0xc0 == 0x80) {
                cells += 1;
            }
        }
        let column = if after_tab { cells } else { cells.wrapping_add(self.line_column) };
        for _ in 0..8 - (column & 7) {
            self.output.put_raw(8);
            self.output.column = self.output.column.saturating_sub(1);
        }
    }
}
