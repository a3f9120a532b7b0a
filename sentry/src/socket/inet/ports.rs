//! Who has which port (`inet_csk_get_port`, `udp_lib_get_port`).

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ranked_sync::Mutex;
use smallvec::SmallVec;

use super::address::Endpoint;
use crate::{Errno, lock_order};

/// Ports given to those who do not ask for one (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

/// How long a port stays taken after its connection was closed (`TCP_TIMEWAIT_LEN`).
const LINGER_NS: u64 = 60_000_000_000;
/// How many may be so at once; after that the oldest is freed early.
const MAX_LINGERING: usize = 4096;

/// A socket's hold on a port.
#[derive(Debug)]
pub(super) struct Binding<T> {
    pub(super) at: Endpoint,
    /// Bound to any IPv6 address: IPv4 is not meant.
    v6_only: bool,
    reuse_addr: bool,
    reuse_port: bool,
    user: u32,
    /// TCP: it listens, so the address cannot be shared.
    pub(super) listening: AtomicBool,
    owner: Weak<T>,
}

/// What a socket asks for.
pub(super) struct BindRequest<T> {
    pub(super) at: Endpoint,
    pub(super) v6_only: bool,
    pub(super) reuse_addr: bool,
    pub(super) reuse_port: bool,
    pub(super) user: u32,
    pub(super) owner: Weak<T>,
}

/// All ports of a protocol.
#[derive(Debug)]
pub(super) struct Ports<T>(Mutex<lock_order::SocketNames, PortMap<T>>);

type Holders<T> = SmallVec<[Arc<Binding<T>>; 1]>;

#[derive(Debug)]
struct PortMap<T> {
    holders: HashMap<u16, Holders<T>>,
    next: u16,
    /// Holds of connections that were closed from this side first, with the time they end
    /// (TIME_WAIT), oldest first.
    lingering: VecDeque<(u64, Arc<Binding<T>>)>,
}

impl<T> Default for Ports<T> {
    fn default() -> Self {
        let seed = platform::host::clock_monotonic_ns() as u16;
        Self(Mutex::new(PortMap {
            holders: HashMap::new(),
            next: seed,
            lingering: VecDeque::new(),
        }))
    }
}

impl<T> Binding<T> {
    /// Could a packet be for both?
    fn overlaps(&self, at: Endpoint, v6_only: bool) -> bool {
        covers(self.at.ip, self.v6_only, at.ip) || covers(at.ip, v6_only, self.at.ip)
    }

    /// Is a packet to `ip` for it? 2 when it is bound to just that address, 1 to any.
    pub(super) fn matches(&self, ip: IpAddr) -> Option<u32> {
        if self.at.ip == ip {
            Some(2)
        } else if covers(self.at.ip, self.v6_only, ip) {
            Some(1)
        } else {
            None
        }
    }
}

/// Does binding to `bound` take what comes for `ip`?
fn covers(bound: IpAddr, v6_only: bool, ip: IpAddr) -> bool {
    if bound == ip {
        return true;
    }
    match (bound, ip) {
        (IpAddr::V4(bound), IpAddr::V4(_)) => bound.is_unspecified(),
        (IpAddr::V6(bound), IpAddr::V6(_)) => bound.is_unspecified(),
        (IpAddr::V6(bound), IpAddr::V4(_)) => bound.is_unspecified() && !v6_only,
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

impl<T> Ports<T> {
    /// Takes a port: the one asked for, or for port 0 a free one. `EADDRINUSE`.
    pub(super) fn bind(&self, request: BindRequest<T>) -> Result<Arc<Binding<T>>, Errno> {
        let mut map = self.0.lock();
        map.end_lingering(MAX_LINGERING);
        let mut at = request.at;
        if at.port == 0 {
            at.port = map.free_port(&request).ok_or(Errno::EADDRINUSE)?;
        } else if map.conflicts(at.port, &request, false) {
            return Err(Errno::EADDRINUSE);
        }
        let binding = Arc::new(Binding {
            at,
            v6_only: request.v6_only,
            reuse_addr: request.reuse_addr,
            reuse_port: request.reuse_port,
            user: request.user,
            listening: AtomicBool::new(false),
            owner: request.owner,
        });
        map.holders.entry(at.port).or_default().push(binding.clone());
        Ok(binding)
    }

    /// Another hold on a port that is shared without question: an accepted socket's.
    pub(super) fn share(&self, request: BindRequest<T>) -> Arc<Binding<T>> {
        let binding = Arc::new(Binding {
            at: request.at,
            v6_only: request.v6_only,
            reuse_addr: request.reuse_addr,
            reuse_port: request.reuse_port,
            user: request.user,
            listening: AtomicBool::new(false),
            owner: request.owner,
        });
        self.0.lock().holders.entry(binding.at.port).or_default().push(binding.clone());
        binding
    }

    /// The holder listens from now on; `EADDRINUSE` when another that overlaps does.
    pub(super) fn listen(&self, binding: &Arc<Binding<T>>) -> Result<(), Errno> {
        let map = self.0.lock();
        let others = map.holders.get(&binding.at.port);
        let taken = others.into_iter().flatten().any(|other| {
            !Arc::ptr_eq(other, binding)
                && other.listening.load(Ordering::SeqCst)
                && other.overlaps(binding.at, binding.v6_only)
                && !(other.reuse_port && binding.reuse_port && other.user == binding.user)
        });
        if taken {
            return Err(Errno::EADDRINUSE);
        }
        binding.listening.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Gives a port back.
    pub(super) fn unbind(&self, binding: &Arc<Binding<T>>) {
        self.0.lock().remove(binding);
    }

    /// Gives a port back after TIME_WAIT.
    pub(super) fn unbind_later(&self, binding: Arc<Binding<T>>) {
        let mut map = self.0.lock();
        map.end_lingering(MAX_LINGERING - 1);
        let until = platform::host::clock_monotonic_ns().saturating_add(LINGER_NS);
        map.lingering.push_back((until, binding));
    }

    /// The socket to which something for `to` goes: that for which `score` is highest, among equals
    /// the one that `pick` chooses.
    pub(super) fn find(
        &self,
        to: Endpoint,
        pick: u64,
        score: impl Fn(&Binding<T>, &Arc<T>) -> Option<u32>,
    ) -> Option<Arc<T>> {
        let candidates: SmallVec<[Arc<Binding<T>>; 4]> =
            self.0.lock().holders.get(&to.port)?.iter().cloned().collect();
        let mut best = 0;
        let mut found: SmallVec<[(Arc<T>, bool); 4]> = SmallVec::new();
        for binding in &candidates {
            let Some(owner) = binding.owner.upgrade() else { continue };
            let Some(score) = score(binding, &owner) else { continue };
            if score > best {
                best = score;
                found.clear();
            }
            if score == best {
                found.push((owner, binding.reuse_port));
            }
        }
        // Those that share by SO_REUSEPORT take turns; else the last one bound has it.
        if found.len() > 1 && found.iter().all(|(_, shares)| *shares) {
            let index = (pick % found.len() as u64) as usize;
            return found.get(index).map(|(owner, _)| owner.clone());
        }
        found.pop().map(|(owner, _)| owner)
    }
}

impl<T> PortMap<T> {
    fn remove(&mut self, binding: &Arc<Binding<T>>) {
        if let Some(holders) = self.holders.get_mut(&binding.at.port) {
            holders.retain(|other| !Arc::ptr_eq(other, binding));
            if holders.is_empty() {
                self.holders.remove(&binding.at.port);
            }
        }
    }

    /// Frees the ports whose time is over, and the oldest beyond `max`.
    fn end_lingering(&mut self, max: usize) {
        let now = platform::host::clock_monotonic_ns();
        while let Some((until, binding)) = self.lingering.front() {
            if *until > now && self.lingering.len() <= max {
                break;
            }
            let binding = binding.clone();
            self.lingering.pop_front();
            self.remove(&binding);
        }
    }

    fn conflicts(&self, port: u16, request: &BindRequest<T>, strict: bool) -> bool {
        self.holders.get(&port).into_iter().flatten().any(|other| {
            if !other.overlaps(request.at, request.v6_only) {
                return false;
            }
            let listening = other.listening.load(Ordering::SeqCst);
            let by_addr = request.reuse_addr && other.reuse_addr && !listening;
            let by_port = request.reuse_port && other.reuse_port && request.user == other.user;
            strict || !(by_addr || by_port)
        })
    }

    fn free_port(&mut self, request: &BindRequest<T>) -> Option<u16> {
        let count = EPHEMERAL.end() - EPHEMERAL.start() + 1;
        // First a port of one's own; then one that may be shared.
        for strict in [true, false] {
            for _ in 0..count {
                self.next = self.next.wrapping_add(1);
                let port = EPHEMERAL.start() + self.next % count;
                if !self.conflicts(port, request, strict) {
                    return Some(port);
                }
            }
            if !request.reuse_addr && !request.reuse_port {
                break;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(owner: &Arc<()>, ip: &str, port: u16, reuse: bool) -> BindRequest<()> {
        BindRequest {
            at: Endpoint { ip: ip.parse().unwrap(), port },
            v6_only: false,
            reuse_addr: reuse,
            reuse_port: false,
            user: 0,
            owner: Arc::downgrade(owner),
        }
    }

    #[test]
    fn any_address_conflicts_with_each() {
        let (ports, owner) = (Ports::default(), Arc::new(()));
        let held = ports.bind(request(&owner, "0.0.0.0", 80, false)).unwrap();
        assert!(ports.bind(request(&owner, "127.0.0.1", 80, false)).is_err());
        assert!(ports.bind(request(&owner, "::", 80, false)).is_err(), "dual-stack");
        assert!(ports.bind(request(&owner, "::1", 80, false)).is_ok());
        ports.unbind(&held);
        assert!(ports.bind(request(&owner, "127.0.0.1", 80, false)).is_ok());
    }

    #[test]
    fn reuse_shares_with_those_that_do_not_listen() {
        let (ports, owner) = (Ports::default(), Arc::new(()));
        let held = ports.bind(request(&owner, "127.0.0.1", 80, true)).unwrap();
        assert!(ports.bind(request(&owner, "127.0.0.1", 80, false)).is_err());
        assert!(ports.bind(request(&owner, "127.0.0.1", 80, true)).is_ok());
        ports.listen(&held).unwrap();
        assert!(ports.bind(request(&owner, "127.0.0.1", 80, true)).is_err());
    }

    #[test]
    fn ephemeral_ports_differ() {
        let (ports, owner) = (Ports::default(), Arc::new(()));
        let a = ports.bind(request(&owner, "127.0.0.1", 0, false)).unwrap();
        let b = ports.bind(request(&owner, "127.0.0.1", 0, false)).unwrap();
        assert_ne!(a.at.port, b.at.port);
        assert!(EPHEMERAL.contains(&a.at.port));
    }
}
