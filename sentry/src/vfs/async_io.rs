//! Signals about files: when one becomes ready (O_ASYNC, F_SETOWN, F_SETSIG; fcntl(2)).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use linux_abi::{SigInfo, Signal};
use smallvec::SmallVec;

use super::FileDescription;
use crate::{
    kernel::{Credentials, Kernel, Task},
    wait::{EventMask, Notify, PollTable, Registration},
};

/// `si_code` of SIGIO (`POLL_IN` …), in the order in which they are looked for.
const CODES: [(EventMask, i32); 5] = [
    (EventMask::HUP, 6),
    (EventMask::PRI, 5),
    (EventMask::ERR, 4),
    (EventMask::IN, 1),
    (EventMask::OUT, 2),
];
/// A bit next to the signal in the owner word: the owner is a thread.
pub(super) const OWNER_IS_THREAD: u32 = 1 << 16;

/// What a description with O_ASYNC keeps.
pub(super) struct AsyncIo {
    target: Arc<Target>,
    _registrations: SmallVec<[Registration; 2]>,
}

struct Target {
    recipient: Recipient,
    /// As the description's.
    owner: AtomicU64,
}

/// In whose name signals about a file are sent, and the descriptor they name.
pub(super) struct Recipient {
    pub kernel: Arc<Kernel>,
    /// Who asked for them.
    pub cred: Arc<Credentials>,
    pub fd: i32,
}

impl AsyncIo {
    /// From now on `owner` hears of `file` becoming ready. `cred`: who asked for it.
    pub(super) fn start(
        file: &FileDescription,
        kernel: Arc<Kernel>,
        cred: Arc<Credentials>,
        fd: i32,
        owner: u64,
    ) -> Self {
        let recipient = Recipient { kernel, cred, fd };
        let target = Arc::new(Target { recipient, owner: AtomicU64::new(owner) });
        let mut table = PollTable::register(target.clone(), EventMask::all());
        file.ops().poll(file, &mut table);
        Self { target, _registrations: table.into_registrations() }
    }

    /// The description's owner word changed.
    pub(super) fn set_owner(&self, owner: u64) {
        self.target.owner.store(owner, Ordering::Relaxed);
    }
}

impl Notify for Target {
    fn notify(&self, events: EventMask) {
        let code = CODES.iter().find(|(mask, _)| events.intersects(*mask));
        let word = self.owner.load(Ordering::Relaxed);
        self.recipient.signal(word, code.map_or(1, |(_, code)| *code), events.bits().into());
    }
}

impl Recipient {
    /// Sends the signal that the description's owner word names to the owner it names (`send_sigio`).
    pub(super) fn signal(&self, word: u64, code: i32, band: i64) {
        let (pid, low) = ((word >> 32) as i32, word as u32);
        let signal = (low & !OWNER_IS_THREAD) as i32;
        let info = match Signal::new(signal) {
            None => SigInfo::kernel(Signal::IO),
            Some(signal) => SigInfo::poll(signal, code, band, self.fd),
        };
        let tasks = &self.kernel.tasks;
        // A full queue loses the signal, as ever.
        if low & OWNER_IS_THREAD != 0 {
            if let Some(task) = tasks.task(pid).filter(|task| self.may_tell(task)) {
                let _ = task.send_signal(info);
            }
            return;
        }
        if pid < 0 {
            tasks.signal_group(pid.wrapping_neg(), Some(info), |leader| self.may_tell(leader));
        } else if let Some(group) = tasks.process(pid) {
            let leader = tasks.task(group.pid());
            if leader.is_none_or(|leader| self.may_tell(&leader)) {
                let _ = group.send_signal(info);
            }
        }
    }

    /// Who asked for the signals may send them (`sigio_perm`).
    fn may_tell(&self, task: &Task) -> bool {
        let theirs = task.cred();
        let ids = [theirs.uid, theirs.suid];
        self.cred.euid == 0 || ids.contains(&self.cred.euid) || ids.contains(&self.cred.uid)
    }
}

impl fmt::Debug for AsyncIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsyncIo")
    }
}
