//! One socket: requests in, replies out, one after the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gofer_wire::{
    MAX_FRAGMENT, MAX_REQUEST,
    codec::{Wire, Writer},
    reply::encode_status,
    request::Request,
    transport::{Inbox, send, send_fragment},
};
use linux_abi::Errno;
use rustix::io::Errno as HostError;

use crate::{handlers, server::Server};

/// A reply in the making.
#[derive(Debug)]
pub(crate) struct Reply<'s> {
    socket: BorrowedFd<'s>,
    out: Writer,
    file: Option<OwnedFd>,
    /// A first packet is out: the status can no longer be changed.
    begun: bool,
}

impl Reply<'_> {
    /// Appends to the body.
    pub(crate) fn put(&mut self, value: &impl Wire) {
        value.encode(&mut self.out);
    }

    /// Appends bytes with their length.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.out.bytes(bytes);
    }

    /// Donates a descriptor: at most one for each reply.
    pub(crate) fn donate(&mut self, file: OwnedFd) {
        self.file = Some(file);
    }

    /// Sends what fills a packet, so that a long reply needs little room here.
    ///
    /// # Errors
    /// `EPIPE`: the client does not want it any more.
    pub(crate) fn flush_full(&mut self) -> Result<(), Errno> {
        while self.out.len() > MAX_FRAGMENT {
            let full = self.out.as_bytes().get(..MAX_FRAGMENT).unwrap_or_default();
            send_fragment(self.socket, full, true, None).map_err(|_| Errno::EPIPE)?;
            self.out.discard(MAX_FRAGMENT);
            self.begun = true;
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.out.clear();
        self.file = None;
        self.begun = false;
        encode_status(&mut self.out, None);
    }

    fn fail(&mut self, errno: Errno) {
        self.out.clear();
        self.file = None;
        encode_status(&mut self.out, Some(errno));
    }

    /// Sends the reply, or what is left of it. False: the client is gone.
    fn finish(&mut self) -> bool {
        let file = self.file.take();
        match send(self.socket, self.out.as_bytes(), file.as_ref().map(AsFd::as_fd)) {
            Ok(()) => true,
            // The descriptor cannot be passed, as too many are on their way: the
            // client gets to know. A socket that is gone fails again at once.
            Err(HostError::TOOMANYREFS | HostError::NOMEM | HostError::NOBUFS)
                if file.is_some() =>
            {
                self.fail(Errno::ENFILE);
                send(self.socket, self.out.as_bytes(), None).is_ok()
            }
            Err(_) => false,
        }
    }
}

/// Serves `socket` until the client closes it or breaks the framing.
pub(crate) fn serve(server: &Server, socket: &OwnedFd) {
    let mut inbox = Inbox::new();
    let mut reply = Reply { socket: socket.as_fd(), out: Writer::new(), file: None, begun: false };
    while inbox.receive(socket, MAX_REQUEST, None).is_ok() {
        reply.begin();
        let result = match Request::decode(inbox.message()) {
            Ok(request) => handlers::handle(server, &request, &mut reply),
            Err(bad) => Err(bad.0),
        };
        match result {
            Ok(()) => {}
            Err(_) if reply.begun => return,
            Err(errno) => reply.fail(errno),
        }
        if !reply.finish() {
            return;
        }
    }
}
