//! The packets between launcher and sentry.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType,
};
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
        // By sendmsg(2), which sentry and gofer have to be allowed anyway.
        let (packet, mut no_files) = ([IoSlice::new(&packet)], SendAncillaryBuffer::default());
        let _ = rustix::net::sendmsg(socket, &packet, &mut no_files, SendFlags::NOSIGNAL);
    }
}

/// The next message; `None` when the peer is gone or talks nonsense.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd, flags: RecvFlags) -> Option<T> {
    let mut packet = vec![0; MAX_PACKET];
    let message = rustix::io::retry_on_intr(|| {
        let (mut to, mut no_files) =
            ([IoSliceMut::new(&mut packet)], RecvAncillaryBuffer::default());
        rustix::net::recvmsg(socket.as_fd(), &mut to, &mut no_files, flags)
    })
    .ok()?;
    serde_json::from_slice(packet.get(..message.bytes).filter(|packet| !packet.is_empty())?).ok()
}
