//! Socket addresses as the guest gives and gets them.

use smallvec::SmallVec;

use crate::{
    Errno, SysResult,
    kernel::CurrentTask,
    user::{UserAddr, UserMemory, UserRef},
};

/// The longest address (`struct sockaddr_storage`).
pub const MAX_ADDRESS: usize = 128;

/// The bytes of a `struct sockaddr`, family first. May be empty (no address).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SockAddr(pub SmallVec<[u8; 28]>);

impl SockAddr {
    pub fn new(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    /// Only a family: an unnamed unix socket.
    pub fn of_family(family: i32) -> Self {
        Self::new(&(family as u16).to_ne_bytes())
    }

    /// `None` when it is too short to have one.
    pub fn family(&self) -> Option<i32> {
        match self.0.as_slice() {
            [a, b, ..] => Some(i32::from(u16::from_ne_bytes([*a, *b]))),
            _ => None,
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies an address in. `EINVAL` when it is longer than any may be (`move_addr_to_kernel`).
    pub fn read(task: &CurrentTask, at: UserAddr, len: i32) -> SysResult<Self> {
        let len = usize::try_from(len).ok().filter(|&len| len <= MAX_ADDRESS);
        let len = len.ok_or(Errno::EINVAL)?;
        let mut bytes = SmallVec::from_elem(0, len);
        task.mm().copy_in(at, &mut bytes)?;
        Ok(Self(bytes))
    }

    /// Copies the address out, cut to the room that `*len_at` says there is, and puts its full
    /// length there (`move_addr_to_user`).
    pub fn write(&self, task: &CurrentTask, at: UserAddr, len_at: UserRef<i32>) -> SysResult<()> {
        let room = task.mm().read_obj(len_at)?;
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        task.mm().copy_out(at, self.0.get(..room).unwrap_or(&self.0))?;
        Ok(task.mm().write_obj(len_at, &(self.0.len() as i32))?)
    }
}
