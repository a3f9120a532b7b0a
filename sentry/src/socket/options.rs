//! The options of SOL_SOCKET (socket(7); `sk_setsockopt` in `net/core/sock.c`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use linux_abi::socket::{Linger, Ucred};
use zerocopy::{FromBytes, IntoBytes};

use super::{Common, SocketOps, common::MAX_BUFFER};
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask},
    wait::EventMask,
};

const MIN_SEND_BUFFER: i32 = 4608;
const MIN_RECEIVE_BUFFER: i32 = 2304;
const SO_PEERGROUPS: i32 = 59;
const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;
const SO_TIMESTAMP_NEW: i32 = 63;
const SO_TIMESTAMPNS_NEW: i32 = 64;

/// An `int` option's value; `EINVAL` when it is too short.
pub fn int(value: &[u8]) -> SysResult<i32> {
    i32::read_from_prefix(value).map(|(value, _)| value).map_err(|_| Errno::EINVAL.into())
}

/// setsockopt(2).
pub fn set(
    task: &mut CurrentTask,
    socket: &dyn SocketOps,
    level: i32,
    name: i32,
    value: &[u8],
) -> SysResult<()> {
    if level != libc::SOL_SOCKET {
        return socket.set_option(task, level, name, value);
    }
    match set_common(task, socket.common(), name, value) {
        Err(error) if error == Errno::ENOPROTOOPT.into() => {
            socket.set_option(task, level, name, value)
        }
        result => result,
    }
}

/// getsockopt(2): the value, to be cut to the caller's `room`.
pub fn get(
    task: &mut CurrentTask,
    socket: &dyn SocketOps,
    level: i32,
    name: i32,
    room: usize,
) -> SysResult<Vec<u8>> {
    if level != libc::SOL_SOCKET {
        return socket.get_option(task, level, name);
    }
    match get_common(socket.common(), name, room) {
        Err(error) if error == Errno::ENOPROTOOPT.into() => socket.get_option(task, level, name),
        result => result,
    }
}

/// The switch of that name, if it is one.
fn switch(common: &Common, name: i32) -> Option<&AtomicBool> {
    let switches = &common.switches;
    Some(match name {
        libc::SO_REUSEADDR => &switches.reuse_addr,
        libc::SO_REUSEPORT => &switches.reuse_port,
        libc::SO_KEEPALIVE => &switches.keep_alive,
        libc::SO_BROADCAST => &switches.broadcast,
        libc::SO_OOBINLINE => &switches.oob_inline,
        libc::SO_DONTROUTE => &switches.dont_route,
        libc::SO_NO_CHECK => &switches.no_check,
        libc::SO_PASSCRED => &switches.pass_cred,
        libc::SO_TIMESTAMP | SO_TIMESTAMP_NEW => &switches.timestamp,
        libc::SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW => &switches.timestamp_ns,
        libc::SO_RXQ_OVFL => &switches.rxq_overflow,
        _ => return None,
    })
}

/// The buffer size that asking for `bytes` gives: doubled, for the overhead, and bounded.
fn buffer_size(bytes: i32, max: i32, min: i32) -> i32 {
    let bytes = bytes.clamp(0, max);
    bytes.saturating_mul(2).max(min)
}

fn set_common(task: &CurrentTask, common: &Common, name: i32, value: &[u8]) -> SysResult<()> {
    if let Some(switch) = switch(common, name) {
        if name == libc::SO_PASSCRED
            && common.family != libc::AF_UNIX
            && common.family != libc::AF_NETLINK
        {
            return err!(EOPNOTSUPP);
        }
        switch.store(int(value)? != 0, Relaxed);
        return Ok(());
    }
    let forced_max = i32::MAX / 2;
    match name {
        libc::SO_SNDBUF | libc::SO_SNDBUFFORCE => {
            let bytes = int(value)?;
            let max = if name == libc::SO_SNDBUF { MAX_BUFFER } else { forced_max };
            if name == libc::SO_SNDBUFFORCE && !task.cred().has(Capability::NET_ADMIN) {
                return err!(EPERM);
            }
            let size = buffer_size(bytes, max, MIN_SEND_BUFFER);
            common.send_memory.set_limit(size as usize);
        }
        libc::SO_RCVBUF | libc::SO_RCVBUFFORCE => {
            let bytes = int(value)?;
            let max = if name == libc::SO_RCVBUF { MAX_BUFFER } else { forced_max };
            if name == libc::SO_RCVBUFFORCE && !task.cred().has(Capability::NET_ADMIN) {
                return err!(EPERM);
            }
            common.receive_buffer.store(buffer_size(bytes, max, MIN_RECEIVE_BUFFER), Relaxed);
        }
        libc::SO_RCVLOWAT => {
            let bytes = int(value)?;
            let low = if bytes < 0 { i32::MAX } else { bytes.max(1) };
            common.receive_low.store(low, Relaxed);
        }
        libc::SO_PRIORITY => {
            let priority = int(value)?;
            if !(0..=6).contains(&priority) && !task.cred().has(Capability::NET_ADMIN) {
                return err!(EPERM);
            }
            common.priority.store(priority, Relaxed);
        }
        libc::SO_MARK => {
            let mark = int(value)?;
            if !task.cred().has(Capability::NET_ADMIN) {
                return err!(EPERM);
            }
            common.mark.store(mark as u32, Relaxed);
        }
        libc::SO_LINGER => {
            let (linger, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            let seconds = if linger.on == 0 { -1 } else { linger.seconds.max(0) };
            common.linger.store(seconds, Relaxed);
        }
        libc::SO_RCVTIMEO | libc::SO_SNDTIMEO | SO_RCVTIMEO_NEW | SO_SNDTIMEO_NEW => {
            let send = name == libc::SO_SNDTIMEO || name == SO_SNDTIMEO_NEW;
            let (time, _) = <[i64; 2]>::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
            let [sec, usec] = time;
            if !(0..1_000_000).contains(&usec) {
                return err!(EDOM);
            }
            let ns = u64::try_from(sec).map_or(1, |sec| {
                sec.saturating_mul(1_000_000_000).saturating_add(usec as u64 * 1000)
            });
            // A negative time is already over; an endless one is none.
            common.timeout_ns(send).store(if ns > i64::MAX as u64 { 0 } else { ns }, Relaxed);
        }
        libc::SO_TYPE | libc::SO_PROTOCOL | libc::SO_DOMAIN | libc::SO_ERROR => {
            return err!(ENOPROTOOPT);
        }
        libc::SO_BINDTODEVICE => {
            // There is one device, and all is bound to it.
            let name = value.split(|&byte| byte == 0).next().unwrap_or(&[]);
            if !name.is_empty() && name != b"lo" {
                return err!(ENODEV);
            }
        }
        libc::SO_BUSY_POLL | libc::SO_INCOMING_CPU | libc::SO_TIMESTAMPING => {
            int(value)?;
        }
        _ => return err!(ENOPROTOOPT),
    }
    Ok(())
}

fn get_common(common: &Common, name: i32, room: usize) -> SysResult<Vec<u8>> {
    if let Some(switch) = switch(common, name) {
        return Ok(i32::from(switch.load(Relaxed)).as_bytes().to_vec());
    }
    let value = match name {
        libc::SO_TYPE => common.kind,
        libc::SO_DOMAIN => common.family,
        libc::SO_PROTOCOL => common.protocol,
        libc::SO_ERROR => common.take_error().map_or(0, Errno::raw),
        libc::SO_SNDBUF => common.send_memory.limit() as i32,
        libc::SO_RCVBUF => common.receive_buffer.load(Relaxed),
        libc::SO_RCVLOWAT => common.receive_low.load(Relaxed),
        libc::SO_SNDLOWAT => 1,
        libc::SO_PRIORITY => common.priority.load(Relaxed),
        libc::SO_MARK => common.mark.load(Relaxed) as i32,
        libc::SO_BUSY_POLL | libc::SO_TIMESTAMPING => 0,
        libc::SO_INCOMING_CPU => 0,
        libc::SO_LINGER => {
            let seconds = common.linger.load(Relaxed);
            let linger = Linger { on: i32::from(seconds >= 0), seconds: seconds.max(0) };
            return Ok(linger.as_bytes().to_vec());
        }
        libc::SO_RCVTIMEO | libc::SO_SNDTIMEO | SO_RCVTIMEO_NEW | SO_SNDTIMEO_NEW => {
            let send = name == libc::SO_SNDTIMEO || name == SO_SNDTIMEO_NEW;
            let events = if send { EventMask::OUT } else { EventMask::IN };
            let us = common.wait_limit(events).unwrap_or(0) / 1000;
            return Ok([(us / 1_000_000) as i64, (us % 1_000_000) as i64].as_bytes().to_vec());
        }
        libc::SO_PEERCRED => {
            let peer = common.peer.lock().clone();
            let ids = match peer {
                Some((pid, cred)) => Ucred { pid, uid: cred.euid, gid: cred.egid },
                None => Ucred { pid: 0, uid: u32::MAX, gid: u32::MAX },
            };
            return Ok(ids.as_bytes().to_vec());
        }
        SO_PEERGROUPS => {
            let Some((_, cred)) = common.peer.lock().clone() else { return err!(ENODATA) };
            if cred.groups.len() * 4 > room {
                return err!(ERANGE);
            }
            return Ok(cred.groups.as_bytes().to_vec());
        }
        libc::SO_BINDTODEVICE => return Ok(Vec::new()),
        _ => return err!(ENOPROTOOPT),
    };
    Ok(value.as_bytes().to_vec())
}
