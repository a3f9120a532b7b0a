//! The seccomp filters of stub processes, which `policies/seccomp` has as data, with the addresses they name.

use super::{blob, layout::*, zygote::Kind};

/// The programs for the zygote and all it makes, for the helper, and for guest threads; each
/// instruction is a word, a `struct sock_filter`. `None` when a rule names an address that is not known here.
pub(super) fn of(kind: Kind) -> Option<[Vec<u64>; 3]> {
    let [base, helper, guest] = match kind {
        Kind::Notify => [policies::STUB_SYSTRAP, policies::HELPER_SYSTRAP, policies::GUEST_SYSTRAP],
        Kind::Ptrace => [policies::STUB_PTRACE, policies::HELPER_PTRACE, policies::GUEST_PTRACE],
    };
    let program = |policy: policies::StubPolicy| -> Option<Vec<u64>> {
        let words = policy.resolve(address)?.into_iter().map(|insn| {
            u64::from(insn.code)
                | u64::from(insn.jt) << 16
                | u64::from(insn.jf) << 24
                | u64::from(insn.k) << 32
        });
        Some(words.collect())
    };
    Some([program(base)?, program(helper)?, program(guest)?])
}

/// What rules call addresses, and the two kinds of clone(2).
fn address(name: &str) -> Option<u64> {
    Some(match name {
        "USER_END" => USER_END,
        "TEXT" => TEXT,
        "CONST" => CONST,
        "CONST_END" => CONST + CONST_SIZE,
        "ACKS" => CONST + C_ACKS,
        "ZYGOTE" => ZYGOTE,
        "COMMAND" => COMMAND,
        "NEVER" => COMMAND + M_NEVER,
        "BATCH" => COMMAND + M_BATCH_SEQ,
        "SLOTS" => SLOTS,
        "SLOTS_END" => SLOTS + SLOT_SIZE * u64::from(SLOT_COUNT),
        "AFTER_SIGRETURN" => blob::after_sigreturn(),
        "AFTER_YIELD" => blob::after_yield(),
        "CLONE_PROCESS" => CLONE_PROCESS,
        "CLONE_THREAD" => CLONE_THREAD,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_the_filters_are_known_and_the_programs_fit_their_page() {
        for kind in [Kind::Notify, Kind::Ptrace] {
            let programs = of(kind).unwrap();
            let len: usize = programs.iter().map(Vec::len).sum();
            assert!(C_FILTER_CODE + 8 * len as u64 <= C_ACKS, "{kind:?}: {len} instructions");
        }
    }
}
