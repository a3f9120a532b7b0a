//! The line discipline and both ends together, without tasks.

use std::sync::Arc;

use ranked_sync::Mutex;

use super::{
    packet,
    pair::{Groups, Tty},
    termios::{Settings, cc},
};
use crate::lock_order;

#[derive(Debug, Default)]
struct Sent(Mutex<lock_order::Leaf, Vec<(i32, i32)>>);

impl Groups for Sent {
    fn signal_group(&self, pgid: i32, signal: i32) {
        self.0.lock().push((pgid, signal));
    }
    fn signal_process(&self, pid: i32, signal: i32) {
        self.0.lock().push((-pid, signal));
    }
}

fn terminal() -> (Arc<Tty>, Arc<Sent>) {
    let sent = Arc::new(Sent::default());
    let tty = Tty::new(0, sent.clone(), (0, 0));
    tty.change(|state| state.foreground = 7);
    (tty, sent)
}

fn configure(tty: &Tty, f: impl FnOnce(&mut Settings)) {
    tty.change(|state| {
        let mut settings = state.discipline.settings;
        f(&mut settings);
        state.discipline.set_settings(settings);
    });
}

fn raw(tty: &Tty) {
    configure(tty, |s| {
        s.0.base.c_lflag = 0;
        s.0.base.c_iflag = 0;
        s.0.base.c_oflag = 0;
    });
}

fn read(tty: &Tty, max: usize) -> Option<Vec<u8>> {
    tty.change(|state| state.discipline.read(max))
}

fn line(tty: &Tty) -> Option<String> {
    read(tty, 4096).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn printed(tty: &Tty) -> String {
    String::from_utf8_lossy(&tty.take_printed(65536).unwrap_or_default()).into_owned()
}

fn write(tty: &Tty, bytes: &[u8]) -> usize {
    tty.change(|state| {
        let settings = state.discipline.settings;
        state.discipline.output.write(&settings, bytes)
    })
}

#[test]
fn a_line_is_readable_only_when_ended() {
    let (tty, _) = terminal();
    tty.type_in(b"abc");
    assert_eq!(line(&tty), None);
    tty.type_in(b"\r");
    assert_eq!(line(&tty).as_deref(), Some("abc\n"));
    assert_eq!(printed(&tty), "abc\r\n");
}

#[test]
fn reads_take_one_line_each_and_parts_of_long_ones() {
    let (tty, _) = terminal();
    tty.type_in(b"one\ntwo\n");
    assert_eq!(read(&tty, 2).as_deref(), Some(b"on".as_slice()));
    assert_eq!(line(&tty).as_deref(), Some("e\n"));
    assert_eq!(line(&tty).as_deref(), Some("two\n"));
}

#[test]
fn eof_ends_a_line_without_a_byte_and_alone_reads_as_nothing() {
    let (tty, _) = terminal();
    tty.type_in(b"abc\x04");
    assert_eq!(line(&tty).as_deref(), Some("abc"));
    tty.type_in(b"\x04");
    assert_eq!(line(&tty).as_deref(), Some(""));
    assert_eq!(line(&tty), None);
}

#[test]
fn eof_right_behind_a_full_buffer_is_swallowed() {
    let (tty, _) = terminal();
    tty.type_in(b"abc\x04");
    assert_eq!(read(&tty, 3).as_deref(), Some(b"abc".as_slice()));
    assert_eq!(line(&tty), None);
}

#[test]
fn erase_takes_one_character_back_and_wipes_it() {
    let (tty, _) = terminal();
    tty.type_in(b"ab\x7fc\n");
    assert_eq!(line(&tty).as_deref(), Some("ac\n"));
    assert_eq!(printed(&tty), "ab\x08 \x08c\r\n");
}

#[test]
fn erase_takes_all_bytes_of_a_utf8_character() {
    let (tty, _) = terminal();
    configure(&tty, |s| s.0.base.c_iflag |= libc::IUTF8);
    tty.type_in("aé\x7fb\n".as_bytes());
    assert_eq!(line(&tty).as_deref(), Some("ab\n"));
}

#[test]
fn erased_control_characters_take_two_cells() {
    let (tty, _) = terminal();
    tty.type_in(b"\x01\x7f");
    assert_eq!(printed(&tty), "^A\x08 \x08\x08 \x08");
}

#[test]
fn word_erase_takes_the_last_word_and_kill_the_line() {
    let (tty, _) = terminal();
    tty.type_in(b"one two  \x17x\n");
    assert_eq!(line(&tty).as_deref(), Some("one x\n"));
    tty.type_in(b"gone\x15kept\n");
    assert_eq!(line(&tty).as_deref(), Some("kept\n"));
}

#[test]
fn erasing_a_tab_goes_back_to_where_it_began() {
    let (tty, _) = terminal();
    write(&tty, b"$ ");
    tty.type_in(b"a\t\x7f");
    assert_eq!(printed(&tty), format!("$ a\t{}", "\x08".repeat(5)));
}

#[test]
fn literal_next_makes_any_byte_plain() {
    let (tty, sent) = terminal();
    tty.type_in(b"\x16\x03\n");
    assert_eq!(line(&tty).as_deref(), Some("\x03\n"));
    assert_eq!(printed(&tty), "^\x08^C\r\n");
    assert!(sent.0.lock().is_empty());
}

#[test]
fn reprint_shows_the_line_again() {
    let (tty, _) = terminal();
    tty.type_in(b"ab\x12");
    assert_eq!(printed(&tty), "ab^R\r\nab");
}

#[test]
fn interrupt_signals_the_foreground_and_flushes() {
    let (tty, sent) = terminal();
    tty.type_in(b"half\x03");
    assert_eq!(*sent.0.lock(), [(7, libc::SIGINT)]);
    assert_eq!(printed(&tty), "^C");
    tty.type_in(b"x\n");
    assert_eq!(line(&tty).as_deref(), Some("x\n"));
}

#[test]
fn noflsh_keeps_what_was_typed() {
    let (tty, sent) = terminal();
    configure(&tty, |s| s.0.base.c_lflag |= libc::NOFLSH);
    tty.type_in(b"half\x1a\n");
    assert_eq!(*sent.0.lock(), [(7, libc::SIGTSTP)]);
    assert_eq!(line(&tty).as_deref(), Some("half\n"));
}

#[test]
fn stop_holds_output_until_start() {
    let (tty, _) = terminal();
    tty.type_in(b"\x13");
    assert_eq!(write(&tty, b"held"), 0);
    tty.type_in(b"\x11");
    assert_eq!(write(&tty, b"free"), 4);
    assert_eq!(printed(&tty), "free");
}

#[test]
fn raw_mode_passes_everything() {
    let (tty, sent) = terminal();
    raw(&tty);
    tty.type_in(b"\x03\x04\x13\r\x7f");
    assert_eq!(read(&tty, 10).as_deref(), Some(b"\x03\x04\x13\r\x7f".as_slice()));
    assert_eq!(printed(&tty), "");
    assert!(sent.0.lock().is_empty());
    assert_eq!(write(&tty, b"a\n"), 2);
    assert_eq!(printed(&tty), "a\n");
}

#[test]
fn what_was_typed_stays_when_the_mode_changes() {
    let (tty, _) = terminal();
    tty.type_in(b"abc");
    raw(&tty);
    assert_eq!(line(&tty).as_deref(), Some("abc"));
    tty.type_in(b"def");
    configure(&tty, |s| s.0.base.c_lflag |= libc::ICANON);
    assert_eq!(line(&tty).as_deref(), Some("def"));
}

#[test]
fn a_line_holds_4095_bytes_and_its_end() {
    let (tty, _) = terminal();
    configure(&tty, |s| s.0.base.c_lflag &= !libc::ECHO);
    tty.type_in(&[b'x'; 5000]);
    tty.type_in(b"\n");
    let read = read(&tty, 10000).unwrap();
    assert_eq!(read.len(), 4096);
    assert_eq!(read.last(), Some(&b'\n'));
}

#[test]
fn a_master_that_types_on_has_to_wait_in_the_end() {
    let (tty, _) = terminal();
    configure(&tty, |s| s.0.base.c_lflag &= !libc::ECHO);
    let mut total = 0;
    loop {
        let n = tty.type_in(&[b'\n'; 1000]);
        total += n;
        if n == 0 {
            break;
        }
    }
    assert_eq!(total, 4095 + 8192);
    for _ in 0..total {
        assert_eq!(line(&tty).as_deref(), Some("\n"));
    }
    assert_eq!(line(&tty), None);
}

#[test]
fn output_processing_adds_carriage_returns_and_expands_tabs() {
    let (tty, _) = terminal();
    configure(&tty, |s| s.0.base.c_oflag |= libc::TAB3);
    write(&tty, b"ab\tc\n");
    assert_eq!(printed(&tty), "ab      c\r\n");
}

#[test]
fn packet_mode_prefixes_data_and_reports_flushes() {
    let (tty, _) = terminal();
    tty.change(|state| state.packet_mode = true);
    write(&tty, b"hi");
    assert_eq!(tty.take_printed(100).as_deref(), Some(b"\0hi".as_slice()));
    tty.type_in(b"\x03");
    let status = tty.take_printed(100).unwrap();
    assert_eq!(status, [packet::FLUSH_READ | packet::FLUSH_WRITE]);
    configure(&tty, |s| s.0.base.c_iflag &= !libc::IXON);
    // The echo of ^C waits behind the status.
    assert_eq!(tty.take_printed(100).as_deref(), Some([packet::NO_STOP].as_slice()));
    assert_eq!(tty.take_printed(100).as_deref(), Some(b"\0^C".as_slice()));
}

#[test]
fn resizing_signals_only_on_a_change() {
    let (tty, sent) = terminal();
    let window = linux_abi::WindowSize { rows: 24, columns: 80, ..Default::default() };
    tty.resize(window);
    tty.resize(window);
    assert_eq!(*sent.0.lock(), [(7, libc::SIGWINCH)]);
}

#[test]
fn raw_readiness_counts_to_vmin() {
    let (tty, _) = terminal();
    raw(&tty);
    configure(&tty, |s| s.0.base.c_cc[cc::VMIN] = 3);
    tty.type_in(b"ab");
    assert!(!tty.change(|state| state.discipline.is_readable(state.minimum_for_poll())));
    tty.type_in(b"c");
    assert!(tty.change(|state| state.discipline.is_readable(state.minimum_for_poll())));
}
