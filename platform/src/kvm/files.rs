//! Host files in guest-physical memory: maps of them in this process, shared by all who map the same.

use std::{
    collections::HashMap,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
};

use linux_abi::Errno;
use ranked_sync::Mutex;

use super::{layout::*, machine::Machine, reserved::Reserved};
use crate::{
    PlatformError, host,
    lock_order::KvmFiles,
    memory::{VolatileSlice, join_neighbours},
};

/// The area, and what is where.
#[derive(Debug)]
pub(super) struct Files {
    area: Reserved,
    state: Mutex<KvmFiles, State>,
}

#[derive(Debug)]
struct State {
    windows: HashMap<Key, Weak<FileWindow>>,
    /// Free places by start, as ends; merged.
    free: std::collections::BTreeMap<u64, u64>,
    /// Which pieces of the area have a slot.
    slots: Vec<bool>,
}

/// The open file (by its address, which stays while it is mapped), offset, length, shared.
type Key = (usize, u64, u64, bool);

/// A part of a file, mapped.
#[derive(Debug)]
pub(super) struct FileWindow {
    machine: Weak<Machine>,
    key: Key,
    file: Arc<OwnedFd>,
    /// Where in the area.
    at: u64,
    len: u64,
}

fn failed(errno: Errno) -> PlatformError {
    PlatformError::Host { what: "mapping a host file", errno }
}

impl Files {
    /// `len`: guest-physical addresses that there are for them.
    pub(super) fn new(mut len: u64) -> Result<Self, PlatformError> {
        let area = loop {
            match Reserved::addresses(len) {
                Ok(area) => break area,
                Err(_) if len > CHUNK => len /= 2,
                Err(errno) => return Err(failed(errno)),
            }
        };
        let state = State {
            windows: HashMap::new(),
            free: [(0, area.len())].into(),
            slots: vec![false; (area.len() / CHUNK) as usize],
        };
        Ok(Self { area, state: Mutex::new(state) })
    }

    /// The part of the file, mapped; it may be written when `writable`.
    pub(super) fn window(
        &self,
        machine: &Arc<Machine>,
        file: &Arc<OwnedFd>,
        (offset, len): (u64, u64),
        shared: bool,
        writable: bool,
    ) -> Result<Arc<FileWindow>, PlatformError> {
        let key = (Arc::as_ptr(file).addr(), offset, len, shared);
        let mut state = self.state.lock();
        if let Some(window) = state.windows.get(&key).and_then(Weak::upgrade) {
            drop(state);
            if writable {
                window.make_writable()?;
            }
            return Ok(window);
        }
        let at = state.take(len).ok_or_else(|| failed(Errno::ENOMEM))?;
        let mapped = self
            .area
            .put(at, len, Some((file.as_fd(), offset, shared)), writable && shared)
            .map_err(failed)
            .and_then(|()| self.add_slots(&mut state, machine, at, len));
        if let Err(error) = mapped {
            state.give_back(at, len);
            return Err(error);
        }
        let window = Arc::new(FileWindow {
            machine: Arc::downgrade(machine),
            key,
            file: file.clone(),
            at,
            len,
        });
        state.windows.insert(key, Arc::downgrade(&window));
        Ok(window)
    }

    fn add_slots(
        &self,
        state: &mut State,
        machine: &Machine,
        at: u64,
        len: u64,
    ) -> Result<(), PlatformError> {
        for piece in at / CHUNK..=(at + len - 1) / CHUNK {
            let Some(done) = state.slots.get_mut(piece as usize) else { continue };
            if !*done {
                let start = piece * CHUNK;
                machine.add_slot(FILES_GPA + start, CHUNK, self.area.address() + start)?;
                *done = true;
            }
        }
        Ok(())
    }

    fn remove(&self, window: &FileWindow) {
        let mut state = self.state.lock();
        if state.windows.get(&window.key).is_some_and(|other| other.strong_count() == 0) {
            state.windows.remove(&window.key);
        }
        // What cannot be taken away is not used again.
        if self.area.put(window.at, window.len, None, false).is_ok() {
            state.give_back(window.at, window.len);
        }
    }
}

impl State {
    fn take(&mut self, len: u64) -> Option<u64> {
        let (&start, &end) = self.free.iter().find(|(start, end)| *end - *start >= len)?;
        self.free.remove(&start);
        if start + len < end {
            self.free.insert(start + len, end);
        }
        Some(start)
    }

    fn give_back(&mut self, start: u64, len: u64) {
        let (start, end) = join_neighbours(&mut self.free, start, start + len);
        self.free.insert(start, end);
    }
}

impl FileWindow {
    /// The guest-physical address of its start.
    pub(super) fn gpa(&self) -> u64 {
        FILES_GPA + self.at
    }

    /// How many bytes of it the file has now, to the end of its last page.
    pub(super) fn present(&self) -> u64 {
        let (_, offset, ..) = self.key;
        let size = host::file_size(self.file.as_fd()).unwrap_or(0);
        size.next_multiple_of(PAGE).saturating_sub(offset).min(self.len)
    }

    pub(super) fn make_writable(&self) -> Result<(), PlatformError> {
        let Some(machine) = self.machine.upgrade() else { return Ok(()) };
        machine.files.area.make_writable(self.at, self.len).map_err(failed)
    }

    /// Copies bytes out of the file, by reading it.
    pub(super) fn read(&self, offset: u64, to: VolatileSlice<'_>) -> usize {
        let (_, start, ..) = self.key;
        host::preadv(self.file.as_fd(), &[to], start + offset).unwrap_or(0)
    }
}

impl Drop for FileWindow {
    fn drop(&mut self) {
        if let Some(machine) = self.machine.upgrade() {
            machine.files.remove(self);
        }
    }
}
