//! Connecting to Unix sockets of the host, where the user shared them.

use std::os::fd::OwnedFd;

use gofer_wire::{FileType, SocketKind, TreePath};
use linux_abi::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as host_connect, socket_with,
};

use crate::{
    attr::{self, errno},
    tree::Tree,
};

/// A socket connected to the one at `path`.
pub(super) fn connect(tree: &Tree, path: TreePath<'_>, kind: SocketKind) -> Result<OwnedFd, Errno> {
    if !tree.config().sockets {
        return Err(Errno::EACCES);
    }
    let node = tree.node(path)?;
    // As connect(2) says for a path that is no socket.
    if attr::of(&node)?.file_type() != FileType::Socket {
        return Err(Errno::ECONNREFUSED);
    }
    let kind = match kind {
        SocketKind::Stream => SocketType::STREAM,
        SocketKind::Datagram => SocketType::DGRAM,
        SocketKind::SeqPacket => SocketType::SEQPACKET,
    };
    // Through the descriptor, so that neither the length of the path matters nor
    // who renames what meanwhile. Non-blocking while it connects: a full backlog
    // must not hold up the server; the client retries on EAGAIN.
    let address = SocketAddrUnix::new(tree.descriptor_path(&node)).map_err(errno)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None).map_err(errno)?;
    host_connect(&socket, &address).map_err(errno)?;
    Ok(socket)
}
