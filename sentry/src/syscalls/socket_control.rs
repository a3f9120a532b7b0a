//! Control messages of sendmsg(2) and recvmsg(2) (cmsg(3)).

use std::sync::Arc;

use linux_abi::socket::{CMsgHdr, Ucred};
use smallvec::SmallVec;
use zerocopy::{FromBytes, IntoBytes};

use super::install::install_fd;
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask},
    socket::Control,
    user::{Fd, UserAddr, UserMemory},
    vfs::FileDescription,
};

const HEADER: usize = size_of::<CMsgHdr>();
/// `net.core.optmem_max`: more control data than this is refused.
const MAX_CONTROL: u64 = 131_072;
/// Files in one message (`SCM_MAX_FD`).
const MAX_FILES: usize = 253;

const SCM_RIGHTS: i32 = libc::SCM_RIGHTS;
const SCM_CREDENTIALS: i32 = libc::SCM_CREDENTIALS;

/// Where the guest's control data is.
pub(super) struct ControlBuffer {
    pub(super) at: UserAddr,
    pub(super) len: u64,
}

/// What the guest sends beside the bytes.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) rights: Vec<Arc<FileDescription>>,
    pub(super) credentials: Option<Ucred>,
    pub(super) raw: SmallVec<[crate::socket::RawControl; 1]>,
}

/// Reads and checks the control data of a message to be sent.
pub(super) fn read(task: &CurrentTask, buffer: &ControlBuffer, family: i32) -> SysResult<Outgoing> {
    let mut out = Outgoing::default();
    if buffer.len == 0 || buffer.at.is_null() {
        return Ok(out);
    }
    if buffer.len > MAX_CONTROL {
        return err!(ENOBUFS);
    }
    let mut bytes = vec![0; buffer.len as usize];
    task.mm().copy_in(buffer.at, &mut bytes)?;
    let mut rest = bytes.as_slice();
    while let Ok((header, _)) = CMsgHdr::read_from_prefix(rest) {
        let len = usize::try_from(header.len).map_err(|_| Errno::EINVAL)?;
        if len < HEADER || len > rest.len() {
            return err!(EINVAL);
        }
        let data = rest.get(HEADER..len).ok_or(Errno::EINVAL)?;
        if header.level == libc::SOL_SOCKET && family == libc::AF_UNIX {
            read_socket_level(task, header.kind, data, &mut out)?;
        } else if header.level == libc::SOL_SOCKET && header.kind == SCM_RIGHTS {
            return err!(EINVAL);
        } else if family != libc::AF_UNIX {
            out.raw.push((header.level, header.kind, SmallVec::from_slice(data)));
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(out)
}

fn read_socket_level(
    task: &CurrentTask,
    kind: i32,
    data: &[u8],
    out: &mut Outgoing,
) -> SysResult<()> {
    match kind {
        SCM_RIGHTS => {
            let (fds, _) = data.as_chunks::<4>();
            if out.rights.len() + fds.len() > MAX_FILES {
                return err!(EINVAL);
            }
            for fd in fds {
                out.rights.push(task.fds().get_any(Fd(i32::from_ne_bytes(*fd)))?);
            }
            Ok(())
        }
        SCM_CREDENTIALS => {
            let ids = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
            check_credentials(task, ids)?;
            out.credentials = Some(ids);
            Ok(())
        }
        _ => err!(EINVAL),
    }
}

/// One may say to be oneself; more takes capabilities (`scm_check_creds`).
fn check_credentials(task: &CurrentTask, ids: Ucred) -> SysResult<()> {
    let cred = task.cred();
    let pid_ok = ids.pid == task.pid() || cred.has(Capability::SYS_ADMIN);
    let uid_ok =
        [cred.uid, cred.euid, cred.suid].contains(&ids.uid) || cred.has(Capability::SETUID);
    let gid_ok =
        [cred.gid, cred.egid, cred.sgid].contains(&ids.gid) || cred.has(Capability::SETGID);
    if pid_ok && uid_ok && gid_ok { Ok(()) } else { err!(EPERM) }
}

/// Writes control messages: the bytes used, and whether some did not fit. Files get descriptors
/// as far as there is room for their numbers; the rest is closed.
pub(super) fn write(
    task: &CurrentTask,
    buffer: &ControlBuffer,
    messages: SmallVec<[Control; 2]>,
    cloexec: bool,
) -> SysResult<(u64, bool)> {
    let mut used = 0;
    let mut cut = false;
    let room = if buffer.at.is_null() { 0 } else { buffer.len };
    for message in messages {
        let left = room.saturating_sub(used) as usize;
        let at = buffer.at.offset(used)?;
        let (bytes, whole) = match message {
            Control::Rights(files) => write_files(task, at, left, files, cloexec)?,
            Control::Credentials(ids) => {
                let (level, kind) = (libc::SOL_SOCKET, SCM_CREDENTIALS);
                write_one(task, at, left, (level, kind), ids.as_bytes())?
            }
            Control::Raw(level, kind, data) => write_one(task, at, left, (level, kind), &data)?,
        };
        cut |= !whole;
        used += bytes as u64;
    }
    Ok((used.min(room), cut))
}

/// The bytes used with padding, and whether all of it fit.
fn write_one(
    task: &CurrentTask,
    at: UserAddr,
    left: usize,
    (level, kind): (i32, i32),
    data: &[u8],
) -> SysResult<(usize, bool)> {
    if left < HEADER {
        return Ok((0, false));
    }
    let len = (HEADER + data.len()).min(left);
    let header = CMsgHdr { len: len as u64, level, kind };
    task.mm().write_obj(at.as_ref(), &header)?;
    let data_at = at.offset(HEADER as u64)?;
    task.mm().copy_out(data_at, data.get(..len - HEADER).unwrap_or(data))?;
    Ok((len.next_multiple_of(8).min(left), len == HEADER + data.len()))
}

fn write_files(
    task: &CurrentTask,
    at: UserAddr,
    left: usize,
    files: Vec<Arc<FileDescription>>,
    cloexec: bool,
) -> SysResult<(usize, bool)> {
    let fit = left.saturating_sub(HEADER) / 4;
    let count = files.len();
    let mut fds: Vec<i32> = Vec::new();
    for file in files.into_iter().take(fit) {
        match install_fd(task, file, cloexec) {
            Ok(fd) => fds.push(fd.0),
            Err(_) => break,
        }
    }
    let whole = fds.len() == count;
    if fds.is_empty() {
        return Ok((0, whole));
    }
    let names = (libc::SOL_SOCKET, SCM_RIGHTS);
    let (bytes, _) = write_one(task, at, left, names, fds.as_slice().as_bytes())?;
    Ok((bytes, whole))
}
