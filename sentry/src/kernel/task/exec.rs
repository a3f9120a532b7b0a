//! execve(2): a new program in the same process (`fs/exec.c`).

use crate::{SysResult, err, kernel::CurrentTask, syscalls::Outcome};

impl CurrentTask {
    /// Runs the program at `path`.
    pub(in crate::kernel) fn exec_path(
        &mut self,
        _path: &[u8],
        _argv: Vec<Vec<u8>>,
        _envp: Vec<Vec<u8>>,
    ) -> SysResult<Outcome> {
        err!(ENOSYS)
    }
}
