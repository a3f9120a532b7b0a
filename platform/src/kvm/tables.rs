//! The page tables of an address space (AMD64 Architecture Programmer's Manual, volume 2, 5.3).
//!
//! Entries are added and given more rights by this process. They are not cleared here: KVM that makes page tables of
//! its own from a guest's need not notice what its process stores into those. [`Tables::clear`] says what is
//! to be cleared, and the stub does it; where KVM has the processor walk a guest's tables ([`Machine::stores_show`]),
//! this process does.

use std::{
    collections::HashMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{layout::*, machine::Machine};
use crate::PlatformError;

/// Levels of tables; level 1 has the pages.
const LEVELS: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Tables {
    root: u64,
    /// How many entries of each table, but the root, are in use.
    used: HashMap<u64, u16>,
}

/// What the stub is to clear: a virtual address of entries, and how many.
pub(super) type Command = (u64, u64);

/// So many commands or a few more are cleared well at once.
pub(super) const BATCH: usize = COMMANDS_MAX;

/// Entries to clear, and the tables that are then empty.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) commands: Vec<Command>,
    pub(super) tables: Vec<u64>,
    pub(super) roots: Vec<u64>,
}

/// All that is to clear for a change, in batches: a table's entries are in no later one than the table.
#[derive(Debug, Default)]
pub(super) struct Clearing {
    batches: Vec<Batch>,
    last: Batch,
}

impl Clearing {
    pub(super) fn batches(mut self) -> Vec<Batch> {
        if !self.last.commands.is_empty() {
            self.batches.push(self.last);
        }
        self.batches
    }

    /// A table whose entries are all among the commands by now.
    fn add_table(&mut self, table: u64) {
        self.last.tables.push(table);
        if self.last.commands.len() >= BATCH {
            self.batches.push(std::mem::take(&mut self.last));
        }
    }

    fn add(&mut self, commands: impl IntoIterator<Item = Command>) {
        self.last.commands.extend(commands);
    }
}

/// Bytes that an entry of a table at this level covers.
fn span(level: u32) -> u64 {
    PAGE << (9 * (level - 1))
}

impl Tables {
    pub(super) fn new(machine: &Machine) -> Result<Self, PlatformError> {
        Ok(Self { root: machine.new_root()?, used: HashMap::new() })
    }

    /// What goes into CR3.
    pub(super) fn root(&self) -> u64 {
        self.root
    }

    /// The table of level 1 for `va`, made if need be.
    fn table(&mut self, machine: &Machine, va: u64) -> Result<u64, PlatformError> {
        let mut table = self.root;
        for level in (2..=LEVELS).rev() {
            let Some(entry) = machine.page(table).get(index(va, level)) else { break };
            let value = entry.load(Ordering::Relaxed);
            let next = if value & PRESENT == 0 {
                let next = machine.new_page()?;
                self.used.insert(next, 0);
                self.count(table, 1);
                entry.store(next | PRESENT | WRITABLE | USER | USED, Ordering::Release);
                next
            } else {
                value & ADDRESS
            };
            table = next;
        }
        Ok(table)
    }

    fn count(&mut self, table: u64, change: i16) {
        if let Some(used) = self.used.get_mut(&table) {
            *used = used.saturating_add_signed(change);
        }
    }

    /// The entry for the page of `va`, if there is a table for it.
    pub(super) fn find<'a>(&self, machine: &'a Machine, va: u64) -> Option<&'a AtomicU64> {
        let mut table = self.root;
        for level in (1..=LEVELS).rev() {
            let entry = machine.page(table).get(index(va, level))?;
            if level == 1 {
                return Some(entry);
            }
            let value = entry.load(Ordering::Relaxed);
            if value & PRESENT == 0 {
                break;
            }
            table = value & ADDRESS;
        }
        None
    }

    /// Maps the pages from `va` on to those from `gpa` on, where nothing is yet; where a page is
    /// already, it gets the right to be written if `rights` has it.
    pub(super) fn fill(
        &mut self,
        machine: &Machine,
        range: Range<u64>,
        gpa: u64,
        rights: u64,
    ) -> Result<(), PlatformError> {
        let mut va = range.start;
        while va < range.end {
            let table = self.table(machine, va)?;
            let end = range.end.min((va | (span(2) - 1)) + 1);
            let mut added = 0;
            let entries = machine.page(table).get(index(va, 1)..).unwrap_or_default();
            for (entry, page) in entries.iter().zip((va..end).step_by(PAGE as usize)) {
                let value = entry.load(Ordering::Relaxed);
                if value & PRESENT == 0 {
                    let page = gpa + (page - range.start);
                    entry.store(page | PRESENT | USER | USED | rights, Ordering::Release);
                    added += 1;
                } else if rights & WRITABLE != 0 && value & WRITABLE == 0 {
                    entry.store(value | WRITABLE, Ordering::Release);
                }
            }
            self.count(table, added);
            va = end;
        }
        Ok(())
    }

    /// Takes what is mapped in the range out of the accounts. The commands are to be carried out before anything
    /// else is done here.
    pub(super) fn clear(&mut self, machine: &Machine, range: Range<u64>, clearing: &mut Clearing) {
        self.clear_table(machine, self.root, LEVELS, range, clearing);
    }

    fn clear_table(
        &mut self,
        machine: &Machine,
        table: u64,
        level: u32,
        range: Range<u64>,
        clearing: &mut Clearing,
    ) {
        let mut va = range.start;
        let mut run: Option<Command> = None;
        let entries = machine.page(table);
        while va < range.end {
            let next = range.end.min((va | (span(level) - 1)) + 1);
            let at = index(va, level);
            let value = entries.get(at).map_or(0, |entry| entry.load(Ordering::Relaxed));
            let mut goes = value & PRESENT != 0;
            if goes && level > 1 {
                let child = value & ADDRESS;
                self.clear_table(machine, child, level - 1, va..next, clearing);
                goes = self.used.get(&child) == Some(&0);
                if goes {
                    self.used.remove(&child);
                    clearing.add_table(child);
                }
            }
            if goes {
                self.count(table, -1);
                let address = system_va(table) + 8 * at as u64;
                run = match run {
                    Some((start, count)) => Some((start, count + 1)),
                    None => Some((address, 1)),
                };
            } else {
                clearing.add(run.take());
            }
            va = next;
        }
        clearing.add(run);
    }
}
