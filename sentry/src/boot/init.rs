//! The first process: its program, its standard streams, its identity.

use std::sync::Arc;

use super::{BootError, Config};
use crate::{
    Errno, SysResult,
    kernel::{CapabilitySet, Credentials},
    vfs::{self, AccessMask, FileType, LookupFlags, PathCx},
};

/// What execvp(3) looks through without a `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds the program of `argv[0]` as execvp(3) does: a name with a slash is a path, others are looked
/// for along `PATH`.
pub(super) fn find_program(cx: &PathCx, config: &Config) -> Result<Vec<u8>, BootError> {
    let name = config.argv.first().cloned().unwrap_or_default();
    let failed =
        |errno| BootError::Command { name: String::from_utf8_lossy(&name).into_owned(), errno };
    if name.contains(&b'/') {
        return Ok(name);
    }
    if name.is_empty() {
        return Err(failed(Errno::ENOENT));
    }
    let path = config.env.iter().find_map(|var| var.strip_prefix(b"PATH="));
    let mut refused = false;
    for dir in path.unwrap_or(DEFAULT_PATH).split(|&byte| byte == b':') {
        let mut candidate = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        candidate.push(b'/');
        candidate.extend_from_slice(&name);
        match is_program(cx, &candidate) {
            Ok(true) => return Ok(candidate),
            Ok(false) => refused = true,
            Err(error) => refused |= error.errno() == Errno::EACCES,
        }
    }
    Err(failed(if refused { Errno::EACCES } else { Errno::ENOENT }))
}

/// Is there a file?
pub(super) fn is_there(cx: &PathCx, path: &[u8]) -> bool {
    vfs::resolve(cx, cx.cwd(), path, LookupFlags::FOLLOW).is_ok()
}

fn is_program(cx: &PathCx, path: &[u8]) -> SysResult<bool> {
    let found = vfs::resolve(cx, cx.cwd(), path, LookupFlags::FOLLOW)?;
    let meta = found.inode().metadata()?;
    Ok(meta.file_type() == Some(FileType::Regular)
        && found.inode().check_access(&cx.cred, AccessMask::EXEC).is_ok())
}

/// The command's ids.
pub(super) fn credentials(config: &Config) -> Arc<Credentials> {
    let bounding = CapabilitySet::from_bits_truncate(config.capabilities);
    Credentials::for_user(config.uid, config.gid, &config.groups, bounding)
}
