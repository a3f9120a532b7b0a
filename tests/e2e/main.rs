//! End-to-end tests: real Debian programs natively and inside, and the
//! `lazaret` command line itself.
#![forbid(unsafe_code)]

mod command_line;
mod file_rules;
mod jail;
mod profiles;
mod scripts;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let status = match scripts::trials() {
        Ok(mut trials) => {
            trials.extend(command_line::trials());
            libtest_mimic::run(&arguments, trials).exit_code()
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    };
    tests::scratch::leave(env!("CARGO_TARGET_TMPDIR"));
    status
}
