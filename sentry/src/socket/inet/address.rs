//! Internet addresses: from and to `struct sockaddr_in{,6}`, and which of them are here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux_abi::socket::{SockAddrIn, SockAddrIn6};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Errno, SysResult, err, socket::SockAddr};

/// The shortest `struct sockaddr_in6` (without the scope).
const IN6_MIN: usize = 24;

/// An address with a port. IPv4 is always plain, never mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
}

impl Endpoint {
    /// Any address, no port.
    pub(super) fn unspecified(family: i32) -> Self {
        let ip = if family == libc::AF_INET6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        Self { ip, port: 0 }
    }

    /// What a socket of `family` was given. `EINVAL` when too short, `EAFNOSUPPORT` for another family.
    pub(super) fn parse(address: &SockAddr, family: i32) -> SysResult<Self> {
        let bytes = address.0.as_slice();
        let given = address.family().ok_or(Errno::EINVAL)?;
        if family == libc::AF_INET {
            let (raw, _) = SockAddrIn::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
            let ip = Ipv4Addr::from(raw.addr);
            // Of old, no family with any address is taken for this one.
            if given != libc::AF_INET && !(given == libc::AF_UNSPEC && ip.is_unspecified()) {
                return err!(EAFNOSUPPORT);
            }
            return Ok(Self { ip: IpAddr::V4(ip), port: u16::from_be_bytes(raw.port) });
        }
        if given != libc::AF_INET6 {
            return if bytes.len() < IN6_MIN { err!(EINVAL) } else { err!(EAFNOSUPPORT) };
        }
        if bytes.len() < IN6_MIN {
            return err!(EINVAL);
        }
        let mut padded = [0; size_of::<SockAddrIn6>()];
        let len = bytes.len().min(padded.len());
        if let (Some(to), Some(from)) = (padded.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        let raw = SockAddrIn6::read_from_bytes(&padded).map_err(|_| Errno::EINVAL)?;
        let ip = Ipv6Addr::from(raw.addr);
        let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
        Ok(Self { ip, port: u16::from_be_bytes(raw.port) })
    }

    /// As a socket of `family` shows it: IPv6 sockets see IPv4 addresses mapped.
    pub(super) fn to_sockaddr(self, family: i32) -> SockAddr {
        let port = self.port.to_be_bytes();
        match self.ip {
            IpAddr::V4(ip) if family == libc::AF_INET => SockAddr::new(
                SockAddrIn { family: libc::AF_INET as u16, port, addr: ip.octets(), zero: [0; 8] }
                    .as_bytes(),
            ),
            ip => {
                let ip = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                let raw = SockAddrIn6 {
                    family: libc::AF_INET6 as u16,
                    port,
                    flow_info: 0,
                    addr: ip.octets(),
                    scope_id: 0,
                };
                SockAddr::new(raw.as_bytes())
            }
        }
    }

    /// Where a connection or datagram for this address goes: "any" means this host.
    /// `ENETUNREACH` for all that is not loopback.
    pub(super) fn destination(self) -> SysResult<Self> {
        let ip = match self.ip {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        if ip.is_loopback() { Ok(Self { ip, ..self }) } else { err!(ENETUNREACH) }
    }

    /// May a socket be bound to it?
    pub(super) fn is_local(self) -> bool {
        self.ip.is_unspecified() || self.ip.is_loopback()
    }
}

/// The address that a socket which is bound to any sends from.
pub(super) fn source_for(destination: IpAddr) -> IpAddr {
    match destination {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
