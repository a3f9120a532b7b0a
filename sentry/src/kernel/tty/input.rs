//! What a terminal takes in: the bytes a reader has not read yet, and the lines they form.

use std::collections::VecDeque;

/// Bytes that may wait for a reader (`N_TTY_BUF_SIZE`); a line has one less, and its end.
pub(super) const BUFFER_BYTES: usize = 4096;

/// What stands in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// A byte inside a line.
    Byte(u8),
    /// A byte that ends a line: newline or an end-of-line character.
    LineEnd(u8),
    /// An end-of-file character: ends a line without being part of it.
    Eof,
}

impl Cell {
    /// The byte as a reader without lines sees it.
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Byte(byte) | Self::LineEnd(byte) => byte,
            Self::Eof => 0,
        }
    }

    fn ends_line(self) -> bool {
        !matches!(self, Self::Byte(_))
    }
}

/// The input buffer.
#[derive(Debug, Default)]
pub(super) struct Input {
    cells: VecDeque<Cell>,
    /// The first so many cells form whole lines; behind them is the line being edited.
    complete: usize,
}

impl Input {
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Is there a whole line?
    pub(super) fn has_line(&self) -> bool {
        self.complete > 0
    }

    /// The line being edited.
    pub(super) fn editing(&self) -> impl DoubleEndedIterator<Item = Cell> + '_ {
        self.cells.iter().skip(self.complete).copied()
    }

    pub(super) fn editing_len(&self) -> usize {
        self.cells.len() - self.complete
    }

    pub(super) fn is_full(&self) -> bool {
        self.cells.len() >= BUFFER_BYTES - 1
    }

    /// Adds a byte to the line being edited (in raw mode: simply to what can be read).
    pub(super) fn push(&mut self, byte: u8) {
        self.cells.push_back(Cell::Byte(byte));
    }

    /// Ends the line.
    pub(super) fn end_line(&mut self, end: Cell) {
        self.cells.push_back(end);
        self.complete = self.cells.len();
    }

    /// Takes the last byte of the line being edited back.
    pub(super) fn pop(&mut self) -> Option<Cell> {
        if self.editing_len() == 0 { None } else { self.cells.pop_back() }
    }

    /// Drops the line being edited.
    pub(super) fn drop_editing(&mut self) {
        self.cells.truncate(self.complete);
    }

    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.complete = 0;
    }

    /// Lines are read from now on: what is there already counts as one
    /// (`n_tty_set_termios`).
    pub(super) fn become_canonical(&mut self) {
        self.complete = self.cells.len();
    }

    /// Bytes, no lines, are read from now on.
    pub(super) fn become_raw(&mut self) {
        self.complete = 0;
    }

    /// Takes up to `max` bytes of the first line; an end of file is taken but gives no byte. When exactly
    /// `max` bytes stand before an end of file, that one goes too, so that no empty read follows.
    /// `None` when there is no whole line.
    pub(super) fn take_line(&mut self, max: usize) -> Option<Vec<u8>> {
        if self.complete == 0 {
            return None;
        }
        let mut bytes = Vec::new();
        while self.complete > 0 {
            if bytes.len() == max {
                if max > 0 && self.cells.front() == Some(&Cell::Eof) {
                    self.take_front();
                }
                break;
            }
            let Some(cell) = self.take_front() else { break };
            if cell != Cell::Eof {
                bytes.push(cell.byte());
            }
            if cell.ends_line() {
                break;
            }
        }
        Some(bytes)
    }

    /// Takes up to `max` bytes, whatever they are.
    pub(super) fn take_raw(&mut self, max: usize) -> Vec<u8> {
        let n = max.min(self.cells.len());
        self.complete = self.complete.saturating_sub(n);
        self.cells.drain(..n).map(Cell::byte).collect()
    }

    /// What FIONREAD reports: bytes that could be read now.
    pub(super) fn readable_len(&self, canonical: bool) -> usize {
        if !canonical {
            return self.cells.len();
        }
        self.cells.iter().take(self.complete).filter(|cell| **cell != Cell::Eof).count()
    }

    fn take_front(&mut self) -> Option<Cell> {
        let cell = self.cells.pop_front()?;
        self.complete = self.complete.saturating_sub(1);
        Some(cell)
    }
}
