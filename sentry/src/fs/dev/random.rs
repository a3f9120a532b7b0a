//! `/dev/random` and `/dev/urandom` (random(4)): the host's generator behind both.

use std::any::Any;

use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask},
    user::{UserAddr, UserMemory},
    vfs::{FileDescription, FileOps, IoDst, IoSrc, SeekFrom},
    wait::{EventMask, PollTable},
};

/// ioctl requests of `include/uapi/linux/random.h`.
const RNDGETENTCNT: u32 = 0x8004_5200;
const RNDADDTOENTCNT: u32 = 0x4004_5201;
const RNDADDENTROPY: u32 = 0x4008_5203;
const RNDZAPENTCNT: u32 = 0x5204;
const RNDCLEARPOOL: u32 = 0x5206;
const RNDRESEEDCRNG: u32 = 0x5207;

/// What the pool of a running system holds, in bits.
pub(super) const ENTROPY_BITS: i32 = 256;

#[derive(Debug)]
pub(super) struct Random {
    /// Only `/dev/random` can be polled.
    pub(super) pollable: bool,
}

impl FileOps for Random {
    fn read(&self, _: &FileDescription, _: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let mut chunk = [0; 4096];
        let mut total = 0;
        while !dst.is_empty() {
            let want = dst.len().min(chunk.len());
            let bytes = &mut chunk[..want];
            platform::host::fill_random(bytes)?;
            match dst.put(bytes) {
                Ok(n) => {
                    total += n;
                    if n < want {
                        break;
                    }
                }
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(total)
    }

    fn write(&self, _: &FileDescription, _: u64, src: &mut IoSrc<'_>) -> SysResult<usize> {
        // Read as Linux does, so that bad memory is EFAULT; the host's generator needs no help.
        let mut chunk = [0; 4096];
        let mut total = 0;
        while !src.is_empty() {
            match src.take(&mut chunk) {
                Ok(0) => break,
                Ok(n) => total += n,
                Err(_) if total > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(total)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &FileDescription, current: u64, _: SeekFrom) -> SysResult<u64> {
        // noop_llseek
        Ok(current)
    }

    fn is_pollable(&self) -> bool {
        self.pollable
    }

    fn poll(&self, _: &FileDescription, _: &mut PollTable) -> EventMask {
        EventMask::READABLE | EventMask::WRITABLE
    }

    fn ioctl(
        &self,
        task: &mut CurrentTask,
        _: &FileDescription,
        request: u32,
        arg: UserAddr,
    ) -> SysResult<u64> {
        let is_admin = task.cred().has(Capability::SYS_ADMIN);
        match request {
            RNDGETENTCNT => task.mm().write_obj(arg.as_ref::<i32>(), &ENTROPY_BITS)?,
            RNDADDTOENTCNT | RNDADDENTROPY | RNDZAPENTCNT | RNDCLEARPOOL | RNDRESEEDCRNG
                if !is_admin =>
            {
                return err!(EPERM);
            }
            RNDADDTOENTCNT => {
                if task.mm().read_obj(arg.as_ref::<i32>())? < 0 {
                    return err!(EINVAL);
                }
            }
            RNDADDENTROPY => {
                let [bits, size] = task.mm().read_obj(arg.as_ref::<[i32; 2]>())?;
                if bits < 0 || size < 0 {
                    return err!(EINVAL);
                }
            }
            RNDZAPENTCNT | RNDCLEARPOOL | RNDRESEEDCRNG => {}
            _ => return Err(Errno::EINVAL.into()),
        }
        Ok(0)
    }

    fn signals_readiness(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
