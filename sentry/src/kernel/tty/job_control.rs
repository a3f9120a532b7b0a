//! Who may use a terminal, and who gets its signals: controlling terminals, foreground and
//! background (`drivers/tty/tty_jobctrl.c`; credentials(7), setsid(2)).

use std::{any::Any, sync::Arc};

use linux_abi::{SigInfo, Signal};

use super::pair::{Groups, Tty};
use crate::{
    Errno, Restart, SysResult, err,
    kernel::{Capability, ControllingTty, CurrentTask, Kernel, Session, Task, served},
    wait::EventMask,
};

impl Groups for std::sync::Weak<Kernel> {
    fn signal_group(&self, pgid: i32, signal: i32) {
        let (Some(kernel), Some(signal)) = (self.upgrade(), Signal::new(signal)) else { return };
        kernel.tasks.signal_group(pgid, Some(SigInfo::kernel(signal)), |_| true);
    }

    fn signal_process(&self, pid: i32, signal: i32) {
        let (Some(kernel), Some(signal)) = (self.upgrade(), Signal::new(signal)) else { return };
        if let Some(process) = kernel.tasks.process(pid) {
            let _ = process.send_signal(SigInfo::kernel(signal));
        }
    }
}

impl ControllingTty for Tty {
    fn leave_session(&self) -> i32 {
        self.change(|state| {
            state.session = 0;
            std::mem::take(&mut state.foreground)
        })
    }

    fn enter_session(&self, session: i32, foreground: i32) {
        self.change(|state| {
            state.session = session;
            state.foreground = foreground;
        });
    }

    fn foreground(&self) -> i32 {
        self.owner().0
    }

    fn device(&self) -> u64 {
        self.device()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The session of a task.
fn session(task: &Task) -> Option<Arc<Session>> {
    task.kernel().tasks.session(task.thread_group().session_id())
}

/// The controlling terminal of a task: what `/dev/tty` opens. One that was hung up no longer counts.
pub fn controlling_tty(task: &Task) -> Option<Arc<Tty>> {
    tty_of(&*session(task)?)
}

fn tty_of(session: &Session) -> Option<Arc<Tty>> {
    let tty = session.tty()?.as_any().downcast_ref::<Tty>()?.handle()?;
    let is_live = tty.state.lock().master_open;
    is_live.then_some(tty)
}

fn is_controlling(task: &Task, tty: &Tty) -> bool {
    controlling_tty(task).is_some_and(|own| std::ptr::eq(&*own, tty))
}

pub(super) fn caller_is_admin() -> bool {
    served().is_none_or(|task| task.cred().has(Capability::SYS_ADMIN))
}

/// May the calling task do what only the foreground may? If it is in the background its group is sent
/// `signal` (SIGTTIN or SIGTTOU) and the call starts again when the group is continued
/// (`__tty_check_change`).
///
/// # Errors
/// `EIO` when the group is orphaned, or for SIGTTIN when the signal is ignored or blocked.
pub(super) fn check_background(tty: &Tty, signal: i32) -> SysResult<()> {
    let Some(task) = served() else { return Ok(()) };
    let (foreground, _) = tty.owner();
    let own = task.thread_group().process_group_id();
    if foreground == 0 || foreground == own || !is_controlling(&task, tty) {
        return Ok(());
    }
    let Some(kind) = Signal::new(signal) else { return Ok(()) };
    let ignored = task.blocked().contains(kind) || task.thread_group().handlers().ignores(kind);
    if ignored {
        return if signal == libc::SIGTTIN { err!(EIO) } else { Ok(()) };
    }
    if task.kernel().tasks.is_orphaned(own) {
        return err!(EIO);
    }
    tty.groups().signal_group(own, signal);
    Err(Restart::IfSaRestart.into())
}

/// A session leader without a terminal gets the first one it opens without O_NOCTTY
/// (`tty_open_proc_set_tty`).
pub(super) fn acquire_on_open(task: &CurrentTask, tty: &Arc<Tty>, readable: bool) {
    let group = task.thread_group();
    if group.pid() != group.session_id() || tty.owner().1 != 0 {
        return;
    }
    // A terminal that one may only write to must not be taken that way.
    if !readable {
        return;
    }
    if let Some(session) = session(task)
        && tty_of(&session).is_none()
    {
        join(tty, &session, group.process_group_id());
    }
}

fn join(tty: &Arc<Tty>, session: &Session, foreground: i32) {
    tty.enter_session(session.id, foreground);
    let before = session.set_tty(Some(tty.clone()));
    drop(before);
}

/// TIOCSCTTY: a session leader takes the terminal; with `steal` and CAP_SYS_ADMIN also from
/// another session.
pub(super) fn acquire(
    task: &CurrentTask,
    tty: &Arc<Tty>,
    readable: bool,
    steal: bool,
) -> SysResult<()> {
    let group = task.thread_group();
    let is_leader = group.pid() == group.session_id();
    let (_, owner) = tty.owner();
    if is_leader && owner == group.session_id() {
        return Ok(());
    }
    let session = session(task).ok_or(Errno::EPERM)?;
    if !is_leader || tty_of(&session).is_some() {
        return err!(EPERM);
    }
    let is_admin = task.cred().has(Capability::SYS_ADMIN);
    if owner != 0 {
        if !(steal && is_admin) {
            return err!(EPERM);
        }
        if let Some(other) = task.kernel().tasks.session(owner) {
            drop(other.set_tty(None));
        }
    }
    if !readable && !is_admin {
        return err!(EPERM);
    }
    join(tty, &session, group.process_group_id());
    Ok(())
}

/// TIOCNOTTY: gives the controlling terminal up; a session leader does it for the whole session.
pub(super) fn give_up(task: &CurrentTask, tty: &Tty) -> SysResult<()> {
    if !is_controlling(task, tty) {
        return err!(ENOTTY);
    }
    let group = task.thread_group();
    if group.pid() == group.session_id()
        && let Some(session) = session(task)
    {
        leave(tty, &session);
    }
    Ok(())
}

/// The session has no terminal any more; its foreground hears of it (`disassociate_ctty`).
fn leave(tty: &Tty, session: &Session) {
    drop(session.set_tty(None));
    let foreground = tty.leave_session();
    if foreground != 0 {
        tty.groups().signal_group(foreground, libc::SIGHUP);
        tty.groups().signal_group(foreground, libc::SIGCONT);
    }
}

/// TIOCSPGRP.
pub(super) fn set_foreground(task: &CurrentTask, tty: &Tty, pgid: i32) -> SysResult<()> {
    check_background(tty, libc::SIGTTOU)?;
    let sid = task.thread_group().session_id();
    if !is_controlling(task, tty) || tty.owner().1 != sid {
        return err!(ENOTTY);
    }
    if pgid < 0 {
        return err!(EINVAL);
    }
    match task.kernel().tasks.session_of_group(pgid) {
        None => err!(ESRCH),
        Some(other) if other != sid => err!(EPERM),
        Some(_) => {
            tty.change(|state| state.foreground = pgid);
            Ok(())
        }
    }
}

/// TIOCGPGRP; from the master side any terminal may be asked.
pub(super) fn foreground(task: &CurrentTask, tty: &Tty, from_master: bool) -> SysResult<i32> {
    if !from_master && !is_controlling(task, tty) {
        return err!(ENOTTY);
    }
    Ok(tty.owner().0)
}

/// TIOCGSID.
pub(super) fn session_id(task: &CurrentTask, tty: &Tty, from_master: bool) -> SysResult<i32> {
    let (_, session) = tty.owner();
    if session == 0 || (!from_master && !is_controlling(task, tty)) {
        return err!(ENOTTY);
    }
    Ok(session)
}

/// The master was closed: no one can use the terminal any more. The session's leader gets SIGHUP and
/// SIGCONT; when it ends the foreground does (`__tty_hangup`, `disassociate_ctty`), for which the
/// session keeps the terminal until then.
pub(super) fn hang_up(tty: &Tty) {
    let session = tty.change(|state| {
        state.master_open = false;
        state.discipline.output.clear();
        state.session
    });
    let all = EventMask::READABLE | EventMask::WRITABLE | EventMask::ERR | EventMask::HUP;
    tty.slave_queue.wake(all);
    tty.master_queue.wake(all);
    if session != 0 {
        tty.groups().signal_process(session, libc::SIGHUP);
        tty.groups().signal_process(session, libc::SIGCONT);
    }
}
