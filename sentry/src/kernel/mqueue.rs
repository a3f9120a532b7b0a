//! POSIX message queues (`ipc/mqueue.c`, mq_overview(7)).
//!
//! A queue lives as long as it has a name or a descriptor. Its inode holds owner and mode only; the file system
//! of their names is not there to be mounted.

mod notify;

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ranked_sync::Mutex;

pub use self::notify::{Notification, NotifyBy};
use super::{Capability, Credentials, served};
use crate::{
    Errno, SysResult, err,
    fs::anon::AnonInode,
    lock_order,
    vfs::{AccessMask, FileDescription, FileOps, Inode, IoDst},
    wait::{EventMask, PollTable, WaitQueue},
};

/// Priorities are below this (`MQ_PRIO_MAX`).
pub const PRIORITY_MAX: u32 = 32_768;
/// `fs.mqueue.queues_max`, for those without CAP_SYS_RESOURCE.
const MAX_QUEUES: usize = 256;
/// For all (ours).
const MAX_QUEUES_EVER: usize = 4096;
/// `fs.mqueue.msg_max` and `msgsize_max`.
const MAX_MESSAGES: i64 = 10;
const MAX_SIZE: i64 = 8192;
/// With CAP_SYS_RESOURCE (`HARD_MSGMAX`, `HARD_MSGSIZEMAX`).
const HARD_MAX_MESSAGES: i64 = 65_536;
const HARD_MAX_SIZE: i64 = 16 << 20;
/// What a message costs besides its text (`struct msg_msg`, and its node in the tree).
const OVERHEAD: u64 = 48 + 48;
/// Bytes in all queues (ours).
const MAX_IN_ALL: usize = 64 << 20;

/// Most messages in a queue, and their longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub messages: i64,
    pub size: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages: MAX_MESSAGES, size: MAX_SIZE }
    }
}

impl Limits {
    /// `EINVAL` for what `cred` may not ask for (`mq_attr_ok`).
    fn check(self, cred: &Credentials) -> SysResult<()> {
        let (messages, size) = if cred.has(Capability::SYS_RESOURCE) {
            (HARD_MAX_MESSAGES, HARD_MAX_SIZE)
        } else {
            (MAX_MESSAGES, MAX_SIZE)
        };
        if !(1..=messages).contains(&self.messages) || !(1..=size).contains(&self.size) {
            return err!(EINVAL);
        }
        Ok(())
    }

    /// What counts for RLIMIT_MSGQUEUE.
    fn charge(self) -> u64 {
        (self.messages as u64).saturating_mul((self.size as u64).saturating_add(OVERHEAD))
    }
}

/// What mq_open(2) asks for.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    pub name: &'a [u8],
    pub access: AccessMask,
    /// O_CREAT: mode, without the umask's bits, and limits; and O_EXCL.
    pub create: Option<(u32, Limits)>,
    pub exclusive: bool,
    /// RLIMIT_MSGQUEUE.
    pub max_bytes: u64,
}

/// The queues of a sandbox.
#[derive(Debug, Default)]
pub struct Mqueues {
    names: Mutex<lock_order::Leaf, BTreeMap<Vec<u8>, Arc<Queue>>>,
    usage: Arc<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    /// What the queues of each user could hold.
    by_user: Mutex<lock_order::Leaf, BTreeMap<u32, u64>>,
    /// Bytes of messages that wait.
    held: AtomicUsize,
}

impl Usage {
    /// `EMFILE` beyond `max` bytes of `user`.
    fn charge(&self, user: u32, bytes: u64, max: u64) -> SysResult<()> {
        let mut by_user = self.by_user.lock();
        let used = by_user.get(&user).copied().unwrap_or(0);
        let sum = used.checked_add(bytes).filter(|&sum| sum <= max).ok_or(Errno::EMFILE)?;
        by_user.insert(user, sum);
        Ok(())
    }

    fn release(&self, user: u32, bytes: u64) {
        let mut by_user = self.by_user.lock();
        if let Some(used) = by_user.get_mut(&user) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                by_user.remove(&user);
            }
        }
    }

    fn hold(&self, bytes: usize) -> SysResult<()> {
        if self.held.fetch_add(bytes, Ordering::Relaxed) + bytes > MAX_IN_ALL {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            return err!(ENOMEM);
        }
        Ok(())
    }
}

impl Mqueues {
    /// mq_open(2): the queue, made if need be. Checks the name and the permissions.
    pub fn open(&self, request: OpenRequest<'_>, cred: &Credentials) -> SysResult<Arc<Queue>> {
        let name = check_name(request.name)?;
        let found = self.names.lock().get(name).cloned();
        if let Some(queue) = found {
            if request.create.is_some() && request.exclusive {
                return err!(EEXIST);
            }
            queue.inode.check_access(cred, request.access)?;
            return Ok(queue);
        }
        let Some((mode, limits)) = request.create else { return err!(ENOENT) };
        limits.check(cred)?;
        let charge = limits.charge();
        self.usage.charge(cred.uid, charge, request.max_bytes)?;
        let queue = Arc::new(Queue {
            inode: AnonInode::with_mode(libc::S_IFREG | mode & 0o777, cred),
            limits,
            usage: self.usage.clone(),
            charged: (cred.uid, charge),
            state: Mutex::default(),
            wakeup: WaitQueue::new(),
        });
        // Made without the lock, and so given up again when somebody else was faster or there are too many.
        let privileged = cred.has(Capability::SYS_RESOURCE);
        let most = if privileged { MAX_QUEUES_EVER } else { MAX_QUEUES };
        let mut names = self.names.lock();
        if names.contains_key(name) {
            drop(names);
            drop(queue);
            return self.open(request, cred);
        }
        if names.len() >= most {
            return err!(ENOSPC);
        }
        names.insert(name.to_vec(), queue.clone());
        Ok(queue)
    }

    /// mq_unlink(2). `EPERM` for those who do not own the queue.
    pub fn unlink(&self, name: &[u8], cred: &Credentials) -> SysResult<()> {
        let name = check_name(name)?;
        let queue = self.names.lock().get(name).cloned().ok_or(Errno::ENOENT)?;
        if queue.inode.metadata()?.uid != cred.fsuid && !cred.has(Capability::FOWNER) {
            return err!(EPERM);
        }
        let mut names = self.names.lock();
        // Somebody else may have been faster.
        if !names.get(name).is_some_and(|now| Arc::ptr_eq(now, &queue)) {
            return err!(ENOENT);
        }
        names.remove(name);
        Ok(())
    }
}

/// One component (`lookup_one_len`).
fn check_name(name: &[u8]) -> SysResult<&[u8]> {
    const NAME_MAX: usize = 255;
    match name {
        b"" => err!(ENOENT),
        b"." | b".." => err!(EACCES),
        name if name.contains(&b'/') => err!(EACCES),
        name if name.len() > NAME_MAX => err!(ENAMETOOLONG),
        name => Ok(name),
    }
}

/// One queue.
pub struct Queue {
    /// Owner and mode.
    inode: Arc<AnonInode>,
    limits: Limits,
    usage: Arc<Usage>,
    charged: (u32, u64),
    state: Mutex<lock_order::Leaf, State>,
    wakeup: WaitQueue,
}

#[derive(Default)]
struct State {
    /// By priority, each in the order of arrival.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: usize,
    bytes: usize,
    /// Tasks that wait for a message; while there are any, no one is notified.
    receivers: u32,
    notification: Option<Notification>,
}

impl Queue {
    pub fn inode(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is woken when a message comes or goes.
    pub fn wakeup(&self) -> &WaitQueue {
        &self.wakeup
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.state.lock().count
    }

    /// True when no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// mq_send(3), once. `EAGAIN` when it is full.
    pub fn send(&self, text: &[u8], priority: u32) -> SysResult<()> {
        let notification = {
            let mut state = self.state.lock();
            if state.count as i64 >= self.limits.messages {
                return err!(EAGAIN);
            }
            self.usage.hold(text.len() + OVERHEAD as usize)?;
            state.messages.entry(priority).or_default().push_back(text.to_vec());
            state.count += 1;
            state.bytes += text.len();
            let first = state.count == 1 && state.receivers == 0;
            if first { state.notification.take() } else { None }
        };
        self.wakeup.wake(EventMask::READABLE);
        if let Some(notification) = notification {
            notification.fire();
        }
        Ok(())
    }

    /// mq_receive(3), once: the oldest of the highest priority, with that. `EAGAIN` when there is none.
    pub fn receive(&self) -> SysResult<(Vec<u8>, u32)> {
        let (text, priority) = {
            let mut state = self.state.lock();
            let Some(mut highest) = state.messages.last_entry() else { return err!(EAGAIN) };
            let priority = *highest.key();
            let text = highest.get_mut().pop_front().unwrap_or_default();
            if highest.get().is_empty() {
                highest.remove();
            }
            state.count = state.count.saturating_sub(1);
            state.bytes = state.bytes.saturating_sub(text.len());
            (text, priority)
        };
        self.usage.held.fetch_sub(text.len() + OVERHEAD as usize, Ordering::Relaxed);
        self.wakeup.wake(EventMask::WRITABLE);
        Ok((text, priority))
    }

    /// A task begins or ends to wait for a message.
    pub fn count_receiver(&self, waits: bool) {
        let receivers = &mut self.state.lock().receivers;
        *receivers = if waits { receivers.saturating_add(1) } else { receivers.saturating_sub(1) };
    }

    /// mq_notify(3). `EBUSY` when somebody is registered.
    pub fn set_notification(&self, notification: Notification) -> SysResult<()> {
        let mut state = self.state.lock();
        if state.notification.is_some() {
            return err!(EBUSY);
        }
        state.notification = Some(notification);
        Ok(())
    }

    /// The process `pid` wants to hear no more.
    pub fn remove_notification(&self, pid: i32) {
        let removed = {
            let mut state = self.state.lock();
            let own = state.notification.as_ref().is_some_and(|its| its.owner() == pid);
            if own { state.notification.take() } else { None }
        };
        if let Some(removed) = removed {
            removed.withdraw();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let (user, bytes) = self.charged;
        self.usage.release(user, bytes);
        let state = self.state.lock();
        let held = state.bytes + state.count * OVERHEAD as usize;
        self.usage.held.fetch_sub(held, Ordering::Relaxed);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

/// A message queue descriptor.
#[derive(Debug)]
pub struct QueueFile(pub Arc<Queue>);

impl FileOps for QueueFile {
    /// A line about the queue, as `mqueue_read_file`.
    fn read(&self, _file: &FileDescription, offset: u64, dst: &mut IoDst<'_>) -> SysResult<usize> {
        let line = {
            let state = self.0.state.lock();
            let (kind, signal, pid) =
                state.notification.as_ref().map_or((0, 0, 0), Notification::describe);
            format!(
                "QSIZE:{:<10} NOTIFY:{kind:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n",
                state.bytes
            )
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(line.len());
        Ok(dst.put(line.as_bytes().get(from..).unwrap_or_default())?)
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn is_pollable(&self) -> bool {
        true
    }

    fn poll(&self, _file: &FileDescription, table: &mut PollTable) -> EventMask {
        table.wait_on(&self.0.wakeup);
        let count = self.0.len();
        let mut mask = EventMask::empty();
        mask.set(EventMask::READABLE, count > 0);
        mask.set(EventMask::WRITABLE, (count as i64) < self.0.limits.messages);
        mask
    }

    fn close(&self, _file: &FileDescription) {
        if let Some(task) = served() {
            self.0.remove_notification(task.pid());
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
