//! The packets between launcher and sentry.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use serde::{Serialize, de::DeserializeOwned};

/// Larger than any message.
const MAX_PACKET: usize = 16 << 10;

/// The two ends of a control channel.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("cannot make a control socket")
}

/// Sends one message; a peer that is gone is no error here.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T) {
    if let Ok(packet) = serde_json::to_vec(message) {
        let _ = rustix::net::send(socket, &packet, SendFlags::NOSIGNAL);
    }
}

/// The next message; `None` when the peer is gone or talks nonsense.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd, flags: RecvFlags) -> Option<T> {
    let mut packet = vec![0; MAX_PACKET];
    let (len, _) = rustix::io::retry_on_intr(|| {
        rustix::net::recv(socket.as_fd(), packet.as_mut_slice(), flags)
    })
    .ok()?;
    serde_json::from_slice(packet.get(..len).filter(|packet| !packet.is_empty())?).ok()
}
