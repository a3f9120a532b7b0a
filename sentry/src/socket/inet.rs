//! IPv4 and IPv6 on the loopback interface.
//!
//! There are no packets: a connection joins two sockets, a datagram goes straight into its
//! receiver's queue. All addresses of the sandbox are loopback addresses; everything else is
//! unreachable.

mod address;
mod ancillary;
mod options;
mod ports;
mod tcp;
mod udp;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use self::{ports::Ports, tcp::TcpSocket, udp::UdpSocket};
use super::{Common, SocketOps};
use crate::{
    SysResult, err,
    kernel::{Capability, CurrentTask},
};

/// The sandbox's loopback network: who has which port.
#[derive(Debug, Default)]
pub struct Network {
    tcp: Ports<TcpSocket>,
    udp: Ports<UdpSocket>,
    udplite: Ports<UdpSocket>,
    is_off: AtomicBool,
}

impl Network {
    /// From now on there are no Internet sockets.
    pub fn switch_off(&self) {
        self.is_off.store(true, Ordering::Relaxed);
    }
}

/// socket(2) for AF_INET and AF_INET6.
pub(super) fn create(
    task: &CurrentTask,
    family: i32,
    kind: i32,
    protocol: i32,
) -> SysResult<Arc<dyn SocketOps>> {
    let (cred, kernel) = (task.cred(), task.kernel().clone());
    if kernel.network.is_off.load(Ordering::Relaxed) {
        return err!(EAFNOSUPPORT);
    }
    if !(0..=262).contains(&protocol) {
        return err!(EINVAL);
    }
    let common = |protocol| Common::new(kernel, cred, family, kind, protocol);
    match (kind, protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Ok(TcpSocket::new(common(libc::IPPROTO_TCP))),
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Ok(UdpSocket::new(common(libc::IPPROTO_UDP))),
        (libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE) => Ok(UdpSocket::new(common(protocol))),
        // Pings need a group range that is empty by default.
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMP) if family == libc::AF_INET => err!(EACCES),
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6) if family == libc::AF_INET6 => err!(EACCES),
        (libc::SOCK_STREAM | libc::SOCK_DGRAM, _) => err!(EPROTONOSUPPORT),
        (libc::SOCK_RAW, 0) => err!(EPROTONOSUPPORT),
        (libc::SOCK_RAW, _) => err!(EPERM),
        _ => err!(ESOCKTNOSUPPORT),
    }
}

/// May a socket be bound there? Only loopback addresses are here; low ports take a capability.
fn check_bindable(task: &CurrentTask, at: address::Endpoint, v6_only: bool) -> SysResult<()> {
    /// `net.ipv4.ip_unprivileged_port_start`.
    const FIRST_FREE: u16 = 1024;
    if !at.is_local() {
        return err!(EADDRNOTAVAIL);
    }
    if v6_only && at.ip.is_ipv4() {
        return err!(EINVAL);
    }
    if at.port != 0 && at.port < FIRST_FREE && !task.cred_ref().has(Capability::NET_BIND_SERVICE) {
        return err!(EACCES);
    }
    Ok(())
}
