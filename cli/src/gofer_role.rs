//! The gofer process: `lazaret` executed again as the file server.

use std::{os::fd::AsRawFd, path::PathBuf, process::ExitCode, sync::Arc};

use gofer::{ServerConfig, TreeConfig, jail};
use serde::{Deserialize, Serialize};

use crate::{
    EXIT_FAILED, panics,
    run::config::Plan,
    sentry_role::{inherited, read_config},
};

/// The hidden sub-command.
pub(crate) const NAME: &str = "internal-gofer";

/// What it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GoferConfig {
    trees: Vec<(PathBuf, bool)>,
}

/// The configuration for a plan.
pub(crate) fn config(plan: &Plan) -> GoferConfig {
    GoferConfig {
        trees: plan.trees.iter().map(|tree| (tree.path.clone(), tree.read_only)).collect(),
    }
}

const CONFIG: i32 = 3;
const SENTRY: i32 = 4;
const REPORT: i32 = 5;

/// See `run::processes` for the descriptors.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lazaret: file server: {error:#}");
            EXIT_FAILED.into()
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let _ = rustix::thread::set_name(c"lazaret-gofer");
    platform::host::share_one_heap();
    let report = Arc::new(inherited(REPORT)?);
    let kept = Some(report.as_raw_fd());
    panics::end_process_on_panic(report);
    let config: GoferConfig = read_config(CONFIG)?;
    let socket = inherited(SENTRY)?;
    platform::host::widen_descriptor_table(&socket);
    let trees = (0..)
        .zip(config.trees)
        .map(|(id, (path, read_only))| TreeConfig { read_only, ..TreeConfig::read_only(id, path) });
    let config = ServerConfig { kept, ..ServerConfig::new(trees.collect()) };
    gofer::run(config, &socket, &jail::Options::default())?;
    Ok(())
}
