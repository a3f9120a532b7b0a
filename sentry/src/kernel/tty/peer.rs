//! TIOCGPTPEER: the other side of a master, opened without its name.

use std::sync::Arc;

use super::pair::Tty;
use crate::{SysResult, err, kernel::CurrentTask, vfs::FileDescription};

/// Opens the slave of the master behind `file` with the flags of open(2); its descriptor.
pub(super) fn open_peer(
    _task: &mut CurrentTask,
    _file: &FileDescription,
    _tty: &Arc<Tty>,
    _flags: u32,
) -> SysResult<u64> {
    err!(EINVAL)
}
