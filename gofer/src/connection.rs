//! One socket: requests in, replies out, one after the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gofer_wire::{
    Attr, FileType, MAX_FRAGMENT, MAX_REQUEST,
    codec::{Wire, Writer},
    reply::{encode_status, put_dir_entry},
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
    files: Vec<OwnedFd>,
    /// A first packet is out: the status can no longer be changed.
    begun: bool,
}

impl Reply<'_> {
    /// Appends to the body.
    pub(crate) fn put(&mut self, value: &impl Wire) {
        value.encode(&mut self.out);
    }

    /// Appends a truth value.
    pub(crate) fn put_bool(&mut self, value: bool) {
        self.out.bool(value);
    }

    /// Appends an entry of a directory.
    pub(crate) fn put_entry(&mut self, name: &[u8], ino: u64, kind: FileType, attr: Option<&Attr>) {
        put_dir_entry(&mut self.out, name, ino, kind, attr);
    }

    /// Appends a value, or that there is none.
    pub(crate) fn put_option<T: Wire>(&mut self, value: Option<&T>) {
        self.out.option(value, |out, value| value.encode(out));
    }

    /// Appends bytes with their length.
    pub(crate) fn put_bytes(&mut self, bytes: &[u8]) {
        self.out.bytes(bytes);
    }

    /// Donates a descriptor: as many as the request asks for, at most.
    pub(crate) fn donate(&mut self, file: OwnedFd) {
        self.files.push(file);
    }

    /// Sends what fills a packet, so that a long reply needs little room here.
    ///
    /// # Errors
    /// `EPIPE`: the client does not want it any more.
    pub(crate) fn flush_full(&mut self) -> Result<(), Errno> {
        while self.out.len() > MAX_FRAGMENT {
            let full = self.out.as_bytes().get(..MAX_FRAGMENT).unwrap_or_default();
            send_fragment(self.socket, full, true, &[]).map_err(|_| Errno::EPIPE)?;
            self.out.discard(MAX_FRAGMENT);
            self.begun = true;
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.out.clear();
        self.files.clear();
        self.begun = false;
        encode_status(&mut self.out, None);
    }

    fn fail(&mut self, errno: Errno) {
        self.out.clear();
        self.files.clear();
        encode_status(&mut self.out, Some(errno));
    }

    /// Sends the reply, or what is left of it. False: the client is gone.
    fn finish(&mut self) -> bool {
        let files = std::mem::take(&mut self.files);
        let donated: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        match send(self.socket, self.out.as_bytes(), &donated) {
            Ok(()) => true,
            // The descriptor cannot be passed, as too many are on their way: the
            // client gets to know. A socket that is gone fails again at once.
            Err(HostError::TOOMANYREFS | HostError::NOMEM | HostError::NOBUFS)
                if !donated.is_empty() =>
            {
                self.fail(Errno::ENFILE);
                send(self.socket, self.out.as_bytes(), &[]).is_ok()
            }
            Err(_) => false,
        }
    }
}

/// Serves `socket` until the client closes it or breaks the framing.
pub(crate) fn serve(server: &Server, socket: &OwnedFd) {
    let mut inbox = Inbox::new();
    let mut reply =
        Reply { socket: socket.as_fd(), out: Writer::new(), files: Vec::new(), begun: false };
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
