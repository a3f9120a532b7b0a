//! The filters in the kernel: a process that makes a call which is not listed is killed by SIGSYS. Each try is a
//! process of its own: this test program again, with the role and the call in its environment.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what cannot be checked has failed")]

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use rustix::{net, process, thread};

const TRY: &str = "LAZARET_POLICY_TRY";

/// Makes the call, within the filter; an exit status of 0 says that it returned.
fn attempt(role: &str, call: &str) {
    process::setrlimit(
        process::Resource::Core,
        process::Rlimit { current: Some(0), maximum: Some(0) },
    )
    .unwrap();
    match role {
        "gofer" => policies::GOFER.install().unwrap(),
        "ptrace" => policies::SENTRY_PTRACE.install().unwrap(),
        "kvm" => policies::SENTRY_KVM.install().unwrap(),
        _ => policies::SENTRY_SYSTRAP.install().unwrap(),
    }
    match call {
        "gettid" => drop(thread::gettid()),
        "thread" => drop(std::thread::spawn(|| 7).join()),
        "openat" => drop(std::fs::File::open("/")),
        "no_such_file" => {
            let opened = std::fs::File::open("/");
            assert_eq!(opened.unwrap_err().raw_os_error(), Some(libc::ENOSYS));
        }
        "socket" => {
            drop(net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None));
        }
        "unix_socket" => {
            drop(net::socket(net::AddressFamily::UNIX, net::SocketType::STREAM, None));
        }
        "chdir" => drop(process::chdir("/")),
        "pipe" => drop(rustix::pipe::pipe()),
        "kill" => drop(process::kill_process(process::getpid(), process::Signal::URG)),
        "prctl" => drop(thread::set_no_new_privs(true)),
        "setuid" => drop(thread::set_thread_uid(process::getuid())),
        "execve" => drop(Command::new("/bin/true").spawn()),
        "ptrace" => {
            // To whom nobody is attached there is nothing to be read.
            let local = &mut [0];
            let mut local = [std::io::IoSliceMut::new(local)];
            let remote = [nix::sys::uio::RemoteIoVec { base: 0, len: 0 }];
            let _ = nix::sys::uio::process_vm_readv(nix::unistd::getpid(), &mut local, &remote);
        }
        _ => panic!("no such call: {call}"),
    }
    // Past the test harness, which would do all sorts of things.
    std::process::exit(0);
}

fn outcome(role: &str, call: &str) -> ExitStatus {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads=1"])
        .env(TRY, format!("{role} {call}"))
        .output()
        .unwrap()
        .status
}

/// Not a test by itself: what the others start.
#[test]
fn child() {
    if let Ok(what) = env::var(TRY) {
        let (role, call) = what.split_once(' ').unwrap();
        attempt(role, call);
    }
}

#[test]
fn calls_that_are_listed_return() {
    for (role, call) in [
        ("gofer", "gettid"),
        ("gofer", "thread"),
        ("gofer", "openat"),
        ("ptrace", "gettid"),
        ("ptrace", "thread"),
        ("systrap", "no_such_file"),
        ("ptrace", "ptrace"),
        ("systrap", "thread"),
        ("kvm", "thread"),
    ] {
        assert_eq!(outcome(role, call).code(), Some(0), "{role} {call}");
    }
}

#[test]
fn calls_that_are_not_listed_kill() {
    let everyone = ["socket", "unix_socket", "chdir", "pipe", "kill", "prctl", "setuid", "execve"];
    let mut tries: Vec<_> = ["gofer", "systrap", "ptrace", "kvm"]
        .iter()
        .flat_map(|role| everyone.map(|call| (*role, call)))
        .collect();
    tries.extend([("gofer", "ptrace"), ("systrap", "ptrace")]);
    for (role, call) in tries {
        assert_eq!(outcome(role, call).signal(), Some(libc::SIGSYS), "{role} {call}");
    }
}
