//! Who may use a terminal: waits for sessions to exist; until then no terminal controls one.
#![allow(dead_code, reason = "a placeholder for one landing")]
use super::pair::Tty;
use crate::{
    SysResult, err,
    kernel::{CurrentTask, Task},
    wait::EventMask,
};
use std::sync::Arc;
pub fn controlling_tty(_t: &Task) -> Option<Arc<Tty>> {
    None
}
pub(super) fn caller_is_admin() -> bool {
    true
}
pub(super) fn check_background(_t: &Tty, _s: i32) -> SysResult<()> {
    Ok(())
}
pub(super) fn acquire_on_open(_task: &CurrentTask, _tty: &Arc<Tty>, _r: bool) {}
pub(super) fn acquire(_t: &CurrentTask, _tty: &Arc<Tty>, _r: bool, _s: bool) -> SysResult<()> {
    err!(EPERM)
}
pub(super) fn give_up(_t: &CurrentTask, _tty: &Tty) -> SysResult<()> {
    err!(ENOTTY)
}
pub(super) fn set_foreground(_t: &CurrentTask, _tty: &Tty, _p: i32) -> SysResult<()> {
    err!(ENOTTY)
}
pub(super) fn foreground(_t: &CurrentTask, tty: &Tty, _m: bool) -> SysResult<i32> {
    Ok(tty.owner().0)
}
pub(super) fn session_id(_t: &CurrentTask, tty: &Tty, _m: bool) -> SysResult<i32> {
    Ok(tty.owner().1)
}
pub(super) fn hang_up(tty: &Tty) {
    tty.change(|s| s.master_open = false);
    tty.slave_queue.wake(EventMask::all());
    tty.master_queue.wake(EventMask::all());
}
