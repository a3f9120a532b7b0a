//! What sendmsg(2) and recvmsg(2) carry besides the bytes.

use std::{any::Any, sync::Arc};

use linux_abi::socket::Ucred;
use smallvec::SmallVec;

use super::SockAddr;
use crate::{
    kernel,
    vfs::{FileDescription, IoDst, IoSrc},
};

/// MSG_* bits as the guest gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MsgFlags(pub i32);

impl MsgFlags {
    pub fn has(self, flag: i32) -> bool {
        self.0 & flag != 0
    }
}

/// A control message to be given to the receiver.
#[derive(Clone, Debug)]
pub enum Control {
    /// SCM_RIGHTS.
    Rights(Vec<Arc<FileDescription>>),
    /// SCM_CREDENTIALS.
    Credentials(Ucred),
    /// Anything else: level, type, data.
    Raw(i32, i32, SmallVec<[u8; 32]>),
}

/// Level, type and data of a control message.
pub type RawControl = (i32, i32, SmallVec<[u8; 32]>);

/// A message on its way out.
#[derive(Debug)]
pub struct SendMsg<'a, 'b> {
    pub src: &'a mut IoSrc<'b>,
    pub to: Option<SockAddr>,
    /// `to`, looked up by `prepare_send`.
    pub target: Option<Arc<dyn Any + Send + Sync>>,
    pub flags: MsgFlags,
    /// Files to pass; taken by the first byte that is sent.
    pub rights: Vec<Arc<FileDescription>>,
    /// Credentials the sender gave; checked already.
    pub credentials: Option<Ucred>,
    /// Control messages of other levels.
    pub raw: SmallVec<[RawControl; 1]>,
}

impl<'a, 'b> SendMsg<'a, 'b> {
    /// As from write(2).
    pub fn plain(src: &'a mut IoSrc<'b>) -> Self {
        Self {
            src,
            to: None,
            target: None,
            flags: MsgFlags(0),
            rights: Vec::new(),
            credentials: None,
            raw: SmallVec::new(),
        }
    }
}

/// A message on its way in.
#[derive(Debug)]
pub struct RecvMsg<'a, 'b> {
    pub dst: &'a mut IoDst<'b>,
    pub flags: MsgFlags,
    /// Does the caller take control messages? Files sent to one who does not are closed.
    pub takes_control: bool,
    /// MSG_TRUNC, MSG_EOR …: flags for the caller.
    pub out_flags: i32,
    /// Who sent it, where the protocol says so with each message.
    pub from: Option<SockAddr>,
    pub control: SmallVec<[Control; 2]>,
    /// Nothing more belongs to this message: MSG_WAITALL ends.
    pub complete: bool,
}

impl<'a, 'b> RecvMsg<'a, 'b> {
    /// As from read(2).
    pub fn plain(dst: &'a mut IoDst<'b>) -> Self {
        Self {
            dst,
            flags: MsgFlags(0),
            takes_control: false,
            out_flags: 0,
            from: None,
            control: SmallVec::new(),
            complete: false,
        }
    }
}

/// The ids of the calling process, as SCM_CREDENTIALS and SO_PEERCRED show them.
pub fn current_ids() -> Ucred {
    match kernel::served() {
        Some(task) => {
            let cred = task.cred();
            Ucred { pid: task.pid(), uid: cred.uid, gid: cred.gid }
        }
        None => NOBODY,
    }
}

/// Credentials of a message that carries none.
pub const NOBODY: Ucred = Ucred { pid: 0, uid: 65534, gid: 65534 };
