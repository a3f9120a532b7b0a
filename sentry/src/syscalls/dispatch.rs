//! Rows of the table: any function over typed arguments can be a handler.

use super::{ArgKind, FromArg, Outcome};
use crate::{SysResult, kernel::CurrentTask};

/// A handler with its arguments still raw.
pub type SyscallFn = fn(&mut CurrentTask, &[u64; 6]) -> SysResult<Outcome>;

/// How much of a call is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As in Linux.
    Full,
    /// With the exceptions named.
    Partial(&'static str),
    /// Always fails, as it does in a Linux built or run without it; the reason is named.
    Refused(&'static str),
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    /// `None`: not there yet, `ENOSYS`.
    pub run: Option<SyscallFn>,
    pub args: &'static [ArgKind],
    pub support: Support,
}

/// Functions of up to six typed arguments and any result that turns into an [`Outcome`].
pub trait Handler<Args> {
    const KINDS: &'static [ArgKind];
    fn call(self, task: &mut CurrentTask, raw: &[u64; 6]) -> SysResult<Outcome>;
}

macro_rules! handlers {
    ($(($($index:tt $arg:ident),*))*) => { $(
        impl<F, R, $($arg: FromArg),*> Handler<($($arg,)*)> for F
        where
            F: FnOnce(&mut CurrentTask, $($arg),*) -> SysResult<R>,
            R: Into<Outcome>,
        {
            const KINDS: &'static [ArgKind] = &[$($arg::KIND),*];
            #[inline]
            fn call(self, task: &mut CurrentTask, _raw: &[u64; 6]) -> SysResult<Outcome> {
                self(task, $($arg::from_arg(_raw[$index])),*).map(Into::into)
            }
        }
    )* };
}

handlers! {
    ()
    (0 A)
    (0 A, 1 B)
    (0 A, 1 B, 2 C)
    (0 A, 1 B, 2 C, 3 D)
    (0 A, 1 B, 2 C, 3 D, 4 E)
    (0 A, 1 B, 2 C, 3 D, 4 E, 5 G)
}

/// The argument kinds of a handler, for the table.
pub(super) const fn kinds<Args, H: Handler<Args>>(_: &H) -> &'static [ArgKind] {
    H::KINDS
}

/// Builds the table; a number given twice does not compile.
macro_rules! syscall_table {
    ($($number:literal $name:ident $(=> $handler:path, $support:expr)?;)*) => {{
        let mut table: [Option<Entry>; TABLE_SIZE] = [None; TABLE_SIZE];
        $(
            assert!(table[$number].is_none(), "a system call number stands twice");
            table[$number] = Some(syscall_table!(@row $name $(=> $handler, $support)?));
        )*
        table
    }};
    (@row $name:ident => $handler:path, $support:expr) => {
        Entry {
            name: stringify!($name),
            run: Some(|task, raw| Handler::call($handler, task, raw)),
            args: kinds(&$handler),
            support: $support,
        }
    };
    (@row $name:ident) => {
        Entry { name: stringify!($name), run: None, args: &[], support: Support::Refused("not there yet") }
    };
}
pub(super) use syscall_table;
