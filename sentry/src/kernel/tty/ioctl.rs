//! ioctl_tty(2), of both sides (`tty_ioctl`, `tty_mode_ioctl`, `n_tty_ioctl`, `pty_unix98_ioctl`).

use std::sync::Arc;

use linux_abi::{Termios, Termios2, WindowSize, termios::Termio};

use super::{
    MasterFile, job_control,
    pair::Tty,
    termios::{Settings, cc},
};
use crate::{
    Errno, SysResult, err,
    kernel::{Capability, CurrentTask},
    user::{UserAddr, UserMemory},
    vfs::FileDescription,
};

/// Requests which the `libc` crate does not name.
mod request {
    pub(super) const TCGETS2: u32 = 0x802c_542a;
    pub(super) const TCSETS2: u32 = 0x402c_542b;
    pub(super) const TCSETSW2: u32 = 0x402c_542c;
    pub(super) const TCSETSF2: u32 = 0x402c_542d;
    pub(super) const TIOCGPTN: u32 = 0x8004_5430;
    pub(super) const TIOCSPTLCK: u32 = 0x4004_5431;
    pub(super) const TIOCGDEV: u32 = 0x8004_5432;
    pub(super) const TIOCSIG: u32 = 0x4004_5436;
    pub(super) const TIOCGPKT: u32 = 0x8004_5438;
    pub(super) const TIOCGPTLCK: u32 = 0x8004_5439;
    pub(super) const TIOCGEXCL: u32 = 0x8004_5440;
    pub(super) const TIOCGPTPEER: u32 = 0x5441;
    pub(super) const TIOCGLCKTRMIOS: u32 = 0x5456;
}
use request::*;

const TCGETS: u32 = libc::TCGETS as u32;
const TCSETS: u32 = libc::TCSETS as u32;
const TCSETSW: u32 = libc::TCSETSW as u32;
const TCSETSF: u32 = libc::TCSETSF as u32;
const TCGETA: u32 = libc::TCGETA as u32;
const TCSETA: u32 = libc::TCSETA as u32;
const TCSETAW: u32 = libc::TCSETAW as u32;
const TCSETAF: u32 = libc::TCSETAF as u32;
const TCSBRK: u32 = libc::TCSBRK as u32;
const TCSBRKP: u32 = libc::TCSBRKP as u32;
const TCXONC: u32 = libc::TCXONC as u32;
const TCFLSH: u32 = libc::TCFLSH as u32;
const TIOCEXCL: u32 = libc::TIOCEXCL as u32;
const TIOCNXCL: u32 = libc::TIOCNXCL as u32;
const TIOCSCTTY: u32 = libc::TIOCSCTTY as u32;
const TIOCNOTTY: u32 = libc::TIOCNOTTY as u32;
const TIOCGPGRP: u32 = libc::TIOCGPGRP as u32;
const TIOCSPGRP: u32 = libc::TIOCSPGRP as u32;
const TIOCGSID: u32 = libc::TIOCGSID as u32;
const TIOCOUTQ: u32 = libc::TIOCOUTQ as u32;
const TIOCINQ: u32 = libc::FIONREAD as u32;
const TIOCSTI: u32 = libc::TIOCSTI as u32;
const TIOCGWINSZ: u32 = libc::TIOCGWINSZ as u32;
const TIOCSWINSZ: u32 = libc::TIOCSWINSZ as u32;
const TIOCPKT: u32 = libc::TIOCPKT as u32;
const TIOCGETD: u32 = libc::TIOCGETD as u32;
const TIOCSETD: u32 = libc::TIOCSETD as u32;
const TIOCSBRK: u32 = libc::TIOCSBRK as u32;
const TIOCCBRK: u32 = libc::TIOCCBRK as u32;
const TIOCGSOFTCAR: u32 = libc::TIOCGSOFTCAR as u32;
const TIOCSSOFTCAR: u32 = libc::TIOCSSOFTCAR as u32;

/// Which end the call came through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Master,
    Slave,
}

/// A request on the slave.
pub(super) fn slave(
    task: &mut CurrentTask,
    tty: &Arc<Tty>,
    file: &FileDescription,
    request: u32,
    arg: UserAddr,
) -> SysResult<u64> {
    let alive = tty.state.lock().master_open;
    if !alive {
        return if request == TIOCSPGRP { err!(ENOTTY) } else { err!(EIO) };
    }
    match request {
        TIOCSCTTY => {
            job_control::acquire(task, tty, file.is_readable(), arg.0 == 1)?;
            Ok(0)
        }
        TIOCNOTTY => {
            job_control::give_up(task, tty)?;
            Ok(0)
        }
        _ => common(task, tty, Side::Slave, request, arg),
    }
}

/// A request on the master.
pub(super) fn master(
    task: &mut CurrentTask,
    master: &MasterFile,
    file: &FileDescription,
    request: u32,
    arg: UserAddr,
) -> SysResult<u64> {
    let tty = master.tty();
    match request {
        TIOCGPTN => task.mm().write_obj(arg.as_ref(), &tty.number())?,
        TIOCSPTLCK => {
            let locked = task.mm().read_obj(arg.as_ref::<i32>())? != 0;
            tty.change(|state| state.locked = locked);
        }
        TIOCGPTLCK => {
            let locked = i32::from(tty.state.lock().locked);
            task.mm().write_obj(arg.as_ref(), &locked)?;
        }
        TIOCPKT => {
            let on = task.mm().read_obj(arg.as_ref::<i32>())? != 0;
            tty.change(|state| {
                if on && !state.packet_mode {
                    state.discipline.packet_events = 0;
                }
                state.packet_mode = on;
            });
        }
        TIOCGPKT => {
            let on = i32::from(tty.state.lock().packet_mode);
            task.mm().write_obj(arg.as_ref(), &on)?;
        }
        TIOCSIG => {
            let signal = arg.0 as i32;
            if !matches!(signal, libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP) {
                return err!(EINVAL);
            }
            tty.change(|state| state.discipline.raise(signal));
        }
        TIOCGPTPEER => return super::peer::open_peer(task, file, tty, arg.0 as u32),
        TIOCSCTTY | TIOCNOTTY => return err!(ENOTTY),
        _ => return common(task, tty, Side::Master, request, arg),
    }
    Ok(0)
}

fn common(
    task: &mut CurrentTask,
    tty: &Arc<Tty>,
    side: Side,
    request: u32,
    arg: UserAddr,
) -> SysResult<u64> {
    if let Some(result) = settings(task, tty, side, request, arg) {
        return result.map(|()| 0);
    }
    let from_master = side == Side::Master;
    match request {
        TIOCGWINSZ => {
            let window = tty.state.lock().window;
            task.mm().write_obj(arg.as_ref(), &window)?;
        }
        TIOCSWINSZ => tty.resize(task.mm().read_obj(arg.as_ref::<WindowSize>())?),
        TIOCGPGRP => {
            let group = job_control::foreground(task, tty, from_master)?;
            task.mm().write_obj(arg.as_ref(), &group)?;
        }
        TIOCSPGRP => {
            let group = task.mm().read_obj(arg.as_ref::<i32>())?;
            job_control::set_foreground(task, tty, group)?;
        }
        TIOCGSID => {
            let session = job_control::session_id(task, tty, from_master)?;
            task.mm().write_obj(arg.as_ref(), &session)?;
        }
        TIOCINQ => {
            let count = {
                let state = tty.state.lock();
                let discipline = &state.discipline;
                match side {
                    Side::Master => discipline.output.len(),
                    Side::Slave => discipline.input.readable_len(discipline.settings.edits_lines()),
                }
            };
            task.mm().write_obj(arg.as_ref(), &(count as i32))?;
        }
        // What is written is at the other side at once.
        TIOCOUTQ => task.mm().write_obj(arg.as_ref(), &0_i32)?,
        TIOCEXCL => tty.change(|state| state.exclusive = true),
        TIOCNXCL => tty.change(|state| state.exclusive = false),
        TIOCGEXCL => {
            let exclusive = i32::from(tty.state.lock().exclusive);
            task.mm().write_obj(arg.as_ref(), &exclusive)?;
        }
        TIOCGETD => task.mm().write_obj(arg.as_ref(), &0_i32)?,
        TIOCSETD => {
            job_control::check_background(tty, libc::SIGTTOU)?;
            if task.mm().read_obj(arg.as_ref::<i32>())? != 0 {
                return err!(EINVAL);
            }
        }
        TIOCGDEV => task.mm().write_obj(arg.as_ref(), &(tty.device() as u32))?,
        TIOCSTI => type_byte(task, tty, arg)?,
        _ => return err!(ENOTTY),
    }
    Ok(0)
}

/// TIOCSTI, which `dev.tty.legacy_tiocsti` = 0 leaves to the administrator.
fn type_byte(task: &CurrentTask, tty: &Tty, arg: UserAddr) -> SysResult<()> {
    if !task.cred().has(Capability::SYS_ADMIN) {
        return err!(EIO);
    }
    let byte = task.mm().read_obj(arg.as_ref::<u8>())?;
    tty.type_in(&[byte]);
    Ok(())
}

/// When new settings take effect, and what they throw away. Output is at the other side as soon as it is
/// written, so waiting for it to drain is no wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apply {
    Now,
    FlushInput,
}

/// Requests about settings, breaks, flow and flushing; `None` for others.
fn settings(
    task: &CurrentTask,
    tty: &Tty,
    side: Side,
    request: u32,
    arg: UserAddr,
) -> Option<SysResult<()>> {
    let current = || tty.state.lock().discipline.settings;
    let mm = task.mm();
    let set = |apply, make: &dyn Fn(Settings) -> Result<Settings, Errno>| {
        job_control::check_background(tty, libc::SIGTTOU)?;
        let new = make(current())?;
        tty.change(|state| {
            if apply == Apply::FlushInput {
                state.flush_input();
            }
            state.discipline.set_settings(new);
        });
        Ok(())
    };
    let apply = match request {
        TCSETSF | TCSETSF2 | TCSETAF => Apply::FlushInput,
        _ => Apply::Now,
    };
    Some(match request {
        TCGETS => mm.write_obj(arg.as_ref(), &current().0.base).map_err(Into::into),
        TCGETS2 => mm.write_obj(arg.as_ref(), &current().0).map_err(Into::into),
        TCGETA => mm.write_obj(arg.as_ref(), &current().termio()).map_err(Into::into),
        TCSETS | TCSETSW | TCSETSF => {
            set(apply, &|old| Ok(old.with_termios(mm.read_obj(arg.as_ref::<Termios>())?)))
        }
        TCSETS2 | TCSETSW2 | TCSETSF2 => {
            set(apply, &|old| Ok(old.with_termios2(mm.read_obj(arg.as_ref::<Termios2>())?)))
        }
        TCSETA | TCSETAW | TCSETAF => {
            set(apply, &|old| Ok(old.with_termio(mm.read_obj(arg.as_ref::<Termio>())?)))
        }
        TIOCGLCKTRMIOS => mm.copy_out(arg, &[0; size_of::<Termios>()]).map_err(Into::into),
        TIOCGSOFTCAR => {
            let local = i32::from(current().0.base.c_cflag & libc::CLOCAL != 0);
            mm.write_obj(arg.as_ref(), &local).map_err(Into::into)
        }
        TIOCSSOFTCAR => set(Apply::Now, &|mut old| {
            let on = mm.read_obj(arg.as_ref::<i32>())? != 0;
            let cflag = &mut old.0.base.c_cflag;
            *cflag = if on { *cflag | libc::CLOCAL } else { *cflag & !libc::CLOCAL };
            Ok(old)
        }),
        // Ptys have no break to send, and nothing to wait for.
        TCSBRK | TCSBRKP | TIOCSBRK | TIOCCBRK => job_control::check_background(tty, libc::SIGTTOU),
        TCXONC => flow(tty, side, arg.0 as i32),
        TCFLSH => flush(tty, side, arg.0 as i32),
        _ => return None,
    })
}

fn flow(tty: &Tty, side: Side, action: i32) -> SysResult<()> {
    job_control::check_background(tty, libc::SIGTTOU)?;
    if side == Side::Master {
        // The master has no output processing that could be held.
        return err!(EINVAL);
    }
    tty.change(|state| {
        let discipline = &mut state.discipline;
        match action {
            libc::TCOOFF => {
                discipline.stop_output();
                discipline.output.stopped_by_call = true;
            }
            libc::TCOON => {
                discipline.output.stopped_by_call = false;
                discipline.start_output();
            }
            libc::TCIOFF | libc::TCION => {
                let which = if action == libc::TCIOFF { cc::VSTOP } else { cc::VSTART };
                let byte = discipline.settings.char(which);
                if byte != super::termios::DISABLED {
                    discipline.output.put_raw(byte);
                }
            }
            _ => return err!(EINVAL),
        }
        Ok(())
    })
}

fn flush(tty: &Tty, side: Side, queue: i32) -> SysResult<()> {
    job_control::check_background(tty, libc::SIGTTOU)?;
    let (input, output) = match queue {
        libc::TCIFLUSH => (true, false),
        libc::TCOFLUSH => (false, true),
        libc::TCIOFLUSH => (true, true),
        _ => return err!(EINVAL),
    };
    // One side's input is the other's output.
    let (typed, printed) = if side == Side::Slave { (input, output) } else { (output, input) };
    tty.change(|state| {
        if typed {
            state.flush_input();
        }
        if printed {
            state.discipline.flush_output();
        }
    });
    Ok(())
}
