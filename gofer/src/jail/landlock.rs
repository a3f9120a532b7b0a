//! Landlock rules: nothing outside of the served trees, nothing changed in the
//! read-only ones, no devices made, nothing executed, whatever this process is made to do.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};

use super::Refusal;
use crate::tree::Tree;

/// The newest interface whose rights are all accounted for below; of an older
/// kernel's, those that there are.
const KNOWN: ABI = ABI::V6;

/// What the handlers do in a tree.
fn rights(read_only: bool) -> BitFlags<AccessFs> {
    let reading = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    if read_only {
        return reading;
    }
    let refused = make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
    reading | (AccessFs::from_write(KNOWN) & !refused)
}

/// Confines this thread, and those it will make, to `trees`.
pub(super) fn restrict<'t>(trees: impl Iterator<Item = &'t Tree>) -> Result<(), Refusal> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for tree in trees {
        let allowed = rights(tree.config().read_only);
        rules = rules.add_rule(PathBeneath::new(tree.root(), allowed))?;
    }
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel has no Landlock".into()),
        _ => Ok(()),
    }
}
