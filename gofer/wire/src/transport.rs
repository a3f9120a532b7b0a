//! Messages over a sequenced-packet socket.
//!
//! A message is cut into packets of at most [`MAX_FRAGMENT`] bytes, each behind
//! one byte that tells whether more follow. Descriptors travel with the first
//! packet. One call is under way on a socket at a time, so nothing needs numbers.

use std::{
    collections::VecDeque,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno as HostError,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
        sendmsg, socketpair,
    },
};

use crate::{MAX_FRAGMENT, MAX_OPEN, codec::Malformed};

/// The byte before a packet's content.
const LAST: u8 = 0;
const MORE: u8 = 1;

/// Two connected sockets of the kind that both halves expect.
///
/// # Errors
/// Those of socketpair(2).
pub fn socket_pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Descriptors that come with a message, and how many may.
#[derive(Debug, Default)]
pub struct Files {
    max: usize,
    got: VecDeque<OwnedFd>,
    is_cut: bool,
}

impl Files {
    /// Room for `max`, of [`MAX_OPEN`] at most.
    pub fn up_to(max: usize) -> Self {
        Self { max: max.min(MAX_OPEN), ..Self::default() }
    }

    /// The first of those that came and were not taken yet.
    pub fn take(&mut self) -> Option<OwnedFd> {
        self.got.pop_front()
    }

    /// Whether this process had no room in its table for some that were sent (RLIMIT_NOFILE).
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.got.is_empty()
    }
}

/// Sends one packet of a message. The message goes on if `more`. At most [`MAX_OPEN`] files go along.
///
/// # Errors
/// Those of sendmsg(2): `EPIPE` when the peer is gone.
pub fn send_fragment(
    socket: impl AsFd,
    content: &[u8],
    more: bool,
    files: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let flag = [if more { MORE } else { LAST }];
    let parts = [IoSlice::new(&flag), IoSlice::new(content)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_OPEN))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(HostError::INVAL);
    }
    loop {
        match sendmsg(socket.as_fd(), &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(HostError::INTR) => {}
            // A packet goes as a whole or not at all.
            other => return other.map(drop),
        }
    }
}

/// Sends a whole message.
///
/// # Errors
/// As [`send_fragment`].
pub fn send(
    socket: impl AsFd,
    message: &[u8],
    mut files: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    let mut rest = message;
    while let Some((head, tail)) = rest.split_at_checked(MAX_FRAGMENT)
        && !tail.is_empty()
    {
        send_fragment(socket.as_fd(), head, true, std::mem::take(&mut files))?;
        rest = tail;
    }
    send_fragment(socket, rest, false, files)
}

/// Why no message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// The peer closed the socket.
    Closed,
    /// recvmsg(2) failed.
    Host(HostError),
    /// The peer sent what it must not.
    Malformed(Malformed),
}

/// Holds the message received last; its room is used again.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    len: usize,
}

impl Inbox {
    /// Nothing received yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The message received last.
    pub fn message(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Waits for a message of at most `max` bytes. With `files`, as many descriptors as those have
    /// room for may come along; without, descriptors are dropped.
    ///
    /// # Errors
    /// See [`ReceiveError`]; nothing more can be received after any of them.
    pub fn receive(
        &mut self,
        socket: impl AsFd,
        max: usize,
        mut files: Option<&mut Files>,
    ) -> Result<(), ReceiveError> {
        // What one huge message needed is given back.
        if self.bytes.len() > 4 * MAX_FRAGMENT {
            self.bytes = Vec::new();
        }
        self.len = 0;
        loop {
            let (len, more) = self.receive_fragment(socket.as_fd(), files.take())?;
            self.len = self.len.saturating_add(len);
            if !more {
                return Ok(());
            }
            if len == 0 || self.len > max {
                return Err(ReceiveError::Malformed(Malformed("message too long")));
            }
        }
    }

    /// Receives one packet behind what is there; its length, and whether more follow.
    fn receive_fragment(
        &mut self,
        socket: BorrowedFd<'_>,
        files: Option<&mut Files>,
    ) -> Result<(usize, bool), ReceiveError> {
        let end = self.len.saturating_add(MAX_FRAGMENT);
        if self.bytes.is_empty() {
            // Pages that no message reaches are never touched this way.
            self.bytes = vec![0; end];
        } else if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let Some(room) = self.bytes.get_mut(self.len..end) else {
            return Err(ReceiveError::Malformed(Malformed("message too long")));
        };
        let mut flag = [0];
        // Room for one descriptor more than allowed is there to see it, and refuse.
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_OPEN + 1))];
        let mut control = match files {
            Some(_) => RecvAncillaryBuffer::new(&mut space),
            None => RecvAncillaryBuffer::new(&mut []),
        };
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut flag), IoSliceMut::new(room)];
            match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(HostError::INTR) => {}
                Err(HostError::CONNRESET) => return Err(ReceiveError::Closed),
                other => break other.map_err(ReceiveError::Host)?,
            }
        };
        // What is not kept is closed by being dropped.
        let mut got = VecDeque::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                got.extend(descriptors);
            }
        }
        let too_many = files.as_ref().is_some_and(|files| got.len() > files.max);
        if let (Some(files), false) = (files, too_many) {
            files.got = got;
            files.is_cut = received.flags.contains(ReturnFlags::CTRUNC);
        }
        let Some(len) = received.bytes.checked_sub(1) else { return Err(ReceiveError::Closed) };
        if too_many || received.flags.contains(ReturnFlags::TRUNC) {
            return Err(ReceiveError::Malformed(Malformed("more than was announced")));
        }
        match flag {
            [LAST] => Ok((len, false)),
            [MORE] => Ok((len, true)),
            _ => Err(ReceiveError::Malformed(Malformed("packet flag"))),
        }
    }
}
