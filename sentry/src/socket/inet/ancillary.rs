//! Control messages of datagrams: what a sender asks for one datagram, what a receiver is told about it
//! (ip(7), ipv6(7), RFC 3542; `ip_cmsg_send`, `ip6_datagram_send_ctl`, `ip6_datagram_recv_ctl`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use super::{address::Endpoint, options::InetOptions};
use crate::{Errno, SysResult, err, socket::RawControl};

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
/// `lo`.
const LOOPBACK_INDEX: u32 = 1;

/// What the IP header of a datagram would say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub to: IpAddr,
    /// Time to live, hop limit.
    pub hops: u8,
    /// Type of service, traffic class.
    pub class: u8,
}

/// What the control messages of sendmsg(2) ask for; what they leave out the socket's options say.
#[derive(Debug, Default)]
pub(super) struct SendOptions {
    pub source: Option<IpAddr>,
    pub hops: Option<u8>,
    pub class: Option<u8>,
}

impl SendOptions {
    /// Reads the messages of a datagram to `to`; those of levels that are not IP's are none of ours.
    pub(super) fn parse(messages: &[RawControl], family: i32, to: IpAddr) -> SysResult<Self> {
        let mut asked = Self::default();
        for (level, kind, data) in messages {
            match (*level, to) {
                (IP, IpAddr::V4(_)) => asked.take_v4(*kind, data)?,
                // To an IPv4 host, an IPv6 socket has only the address read from those of IPv6's level.
                (IPV6, IpAddr::V4(_))
                    if family == libc::AF_INET6 && *kind == libc::IPV6_PKTINFO =>
                {
                    asked.take_v6(*kind, data)?;
                }
                (IPV6, IpAddr::V6(_)) => asked.take_v6(*kind, data)?,
                _ => {}
            }
        }
        Ok(asked)
    }

    fn take_v4(&mut self, kind: i32, data: &[u8]) -> SysResult<()> {
        match kind {
            // A type of service may be given as one byte.
            libc::IP_TOS if data.len() == 1 => self.class = data.first().copied(),
            libc::IP_TOS => self.class = Some(byte(data)?),
            libc::IP_TTL => {
                self.hops = Some(byte(data).ok().filter(|&ttl| ttl > 0).ok_or(Errno::EINVAL)?)
            }
            libc::IP_PKTINFO => {
                // struct in_pktinfo: interface, local address, destination.
                let info: &[u8; 12] = data.try_into().map_err(|_| Errno::EINVAL)?;
                let [_, _, _, _, a, b, c, d, ..] = *info;
                self.take_source(Ipv4Addr::new(a, b, c, d).into())?;
            }
            libc::IP_RETOPTS => {}
            _ => return err!(EINVAL),
        }
        Ok(())
    }

    fn take_v6(&mut self, kind: i32, data: &[u8]) -> SysResult<()> {
        match kind {
            // -1 is the default.
            libc::IPV6_HOPLIMIT => self.hops = optional_byte(data)?,
            libc::IPV6_TCLASS => self.class = optional_byte(data)?,
            libc::IPV6_PKTINFO => {
                // struct in6_pktinfo: address, interface.
                let info = data.first_chunk::<20>().ok_or(Errno::EINVAL)?;
                let address = info.first_chunk::<16>().copied().unwrap_or_default();
                self.take_source(Ipv6Addr::from(address).to_canonical())?;
            }
            libc::IPV6_DONTFRAG => drop(int(data)?),
            libc::IPV6_HOPOPTS | libc::IPV6_DSTOPTS | libc::IPV6_RTHDR | IPV6_FLOWINFO => {}
            _ => return err!(EINVAL),
        }
        Ok(())
    }

    /// An address of this host, or none in particular. From any other IPv4 has no route.
    fn take_source(&mut self, ip: IpAddr) -> SysResult<()> {
        if ip.is_unspecified() {
            return Ok(());
        }
        if !(Endpoint { ip, port: 0 }).is_local() {
            return if ip.is_ipv4() { err!(ENETUNREACH) } else { err!(EINVAL) };
        }
        self.source = Some(ip);
        Ok(())
    }
}

/// `include/uapi/linux/in6.h`.
const IPV6_FLOWINFO: i32 = 11;

/// Exactly one int.
fn int(data: &[u8]) -> SysResult<i32> {
    Ok(i32::from_ne_bytes(data.try_into().map_err(|_| Errno::EINVAL)?))
}

fn byte(data: &[u8]) -> SysResult<u8> {
    Ok(u8::try_from(int(data)?).map_err(|_| Errno::EINVAL)?)
}

fn optional_byte(data: &[u8]) -> SysResult<Option<u8>> {
    if int(data)? == -1 { Ok(None) } else { byte(data).map(Some) }
}

/// The control messages about a datagram that the receiver's options ask for.
pub(super) fn describe(
    options: &InetOptions,
    family: i32,
    header: &Header,
    add: &mut dyn FnMut(i32, i32, &[u8]),
) {
    if family == libc::AF_INET6 && options.is_on(IPV6, libc::IPV6_RECVPKTINFO) {
        let to = match header.to {
            IpAddr::V4(to) => to.to_ipv6_mapped(),
            IpAddr::V6(to) => to,
        };
        let mut info = [0; 20];
        info[..16].copy_from_slice(&to.octets());
        info[16..].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
        add(IPV6, libc::IPV6_PKTINFO, &info);
    }
    let (hops, class) = (i32::from(header.hops), i32::from(header.class));
    match header.to {
        IpAddr::V4(to) => {
            if options.is_on(IP, libc::IP_PKTINFO) {
                let mut info = [0; 12];
                info[..4].copy_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
                info[4..8].copy_from_slice(&to.octets());
                info[8..].copy_from_slice(&to.octets());
                add(IP, libc::IP_PKTINFO, &info);
            }
            if options.is_on(IP, libc::IP_RECVTTL) {
                add(IP, libc::IP_TTL, hops.as_bytes());
            }
            if options.is_on(IP, libc::IP_RECVTOS) {
                add(IP, libc::IP_TOS, &[header.class]);
            }
        }
        IpAddr::V6(_) => {
            if options.is_on(IPV6, libc::IPV6_RECVHOPLIMIT) {
                add(IPV6, libc::IPV6_HOPLIMIT, hops.as_bytes());
            }
            if options.is_on(IPV6, libc::IPV6_RECVTCLASS) {
                add(IPV6, libc::IPV6_TCLASS, class.as_bytes());
            }
        }
    }
}
