//! memfd_create(2).

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    fs::memfd,
    kernel::CurrentTask,
    user::{Fd, UserCStr, UserMemory},
};

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 0x10;
/// Longest name, with `memfd:` before it NAME_MAX.
const NAME_MAX: usize = 249;

/// MFD_HUGETLB is `EINVAL`: there are no huge pages.
pub(super) fn sys_memfd_create(
    task: &mut CurrentTask,
    name: UserCStr,
    flags: u32,
) -> SysResult<Fd> {
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC) != 0
        || flags & MFD_EXEC != 0 && flags & MFD_NOEXEC_SEAL != 0
    {
        return err!(EINVAL);
    }
    let name = match task.mm().read_cstr(name, NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => return err!(EINVAL),
        name => name?,
    };
    let (sealable, noexec) = (flags & MFD_ALLOW_SEALING != 0, flags & MFD_NOEXEC_SEAL != 0);
    let file = memfd::create(task.kernel(), &name, sealable, noexec, task.cred());
    install_fd(task, file, flags & MFD_CLOEXEC != 0)
}
