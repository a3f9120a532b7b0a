//! What the guest may do with which file: rules by pattern, decided where names become files
//! (`vfs::policed`).

mod access;
mod audit;
mod denials;
mod file_policy;
mod glob;
mod pattern;
mod rules;

pub use access::Access;
pub use audit::Audit;
pub use denials::Denials;
pub use file_policy::FilePolicy;
pub use glob::{BadGlob, Glob};
pub use pattern::{BadPattern, PathPattern};
pub use rules::{Effect, FileRules, Progress, RuleSpec, Verdict};
