//! What all sockets have: type, options of SOL_SOCKET, the pending error, waiters.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::buffer::SendMemory;
use crate::{
    kernel::{Credentials, Kernel},
    lock_order,
    time::Monotonic,
    wait::{EventMask, WaitQueue},
};

/// `net.core.wmem_default`, `rmem_default`, and their maxima for setsockopt.
pub const DEFAULT_BUFFER: i32 = 212_992;
pub const MAX_BUFFER: i32 = 212_992;

/// Which directions shutdown(2) closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub read: bool,
    pub write: bool,
}

impl Shutdown {
    pub const NONE: Self = Self { read: false, write: false };
    pub const BOTH: Self = Self { read: true, write: true };

    /// SHUT_RD, SHUT_WR or SHUT_RDWR.
    pub fn from_how(how: i32) -> Option<Self> {
        Some(match how {
            libc::SHUT_RD => Self { read: true, write: false },
            libc::SHUT_WR => Self { read: false, write: true },
            libc::SHUT_RDWR => Self::BOTH,
            _ => return None,
        })
    }

    pub fn union(self, other: Self) -> Self {
        Self { read: self.read | other.read, write: self.write | other.write }
    }
}

/// The options that are only a switch, and do nothing by themselves here.
#[derive(Debug, Default)]
pub struct Switches {
    pub reuse_addr: AtomicBool,
    pub reuse_port: AtomicBool,
    pub keep_alive: AtomicBool,
    pub broadcast: AtomicBool,
    pub oob_inline: AtomicBool,
    pub dont_route: AtomicBool,
    pub no_check: AtomicBool,
    pub pass_cred: AtomicBool,
    pub timestamp: AtomicBool,
    pub timestamp_ns: AtomicBool,
    pub rxq_overflow: AtomicBool,
    pub busy_poll: AtomicBool,
}

/// The shared part of every socket.
#[derive(Debug)]
pub struct Common {
    pub family: i32,
    pub kind: i32,
    pub protocol: i32,
    pub kernel: Arc<Kernel>,
    /// Who made it.
    pub cred: Arc<Credentials>,
    /// Tasks that wait for anything to change.
    pub queue: WaitQueue,
    pub switches: Switches,
    /// What it has sent and no one has read, and SO_SNDBUF.
    pub send_memory: Arc<SendMemory>,
    /// SO_RCVBUF: in bytes, doubled as setsockopt(2) does.
    pub receive_buffer: AtomicI32,
    pub receive_low: AtomicI32,
    pub priority: AtomicI32,
    pub mark: AtomicU32,
    /// Seconds; -1: off.
    pub linger: AtomicI32,
    /// Nanoseconds; 0: none.
    send_timeout: AtomicU64,
    receive_timeout: AtomicU64,
    /// What SO_ERROR reports once.
    error: AtomicI32,
    inode: AtomicU64,
    /// SO_PEERCRED and SO_PEERGROUPS: the peer's pid and credentials, once connected.
    pub peer: Mutex<lock_order::Leaf, Option<(i32, Arc<Credentials>)>>,
}

impl Common {
    pub fn new(
        kernel: Arc<Kernel>,
        cred: Arc<Credentials>,
        family: i32,
        kind: i32,
        protocol: i32,
    ) -> Self {
        let queue = WaitQueue::new();
        Self {
            family,
            kind,
            protocol,
            kernel,
            cred,
            send_memory: SendMemory::new(queue.clone(), DEFAULT_BUFFER as usize),
            queue,
            switches: Switches::default(),
            receive_buffer: AtomicI32::new(DEFAULT_BUFFER),
            receive_low: AtomicI32::new(1),
            priority: AtomicI32::new(0),
            mark: AtomicU32::new(0),
            linger: AtomicI32::new(-1),
            send_timeout: AtomicU64::new(0),
            receive_timeout: AtomicU64::new(0),
            error: AtomicI32::new(0),
            inode: AtomicU64::new(0),
            peer: Mutex::new(None),
        }
    }

    /// Takes over what an accepted socket has of its listener.
    pub fn inherit(&self, listener: &Self) {
        let (to, from) = (&self.switches, &listener.switches);
        for (to, from) in [
            (&to.keep_alive, &from.keep_alive),
            (&to.reuse_addr, &from.reuse_addr),
            (&to.reuse_port, &from.reuse_port),
            (&to.oob_inline, &from.oob_inline),
            (&to.pass_cred, &from.pass_cred),
            (&to.timestamp, &from.timestamp),
        ] {
            to.store(from.load(Relaxed), Relaxed);
        }
        self.send_memory.set_limit(listener.send_memory.limit());
        self.receive_buffer.store(listener.receive_buffer.load(Relaxed), Relaxed);
        self.linger.store(listener.linger.load(Relaxed), Relaxed);
    }

    pub fn set_inode(&self, number: u64) {
        self.inode.store(number, Relaxed);
    }

    /// The inode number, once it has a descriptor: for /proc/net.
    pub fn inode(&self) -> u64 {
        self.inode.load(Relaxed)
    }

    /// Leaves an error for the next call, or SO_ERROR.
    pub fn set_error(&self, errno: Errno) {
        self.error.store(errno.raw(), Relaxed);
    }

    /// Takes the pending error.
    pub fn take_error(&self) -> Option<Errno> {
        if self.error.load(Relaxed) == 0 {
            return None;
        }
        match self.error.swap(0, Relaxed) {
            0 => None,
            raw => Some(Errno::from_raw(raw)),
        }
    }

    pub fn has_error(&self) -> bool {
        self.error.load(Relaxed) != 0
    }

    /// SO_RCVTIMEO or SO_SNDTIMEO in nanoseconds; 0 for none.
    pub fn timeout_ns(&self, send: bool) -> &AtomicU64 {
        if send { &self.send_timeout } else { &self.receive_timeout }
    }

    /// IPv4 or IPv6.
    pub fn is_internet(&self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
    }

    /// How long an operation that waits for `events` may wait, in nanoseconds.
    pub fn wait_limit(&self, events: EventMask) -> Option<u64> {
        let ns = self.timeout_ns(events.contains(EventMask::OUT)).load(Relaxed);
        (ns != 0).then_some(ns)
    }

    /// As [`Self::wait_limit`], as a deadline from now.
    pub fn deadline(&self, events: EventMask) -> Option<Monotonic> {
        self.wait_limit(events).map(|ns| self.kernel.clocks.monotonic().after(ns))
    }

    pub fn passes_credentials(&self) -> bool {
        self.switches.pass_cred.load(Relaxed)
    }
}
