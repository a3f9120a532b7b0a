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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::config::TreeConfig;

    /// Landlock binds a thread, so that a thread can try it.
    #[test]
    fn a_confined_thread_reaches_just_the_trees() {
        let dir = std::env::temp_dir().join(format!("gofer-landlock-{}", std::process::id()));
        for name in ["fixed", "shared", "other"] {
            fs::create_dir_all(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("file"), b"x").unwrap();
        }
        let trees: Vec<_> = [
            TreeConfig::read_only(0, dir.join("fixed")),
            TreeConfig::writable(1, dir.join("shared")),
        ]
        .into_iter()
        .map(|config| Tree::open(config, Path::new("/proc/self/fd")).unwrap())
        .collect();
        let inside = dir.clone();
        let confined = std::thread::spawn(move || {
            if restrict(trees.iter()).is_err() {
                return; // This kernel has none.
            }
            let file = |name: &str| inside.join(name).join("file");
            let denied = |result: std::io::Result<()>| {
                result.unwrap_err().kind() == std::io::ErrorKind::PermissionDenied
            };
            assert_eq!(fs::read(file("fixed")).unwrap(), b"x");
            assert!(denied(fs::write(file("fixed"), b"y")));
            assert!(denied(fs::remove_file(file("fixed"))));
            fs::write(file("shared"), b"y").unwrap();
            fs::create_dir(inside.join("shared/new")).unwrap();
            fs::rename(file("shared"), inside.join("shared/new/file")).unwrap();
            assert!(denied(fs::read(file("other")).map(drop)));
            assert!(denied(fs::read("/etc/passwd").map(drop)));
            assert!(denied(fs::read_dir("/").map(drop)));
            assert!(std::process::Command::new("/bin/true").spawn().is_err());
        });
        let result = confined.join();
        fs::remove_dir_all(dir).unwrap();
        result.unwrap();
    }
}
