//! The rules of a sandbox at work: what was decided is told.

use super::{Access, FileRules, Progress};
use crate::kernel::served;

/// Rules, and who hears of what they decide.
#[derive(Debug)]
pub struct FilePolicy {
    rules: FileRules,
}

impl FilePolicy {
    pub fn new(rules: FileRules) -> Self {
        Self { rules }
    }

    pub fn rules(&self) -> &FileRules {
        &self.rules
    }

    pub(crate) fn rules_mut(&mut self) -> &mut FileRules {
        &mut self.rules
    }

    /// Must decisions be told that deny nothing?
    pub fn hears_all(&self) -> bool {
        false
    }

    /// Tells what was decided for the served task: of `wanted`, `refused` was denied.
    #[cold]
    pub fn tell(&self, path: &[u8], progress: &Progress, _wanted: Access, refused: Access) {
        for access in refused.iter() {
            let rule = self.rules.decided_by(progress, access);
            self.tell_denial(path, access, rule);
        }
    }

    /// Tells that a rule would be escaped from.
    #[cold]
    pub fn tell_denial(&self, path: &[u8], access: Access, rule: Option<usize>) {
        let rule = rule.map_or("", |rule| self.rules.shown(rule));
        let (pid, comm) = served().map_or((0, Vec::new()), |task| (task.pid(), task.comm()));
        let (path, comm) = (path.escape_ascii(), comm.escape_ascii());
        let op = access.name();
        tracing::warn!(target: "lazaret::files", op, %path, rule, %comm, pid, "denied");
    }
}
