//! Message queues (`ipc/msg.c`).
//!
//! One lock for all queues. A queue wakes those who wait for it, senders and receivers alike, after unlocking,
//! and each of them tries again.

use std::{collections::VecDeque, sync::Arc};

use linux_abi::sysv::{MsgInfo, MsqidDs};
use ranked_sync::Mutex;

use super::{Ids, Object, Permissions};
use crate::{
    SysResult, err,
    kernel::{Capability, Credentials, Kernel},
    lock_order,
    wait::{EventMask, WaitQueue},
};

/// Most queues (`MSGMNI`).
pub const MAX_QUEUES: usize = 32_000;
/// Longest message (`MSGMAX`), in bytes.
pub const MAX_MESSAGE: usize = 8192;
/// What a new queue takes (`MSGMNB`), in bytes.
pub const MAX_QUEUED: usize = 16_384;
/// Bytes in all queues (ours; Linux charges them to the memory of the sender's control group), each message
/// counting so much more than its text.
const MAX_IN_ALL: usize = 64 << 20;
const OVERHEAD: usize = 64;

/// The message queues of a sandbox.
#[derive(Debug, Default)]
pub struct MessageQueues {
    state: Mutex<lock_order::Leaf, State>,
}

#[derive(Debug, Default)]
struct State {
    queues: Ids<Queue>,
    /// Bytes held, overhead included.
    held: usize,
}

#[derive(Debug)]
struct Queue {
    permissions: Permissions,
    messages: VecDeque<Message>,
    bytes: usize,
    max_bytes: usize,
    stime: i64,
    rtime: i64,
    ctime: i64,
    last_sender: i32,
    last_receiver: i32,
    wakeup: Arc<WaitQueue>,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Positive.
    pub kind: i64,
    pub text: Vec<u8>,
}

impl Message {
    fn cost(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// Which message msgrcv(2) is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    First,
    Kind(i64),
    /// Any but this.
    NotKind(i64),
    /// The first of the lowest kind up to this.
    UpTo(i64),
    /// A copy of that in this place, which stays (MSG_COPY).
    Copy(u64),
}

impl Select {
    fn find(self, messages: &VecDeque<Message>) -> Option<usize> {
        match self {
            Self::First => (!messages.is_empty()).then_some(0),
            Self::Kind(kind) => messages.iter().position(|message| message.kind == kind),
            Self::NotKind(kind) => messages.iter().position(|message| message.kind != kind),
            Self::UpTo(most) => {
                let fitting = messages.iter().enumerate().filter(|(_, one)| one.kind <= most);
                fitting.min_by_key(|(_, message)| message.kind).map(|(index, _)| index)
            }
            Self::Copy(index) => {
                usize::try_from(index).ok().filter(|&index| index < messages.len())
            }
        }
    }
}

impl Object for Queue {
    fn permissions(&self) -> &Permissions {
        &self.permissions
    }
}

impl Queue {
    fn report(&self, id: i32) -> MsqidDs {
        MsqidDs {
            perm: self.permissions.report(id),
            stime: self.stime,
            rtime: self.rtime,
            ctime: self.ctime,
            cbytes: self.bytes as u64,
            qnum: self.messages.len() as u64,
            qbytes: self.max_bytes as u64,
            lspid: self.last_sender,
            lrpid: self.last_receiver,
            ..MsqidDs::default()
        }
    }
}

fn seconds(kernel: &Kernel) -> i64 {
    (kernel.clocks.realtime_ns() / 1_000_000_000) as i64
}

impl MessageQueues {
    /// msgget(2): the identifier.
    pub fn get(
        &self,
        kernel: &Kernel,
        (key, flags): (i32, i32),
        cred: &Credentials,
    ) -> SysResult<i32> {
        let create = |permissions| {
            Ok(Queue {
                permissions,
                messages: VecDeque::new(),
                bytes: 0,
                max_bytes: MAX_QUEUED,
                stime: 0,
                rtime: 0,
                ctime: seconds(kernel),
                last_sender: 0,
                last_receiver: 0,
                wakeup: Arc::new(WaitQueue::new()),
            })
        };
        self.state.lock().queues.get((key, flags), cred, MAX_QUEUES, |_| Ok(()), create)
    }

    /// What is woken when the queue changes. `EINVAL` when there is none.
    pub fn wakeup(&self, id: i32) -> SysResult<Arc<WaitQueue>> {
        Ok(self.state.lock().queues.find(id)?.wakeup.clone())
    }

    /// msgsnd(2), once: takes the message, or leaves it when the queue is full. `EINVAL` when there is no such queue.
    pub fn send(
        &self,
        kernel: &Kernel,
        id: i32,
        message: &mut Option<Message>,
        pid: i32,
        cred: &Credentials,
    ) -> SysResult<bool> {
        let wakeup = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let queue = state.queues.find(id)?;
            queue.permissions.check(cred, 0o222)?;
            let Some(length) = message.as_ref().map(|message| message.text.len()) else {
                return Ok(true);
            };
            let fits =
                queue.bytes + length <= queue.max_bytes && queue.messages.len() < queue.max_bytes;
            if !fits {
                return Ok(false);
            }
            if state.held + length + OVERHEAD > MAX_IN_ALL {
                return err!(ENOMEM);
            }
            state.held += length + OVERHEAD;
            queue.bytes += length;
            queue.messages.extend(message.take());
            queue.stime = seconds(kernel);
            queue.last_sender = pid;
            queue.wakeup.clone()
        };
        wakeup.wake(EventMask::all());
        Ok(true)
    }

    /// msgrcv(2), once: the message, cut to `max` bytes if `cut`, else `E2BIG` for one that is longer.
    /// `None` when there is none such; `EINVAL` when there is no such queue.
    pub fn receive(
        &self,
        kernel: &Kernel,
        id: i32,
        select: Select,
        (max, cut): (usize, bool),
        (pid, cred): (i32, &Credentials),
    ) -> SysResult<Option<Message>> {
        let (mut message, wakeup) = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let queue = state.queues.find(id)?;
            queue.permissions.check(cred, 0o444)?;
            let Some(index) = select.find(&queue.messages) else { return Ok(None) };
            let Some(found) = queue.messages.get(index) else { return Ok(None) };
            if found.text.len() > max && !cut {
                return err!(E2BIG);
            }
            if let Select::Copy(_) = select {
                (found.clone(), None)
            } else {
                let Some(message) = queue.messages.remove(index) else { return Ok(None) };
                queue.bytes -= message.text.len();
                state.held -= message.cost();
                queue.rtime = seconds(kernel);
                queue.last_receiver = pid;
                (message, Some(queue.wakeup.clone()))
            }
        };
        if let Some(wakeup) = wakeup {
            wakeup.wake(EventMask::all());
        }
        message.text.truncate(max);
        Ok(Some(message))
    }

    /// IPC_RMID.
    pub fn remove(&self, id: i32, cred: &Credentials) -> SysResult<()> {
        let removed = {
            let mut guard = self.state.lock();
            let state = &mut *guard;
            let queue = state.queues.find(id)?;
            queue.permissions.check_owner(cred)?;
            state.held -= queue.messages.iter().map(Message::cost).sum::<usize>();
            state.queues.remove(id)
        };
        if let Some(queue) = removed {
            queue.wakeup.wake(EventMask::all());
        }
        Ok(())
    }

    /// IPC_STAT.
    pub fn status(&self, id: i32, cred: &Credentials) -> SysResult<MsqidDs> {
        let mut state = self.state.lock();
        let queue = state.queues.find(id)?;
        queue.permissions.check(cred, 0o444)?;
        Ok(queue.report(id))
    }

    /// MSG_STAT: by slot, with the identifier. Without `cred`, for everyone (MSG_STAT_ANY).
    pub fn status_of_slot(
        &self,
        slot: i32,
        cred: Option<&Credentials>,
    ) -> SysResult<(i32, MsqidDs)> {
        let mut state = self.state.lock();
        let (id, queue) = state.queues.find_slot(slot)?;
        if let Some(cred) = cred {
            queue.permissions.check(cred, 0o444)?;
        }
        Ok((id, queue.report(id)))
    }

    /// IPC_SET. `EPERM` for more bytes than usual without CAP_SYS_RESOURCE.
    pub fn set(&self, kernel: &Kernel, id: i32, to: &MsqidDs, cred: &Credentials) -> SysResult<()> {
        let wakeup = {
            let mut state = self.state.lock();
            let queue = state.queues.find(id)?;
            queue.permissions.check_owner(cred)?;
            let max_bytes = usize::try_from(to.qbytes).unwrap_or(usize::MAX);
            if max_bytes > MAX_QUEUED && !cred.has(Capability::SYS_RESOURCE) {
                return err!(EPERM);
            }
            queue.permissions.update(&to.perm)?;
            queue.max_bytes = max_bytes.min(MAX_IN_ALL);
            queue.ctime = seconds(kernel);
            queue.wakeup.clone()
        };
        wakeup.wake(EventMask::all());
        Ok(())
    }

    /// IPC_INFO, or MSG_INFO with what is in `use_now`; and the highest slot.
    pub fn limits(&self, use_now: bool) -> (i32, MsgInfo) {
        let state = self.state.lock();
        let mut info = MsgInfo {
            msgpool: (MAX_QUEUES * MAX_QUEUED / 1024) as i32,
            msgmap: MAX_QUEUED as i32,
            msgmax: MAX_MESSAGE as i32,
            msgmnb: MAX_QUEUED as i32,
            msgmni: MAX_QUEUES as i32,
            msgssz: 16,
            msgtql: MAX_QUEUED as i32,
            msgseg: u16::MAX,
            padding: 0,
        };
        if use_now {
            let queues = || state.queues.slots.values().map(|(_, queue)| queue);
            info.msgpool = state.queues.slots.len() as i32;
            info.msgmap = queues().map(|queue| queue.messages.len()).sum::<usize>() as i32;
            info.msgtql = queues().map(|queue| queue.bytes).sum::<usize>() as i32;
        }
        (state.queues.highest_slot(), info)
    }

    /// All queues, with identifiers (/proc/sysvipc/msg).
    pub fn list(&self) -> Vec<(i32, MsqidDs)> {
        let state = self.state.lock();
        state.queues.iter().map(|(id, queue)| (id, queue.report(id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(kinds: &[i64]) -> VecDeque<Message> {
        kinds.iter().map(|&kind| Message { kind, text: Vec::new() }).collect()
    }

    #[test]
    fn selection_follows_msgrcv() {
        let messages = queue(&[5, 3, 7, 3]);
        assert_eq!(Select::First.find(&messages), Some(0));
        assert_eq!(Select::Kind(7).find(&messages), Some(2));
        assert_eq!(Select::Kind(9).find(&messages), None);
        assert_eq!(Select::NotKind(5).find(&messages), Some(1));
        assert_eq!(Select::UpTo(6).find(&messages), Some(1), "the first of the lowest");
        assert_eq!(Select::UpTo(2).find(&messages), None);
        assert_eq!(Select::Copy(3).find(&messages), Some(3));
        assert_eq!(Select::Copy(4).find(&messages), None);
    }
}
