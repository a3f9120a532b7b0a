//! Options of the levels IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP and IPPROTO_UDP (ip(7), ipv6(7),
//! tcp(7), udp(7)).
//!
//! Between sockets without packets most of them have nothing to change: they keep their value.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use ranked_sync::Mutex;
use zerocopy::IntoBytes;

use crate::{
    Errno, SysResult, err,
    kernel::CurrentTask,
    lock_order,
    socket::{Common, options::int},
};

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const TCP: i32 = libc::IPPROTO_TCP;
const UDP: i32 = libc::IPPROTO_UDP;
const UDPLITE: i32 = libc::IPPROTO_UDPLITE;
/// The MTU of `lo`.
const LOOPBACK_MTU: i32 = 65_536;

/// How many bytes of a datagram the sender's checksum covers, and how many the receiver insists on
/// (udplite(7)); 0 is all.
const UDPLITE_SEND_CSCOV: i32 = 10;
const UDPLITE_RECV_CSCOV: i32 = 11;

/// Level, name, default, least, most.
type IntOption = (i32, i32, i32, i32, i32);

#[rustfmt::skip]
const INT_OPTIONS: &[IntOption] = &[
    (TCP, libc::TCP_NODELAY, 0, 0, 1),
    (TCP, libc::TCP_CORK, 0, 0, 1),
    (TCP, libc::TCP_QUICKACK, 1, 0, 1),
    (TCP, libc::TCP_MAXSEG, 536, 88, 32_767),
    (TCP, libc::TCP_KEEPIDLE, 7200, 1, 32_767),
    (TCP, libc::TCP_KEEPINTVL, 75, 1, 32_767),
    (TCP, libc::TCP_KEEPCNT, 9, 1, 127),
    (TCP, libc::TCP_SYNCNT, 6, 1, 127),
    (TCP, libc::TCP_LINGER2, 60, i32::MIN, i32::MAX),
    (TCP, libc::TCP_DEFER_ACCEPT, 0, 0, i32::MAX),
    (TCP, libc::TCP_WINDOW_CLAMP, 0, 0, i32::MAX),
    (TCP, libc::TCP_USER_TIMEOUT, 0, 0, i32::MAX),
    (TCP, libc::TCP_FASTOPEN, 0, 0, i32::MAX),
    (TCP, libc::TCP_FASTOPEN_CONNECT, 0, 0, 1),
    (TCP, libc::TCP_TIMESTAMP, 0, i32::MIN, i32::MAX),
    (TCP, libc::TCP_NOTSENT_LOWAT, -1, i32::MIN, i32::MAX),
    (TCP, libc::TCP_THIN_LINEAR_TIMEOUTS, 0, 0, 1),
    (TCP, libc::TCP_INQ, 0, 0, 1),
    (UDP, libc::UDP_CORK, 0, 0, 1),
    (UDP, libc::UDP_SEGMENT, 0, 0, 65_535),
    (UDP, libc::UDP_GRO, 0, 0, 1),
    (UDPLITE, UDPLITE_SEND_CSCOV, 0, 0, 65_535),
    (UDPLITE, UDPLITE_RECV_CSCOV, 0, 0, 65_535),
    (IP, libc::IP_TOS, 0, 0, 255),
    (IP, libc::IP_TTL, 64, 1, 255),
    (IP, libc::IP_HDRINCL, 0, 0, 1),
    (IP, libc::IP_RECVOPTS, 0, 0, 1),
    (IP, libc::IP_RETOPTS, 0, 0, 1),
    (IP, libc::IP_PKTINFO, 0, 0, 1),
    (IP, libc::IP_MTU_DISCOVER, 1, 0, 5),
    (IP, libc::IP_RECVERR, 0, 0, 1),
    (IP, libc::IP_RECVTTL, 0, 0, 1),
    (IP, libc::IP_RECVTOS, 0, 0, 1),
    (IP, libc::IP_RECVORIGDSTADDR, 0, 0, 1),
    (IP, libc::IP_FREEBIND, 0, 0, 1),
    (IP, libc::IP_BIND_ADDRESS_NO_PORT, 0, 0, 1),
    (IP, libc::IP_MULTICAST_TTL, 1, 0, 255),
    (IP, libc::IP_MULTICAST_LOOP, 1, 0, 1),
    (IP, libc::IP_MULTICAST_ALL, 1, 0, 1),
    (IP, libc::IP_MINTTL, 0, 0, 255),
    (IPV6, libc::IPV6_V6ONLY, 0, 0, 1),
    (IPV6, libc::IPV6_UNICAST_HOPS, 64, 0, 255),
    (IPV6, libc::IPV6_MULTICAST_HOPS, 1, 0, 255),
    (IPV6, libc::IPV6_MULTICAST_LOOP, 1, 0, 1),
    (IPV6, libc::IPV6_MULTICAST_ALL, 1, 0, 1),
    (IPV6, libc::IPV6_MTU_DISCOVER, 1, 0, 5),
    (IPV6, libc::IPV6_RECVERR, 0, 0, 1),
    (IPV6, libc::IPV6_RECVPKTINFO, 0, 0, 1),
    (IPV6, libc::IPV6_RECVHOPLIMIT, 0, 0, 1),
    (IPV6, libc::IPV6_RECVTCLASS, 0, 0, 1),
    (IPV6, libc::IPV6_TCLASS, 0, 0, 255),
    (IPV6, libc::IPV6_DONTFRAG, 0, 0, 1),
    (IPV6, libc::IPV6_FREEBIND, 0, 0, 1),
    (IPV6, libc::IPV6_AUTOFLOWLABEL, 1, 0, 1),
];

/// Bytes of a UDP or UDP-Lite header.
const UDP_HEADER: usize = 8;

/// Those for which -1 means the default.
const RESETTABLE: &[(i32, i32)] = &[
    (IP, libc::IP_TTL),
    (IP, libc::IP_MULTICAST_TTL),
    (IPV6, libc::IPV6_UNICAST_HOPS),
    (IPV6, libc::IPV6_MULTICAST_HOPS),
    (IPV6, libc::IPV6_TCLASS),
];

/// The options of one socket.
#[derive(Debug)]
pub(super) struct InetOptions {
    family: i32,
    v6_only: AtomicBool,
    /// Only those that were set.
    ints: Mutex<lock_order::Leaf, BTreeMap<(i32, i32), i32>>,
}

fn known((level, name): (i32, i32)) -> Option<&'static IntOption> {
    INT_OPTIONS.iter().find(|option| option.0 == level && option.1 == name)
}

impl InetOptions {
    pub(super) fn new(family: i32) -> Self {
        Self { family, v6_only: AtomicBool::new(false), ints: Mutex::default() }
    }

    /// An accepted socket has its listener's.
    pub(super) fn inherit(&self, from: &Self) {
        let ints = from.ints.lock().clone();
        *self.ints.lock() = ints;
        self.v6_only.store(from.v6_only.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn is_v6_only(&self) -> bool {
        self.v6_only.load(Ordering::Relaxed)
    }

    fn value(&self, key: (i32, i32)) -> Option<i32> {
        let option = known(key)?;
        Some(self.ints.lock().get(&key).copied().unwrap_or(option.2))
    }

    pub(super) fn is_on(&self, level: i32, name: i32) -> bool {
        self.value((level, name)).unwrap_or(0) != 0
    }

    /// IP_RECVERR, IPV6_RECVERR.
    pub(super) fn wants_errors(&self) -> bool {
        self.is_on(IP, libc::IP_RECVERR) || self.is_on(IPV6, libc::IPV6_RECVERR)
    }

    /// The hop limit and the class of what is sent to a host of that kind.
    pub(super) fn hops_and_class(&self, v4: bool) -> (u8, u8) {
        let keys = match v4 {
            true => [(IP, libc::IP_TTL), (IP, libc::IP_TOS)],
            false => [(IPV6, libc::IPV6_UNICAST_HOPS), (IPV6, libc::IPV6_TCLASS)],
        };
        // The range of each of them is that of a byte.
        let [hops, class] = keys.map(|key| self.value(key).unwrap_or(0) as u8);
        (hops, class)
    }

    /// The bytes that the checksum of a UDP-Lite datagram of `len` bytes covers, header included, when
    /// that is not all (`udplite_sender_cscov`).
    pub(super) fn partial_coverage(&self, len: usize) -> Option<i32> {
        let covered = self.value((UDPLITE, UDPLITE_SEND_CSCOV)).filter(|&covered| covered > 0)?;
        (usize::try_from(covered).ok()? < len + UDP_HEADER).then_some(covered)
    }

    /// Does this receiver take a datagram whose checksum covers only so much? One who named no length
    /// takes any, one who named 0 none (`udp_queue_rcv_one_skb`).
    pub(super) fn takes_coverage(&self, covered: i32) -> bool {
        let wanted = self.ints.lock().get(&(UDPLITE, UDPLITE_RECV_CSCOV)).copied();
        wanted.is_none_or(|wanted| wanted != 0 && covered >= wanted)
    }

    /// Does this socket have options of that level?
    fn has_level(&self, common: &Common, level: i32) -> bool {
        match level {
            IP => true,
            IPV6 => self.family == libc::AF_INET6,
            TCP => common.kind == libc::SOCK_STREAM,
            UDP => common.kind == libc::SOCK_DGRAM,
            UDPLITE => common.protocol == UDPLITE,
            _ => false,
        }
    }

    pub(super) fn set(
        &self,
        _task: &CurrentTask,
        common: &Common,
        key: (i32, i32),
        value: &[u8],
        bound: bool,
    ) -> SysResult<()> {
        if !self.has_level(common, key.0) {
            return err!(ENOPROTOOPT);
        }
        match key {
            (TCP, libc::TCP_CONGESTION) => return set_congestion(value),
            (IP, libc::IP_OPTIONS) => return if value.is_empty() { Ok(()) } else { err!(EINVAL) },
            (IP, libc::IP_ADD_MEMBERSHIP | libc::IP_DROP_MEMBERSHIP | libc::IP_MULTICAST_IF) => {
                return if value.len() < 4 { err!(EINVAL) } else { Ok(()) };
            }
            (IPV6, libc::IPV6_ADD_MEMBERSHIP | libc::IPV6_DROP_MEMBERSHIP) => {
                return if value.len() < 20 { err!(EINVAL) } else { Ok(()) };
            }
            (IPV6, libc::IPV6_MULTICAST_IF) => return int(value).map(drop),
            (IP | IPV6, libc::MCAST_JOIN_GROUP | libc::MCAST_LEAVE_GROUP) => return Ok(()),
            _ => {}
        }
        let option = known(key).ok_or(Errno::ENOPROTOOPT)?;
        // IP options may be given as single bytes.
        let given = match value {
            [byte] if key.0 == IP => i32::from(*byte),
            _ => int(value)?,
        };
        if key == (IPV6, libc::IPV6_V6ONLY) {
            if bound {
                return err!(EINVAL);
            }
            self.v6_only.store(given != 0, Ordering::Relaxed);
        }
        if given == -1 && RESETTABLE.contains(&key) {
            self.ints.lock().remove(&key);
            return Ok(());
        }
        // What the header takes is always covered.
        let given = if key.0 == UDPLITE && given != 0 {
            if given < UDP_HEADER as i32 { UDP_HEADER as i32 } else { given.min(option.4) }
        } else {
            given
        };
        let given = if (option.3, option.4) == (0, 1) { i32::from(given != 0) } else { given };
        // The type of service is cut, not refused.
        let given = if key == (IP, libc::IP_TOS) { given & 0xff } else { given };
        if !(option.3..=option.4).contains(&given) {
            return err!(EINVAL);
        }
        self.ints.lock().insert(key, given);
        Ok(())
    }

    pub(super) fn get(&self, common: &Common, key: (i32, i32)) -> SysResult<Vec<u8>> {
        if key.0 == libc::SOL_SOCKET || !self.has_level(common, key.0) {
            return err!(ENOPROTOOPT);
        }
        match key {
            (TCP, libc::TCP_CONGESTION) => return Ok(b"cubic\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
            (IP, libc::IP_OPTIONS) => return Ok(Vec::new()),
            (IP, libc::IP_MTU) | (IPV6, libc::IPV6_MTU) => {
                return Ok(LOOPBACK_MTU.as_bytes().to_vec());
            }
            (IP, libc::IP_MULTICAST_IF) => return Ok(vec![0; 4]),
            (IPV6, libc::IPV6_MULTICAST_IF) => return Ok(0_i32.as_bytes().to_vec()),
            (TCP, libc::TCP_MAXSEG) if common.inode() != 0 => {
                let value = self.value(key).unwrap_or(536);
                return Ok(value.as_bytes().to_vec());
            }
            _ => {}
        }
        let value = self.value(key).ok_or(Errno::ENOPROTOOPT)?;
        Ok(value.as_bytes().to_vec())
    }
}

/// TCP_CONGESTION: there is one algorithm by each of these names.
fn set_congestion(value: &[u8]) -> SysResult<()> {
    let name = value.split(|&byte| byte == 0).next().unwrap_or(&[]);
    if matches!(name, b"cubic" | b"reno") { Ok(()) } else { err!(ENOENT) }
}
