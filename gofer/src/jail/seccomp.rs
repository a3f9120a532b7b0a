//! The system-call filter, from `policies/seccomp/gofer.json`.

use seccompiler::{BpfMap, apply_filter_all_threads, compile_from_json};

use super::Refusal;
use crate::GoferError;

const POLICY: &str = include_str!("../../../policies/seccomp/gofer.json");

/// Compiles the policy for this machine.
pub(super) fn compile() -> Result<BpfMap, GoferError> {
    let failed = |error: &dyn std::fmt::Display| GoferError::Filter(error.to_string());
    let arch = std::env::consts::ARCH.try_into().map_err(|error| failed(&error))?;
    compile_from_json(POLICY.as_bytes(), arch).map_err(|error| failed(&error))
}

/// Puts all filters of the policy in force; the strictest answer wins, whatever the order.
pub(super) fn install(filters: &BpfMap) -> Result<(), Refusal> {
    // The one that allows the least last, since it does not allow filters.
    let mut names: Vec<_> = filters.keys().collect();
    names.sort();
    for name in names {
        if let Some(filter) = filters.get(name) {
            apply_filter_all_threads(filter)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_compiles() {
        let filters = compile().unwrap();
        assert!(filters.contains_key("threads") && filters.contains_key("clone3"));
    }
}
