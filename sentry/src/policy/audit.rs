//! `--audit`: each decision about a file as a line of JSON (JSON Lines).

use std::{
    os::fd::OwnedFd,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::SystemTime,
};

use rustix::io::{Errno, write};
use serde::Serialize;

/// Longer paths are cut.
const PATH_SHOWN: usize = 4096;

/// Writes the lines. What cannot be written at once is lost, and counted: a guest cannot make the sentry wait, nor hoard.
#[derive(Debug)]
pub struct Audit {
    to: OwnedFd,
    /// The last line was written in part only.
    is_torn: AtomicBool,
    lost: AtomicU64,
}

/// One decision. Strings are those of the guest with a backslash doubled and each byte that is no UTF-8 as `\xNN`.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970.
    time: f64,
    pid: i32,
    comm: String,
    op: &'a str,
    path: String,
    decision: &'a str,
    /// The rule that decided, if one did.
    rule: Option<&'a str>,
}

/// Says how many lines are missing.
#[derive(Serialize)]
struct Lost {
    lost: u64,
}

/// What was decided, for [`Audit::put`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Decision<'a> {
    pub(super) pid: i32,
    pub(super) comm: &'a [u8],
    pub(super) op: &'a str,
    pub(super) path: &'a [u8],
    pub(super) is_denied: bool,
    pub(super) rule: Option<&'a str>,
}

impl Audit {
    /// `to` should not block.
    pub fn new(to: OwnedFd) -> Self {
        Self { to, is_torn: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    pub(super) fn put(&self, decision: &Decision<'_>) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            // Whole microseconds: what a double can hold.
            time: since.as_micros() as f64 / 1e6,
            pid: decision.pid,
            comm: text(decision.comm),
            op: decision.op,
            path: text(decision.path.get(..PATH_SHOWN).unwrap_or(decision.path)),
            decision: if decision.is_denied { "deny" } else { "allow" },
            rule: decision.rule,
        };
        let mut bytes = Vec::with_capacity(256);
        let was_torn = self.is_torn.swap(false, Ordering::AcqRel);
        if was_torn {
            bytes.push(b'\n');
        }
        let lost = self.lost.swap(0, Ordering::AcqRel);
        if lost > 0 {
            append(&mut bytes, &Lost { lost });
        }
        append(&mut bytes, &line);
        // One write, so that lines of several threads do not mix.
        let written = loop {
            match write(&self.to, &bytes) {
                Err(Errno::INTR) => {}
                written => break written.unwrap_or(0),
            }
        };
        if written < bytes.len() {
            self.is_torn.fetch_or(was_torn || written > 0, Ordering::AcqRel);
            self.lost.fetch_add(lost.saturating_add(1), Ordering::AcqRel);
        }
    }
}

fn append(to: &mut Vec<u8>, value: &impl Serialize) {
    // Neither a writer in memory nor these types can fail.
    if serde_json::to_writer(&mut *to, value).is_ok() {
        to.push(b'\n');
    }
}

/// Bytes as text, in one way only.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    fn decision(path: &[u8]) -> Decision<'_> {
        Decision { pid: 7, comm: b"c", op: "read", path, is_denied: true, rule: Some("r") }
    }

    #[test]
    fn a_decision_is_a_line() {
        let (reader, writer) = std::io::pipe().unwrap();
        let audit = Audit::new(writer.into());
        audit.put(&decision(b"/a\n\"\\\xff\xc3\xa4"));
        drop(audit);
        let mut said = String::new();
        File::from(OwnedFd::from(reader)).read_to_string(&mut said).unwrap();
        let (time, rest) = said.split_once(',').unwrap();
        assert!(time.starts_with("{\"time\":1") || time.starts_with("{\"time\":2"), "{time}");
        let want = r#""pid":7,"comm":"c","op":"read","path":"/a\n\"\\\\\\xffä","decision":"deny","rule":"r"}"#;
        assert_eq!(rest, format!("{want}\n"));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let audit = Audit::new(writer.into());
        let path = [b'x'; 1000];
        for _ in 0..1000 {
            audit.put(&decision(&path));
        }
        let mut file = File::from(OwnedFd::from(reader));
        let mut first = vec![0; 1 << 20];
        let n = file.read(&mut first).unwrap();
        let fitted = first[..n].iter().filter(|&&byte| byte == b'\n').count();
        audit.put(&decision(b"/last"));
        drop(audit);
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        let lines: Vec<_> = rest.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[0], format!("{{\"lost\":{}}}", 1000 - fitted));
        assert!(lines[1].contains("/last"));
    }
}
