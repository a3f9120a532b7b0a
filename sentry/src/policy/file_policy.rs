//! The rules of a sandbox at work: what they decide is told.

use std::{sync::Arc, time::Instant};

use super::{Access, Audit, Denials, FileRules, Progress, audit::Decision};
use crate::kernel::served;

/// Rules, and who hears of what they decide.
#[derive(Debug)]
pub struct FilePolicy {
    rules: FileRules,
    denials: Arc<Denials>,
    audit: Option<Audit>,
}

impl FilePolicy {
    pub fn new(rules: FileRules, audit: Option<Audit>) -> Self {
        Self { rules, denials: Arc::default(), audit }
    }

    pub fn rules(&self) -> &FileRules {
        &self.rules
    }

    pub(crate) fn rules_mut(&mut self) -> &mut FileRules {
        &mut self.rules
    }

    /// What was told of its denials.
    pub fn denials(&self) -> &Arc<Denials> {
        &self.denials
    }

    /// Must decisions be told that deny nothing?
    pub fn hears_all(&self) -> bool {
        self.audit.is_some()
    }

    /// Tells what was decided for the served task: of `wanted`, `refused` was denied. What the sentry does for itself
    /// (it looks for the command) is not told.
    #[cold]
    pub fn tell(&self, path: &[u8], progress: &Progress, wanted: Access, refused: Access) {
        let Some(who) = Who::served() else { return };
        let rule = |access| self.rules.decided_by(progress, access);
        for access in wanted.iter() {
            let is_denied = refused.contains(access);
            // A directory on the way to what is allowed may be looked at by no rule of its own.
            let rule = rule(access).filter(|rule| is_denied || self.rules.is_allow(*rule));
            self.audit(&who, path, access, is_denied, rule);
        }
        // One line for one call.
        if let Some(first) = refused.iter().next() {
            self.log(&who, path, first, rule(first));
        }
    }

    /// Tells that a file would have escaped from a rule.
    #[cold]
    pub fn tell_escape(&self, path: &[u8], access: Access, rule: usize) {
        let Some(who) = Who::served() else { return };
        self.audit(&who, path, access, true, Some(rule));
        self.log(&who, path, access, Some(rule));
    }

    fn audit(&self, who: &Who, path: &[u8], access: Access, is_denied: bool, rule: Option<usize>) {
        let Some(audit) = &self.audit else { return };
        let Who { pid, comm } = who;
        let rule = rule.map(|rule| self.rules.shown(rule));
        audit.put(&Decision { pid: *pid, comm, op: access.name(), path, is_denied, rule });
    }

    fn log(&self, who: &Who, path: &[u8], access: Access, rule: Option<usize>) {
        let (op, pid) = (access.name(), who.pid);
        let key = (op, rule, pid, path);
        let Some(left_out) = self.denials.admit(key, Instant::now()) else { return };
        let left_out = (left_out > 0).then_some(left_out);
        let rule = rule.map_or("", |rule| self.rules.shown(rule));
        let shown = path.get(..PATH_SHOWN).unwrap_or(path).escape_ascii();
        let comm = who.comm.escape_ascii();
        tracing::warn!(
            target: "lazaret::files",
            op, path = %shown, rule, %comm, pid, left_out, "denied"
        );
    }
}

/// Longer paths are cut.
const PATH_SHOWN: usize = 4096;

/// A process, and what its thread is called.
struct Who {
    pid: i32,
    comm: Vec<u8>,
}

impl Who {
    /// That of the task which this host thread serves.
    fn served() -> Option<Self> {
        served().map(|task| Self { pid: task.pid(), comm: task.comm() })
    }
}
