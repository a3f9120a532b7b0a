//! Rules for files, and what they come to for a path.
//!
//! Rules are in an order. Of those that match a path and name an access, the last decides; what none names is
//! allowed. All is computed from names alone, so that a rule holds for files that are not there yet.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Access, BadPattern, PathPattern, pattern::Reached};

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    Allow,
    Deny,
    /// Denied, and the name is not seen either.
    Hide,
}

/// A rule as it travels to the sentry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleSpec {
    /// How messages name it: where it is written, and its text.
    pub shown: String,
    /// An absolute path pattern.
    pub pattern: Vec<u8>,
    pub effect: Effect,
    pub access: Access,
}

/// Compiled rules, the last of which matters most.
#[derive(Clone, Debug, Default)]
pub struct FileRules {
    rules: Vec<Rule>,
    /// Each with its rule: a rule may have several.
    patterns: Vec<(PathPattern, usize)>,
}

#[derive(Clone, Debug)]
struct Rule {
    shown: String,
    effect: Effect,
    access: Access,
}

/// How far a path has come in each pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress(SmallVec<[Reached; 32]>);

/// What the rules come to for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Verdict {
    denied: Access,
    /// It is on the way to something that a later rule allows.
    leads_on: bool,
}

impl Verdict {
    /// Which of these are denied. A directory on the way to what a later rule allows can be looked at, and when it
    /// would be hidden, it is seen and listed (with what is in it and not hidden).
    pub fn refused(self, wanted: Access, is_dir: bool) -> Access {
        let mut denied = self.denied;
        if is_dir && self.leads_on {
            if denied.contains(Access::FIND) {
                denied -= Access::LIST;
            }
            denied -= Access::STAT | Access::FIND;
        }
        denied & wanted
    }

    pub fn is_hidden(self, is_dir: bool) -> bool {
        !self.refused(Access::FIND, is_dir).is_empty()
    }

    /// As a number below 512, and back.
    pub(crate) fn to_bits(self) -> u16 {
        u16::from(self.denied.bits()) | u16::from(self.leads_on) << 8
    }

    pub(crate) fn from_bits(bits: u16) -> Self {
        Self { denied: Access::from_bits_retain(bits as u8), leads_on: bits & 0x100 != 0 }
    }
}

impl FileRules {
    /// # Errors
    /// When a pattern is none.
    pub fn new(specs: &[RuleSpec]) -> Result<Self, BadPattern> {
        let mut all = Self::default();
        for spec in specs {
            let pattern = PathPattern::new(&spec.pattern)?;
            let access = match spec.effect {
                Effect::Allow | Effect::Hide => spec.access | Access::FIND,
                Effect::Deny => spec.access,
            };
            all.patterns.push((pattern, all.rules.len()));
            all.rules.push(Rule { shown: spec.shown.clone(), effect: spec.effect, access });
        }
        Ok(all)
    }

    /// Where a rule's path leads through symbolic links, the rule holds there too. `follow` gets the names that a
    /// pattern begins with; it says where those lead, if elsewhere.
    pub fn follow_links(&mut self, follow: impl Fn(&[&[u8]]) -> Option<Vec<Vec<u8>>>) {
        let twin = |(pattern, rule): &(PathPattern, usize)| {
            let start = pattern.plain_start();
            let names = follow(&start)?;
            Some((pattern.with_start(&names, start.len())?, *rule))
        };
        let twins: Vec<_> = self.patterns.iter().filter_map(twin).collect();
        self.patterns.extend(twins);
    }

    /// Does any rule hide names?
    pub fn hides(&self) -> bool {
        self.rules.iter().any(|rule| rule.effect == Effect::Hide)
    }

    /// At the root.
    pub fn start(&self) -> Progress {
        Progress(self.patterns.iter().map(|(pattern, _)| pattern.start()).collect())
    }

    /// One name further down.
    pub fn step(&self, progress: &mut Progress, name: &[u8]) {
        for ((pattern, _), reached) in self.patterns.iter().zip(&mut progress.0) {
            *reached = pattern.step(*reached, name);
        }
    }

    fn each<'a>(
        &'a self,
        progress: &'a Progress,
    ) -> impl Iterator<Item = (&'a PathPattern, usize, Reached)> {
        let all = self.patterns.iter().zip(&progress.0);
        all.filter(|(_, reached)| **reached != 0)
            .map(|((pattern, rule), reached)| (pattern, *rule, *reached))
    }

    /// The rules that match, in their order.
    fn matching(&self, progress: &Progress) -> SmallVec<[usize; 8]> {
        let matched =
            |&(pattern, _, reached): &(&PathPattern, usize, Reached)| pattern.has_matched(reached);
        let mut rules: SmallVec<[usize; 8]> =
            self.each(progress).filter(matched).map(|(_, rule, _)| rule).collect();
        rules.sort_unstable();
        rules
    }

    /// What the rules come to.
    pub fn verdict(&self, progress: &Progress) -> Verdict {
        let mut open = Access::all();
        let mut verdict = Verdict::default();
        let mut looked_at_by = None;
        for index in self.matching(progress).into_iter().rev() {
            let Some(rule) = self.rules.get(index) else { continue };
            let decides = rule.access & open;
            open -= decides;
            if rule.effect != Effect::Allow {
                verdict.denied |= decides;
                if decides.contains(Access::STAT) {
                    looked_at_by = Some(index);
                }
            }
        }
        if let Some(denier) = looked_at_by {
            verdict.leads_on = self.each(progress).any(|(pattern, rule, reached)| {
                rule > denier && self.is_allow(rule) && pattern.leads_on(reached)
            });
        }
        verdict
    }

    pub(super) fn is_allow(&self, rule: usize) -> bool {
        self.rules.get(rule).is_some_and(|rule| rule.effect == Effect::Allow)
    }

    /// The rule that decides about one access.
    pub fn decided_by(&self, progress: &Progress, access: Access) -> Option<usize> {
        let names =
            |rule: &usize| self.rules.get(*rule).is_some_and(|rule| rule.access.intersects(access));
        self.matching(progress).into_iter().rev().find(names)
    }

    /// How messages name a rule.
    pub fn shown(&self, rule: usize) -> &str {
        self.rules.get(rule).map_or("", |rule| &rule.shown)
    }

    /// When a file goes from one place to another: the first rule that would hold less for it, or for something below
    /// it if it is a directory, whatever that is called; or that forbids something below it to be made there.
    pub fn escaped(&self, from: &Progress, to: &Progress, is_dir: bool) -> Option<usize> {
        let moves = || {
            let places = from.0.iter().zip(&to.0);
            self.patterns.iter().zip(places).map(|((pattern, rule), (from, to))| {
                let part = |reached: &Reached| match is_dir {
                    true => *reached,
                    false => pattern.matched_part(*reached),
                };
                (pattern, *rule, part(from), part(to))
            })
        };
        let denied_before = |rule| {
            moves().any(|(_, other, from, _)| other < rule && from != 0 && !self.is_allow(other))
        };
        let escapes = |&(pattern, rule, from, to): &(&PathPattern, usize, Reached, Reached)| {
            let gained = to & !from;
            if self.is_allow(rule) {
                return gained != 0 && denied_before(rule);
            }
            let below = gained & !pattern.matched_part(gained);
            from & !to != 0 || (below != 0 && self.denies_making(rule))
        };
        moves().find(escapes).map(|(_, rule, ..)| rule)
    }

    fn denies_making(&self, rule: usize) -> bool {
        self.rules.get(rule).is_some_and(|rule| rule.access.contains(Access::CREATE))
    }
}

#[cfg(test)]
mod tests;
