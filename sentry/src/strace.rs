//! `--strace`: one line a system call, decoded from the same table that dispatches them.

use std::fmt::{self, Write as _};

use crate::{
    SysError, SysResult,
    kernel::{CurrentTask, Tracer},
    syscalls::{ArgKind, Entry, Outcome},
    user::{UserAddr, UserCStr, UserMemory},
};

/// Takes whole lines, with their newline; called by many threads.
pub type LineSink = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Prints to a sink.
pub struct Strace {
    sink: LineSink,
}

impl Strace {
    pub fn new(sink: LineSink) -> Self {
        Self { sink }
    }

    fn call(
        &self,
        task: &CurrentTask,
        number: u64,
        entry: Option<&'static Entry>,
        args: &[u64; 6],
    ) -> String {
        let mut line = format!("[{}] ", task.tid());
        match entry {
            Some(entry) => line.push_str(entry.name),
            None => drop(write!(line, "syscall_{number}")),
        }
        line.push('(');
        // A row without a handler has no argument types: all six are shown raw.
        let kinds = entry.map_or(&[][..], |entry| entry.args);
        let raw = [ArgKind::Hex; 6];
        let unknown = entry.is_none_or(|entry| entry.run.is_none());
        let kinds = if unknown { &raw[..] } else { kinds };
        for (at, (kind, arg)) in kinds.iter().zip(args).enumerate() {
            if at > 0 {
                line.push_str(", ");
            }
            argument(&mut line, task, *kind, *arg);
        }
        line.push(')');
        line
    }
}

/// Longer strings are cut.
const SHOWN: usize = 64;

fn argument(line: &mut String, task: &CurrentTask, kind: ArgKind, arg: u64) {
    let _ = match kind {
        ArgKind::Fd if arg as i32 == libc::AT_FDCWD => write!(line, "AT_FDCWD"),
        ArgKind::Fd | ArgKind::Int => write!(line, "{}", arg as i32),
        ArgKind::Path if arg != 0 => match task.mm().read_path(UserCStr(UserAddr(arg))) {
            Ok(path) => {
                quote(line, &path);
                Ok(())
            }
            Err(_) => write!(line, "{arg:#x}"),
        },
        ArgKind::Ptr | ArgKind::Path if arg == 0 => write!(line, "NULL"),
        ArgKind::Ptr | ArgKind::Path | ArgKind::Hex => write!(line, "{arg:#x}"),
        ArgKind::Size | ArgKind::Unsigned => write!(line, "{arg}"),
    };
}

fn quote(line: &mut String, bytes: &[u8]) {
    line.push('"');
    for &byte in bytes.iter().take(SHOWN) {
        let _ = write!(line, "{}", byte.escape_ascii());
    }
    line.push('"');
    if bytes.len() > SHOWN {
        line.push_str("...");
    }
}

impl Tracer for Strace {
    fn enter(
        &self,
        task: &CurrentTask,
        number: u64,
        entry: Option<&'static Entry>,
        args: &[u64; 6],
    ) {
        // These do not come back with their arguments readable, or at all: print them before.
        let name = entry.map_or("", |entry| entry.name);
        if matches!(name, "execve" | "execveat" | "exit" | "exit_group" | "rt_sigreturn") {
            let mut line = self.call(task, number, entry, args);
            line.push_str(" ...\n");
            (self.sink)(line.as_bytes());
        }
    }

    fn exit(
        &self,
        task: &CurrentTask,
        number: u64,
        entry: Option<&'static Entry>,
        args: &[u64; 6],
        result: &SysResult<Outcome>,
    ) {
        if entry.is_some_and(|entry| matches!(entry.name, "exit" | "exit_group" | "rt_sigreturn")) {
            return;
        }
        let mut line = self.call(task, number, entry, args);
        let _ = match result {
            Ok(Outcome::Return(value)) if *value as i64 > 0xffff => writeln!(line, " = {value:#x}"),
            Ok(Outcome::Return(value)) => writeln!(line, " = {}", *value as i64),
            Ok(_) => writeln!(line, " = ?"),
            Err(SysError::Errno(errno)) => writeln!(line, " = -1 {errno}"),
            Err(SysError::Restart(_)) => writeln!(line, " = ? (interrupted)"),
        };
        (self.sink)(line.as_bytes());
    }
}

impl fmt::Debug for Strace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strace")
    }
}
