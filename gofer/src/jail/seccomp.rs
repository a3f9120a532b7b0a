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

    /// A filter binds a thread unless it is told otherwise, so that a thread can try it.
    #[test]
    fn a_filtered_thread_can_serve_files_and_little_else() {
        use rustix::{io::Errno, mm, net, process, thread};
        let filters = compile().unwrap();
        let filtered = std::thread::spawn(move || {
            seccompiler::apply_filter(&filters["clone3"]).unwrap();
            seccompiler::apply_filter(&filters["threads"]).unwrap();
            assert!(rustix::fs::stat("/").is_ok());
            assert!(net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None).is_ok());
            let inet = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None);
            assert_eq!(inet.unwrap_err(), Errno::PERM);
            assert_eq!(process::chdir("/"), Err(Errno::PERM));
            assert_eq!(thread::set_no_new_privs(true), Err(Errno::PERM));
            assert_eq!(
                process::kill_process(process::getpid(), process::Signal::URG),
                Err(Errno::PERM)
            );
            assert_eq!(rustix::pipe::pipe().unwrap_err(), Errno::PERM);
            assert_eq!(
                rustix::mount::unmount("/", rustix::mount::UnmountFlags::empty()),
                Err(Errno::PERM)
            );
            assert_eq!(mm::mlockall(mm::MlockAllFlags::CURRENT), Err(Errno::PERM));
            assert!(std::process::Command::new("/bin/true").spawn().is_err());
            // Threads can be made, by way of the older call.
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        });
        filtered.join().unwrap();
    }
}
