//! What a terminal sends out: output processing (`OPOST`), echoes, and the queue that the
//! master side (or the console) takes from.

use std::collections::VecDeque;

use super::termios::Settings;

/// Bytes that may wait before a writer has to: the other side's flip buffers and its line
/// discipline's buffer in Linux.
const QUEUE_BYTES: usize = 16 << 10;

/// Echoes are dropped once so much waits: whoever types does not read.
const ECHO_LIMIT_BYTES: usize = 2 * QUEUE_BYTES;

/// The way out of a terminal.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<u8>,
    /// Where the cursor is, for tabs and erasing.
    pub(super) column: usize,
    /// Stopped by `^S` or TCOOFF.
    pub(super) stopped: bool,
    /// Stopped by TCOOFF: only TCOON starts it again.
    pub(super) stopped_by_call: bool,
}

impl Output {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How much more a writer may put in.
    pub(super) fn room(&self) -> usize {
        if self.stopped { 0 } else { QUEUE_BYTES.saturating_sub(self.queue.len()) }
    }

    /// Drops all that waits.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Takes up to `max` bytes out.
    pub(super) fn take(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.queue.len());
        self.queue.drain(..n).collect()
    }

    /// What a program writes; returns how much of `bytes` was taken.
    pub(super) fn write(&mut self, settings: &Settings, bytes: &[u8]) -> usize {
        if !settings.output(libc::OPOST) {
            let n = bytes.len().min(self.room());
            self.queue.extend(&bytes[..n]);
            return n;
        }
        for (done, &byte) in bytes.iter().enumerate() {
            if !self.put(settings, byte) {
                return done;
            }
        }
        bytes.len()
    }

    /// One echoed byte, processed as a program's would be.
    pub(super) fn echo(&mut self, settings: &Settings, byte: u8) {
        if self.queue.len() >= ECHO_LIMIT_BYTES {
            return;
        }
        if settings.output(libc::OPOST) {
            self.process(settings, byte);
        } else {
            self.queue.push_back(byte);
        }
    }

    /// Without any processing: packet and flow-control bytes, erasing.
    pub(super) fn put_raw(&mut self, byte: u8) {
        if self.queue.len() < ECHO_LIMIT_BYTES {
            self.queue.push_back(byte);
        }
    }

    /// One processed byte, if there is room for the most that it can become.
    fn put(&mut self, settings: &Settings, byte: u8) -> bool {
        if self.room() < 8 {
            return false;
        }
        self.process(settings, byte);
        true
    }

    /// `do_output_char` in Linux.
    fn process(&mut self, settings: &Settings, byte: u8) {
        let mut byte = byte;
        match byte {
            b'\n' => {
                if settings.output(libc::ONLRET) {
                    self.column = 0;
                }
                if settings.output(libc::ONLCR) {
                    self.column = 0;
                    self.queue.push_back(b'\r');
                }
            }
            b'\r' => {
                if settings.output(libc::ONOCR) && self.column == 0 {
                    return;
                }
                if settings.output(libc::OCRNL) {
                    byte = b'\n';
                    if settings.output(libc::ONLRET) {
                        self.column = 0;
                    }
                } else {
                    self.column = 0;
                }
            }
            b'\t' => {
                let spaces = 8 - (self.column & 7);
                self.column = self.column.wrapping_add(spaces);
                if settings.0.base.c_oflag & libc::TABDLY == libc::TAB3 {
                    self.queue.extend(std::iter::repeat_n(b' ', spaces));
                    return;
                }
            }
            8 => self.column = self.column.saturating_sub(1),
            _ => {
                if settings.output(libc::OLCUC) {
                    byte = byte.to_ascii_uppercase();
                }
                let continues = settings.input(libc::IUTF8) && byte & 0xc0 == 0x80;
                if !byte.is_ascii_control() && !continues {
                    self.column = self.column.wrapping_add(1);
                }
            }
        }
        self.queue.push_back(byte);
    }
}
