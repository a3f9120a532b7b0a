//! `/proc/net`: the one network namespace of a sandbox.

use std::sync::Arc;

use super::{Builder, Show, put};
use crate::{SysResult, fs::pseudo::FixedEntries, kernel::Kernel, vfs::Inode};

const FILES: &[(&str, Show)] = &[
    ("arp", arp),
    ("dev", dev),
    ("dev_mcast", nothing),
    ("icmp", udp),
    ("if_inet6", if_inet6),
    ("igmp", igmp),
    ("ipv6_route", ipv6_route),
    ("netlink", netlink),
    ("netstat", netstat),
    ("packet", packet),
    ("protocols", protocols),
    ("psched", psched),
    ("ptype", ptype),
    ("raw", udp),
    ("raw6", udp6),
    ("route", route),
    ("rt_cache", nothing),
    ("snmp", snmp),
    ("snmp6", nothing),
    ("sockstat", sockstat),
    ("sockstat6", sockstat6),
    ("softnet_stat", nothing),
    ("tcp", tcp),
    ("tcp6", tcp6),
    ("udp", udp),
    ("udp6", udp6),
    ("udplite", udp),
    ("udplite6", udp6),
    ("unix", unix),
];

/// The directory.
pub(super) fn directory(builder: &Builder) -> Arc<dyn Inode> {
    let mut entries = FixedEntries::new();
    for &(name, show) in FILES {
        entries.add(name, builder.show(0o444, show));
    }
    builder.tree.dir(entries)
}

fn nothing(_: &Kernel, _: &mut Vec<u8>) -> SysResult<()> {
    Ok(())
}

fn arp(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "IP address       HW type     Flags       HW address            Mask     Device\n");
    Ok(())
}

fn dev(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls \
         carrier compressed\n"
    );
    put!(
        out,
        "    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n"
    );
    Ok(())
}

fn if_inet6(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "00000000000000000000000000000001 01 80 10 80       lo\n");
    Ok(())
}

fn igmp(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n");
    put!(out, "1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n");
    Ok(())
}

fn ipv6_route(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let (zero, one) = ("0".repeat(32), format!("{}1", "0".repeat(31)));
    put!(out, "{one} 80 {zero} 00 {zero} 00000000 00000003 00000000 80200001       lo\n");
    Ok(())
}

fn netlink(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
    );
    Ok(())
}

/// A header line and a line of zeros for each group of counters.
fn counters(out: &mut Vec<u8>, group: &str, names: &str, values: &[(&str, i64)]) {
    put!(out, "{group}: {names}\n{group}:");
    for name in names.split(' ') {
        let value = values.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
        put!(out, " {value}");
    }
    put!(out, "\n");
}

fn snmp(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    counters(
        out,
        "Ip",
        "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards \
         InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs \
         FragFails FragCreates OutTransmits",
        &[("Forwarding", 2), ("DefaultTTL", 64)],
    );
    counters(
        out,
        "Icmp",
        "InMsgs InErrors InCsumErrors InDestUnreachs OutMsgs OutErrors OutDestUnreachs",
        &[],
    );
    counters(
        out,
        "Tcp",
        "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab InSegs \
         OutSegs RetransSegs InErrs OutRsts InCsumErrors",
        &[("RtoAlgorithm", 1), ("RtoMin", 200), ("RtoMax", 120_000), ("MaxConn", -1)],
    );
    for group in ["Udp", "UdpLite"] {
        let names = "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors \
                     IgnoredMulti MemErrors";
        counters(out, group, names, &[]);
    }
    Ok(())
}

fn netstat(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    counters(
        out,
        "TcpExt",
        "SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows ListenDrops",
        &[],
    );
    counters(out, "IpExt", "InNoRoutes InTruncatedPkts InOctets OutOctets", &[]);
    Ok(())
}

fn packet(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n");
    Ok(())
}

fn protocols(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re bi br \
         ha uh gp em\n"
    );
    Ok(())
}

fn psched(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "000003e8 00000040 000f4240 3b9aca00\n");
    Ok(())
}

fn ptype(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "Type Device      Function\n");
    Ok(())
}

fn route(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let header =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    put!(out, "{header:<127}\n");
    Ok(())
}

fn sockstat(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\nUDPLITE: inuse 0\n\
         RAW: inuse 0\nFRAG: inuse 0 memory 0\n"
    );
    Ok(())
}

fn sockstat6(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\nFRAG6: inuse 0 memory 0\n"
    );
    Ok(())
}

fn tcp(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    put!(out, "{header:<149}\n");
    Ok(())
}

fn tcp6(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "  sl  local_address                         remote_address                        st tx_queue rx_queue \
         tr tm->when retrnsmt   uid  timeout inode\n"
    );
    Ok(())
}

fn udp(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    let header = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref \
                  pointer drops";
    put!(out, "{header:<127}\n");
    Ok(())
}

fn udp6(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(
        out,
        "  sl  local_address                         remote_address                        st tx_queue rx_queue \
         tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
    );
    Ok(())
}

fn unix(_: &Kernel, out: &mut Vec<u8>) -> SysResult<()> {
    put!(out, "Num       RefCount Protocol Flags    Type St Inode Path\n");
    Ok(())
}
