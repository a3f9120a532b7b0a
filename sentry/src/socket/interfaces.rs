//! The ioctls on network interfaces (netdevice(7)), of which there is one: `lo`.

use crate::{
    SysResult, err,
    kernel::CurrentTask,
    user::{UserAddr, UserMemory},
};

const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCSIFFLAGS: u32 = 0x8914;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFDSTADDR: u32 = 0x8917;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;
/// Up, loopback, running.
const FLAGS: u16 = 0x49;
const ARPHRD_LOOPBACK: u16 = 772;

/// `struct ifreq`: a name, and 24 bytes that depend on the request.
const IFREQ: usize = 40;
const NAME: usize = 16;

/// An IPv4 address as a `struct sockaddr`.
fn sockaddr(ip: [u8; 4]) -> [u8; 16] {
    let mut out = [0; 16];
    out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    out[4..8].copy_from_slice(&ip);
    out
}

/// Does the request, if it is one of these; `ENOTTY` otherwise.
pub(super) fn ioctl(task: &CurrentTask, request: u32, arg: UserAddr) -> SysResult<u64> {
    match request {
        SIOCGIFCONF => return list(task, arg),
        SIOCGIFNAME => {
            let mut ifreq = [0; IFREQ];
            task.mm().copy_in(arg, &mut ifreq)?;
            if ifreq[NAME..NAME + 4] != 1_u32.to_ne_bytes() {
                return err!(ENODEV);
            }
            task.mm().copy_out(arg, b"lo\0")?;
            return Ok(0);
        }
        SIOCGIFFLAGS..=SIOCGIFTXQLEN => {}
        _ => return err!(ENOTTY),
    }
    let mut ifreq = [0; IFREQ];
    task.mm().copy_in(arg, &mut ifreq)?;
    let name = ifreq[..NAME].split(|&byte| byte == 0).next().unwrap_or(&[]);
    let mut value = [0; 16];
    match request {
        SIOCGIFFLAGS => value[..2].copy_from_slice(&FLAGS.to_ne_bytes()),
        SIOCGIFADDR | SIOCGIFDSTADDR => value = sockaddr([127, 0, 0, 1]),
        SIOCGIFBRDADDR => value = sockaddr([0; 4]),
        SIOCGIFNETMASK => value = sockaddr([255, 0, 0, 0]),
        SIOCGIFMETRIC => {}
        SIOCGIFMTU => value[..4].copy_from_slice(&65_536_u32.to_ne_bytes()),
        SIOCGIFHWADDR => value[..2].copy_from_slice(&ARPHRD_LOOPBACK.to_ne_bytes()),
        SIOCGIFINDEX => value[..4].copy_from_slice(&1_u32.to_ne_bytes()),
        SIOCGIFTXQLEN => value[..4].copy_from_slice(&1000_u32.to_ne_bytes()),
        SIOCSIFFLAGS => return err!(EPERM),
        _ => return err!(ENOTTY),
    }
    if name != b"lo" {
        return err!(ENODEV);
    }
    task.mm().copy_out(arg.offset(NAME as u64)?, &value)?;
    Ok(0)
}

/// SIOCGIFCONF: `struct ifconf` holds the length of a buffer and its address.
fn list(task: &CurrentTask, arg: UserAddr) -> SysResult<u64> {
    let [len, buffer]: [u64; 2] = task.mm().read_obj(arg.as_ref())?;
    let room = len as u32 as i32;
    let used = if buffer == 0 {
        IFREQ as i32
    } else if room < IFREQ as i32 {
        0
    } else {
        let mut ifreq = [0; IFREQ];
        ifreq[..2].copy_from_slice(b"lo");
        ifreq[NAME..NAME + 16].copy_from_slice(&sockaddr([127, 0, 0, 1]));
        task.mm().copy_out(UserAddr(buffer), &ifreq)?;
        IFREQ as i32
    };
    task.mm().write_obj(arg.as_ref(), &used)?;
    Ok(0)
}
